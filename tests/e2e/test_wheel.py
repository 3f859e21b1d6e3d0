"""What a user installs: the wheel, built from the sdist, in a clean environment and an empty working folder.

Only here can a stray import be noticed, because the editable install has the whole repository on its path.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from rigs.journal_rows import rows_so_far
from rigs.programs import children_cpu_s, running

REPOSITORY: Final = Path(__file__).parents[2]
PACKAGES: Final = ("dyno_proxy", "dyno_driver", "dyno_analysis")
PROMPTS: Final = 4

# CI's two cores may be busy with something else just then: the best of a few starts tells what the program needs, in
# CPU time, which is its own alone; the clock's time has a bound that allows for others.
STARTS: Final = 5
HELP_LIMIT_S: Final = 0.2
HEALTHZ_LIMIT_S: Final = 1.0
BUSY: Final = 5


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, REPOSITORY], folder)
    assert built.returncode == 0, built.stdout + built.stderr
    assert len(list(folder.glob("inference_dyno-*.tar.gz"))) == 1
    (found,) = folder.glob("inference_dyno-*-py3-none-any.whl")
    return found


@pytest.fixture(scope="module")
def dyno(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `dyno` of a new environment that has only the locked requirements and the wheel."""
    environment = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    uv = Path(sys.executable).parent / "uv"
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet"]
    if uv.exists():  # seconds, out of its cache; compiled, as pip does, since the limits below aren't for a first start
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    for what in (["--require-hashes", "-r", REPOSITORY / "requirements.lock"], [wheel]):
        # With the machine's own settings: the index and its certificates are theirs.
        installed = run([*install, "--no-deps", *what], environment, dict(os.environ))
        assert installed.returncode == 0, installed.stdout + installed.stderr
    return environment / "bin" / "dyno"


@pytest.fixture
def config(dyno: Path, tmp_path: Path) -> Iterator[Path]:
    """A `dyno.toml` with two simulated endpoints, fifty times as fast as their profiles."""
    command: list[str | Path] = [dyno, "simulate", "--time-scale", "0.02", "--profile", "metis", "--profile", "sophia"]
    log = tmp_path / "simulate.log"
    with running(command, r"^dyno simulate: (\w+) on (\S+)$", log, environment=clean_environment(), lines=2) as ready:
        path = tmp_path / "dyno.toml"
        path.write_text(
            "".join(f'[endpoints.{m[1]}]\nurl = "{m[2]}"\nmodel = "model-of-{m[1]}"\n' for m in ready), encoding="utf-8"
        )
        yield path


def clean_environment() -> dict[str, str]:
    """The environment has no import path, and no configuration except what the test writes."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("DYNO_", "PYTHON"))}


def run(
    command: Sequence[str | Path], folder: Path, environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end, with `folder` as the working folder."""
    chosen = clean_environment() if environment is None else environment
    return subprocess.run(command, cwd=folder, env=chosen, capture_output=True, text=True, check=False)


