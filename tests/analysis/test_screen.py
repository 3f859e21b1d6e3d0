"""The answer on a terminal: at most twenty lines of eighty columns, what isn't so first; --all has all of it."""

import os
import pty
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dyno_analysis.render.wrapping import width
from dyno_analysis.report.answer import answer, banner, said
from dyno_analysis.report.compare import compare
from dyno_analysis.report.comparison import Comparison
from dyno_analysis.report.screen import MOST_LINES, End, screen
from dyno_analysis.runs.record import RunRecord
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.selection import Selection, select
from dyno_driver.commands.compare import simulated_config
from rigs.dyno_command import dyno
from rigs.stored_spans import RUN_ID, pair, prompts, streamed, write
from rigs.terminal import read_all

LONG = "-inference-endpoint-of-a-leadership-computing-facility-of-x"
COLUMNS = 80


def rows(names: Sequence[str], scale: float = 1.0, n: int = 10, **columns: Any) -> list[dict[str, Any]]:
    """n prompts by turns to each endpoint: each is slower than the one before."""
    random = Random(3)  # noqa: S311 - latencies, no secret
    found = []
    for number in range(n):
        for place, name in list(enumerate(names))[:: 1 if number % 2 else -1]:
            latency_us = max(3, round((1 + place) * random.lognormvariate(0, 0.1) * scale * 1e6))
            offsets = [max(1, latency_us // 3), max(2, latency_us // 2), latency_us]
            found.append(
                streamed(
                    offsets,
                    endpoint=name,
                    run_id=RUN_ID,
                    prompt_id=str(number),
                    output_tokens=40 + 10 * number,
                    input_tokens=100 + number,
                    **columns,
                )
            )
    return found


def compared(folder: Path, stored: list[dict[str, Any]], order: Sequence[str] = (), **of_record: object) -> Comparison:
    write(folder, stored)
    files = span_folder.sources(folder)
    with span_folder.connect(folder, files) as connection:
        select(connection, Selection([RUN_ID]), files)
        record = RunRecord(RUN_ID, folder, of_record)
        return compare(connection, [RUN_ID], [record], order, 0.05, 0)


def on_screen(comparison: Comparison, ends: Sequence[End] = ()) -> list[str]:
    """The lines, which must fit."""
    command = End("all", f"dyno report {RUN_ID} --spans spans --all", is_command=True)
    lines = [line for _, line in screen(answer(comparison), [*ends, command], COLUMNS)]
    assert len(lines) <= MOST_LINES, lines
    assert all(width(line) <= COLUMNS for line in lines), lines
    return lines


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e8], ids=["tiny", "usual", "huge"])
@pytest.mark.parametrize("suffix", ["", LONG], ids=["short", "long"])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_it_fits(tmp_path: Path, n: int, suffix: str, scale: float) -> None:
    """With one to five endpoints, long names and any values: the verdict on each endpoint's latency is there."""
    names = [f"{letter}{suffix}" for letter in "abcde"[:n]]
    comparison = compared(tmp_path, rows(names, scale, model="m" * 80, simulated=True), names)
    lines = on_screen(comparison, [End("report", f"spans/runs/{RUN_ID}/report.md")])
    assert lines[0].startswith("Simulated: ")
    table = [line for line in lines if re.search(r" – .* (faster|no difference|undecided)$", line)]
    assert len(table) >= n - 1
    assert lines[-1].startswith("all      dyno report")
    if suffix:
        assert all(f"{chr(ord('A') + place)}  {name}" in lines for place, name in enumerate(names))


