"""The claims, as a list: what is claimed of whom, which workload decides it, and by which rule. Pure.

`{metis}` and `{sophia}` are the endpoints in these roles. Where two claims are opposed, each has a row of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from . import rules
from .decision import Decision
from .evidence import THOUSANDS, Evidence


@dataclass(frozen=True)
class Claim:
    """A claim, and the rule that decides it. `key` names it in JSON."""

    key: str
    text: str
    workload: str | None  # whose run decides it; None: any, or none can
    rule: rules.Rule


@dataclass(frozen=True)
class Decided:
    """A claim with its verdict."""

    claim: Claim
    text: str  # with the endpoints' names
    decision: Decision
    run_id: str | None  # whose requests decided it


CLAIMS: Final[Sequence[Claim]] = (
    Claim("single-metis", "{metis} is faster for single requests", "single", rules.faster_alone("first")),
    Claim("single-sophia", "single short requests suit {sophia}", "single", rules.faster_alone("second")),
    Claim("above-32-sophia", "{sophia} wins at batches above 32", "sweep", rules.more_tokens_from("second", 33)),
    Claim("above-100-metis", "{metis} wins at 100+ at once", "sweep", rules.more_tokens_from("first", 100)),
    Claim("batch-sophia", "large batches are {sophia}'s", "offline", rules.sooner_done("second")),
    Claim(
        "batch-metis",
        "{metis} wins when 1000s are processed together",
        "offline",
        rules.sooner_done("first", THOUSANDS),
    ),
    Claim("long-context", "{metis} wins on very long context", "long-context", rules.faster_on_long("first")),
    Claim("long-variant", "the 131k variant makes short prompts slower", None, rules.variant_slower),
    Claim("steadier", "{metis}'s latency is steadier", "steady", rules.steadier("first")),
    Claim("money", "{metis} costs less money per token", "single", rules.cheaper("first", "money", "", "price")),
    Claim("energy", "{metis} takes less energy per token", "single", rules.cheaper("first", "energy", " J", "power_w")),
    Claim("quality", "answers are of similar quality", "quality", rules.similar_scores),
    Claim("batch-sizes", "both serve 1, 8, 32 and 64 at once", "sweep", rules.batch_sizes_answered),
    Claim("other-models", "other kinds of models (CNN, ViT) can be compared", "raw", rules.others_compared),
    Claim("causes", "dataflow, instruction overhead, FlashAttention are the causes", None, rules.causes),
)


def decided(evidence: Evidence) -> list[Decided]:
    """Each claim's verdict."""
    names = {"metis": evidence.first, "sophia": evidence.second}
    return [
        Decided(
            claim,
            _named(claim.text, names),
            claim.rule(evidence),
            evidence.runs.get(claim.workload) if claim.workload else None,
        )
        for claim in CLAIMS
    ]


def _named(text: str, names: dict[str, str]) -> str:
    for role, name in names.items():
        text = text.replace(f"{{{role}}}", name)
    return text
