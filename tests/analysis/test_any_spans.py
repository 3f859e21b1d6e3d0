"""Whatever is stored can be reported: every table, both files, no exception."""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dyno_analysis.ingest.formats.published_results import OUTCOMES
from dyno_analysis.query import fetch, row_types
from dyno_analysis.render.layout import laid_out
from dyno_analysis.report import detail_tables, discrepancies, fairness, findings, lines, tables, verdicts
from dyno_analysis.report.compare import compare
from dyno_analysis.report.markdown import markdown
from dyno_analysis.report.results_json import results_document
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.selection import Selection, select
from rigs.stored_spans import span, write

maybe_us = st.none() | st.integers(0, 10**7)
maybe_tokens = st.none() | st.integers(0, 300)
MARKS = st.sampled_from(
    [
        {"dyno.mirror": "original"},
        *({"dyno.mirror": "copy", "dyno.mirror.trace_id": "t", "dyno.mirror.span_id": name} for name in "ab"),
    ]
)
COLUMNS = st.fixed_dictionaries(
    {
        "endpoint": st.sampled_from(["metis", "sophia", "c|d *", None]),
        "outcome": st.sampled_from(OUTCOMES),
        "duration_us": maybe_us,
        "started_at_us": st.integers(0, 3),
        "streamed": st.none() | st.booleans(),
        "simulated": st.none() | st.booleans(),
        "warmup": st.none() | st.booleans(),
        "first_token_us": maybe_us,
        "last_token_us": maybe_us,
        "chunk_offsets_us": st.none() | st.lists(st.integers(0, 9), max_size=4),
        "input_tokens": maybe_tokens,
        "output_tokens": maybe_tokens,
        "reasoning_tokens": maybe_tokens,
        "usage_source": st.sampled_from([None, "server", "chunks"]),
        "prompt_id": st.none() | st.sampled_from("abcdefgh"),
        "repeat": st.none() | st.integers(1, 2),
        "run_id": st.sampled_from([None, "r"]),
        "overhead_us": maybe_us,
        "overhead_end_us": maybe_us,
        "loop_lag_us": maybe_us,
        "send_lag_s": st.none() | st.floats(0, 1),
        "model": st.sampled_from([None, "m", "n"]),
        "attributes": st.none() | MARKS,
    }
)


@settings(max_examples=12, deadline=None)  # 3 s each: every table of a report
@given(st.lists(COLUMNS, max_size=30), st.sampled_from([(), ("r",)]), st.sampled_from(["prompt", "mirror"]))
def test_any_spans_can_be_reported(columns: list[dict[str, Any]], runs: tuple[str, ...], paired_by: str) -> None:
    """No mixture of outcomes, unknown figures and missing tags breaks a table; a figure is finite or unknown."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), [span(**values) for values in columns])
        with span_folder.connect(Path(folder)) as connection:
            select(connection, Selection(runs, mirrored=paired_by == "mirror"))
            found = compare(connection, runs, [], ["sophia"], 0.05, 0, paired_by)
            results = fetch.fetch(connection, "results", row_types.ResultRow)
    document = results_document(found, results, datetime(2026, 11, 24, tzinfo=UTC))
    json.dumps(document, allow_nan=False)
    shown = [
        tables.comparison_table(found),
        tables.percentile_table(found),
        verdicts.verdict_table(found),
        verdicts.evidence_table(found),
        detail_tables.mirror_table(found),
        lines.fixed_per_token_table(found),
        detail_tables.failure_table(found),
        detail_tables.instrument_table(found),
        detail_tables.distribution_table(found),
        detail_tables.throughput_table(found),
    ]
    said = [line for table in shown if table is not None for _, line in laid_out(table, 1000)]
    said += [*fairness.notes(found), *findings.summary(found), *discrepancies.discrepancies(found)]
    assert not [line for line in said if "nan" in line.split() or "None" in line.split()]
    assert markdown(found, "results.json").startswith("# ")