def test_the_answer_comes_first(tmp_path: Path) -> None:
    """The first line is a sentence with its interval, as the table has it; exchanged, it says the same."""
    stored = rows(["metis", "sophia"])
    comparison = compared(tmp_path, stored, ["metis", "sophia"])
    lines = on_screen(comparison)
    found = re.fullmatch(r"metis typically answers (\S+) times sooner than sophia \(95 %: (\S+) to (\S+)\)\.", lines[0])
    assert found is not None
    assert lines[1] == "10 prompts, in turn, streamed. No request failed."
    assert lines[3].split() == ["typical", "metis", "sophia", "ratio", "95", "%", "verdict"]
    exchanged = on_screen(compared(tmp_path / "other", stored, ["sophia", "metis"]))
    assert exchanged[0] == lines[0]
    assert re.search(
        rf"^latency .* {found[1]} +{found[2]} – {found[3]}  metis faster$", "\n".join(exchanged), re.MULTILINE
    )


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        (
            pair("1", 1, 2),
            "Undecided: how the latencies of metis and sophia compare (ratio 0.500; fewer than 6 prompts).",
        ),
        (
            [row for n in range(9) for row in pair(str(n), 2, 2)],
            "metis and sophia typically take the same time, within",
        ),
        (
            [pair("1", 1, 1)[0], pair("2", 1, 1)[1]],
            "No verdict on metis and sophia: they answered no prompt in common.",
        ),
        (
            [row | ({"outcome": "auth"} if row["endpoint"] == "sophia" else {}) for row in prompts(6)],
            "No verdict on metis and sophia: sophia gave no ok answer.",
        ),
        ([row | {"outcome": "auth"} for row in prompts(2)], "metis and sophia gave no ok answer."),
        (
            [row for row in prompts(8) if row["endpoint"] == "metis"],
            "metis typically answered in 3.10 s (median; 95 %: ",
        ),
    ],
    ids=["few", "same", "no common prompt", "one is down", "both are down", "one endpoint"],
)
def test_what_it_says(tmp_path: Path, stored: list[dict[str, Any]], says: str) -> None:
    """Whatever was found is said as plainly."""
    comparison = compared(tmp_path, stored)
    on_screen(comparison)
    assert says in said(comparison)[0]


def test_figures_that_disagree(tmp_path: Path) -> None:
    """Where an endpoint is sooner, but slower per token, a second sentence says so, with its interval."""
    stored = []
    for number in range(8):
        for name, offsets in (("metis", [900_000, 1_000_000]), ("sophia", [100_000, 500_000])):
            stored.append(streamed(offsets, endpoint=name, run_id=RUN_ID, prompt_id=str(number), output_tokens=101))
    first, second, *_ = said(compared(tmp_path, stored))
    assert first == "sophia typically answers 2.00 times sooner than metis (95 %: 2.00 to 2.00)."
    assert second == "But metis is 4.00 times faster per token (95 %: 4.00 to 4.00)."


def test_what_is_not_so(tmp_path: Path) -> None:
    """Simulated in part, imported, interrupted, held up by the driver: each is a banner."""
    stored = prompts(6)
    for row in stored:
        row |= {"simulated": True} if row["endpoint"] == "metis" else {"attributes": {"dyno.imported_from": "x"}}
    driver = {"invalid_for_rate": ["9 a second: the driver took 97 % of a core"]}
    told = banner(compared(tmp_path, stored, interrupted=True, driver=driver))
    assert told[0].startswith("Mixed: metis is simulated, sophia isn't. ")
    assert told[-2] == "Interrupted: these are the requests up to then."
    assert told[-1] == (
        "Invalid for rate, since the driver was the bottleneck: 9 a second: the driver took 97 % of a core."
    )
    odd: tuple[object, ...] = (None, [], {"invalid_for_rate": "x"}, {"invalid_for_rate": [None]})
    for strange in odd:
        assert not any("Invalid" in line for line in banner(compared(tmp_path, stored, driver=strange)))


def test_the_simulators_speed_is_said(tmp_path: Path) -> None:
    """The banner says at what speed was simulated, as `dyno compare --simulate-speed` puts it into the record."""
    config = tomllib.loads(simulated_config({"metis": "http://a/v1", "sophia": "http://b/v1"}, 5))
    stored = rows(["metis", "sophia"], simulated=True)
    told = banner(compared(tmp_path, stored, endpoints=config["endpoints"]))
    assert told == ["Simulated: metis and sophia are Dyno's own simulator, at 5 times speed."]


