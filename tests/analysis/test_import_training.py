"""Training logs of Cerebras' model zoo as the table `training`: the published second table comes out of it."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from dyno_analysis.spans.sql_text import sql_text
from dyno_analysis.spans.training import define_training, training_files
from rigs.dyno_command import dyno, refusal
from rigs.imports import imported
from rigs.shared_data import SHARED, needs_shared

LOG = SHARED / "data" / "cerebras_llama2_7b_train.log"
# As published: batch size, global rate, total seconds, samples/s over the total, final loss, seconds outside training.
PUBLISHED = [
    (256, 32.86, 8615, 5.94, 5.87924, 7057),
    (512, 33.27, 4151, 24.67, 6.32152, 1073),
    (1024, 33.04, 7394, 27.70, 6.10848, 1195),
    (2048, 34.09, 13866, 29.54, 5.96367, 1851),
]


def log(batch: int, rate: float, total_s: float, loss: float, steps: int = 200, *, finished: bool = True) -> str:
    """A log as the model zoo writes it, shortened."""
    lines = [
        "2025-10-13 14:47:37,651 INFO:   Found existing cached compile",
        f"2025-10-13 14:47:49,037 INFO:   Job id: wsjob-batch{batch}, workflow id: wflow-x",
        "2025-10-13 14:48:39,240 INFO:   Preparing to execute using 1 CSX",
        *(
            f"2025-10-13 15:{step // 5:02d}:04,385 INFO:   | Train Device=CSX, Step={step}, "
            f"Loss={loss + 200 - step:.5f}, Rate={rate - 0.01} samples/sec, GlobalRate={rate} samples/sec, "
            "LoopTimeRemaining=1:20:41"
            for step in range(50, steps + 1, 50)
        ),
    ]
    if finished:
        lines.append(
            f"2025-10-13 16:48:01,425 INFO:   Processed {batch * steps} training sample(s) in {total_s} seconds."
        )
    return "\n".join(lines) + "\n"


def table(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        define_training(connection, training_files(folder))
        found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
    return found


def test_the_published_table(tmp_path: Path) -> None:
    """Four logs with the published runs' figures make the published table, and the time outside training."""
    for batch, rate, total_s, _, loss, _ in PUBLISHED:
        (tmp_path / f"{batch}.log").write_text(log(batch, rate, total_s, loss))
    said = imported(tmp_path / "s", *(tmp_path / f"{batch}.log" for batch, *_ in PUBLISHED))
    assert said.count("1 training run added") == 4
    found = table(
        tmp_path / "s",
        "SELECT batch_size, global_rate, total_s, round(samples_per_s, 2), final_loss, round(outside_s) FROM training "
        "ORDER BY batch_size",
    )
    assert found == [pytest.approx(row, abs=0.011) for row in PUBLISHED]


@needs_shared
def test_a_real_log(tmp_path: Path) -> None:
    """A run of 200 steps at batch 1024, as the log says itself."""
    imported(tmp_path, LOG)
    assert table(
        tmp_path,
        "SELECT batch_size, steps, samples, global_rate, final_loss, systems, device, job_id, started_at::VARCHAR, "
        "finished_at::VARCHAR, imported_from FROM training",
    ) == [
        (
            *(1024, 200, 204800, 31.99, 6.09834, 1, "CSX", "wsjob-kgqvqqxnp9zvpmwulcbxuj"),
            *("2025-10-13 14:47:37.651+00", "2025-10-13 16:48:01.425+00", LOG.name),
        )
    ]
    assert table(tmp_path, "SELECT phase, step, loss FROM training_steps ORDER BY step") == [
        ("train", 50, 7.67126),
        ("train", 100, 7.05889),
        ("train", 150, 6.53423),
        ("train", 200, 6.09834),
    ]


def test_again_adds_nothing_and_a_grown_log_replaces(tmp_path: Path) -> None:
    """A run is known by its beginning: what was imported while it ran is replaced by what it became."""
    path = tmp_path / "train.log"
    path.write_text(log(1024, 33.0, 7394, 6.1, 100, finished=False))
    imported(tmp_path / "s", path)
    assert table(tmp_path / "s", "SELECT steps, samples, batch_size FROM training") == [(100, None, None)]
    path.write_text(log(1024, 33.0, 7394, 6.1))
    assert "1 training run added" in imported(tmp_path / "s", path)
    assert "0 training runs added; 1 already stored" in imported(tmp_path / "s", path)
    assert table(tmp_path / "s", "SELECT steps, samples FROM training") == [(200, 204800)]


def test_several_runs_and_evaluations(tmp_path: Path) -> None:
    """A log that was appended to holds several runs; Eval lines are steps of their own kind; older logs lack commas."""
    path = tmp_path / "train.log"
    evaluation = "2025-10-13 15:50:00,000 INFO:   | Eval Device=CSX, GlobalStep=200, Batch=20, Loss=7.5, Rate=nan\n"
    old = "2023-01-01 00:00:00,000 INFO:   | Train Device=xla:0 Step=50 Loss=8.31250 Rate=69.37 GlobalRate=69.38\n"
    path.write_text(log(256, 32.0, 100.0, 6.0, 100) + evaluation + log(512, 33.0, 200.0, 5.0, 100) + old)
    assert "3 training runs added" in imported(tmp_path / "s", path)
    assert table(tmp_path / "s", "SELECT batch_size, global_rate FROM training ORDER BY ALL") == [
        (256, 32.0),
        (512, 33.0),
        (None, 69.38),
    ]
    assert table(tmp_path / "s", "SELECT step, loss, rate FROM training_steps WHERE phase = 'eval'") == [
        (200, 7.5, None)
    ]