def test_compare_from_the_wheel_in_an_empty_folder(dyno: Path, config: Path, tmp_path: Path) -> None:
    """`dyno compare` prints the published table's rows, and leaves report, raw results and span files behind."""
    folder = tmp_path / "empty"
    folder.mkdir()
    compared = run([dyno, "compare", "--config", config, "-n", str(PROMPTS)], folder)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "Traceback" not in compared.stderr
    rows = ("mean latency", "median latency", "min latency", "max latency", "standard deviation", "throughput")
    for row in (*rows, "avg response length", "success rate"):
        assert re.search(row.replace(" ", r"\W+"), compared.stdout, re.IGNORECASE), f"no row '{row}'"
    for word in ("metis", "sophia", "TTFT", "TPOT", "simulated", f"{PROMPTS}/{PROMPTS}"):
        assert word in compared.stdout, f"no '{word}' in the table"

    (stored,) = (folder / "spans" / "runs").iterdir()
    assert {"run.json", "prompts.parquet", "answers.parquet", "report.md"} <= {path.name for path in stored.iterdir()}
    assert "simulated" in (stored / "report.md").read_text(encoding="utf-8")
    (results,) = stored.glob("metis_vs_sophia_results_*.json")
    assert re.fullmatch(r"metis_vs_sophia_results_\d{8}_\d{6}\.json", results.name)
    assert str(results.relative_to(folder)) in compared.stdout
    assert str((stored / "report.md").relative_to(folder)) in compared.stdout
    document = json.loads(results.read_text(encoding="utf-8"))
    for name in ("metis", "sophia"):
        assert [one["metadata"]["model"] for one in document[name]["results"]] == [f"model-of-{name}"] * PROMPTS
        assert all(one["latency_sec"] > 0 and one["response"] for one in document[name]["results"])
    spans = rows_so_far(folder / "spans")
    assert len([span for span in spans if not span.get("warmup")]) == 2 * PROMPTS
    assert {span["outcome"] for span in spans} == {"ok"}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_stands_alone(package: str, wheel: Path, dyno: Path, tmp_path: Path) -> None:
    """Every module of a package can be imported if the other two packages and `dyno.py` are taken out of the wheel."""
    alone = tmp_path / "alone"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(alone, [name for name in archive.namelist() if name.startswith(f"{package}/")])
    (site,) = (dyno.parents[1] / "lib").glob("python3.*/site-packages")
    script = f"""
import importlib, pkgutil, sys
sys.path = [entry for entry in sys.path if entry != {str(site)!r}] + [{str(tmp_path / "dependencies")!r}]
sys.path.insert(0, {str(alone)!r})
import {package}
for module in pkgutil.walk_packages({package}.__path__, "{package}."):
    importlib.import_module(module.name)
"""
    # The environment's own packages, less Dyno's.
    shutil.copytree(
        site, tmp_path / "dependencies", copy_function=os.link, ignore=shutil.ignore_patterns("dyno*", "__pycache__")
    )
    done = run([dyno.parent / "python", "-c", script], tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_programs_and_nothing_else(wheel: Path) -> None:
    """Tests, deployment and documents stay out of what a user installs."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {*PACKAGES, "dyno.py"}


def test_help_is_there_at_once(dyno: Path, tmp_path: Path) -> None:
    """`dyno --help` answers within 0.2 s if the machine isn't busy."""
    taken_s, cpu_s = [], []
    for _ in range(STARTS):
        begun_s, before_s = time.perf_counter(), children_cpu_s()
        shown = run([dyno, "--help"], tmp_path)
        taken_s.append(time.perf_counter() - begun_s)
        cpu_s.append(children_cpu_s() - before_s)
        assert "dyno compare" in shown.stdout
    assert min(cpu_s) < HELP_LIMIT_S, cpu_s
    assert min(taken_s) < BUSY * HELP_LIMIT_S, taken_s


def test_proxy_is_up_within_a_second(dyno: Path, tmp_path: Path) -> None:
    """`dyno proxy` answers `/healthz` within a second after its start if the machine isn't busy."""
    path = tmp_path / "dyno.toml"
    path.write_text('[endpoints.a]\nurl = "http://127.0.0.1:9/v1"\n', encoding="utf-8")
    command: list[str | Path] = [
        dyno,
        "proxy",
        "--config",
        path,
        "--listen",
        "127.0.0.1:0",
        "--spans",
        tmp_path / "spans",
    ]
    taken_s, cpu_s = [], []
    for _ in range(STARTS):
        begun_s, before_s = time.perf_counter(), children_cpu_s()
        with (
            running(command, r"listening on (http://\S+?),", tmp_path / "log", environment=clean_environment()) as (
                it,
            ),
            urllib.request.urlopen(f"{it[1]}/healthz", timeout=10) as response,
        ):
            assert response.read().strip() == b"ok"
            taken_s.append(time.perf_counter() - begun_s)
        cpu_s.append(children_cpu_s() - before_s)  # its end included
    assert min(cpu_s) < HEALTHZ_LIMIT_S, cpu_s
    assert min(taken_s) < BUSY * HEALTHZ_LIMIT_S, taken_s