def test_an_odd_name_breaks_no_line(tmp_path: Path) -> None:
    """Line feeds, tabs and escapes of a name are shown, and take no line of their own."""
    comparison = compared(tmp_path, rows(["me\ntis\x1b[2J", "so\tphia\u202e"]))
    text = "\n".join(on_screen(comparison))
    assert "me\\ntis\\u001b[2J" in text
    assert "so\\tphia\\u202e" in text
    assert "\x1b" not in text


def on_a_terminal(columns: int, *arguments: str | Path, **variables: str) -> str:
    """What a command writes to a terminal of so many columns, and no variable COLUMNS."""
    primary, secondary = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color"} | variables
    command = ["sh", "-c", f'stty cols {columns} rows 24; exec "$@"', "sh", sys.executable, "-m", "dyno"]
    with subprocess.Popen(
        [*command, *map(str, arguments)], stdin=secondary, stdout=secondary, stderr=secondary, env=environment
    ) as process:
        os.close(secondary)
        written = read_all(primary)
        process.wait(60)
    os.close(primary)
    return written


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def test_on_a_real_terminal(tmp_path: Path) -> None:
    """A terminal of 80 columns gets the answer; --all gets the tables, in its width; TERM=dumb and
    NO_COLOR get no escape."""
    write(tmp_path, rows([f"{letter}{LONG}" for letter in "abc"], model="m" * 80))
    short = on_a_terminal(80, "report", "--spans", tmp_path)
    assert len(plain(short)) <= MOST_LINES
    assert all(len(line) <= 80 for line in plain(short)[:-2])  # the command at the end has the folder's long path
    assert "\x1b[1m" in short
    assert "\x1b" not in on_a_terminal(80, "report", "--spans", tmp_path, NO_COLOR="1")
    everything = plain(on_a_terminal(80, "report", "--spans", tmp_path, "--all", TERM="dumb"))
    assert len(everything) > 100
    assert not any("\x1b" in line or len(line) > 80 for line in everything), everything
    assert {"Verdicts", "Comparison", "Prompts by length"} <= set(everything)
    assert all(len(line) <= 80 for line in plain(on_a_terminal(80, "report", "--spans", tmp_path, "--list")))
    narrow = plain(on_a_terminal(200, "report", "--spans", tmp_path, "--all", COLUMNS="60"))
    assert max(map(len, narrow)) <= 60


def test_the_screen_that_the_readme_shows(tmp_path: Path) -> None:
    """README's sample fits a screen and has the rows that are printed; a run that has references also has F1."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (sample,) = re.findall(r"^```text\n(Simulated: .*?)```$", text, re.DOTALL | re.MULTILINE)
    shown = sample.splitlines()
    assert len(shown) <= MOST_LINES
    assert max(map(width, shown)) <= COLUMNS
    printed = on_screen(compared(tmp_path, rows(["metis", "sophia"], simulated=True), ["metis", "sophia"]))

    def labels(lines: list[str]) -> list[str]:
        start = next(number for number, line in enumerate(lines) if line.startswith("typical"))
        return [re.split(r" {2,}", line)[0] for line in lines[start : lines.index("", start)]]

    assert labels(shown) == [*labels(printed), "F1"]


def test_a_pipe_gets_everything(tmp_path: Path) -> None:
    """Into a pipe all tables are written, without escapes and with nothing broken, whatever COLUMNS says."""
    write(tmp_path, rows(["metis", f"sophia{LONG}"]))
    out = dyno("report", "--spans", tmp_path).stdout
    assert out == dyno("report", "--spans", tmp_path, "--all").stdout
    assert "\x1b" not in out
    assert "Percentiles are exact, and printed if n is enough for a two-sided 95 % interval." in out.splitlines()
    assert out == dyno("report", "--spans", tmp_path, environment={"COLUMNS": "80"}).stdout
