"""Prints a comparison whole: the answer, all tables and all notes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from dyno_analysis.render.table import Table
from dyno_analysis.render.terminal import columns, is_terminal, print_styled, print_table, print_text

from . import costs, detail_tables, findings, lines, tables, verdicts
from .answer import banner, letters_for, said, shortening
from .batches import batch_table
from .comparison import Comparison
from .long_context import long_context_table
from .markdown import caveats
from .prompt_lengths import prompt_length_table
from .screen import head
from .titles import titled

_LONGEST_LABEL: Final = 24  # columns; a longer one has its value a blank behind it


def print_all(comparison: Comparison) -> None:
    """What isn't so, the answer, verdicts, what to know before quoting them, all tables, and what was run.

    On a terminal letters stand for endpoints of long names, and are explained first.
    """
    letters = letters_for(comparison) if is_terminal() else {}
    short = shortening(letters)
    print_text(findings.heading(comparison))
    print()
    print_styled(head(banner(comparison), letters, [short(each) for each in said(comparison)], columns()))
    _print_tables((verdicts.verdict_table(comparison), verdicts.evidence_table(comparison)), short)
    for title, sentences in (
        (titled("Findings", comparison), findings.summary(comparison)),
        ("What to know before quoting this", caveats(comparison)),
    ):
        print()
        print_text(short(title))
        for sentence in sentences:
            print_text(f"- {short(sentence)}", "  ")
    _print_tables(
        (
            tables.comparison_table(comparison),
            tables.percentile_table(comparison),
            prompt_length_table(comparison),
            batch_table(comparison),
            detail_tables.mirror_table(comparison),
            lines.fixed_per_token_table(comparison),
            detail_tables.failure_table(comparison),
            detail_tables.quality_table(comparison),
            long_context_table(comparison),
            costs.cost_table(comparison),
            detail_tables.instrument_table(comparison),
        ),
        short,
    )
    print()
    print_text("Set-up")
    setup = findings.setup(comparison)
    width = max((len(label) for label, _ in setup if len(label) <= _LONGEST_LABEL), default=0)
    for label, value in setup:
        print_text(f"  {label:<{width}}  {value}", " " * (width + 4))


def _print_tables(made: Sequence[Table | None], short: Callable[[str], str]) -> None:
    """Print the tables, each after an empty line, with `short` applied to each of their texts."""
    for table in made:
        if table is not None:
            print(flush=True)
            print_table(
                replace(
                    table,
                    title=short(table.title),
                    columns=[*map(short, table.columns)],
                    rows=[[*map(short, row)] for row in table.rows],
                    notes=[*map(short, table.notes)],
                )
            )
