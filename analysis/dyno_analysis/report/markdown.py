"""The report as Markdown, with every field that the published benchmark asked for. Pure."""

from collections.abc import Sequence

from dyno_analysis.query.row_types import AnswerRow
from dyno_analysis.render.markdown_text import block, inline
from dyno_analysis.render.table import Table

from . import costs, detail_tables, discrepancies, fairness, findings, lines, tables, verdicts
from .answer import banner, said
from .batches import batch_table
from .by_load import UnderLoad, load_folder
from .comparison import Comparison
from .long_context import long_context_table
from .prompt_lengths import prompt_length_table
from .titles import titled

SAMPLES = 3
LONGEST_SAMPLE = 1_500  # characters
LONGEST_HEADING = 200


def markdown(comparison: Comparison, results_name: str) -> str:
    """The whole document; `results_name` is the file of the raw results beside it. Texts from outside are escaped."""
    parts = [
        f"# {inline(findings.heading(comparison))}",
        *(f"**{inline(warning)}**" for warning in banner(comparison)),
        _section(
            titled("Summary", comparison), [_paragraph(said(comparison)), _paragraph(findings.summary(comparison))]
        ),
        _section(
            "Paired comparison",
            [
                *_optional(verdicts.verdict_table(comparison)),
                *_optional(verdicts.evidence_table(comparison)),
                *_optional(detail_tables.mirror_table(comparison)),
                _list(findings.speed(comparison)),
            ],
        ),
        _section("What to know before quoting this", [_list(caveats(comparison))]),
        _section("When to use which", [_list(findings.when_to_use(comparison))]),
        _section(
            "Comparison", [_table(tables.comparison_table(comparison)), _table(tables.percentile_table(comparison))]
        ),
        *(
            [_section("Prompts by length", by_length)]
            if (by_length := _optional(prompt_length_table(comparison)))
            else []
        ),
        *([_section("All at once", batches)] if (batches := _optional(batch_table(comparison))) else []),
        _section("Fixed and per token", [_table(lines.fixed_per_token_table(comparison))]),
        _section("Latency distribution", [_table(detail_tables.distribution_table(comparison))]),
        _section("Throughput", [_table(detail_tables.throughput_table(comparison))]),
        _section(
            "Failures",
            _optional(detail_tables.failure_table(comparison)) or [_paragraph(findings.failures(comparison))],
        ),
        _section(
            "Response quality",
            [
                *(_optional(detail_tables.quality_table(comparison)) or ["No answer has a reference to score it by."]),
                *_optional(long_context_table(comparison)),
                "Judge completeness and style yourself, from the samples below and `answers.parquet`.",
            ],
        ),
        *([_section("Cost and energy", cost)] if (cost := _optional(costs.cost_table(comparison))) else []),
        _section("Sample responses", _samples(comparison)),
        _section("The instrument", [_table(detail_tables.instrument_table(comparison))]),
        _section("Set-up", [_pairs(findings.setup(comparison))]),
        _section("Raw results", [f"`{results_name}`: every request with its times, tokens and answer."]),
    ]
    return "\n\n".join(parts) + "\n"


def load_markdown(found: Sequence[UnderLoad], tables: Sequence[Table]) -> str:
    """The report over several loads: what isn't so, the tables, and where each load's own report is."""
    first = found[0].comparison
    beside = [f"- {inline(each.load.in_words())}: [report]({load_folder(each.load)}/report.md)" for each in found]
    parts = [
        f"# {inline(findings.heading(first))}",
        *(f"**{inline(warning)}**" for warning in banner(first)),
        *map(_table, tables),
        _section("Each load's own report", ["\n".join(beside)]),
        _section("Set-up", [_pairs(findings.setup(first))]),
    ]
    return "\n\n".join(parts) + "\n"


def caveats(comparison: Comparison) -> list[str]:
    """The fairness notes, and the figures of an imported file that aren't what their names say."""
    found = [*fairness.notes(comparison), *discrepancies.discrepancies(comparison)]
    return found or ["Nothing was found that speaks against the comparison."]


def _section(title: str, parts: Sequence[str]) -> str:
    return "\n\n".join([f"## {inline(title)}", *(part for part in parts if part)])


def _table(table: Table) -> str:
    written = [f"**{inline(table.title)}**", ""]
    written.append(_row(table.columns))
    written.append("|" + "|".join("---" if align == "l" else "---:" for align in table.align) + "|")
    written += [_row(row) for row in table.rows]
    if table.lines_beneath:
        written += ["", _paragraph(table.lines_beneath)]
    return "\n".join(written)


def _optional(table: Table | None) -> list[str]:
    return [] if table is None else [_table(table)]


def _pairs(labelled: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *map(_row, labelled)])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(inline, cells)) + " |"


def _paragraph(sentences: Sequence[str]) -> str:
    return inline(" ".join(sentences))


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {inline(sentence)}" for sentence in sentences)


def _samples(comparison: Comparison) -> list[str]:
    """Two or three prompts that all endpoints answered, from the set's start, middle and end."""
    by_prompt: dict[str, dict[str, AnswerRow]] = {}
    for answer in comparison.answers:
        by_prompt.setdefault(answer.prompt_id, {}).setdefault(answer.endpoint, answer)
    complete = [answers for answers in by_prompt.values() if len(answers) == len(comparison.endpoints)]
    if not complete:
        return ["No prompt was answered by all endpoints, or the run kept no answers."]
    last = len(complete) - 1
    picked = sorted({0, last // 2, last})[:SAMPLES]
    parts = []
    for number in picked:
        answers = complete[number]
        any_answer = next(iter(answers.values()))
        asked = any_answer.question or any_answer.prompt or any_answer.prompt_id
        parts.append(f"**{_shown(asked, LONGEST_HEADING)}**")
        if any_answer.reference_answers:
            references = " / ".join(dict.fromkeys(any_answer.reference_answers))
            parts.append(f"Reference: {_shown(references, LONGEST_SAMPLE)}")
        for name in comparison.endpoints:
            answer = answers[name]
            length = "" if answer.output_tokens is None else f", {answer.output_tokens} tokens"
            parts.append(inline(f"{name} ({answer.latency_s:.3f} s{length}):"))
            parts.append(block(cut(answer.answer, LONGEST_SAMPLE).strip() or "(empty)"))
    return parts


def cut(text: str, longest: int) -> str:
    """The text's beginning, and how many characters follow, if it has more than `longest`."""
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text) - longest:,} more characters)"


def _shown(text: str, longest: int) -> str:
    # First cut, then escaped: no escape is cut in two.
    return inline(cut(" ".join(text.split()), longest))