def test_a_restarted_run(tmp_path: Path) -> None:
    """A killed run keeps its own steps, without samples; the one that goes on from there has its batch size."""
    killed = log(1024, 33.0, 0, 6.1, 100, finished=False)
    going_on = (
        "".join(line for line in log(1024, 33.0, 4000.0, 6.1).splitlines(keepends=True) if "Step=50" not in line)
        .replace("Step=100,", "Step=100, Again=1,")
        .replace("wsjob-batch1024", "wsjob-second")
    )
    going_on = "".join(line for line in going_on.splitlines(keepends=True) if "Step=100," not in line)
    path = tmp_path / "train.log"
    path.write_text(killed + going_on.replace("Processed 204800", "Processed 102400"))
    assert "2 training runs added" in imported(tmp_path / "s", path)
    found = "SELECT job_id, batch_size, samples, len(progress) FROM training ORDER BY started_at, job_id"
    assert table(tmp_path / "s", found) == [
        ("wsjob-batch1024", None, None, 2),
        ("wsjob-second", 1024, 102400, 2),
    ]


def test_a_checkpoint_says_where_a_run_began(tmp_path: Path) -> None:
    """A log of a restarted run alone, or a checkpoint that is loaded after a killed run's steps."""
    line = "2025-10-13 15:{:02d}:04,385 INFO:   | Train Device=CSX, Step={}, Loss=1.0, GlobalRate=3.0 samples/sec\n"
    loaded = "2025-10-13 15:20:00,000 INFO:   Loading weights from checkpoint ./model_dir/checkpoint_100.mdl\n"
    processed = "2025-10-13 16:00:00,000 INFO:   Processed 102400 training sample(s) in 4000.0 seconds.\n"
    (tmp_path / "a.log").write_text(loaded + line.format(30, 200) + processed)
    steps = [line.format(minute, number) for minute, number in enumerate((50, 100, 150))]
    (tmp_path / "b.log").write_text("".join(steps) + loaded + line.format(40, 150) + line.format(50, 200) + processed)
    imported(tmp_path / "s", tmp_path / "a.log", tmp_path / "b.log")
    found = "SELECT imported_from, batch_size, len(progress) FROM training ORDER BY ALL"
    assert table(tmp_path / "s", found) == [("a.log", 1024, 1), ("b.log", 1024, 2), ("b.log", None, 3)]


def test_steps_that_begin_again(tmp_path: Path) -> None:
    """Without a word about a new job, a step that is no further than the last one begins a run."""
    step = "2025-10-13 15:{:02d}:04,385 INFO:   | Train Device=CSX, Step={}, Loss=1.0, GlobalRate=3.0 samples/sec\n"
    lines = [step.format(minute, number) for minute, number in enumerate((50, 100, 150, 50, 100))]
    path = tmp_path / "train.log"
    path.write_text(
        "".join(lines) + "2025-10-13 16:00:00,000 INFO:   Processed 800 training sample(s) in 0.0 seconds.\n"
    )
    assert "2 training runs added" in imported(tmp_path / "s", path)
    found = "SELECT steps, batch_size, total_s, samples_per_s, outside_s FROM training ORDER BY started_at"
    assert table(tmp_path / "s", found) == [(150, None, None, None, None), (100, 8, 0.0, None, None)]


def test_rates_of_tokens(tmp_path: Path) -> None:
    """Tokens per second aren't samples per second: the rates are empty, and the command says so."""
    path = tmp_path / "train.log"
    path.write_text(log(256, 32.0, 100.0, 6.0).replace("samples/sec", "tokens/sec"))
    assert "its rates are in tokens per second" in imported(tmp_path / "s", path)
    assert table(tmp_path / "s", "SELECT global_rate, outside_s, batch_size FROM training") == [(None, None, 256)]


@pytest.mark.parametrize("cut", ["Loss=6.00", "GlobalRate=32.", "Step=20"])
def test_a_number_that_the_files_end_cuts_off(tmp_path: Path, cut: str) -> None:
    """A last line without its end isn't read, and is named; the grown log then brings it."""
    whole = log(256, 32.0, 100.0, 6.0)
    path = tmp_path / "train.log"
    path.write_text(whole[: whole.rindex(cut[:-1]) + len(cut) - 1])
    done = dyno("import", path, "--spans", tmp_path / "s")
    assert done.returncode == 1
    assert "it has no line end" in done.stderr
    assert table(tmp_path / "s", "SELECT steps FROM training") == [(150,)]
    path.write_text(whole)
    imported(tmp_path / "s", path)
    assert table(tmp_path / "s", "SELECT steps, final_loss FROM training") == [(200, 6.0)]


def test_a_broken_progress_line(tmp_path: Path) -> None:
    """It is named by its line and left out."""
    path = tmp_path / "train.log"
    path.write_text(log(256, 32.0, 100.0, 6.0) + "2025-10-13 INFO: | Train Device=CSX, Step=many, Loss=1\n")
    done = dyno("import", path, "--spans", tmp_path / "s")
    assert done.returncode == 1
    assert f"'{path}', line 9: its progress can't be read" in done.stderr
    assert "1 training run added" in done.stdout


def test_a_log_of_something_else(tmp_path: Path) -> None:
    """Text without a training run is of no kind that can be imported."""
    path = tmp_path / "train.log"
    path.write_text("2025-10-13 14:47:37,651 INFO:   Nothing was trained\n")
    assert "of no kind that can be imported" in refusal("import", path, "--spans", tmp_path / "s")


def test_views_without_a_log(tmp_path: Path) -> None:
    """They have their columns and no rows; pasted into a plain DuckDB they name the folder once."""
    assert table(tmp_path, "FROM training") == []
    assert table(tmp_path, "FROM training_steps") == []
    assert sql_text("training").count("'spans/") == 1
