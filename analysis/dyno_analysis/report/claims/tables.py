"""The verdicts on the claims as a table, as JSON and as Markdown. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from dyno_analysis.render.markdown_text import inline
from dyno_analysis.render.table import Table

from .claims import Decided
from .decision import Ruling
from .evidence import CONFIDENCE, FAMILIES, Evidence

_TOGETHER: Final = (
    f"All verdicts hold together with 95 %: each of {FAMILIES} tests by itself with {CONFIDENCE * 100:g} %."
)


def claims_table(found: Sequence[Decided], evidence: Evidence) -> Table:
    """A row a claim: its verdict, the figure behind it, and what would decide it."""
    rows = []
    for each in found:
        decision = each.decision
        behind = decision.figure
        if decision.ruling is Ruling.UNDECIDED and decision.would_decide:
            behind += f". Would decide it: {decision.would_decide}"
        rows.append([each.text, decision.ruling.value, behind])
    simulated = evidence.simulated
    both = len(simulated) == 2
    title = "Claims" + (", simulated" if both else f", simulated: {simulated[0]}" if simulated else "")
    return Table(title, ["claim", "verdict", "figure behind it"], "lrl", rows, notes(evidence), "claims")


def notes(evidence: Evidence) -> list[str]:
    """How the verdicts are meant, and whose requests they are about."""
    used = ", ".join(f"{workload} {run_id}" for workload, run_id in evidence.runs.items())
    return [
        *(
            [f"Simulated: {' and '.join(evidence.simulated)}. A simulator's figures say nothing about engines."]
            if evidence.simulated
            else []
        ),
        f"Ratios are {evidence.first} : {evidence.second}. {_TOGETHER}",
        f"No difference within {evidence.margin * 100:g} % contradicts a claim that one is better.",
        f"Of several runs of a workload the newest counts: {used or 'no run'}.",
    ]


def claims_json(found: Sequence[Decided], evidence: Evidence) -> dict[str, Any]:
    """The same for other programs."""
    return {
        "endpoints": {"metis": evidence.first, "sophia": evidence.second},
        "simulated": list(evidence.simulated),
        "confidence_together": 0.95,
        "confidence_each": CONFIDENCE,
        "margin": evidence.margin,
        "quality_margin": evidence.points,
        "claims": [
            {
                "key": each.claim.key,
                "claim": each.text,
                "workload": each.claim.workload,
                "run_id": each.run_id,
                "verdict": each.decision.ruling.value,
                "figure": each.decision.figure,
                "would_decide": each.decision.would_decide or None,
            }
            for each in found
        ],
    }


def claims_markdown(table: Table) -> str:
    """The table with its notes."""
    lines = [f"# {inline(table.title)}", "", f"| {' | '.join(table.columns)} |", "|---" * len(table.columns) + "|"]
    lines += [f"| {' | '.join(map(inline, row))} |" for row in table.rows]
    return "\n".join([*lines, "", *(f"- {inline(note)}" for note in table.lines_beneath), ""])
