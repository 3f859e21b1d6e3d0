"""Nobody but the user reads what the programs write, or also the group that was asked for, whatever the umask is."""

import grp
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dyno_analysis import file_modes as of_analysis
from dyno_driver import file_modes as of_driver
from dyno_proxy import file_modes as of_proxy
from dyno_proxy.telemetry.named_users import KEY_FILE
from rigs import dyno_command
from rigs.collector_rig import message, post, running_collector
from rigs.fake_upstream import fake_upstream
from rigs.imports import SAMPLES
from rigs.proxy_process import configure, proxy_process
from rigs.stored_spans import span, streamed, write
from rigs.until import until

_ANSWER: list[Any] = [{"json": {"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}]}}]
_OWN_GROUP = os.getegid()


def another_group() -> grp.struct_group:
    """A group that isn't the tests' main one, and that files may be given: one of the user's; any, for root."""
    usable = {each for each in os.getgroups() if each != _OWN_GROUP}
    for each in grp.getgrall():
        if each.gr_gid in usable or (os.geteuid() == 0 and each.gr_gid != _OWN_GROUP):
            return each
    pytest.skip("a file of a group wants a user who is in two groups")


@pytest.fixture(params=[0o000, 0o022, 0o277], ids=lambda umask: f"umask_{umask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The programs that the test starts have this umask."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def dyno(folder: Path, *arguments: str | Path, code: int = 0, **environment: str) -> str:
    """Run a command in the folder. Returns what it printed on standard error."""
    done = dyno_command.dyno(*arguments, cwd=folder, environment=environment)
    assert done.returncode == code, done
    return done.stderr


def below(folder: Path) -> dict[str, tuple[str, int]]:
    """Everything in the folder, and itself: path -> mode, group's id."""
    return {
        str(path.relative_to(folder.parent)): (f"{stat.S_IMODE(path.stat().st_mode):04o}", path.stat().st_gid)
        for path in (folder, *sorted(folder.rglob("*")))
    }


def assert_private(folder: Path) -> None:
    assert {path: found for path, found in below(folder).items() if found[0] not in ("0600", "0400", "0700")} == {}, (
        folder
    )


def assert_of_group(folder: Path, group_id: int) -> None:
    allowed = {("0640", group_id), ("0440", group_id), ("2750", group_id)}
    found = below(folder)
    # The key that hides users' names is not for those who may read the spans.
    keys = {path: found.pop(path) for path in list(found) if path.endswith(KEY_FILE)}
    assert {mode for mode, _ in keys.values()} <= {"0600"}
    assert {path: each for path, each in found.items() if each not in allowed} == {}, folder


async def asked(folder: Path, **options: str) -> None:
    """A proxy with a collector gets one request and one span, and ends; its spans folder is `folder`/a/spans."""
    listen = "127.0.0.1:0"
    async with (
        fake_upstream(_ANSWER) as upstream,
        proxy_process(
            folder, {"e": upstream.url}, "--spans", "a/spans", "--collector-listen", listen, **options
        ) as proxy,
        aiohttp.ClientSession() as session,
    ):
        otlp = (await proxy.said("taking OTLP on")).rpartition(" ")[2]
        async with session.post(f"{proxy.base_url('e')}/chat/completions", json={"model": "m"}) as answer:
            assert answer.status == 200
        status, _, _ = await post(session, otlp, message({}))
        assert status == 200
        await until(lambda: list((folder / "a" / "spans" / "collected").glob("*Z-*.jsonl")), "a collected span")


async def test_a_proxy_and_its_collector(tmp_path: Path, umask: int) -> None:
    """Their journals and seeds are the user's alone, and so is each folder that they make."""
    os.umask(umask & 0o077)  # the configuration is the test's own file, and has to be readable
    configure(tmp_path, {})
    os.umask(umask)
    await asked(tmp_path)
    assert len(below(tmp_path / "a")) >= 9
    assert_private(tmp_path / "a")


@pytest.mark.usefixtures("open_umask")
async def test_a_proxy_with_a_group(tmp_path: Path) -> None:
    """With `[spans] group`, files are 0640, folders 2750, and all are the group's; so is what is made of them."""
    group = another_group()
    await asked(tmp_path, DYNO_SPANS_GROUP=group.gr_name)
    assert len(below(tmp_path / "a")) >= 9
    assert_of_group(tmp_path / "a", group.gr_gid)
    # The other programs don't read dyno.toml: the folder tells them.
    spans = tmp_path / "a" / "spans"
    dyno(tmp_path, "compact", "--spans", spans)
    dyno(tmp_path, "import", SAMPLES / "vllm_0.29_llm_request.json", "--spans", spans, "--endpoint", "e")
    dyno(tmp_path, "compare", "--simulate", "-n", "1", "--spans", spans, DYNO_SPANS_GROUP=group.gr_name)
    assert any(path.endswith("answers.parquet") for path in below(spans))
    assert any(path.endswith("report.md") for path in below(spans))
    assert len(list(spans.glob("*.parquet"))) > 1
    assert_of_group(tmp_path / "a", group.gr_gid)


@pytest.mark.usefixtures("open_umask")
def test_a_users_folder_stays_as_it_is(tmp_path: Path) -> None:
    """A folder that is there already keeps its mode, and what is written to it is the user's alone."""
    spans = tmp_path / "spans"
    spans.mkdir(0o755)
    dyno(tmp_path, "compare", "-n", "1", "--spans", spans)
    dyno(tmp_path, "import", SAMPLES / "guidellm_0.8.1.json", "--spans", spans)
    found = below(spans)
    assert found.pop("spans") == ("0755", _OWN_GROUP)
    assert {mode for mode, _ in found.values()} <= {"0600", "0700"}
    assert sum(path.endswith(".parquet") for path in found) >= 5


@pytest.mark.parametrize("mode", [0o2750, 0o2770])
@pytest.mark.usefixtures("open_umask")
def test_a_folder_of_a_group(tmp_path: Path, mode: int) -> None:
    """A user makes a folder for a group: a run, an import and a conversion give that group what they write."""
    group = another_group()
    spans = tmp_path / "spans"
    spans.mkdir()
    os.chown(spans, -1, group.gr_gid)
    spans.chmod(mode)
    dyno(tmp_path, "import", SAMPLES / "guidellm_0.8.1.json", SAMPLES / "vllm_0.29_llm_request.json")
    dyno(tmp_path, "compact")
    found = below(spans)
    assert found.pop("spans") == (f"{mode:04o}", group.gr_gid)
    assert len(found) > 5
    assert set(found.values()) <= {("0640", group.gr_gid), ("0440", group.gr_gid), ("2750", group.gr_gid)}


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o2755, 0o2775])
@pytest.mark.usefixtures("open_umask")
def test_a_folder_that_everybody_may_enter_is_no_groups(tmp_path: Path, mode: int) -> None:
    """A folder below a project's often has the project's group without anybody's wish: files are the user's alone."""
    spans = tmp_path / "spans"
    spans.mkdir()
    spans.chmod(mode)
    dyno(tmp_path, "import", SAMPLES / "guidellm_0.8.1.json")
    found = {path: found for path, (found, _) in below(spans).items() if path != "spans"}
    assert {each[1:] for each in found.values()} == {"600", "700"}
    # A folder below keeps the bit by which quotas count its files.
    assert {each[0] for path, each in found.items() if (tmp_path / path).is_dir()} == {"2" if mode & 0o2000 else "0"}


@pytest.mark.usefixtures("open_umask")
def test_a_group_by_the_variable(tmp_path: Path) -> None:
    """DYNO_SPANS_GROUP names the group for the programs that don't read dyno.toml."""
    group = another_group()
    for value in (group.gr_name, str(group.gr_gid)):
        spans = tmp_path / f"spans_{value}"
        dyno(tmp_path, "import", SAMPLES / "guidellm_0.8.1.json", "--spans", spans, DYNO_SPANS_GROUP=value)
        assert_of_group(spans, group.gr_gid)


@pytest.mark.parametrize("command", ["proxy", "collect", "import", "drive", "compact"])
def test_an_unknown_group(tmp_path: Path, command: str) -> None:
    """A group that doesn't exist: one line that names the key, exit code 2, and nothing is written."""
    write(tmp_path / "there", [span()])
    configure(tmp_path, {"e": "http://127.0.0.1:9/v1"})
    options: dict[str, list[str | Path]] = {
        "proxy": ["--config", "dyno.toml"],
        "collect": ["--listen", "127.0.0.1:0"],
        "import": [SAMPLES / "guidellm_0.8.1.json"],
        "drive": ["--proxy", "http://127.0.0.1:9"],
        "compact": [],
    }
    where = "there" if command == "compact" else "spans"
    said = dyno(tmp_path, command, *options[command], "--spans", where, code=2, DYNO_SPANS_GROUP="no_such_group")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert "DYNO_SPANS_GROUP" in said
    assert "no group 'no_such_group'" in said
    assert not (tmp_path / "spans").exists()


def test_a_group_in_the_file(tmp_path: Path) -> None:
    """The line names the file and the key, where the group is in dyno.toml."""
    (tmp_path / "dyno.toml").write_text('[spans]\ngroup = "no_such_group"\n[endpoints.e]\nurl = "http://h/v1"\n')
    said = dyno(tmp_path, "proxy", "--config", "dyno.toml", code=2)
    assert said.startswith("dyno proxy: dyno.toml: spans.group: there is no group 'no_such_group'")
    assert said.count("\n") == 1


@pytest.mark.parametrize("module", ["dyno_proxy", "dyno_analysis", "dyno_driver"])
def test_a_group_of_others(module: str) -> None:
    """A user can't name a group that he isn't in."""
    code = (
        f"import os; from {module} import file_modes; from pathlib import Path; "
        "os.geteuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534))\n"
        "try: print((file_modes.access_of if hasattr(file_modes, 'access_of') else "
        "lambda _: file_modes.access_in(Path('/')))('0'))\n"
        "except Exception as error: print(error)\n"
    )
    environment = {**os.environ, "DYNO_SPANS_GROUP": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "you aren't in the group '0'" in done.stdout, done


async def test_a_group_of_others_needs_a_restart(tmp_path: Path) -> None:
    """A new `[spans] group` isn't taken by a reload, and the log says so."""
    import signal

    async with (
        fake_upstream(_ANSWER) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}) as proxy,
    ):
        text = (tmp_path / "dyno.toml").read_text() + f"[spans]\ngroup = '{grp.getgrgid(_OWN_GROUP).gr_name}'\n"
        (tmp_path / "dyno.toml").write_text(text)
        proxy.signal(signal.SIGHUP)
        assert "spans.group" in await proxy.said("restart")


def test_what_is_exported(tmp_path: Path, umask: int) -> None:
    """Answers may be in a report and in rows: `--output`, `--out` and COPY give files for the user alone."""
    os.umask(0)
    write(tmp_path / "spans", [streamed([1_000, 2_000]), span()])
    out = tmp_path / "out"
    out.mkdir(0o755)
    os.umask(umask)
    for form in ("csv", "json", "markdown", "table", "parquet", "arrow"):
        dyno(tmp_path, "sql", "FROM spans", "--format", form, "--output", out / f"rows.{form}")
    for ending in ("csv", "json", "parquet"):
        dyno(tmp_path, "sql", f"COPY (FROM spans) TO 'out/copied.{ending}'", "--allow-writes")
    dyno(tmp_path, "sql", "EXPORT DATABASE 'out/database'", "--allow-writes")
    dyno(tmp_path, "report", "--since", "2000-01-01T00:00:00Z", "--out", "out/new/report")
    found = below(out)
    assert found.pop("out")[0] == "0755"
    assert len(found) > 12
    assert {mode for mode, _ in found.values()} == {"0600", "0700"}


@pytest.mark.usefixtures("open_umask")
def test_what_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    """A file that a user has opened to others stays so when it is written again."""
    group = another_group()
    write(tmp_path / "spans", [span()])
    rows = tmp_path / "rows.csv"
    for mode, group_id in ((0o644, _OWN_GROUP), (0o640, group.gr_gid), (0o600, _OWN_GROUP)):
        dyno(tmp_path, "sql", "FROM spans", "--output", rows)
        os.chown(rows, -1, group_id)
        rows.chmod(mode)
        dyno(tmp_path, "sql", "FROM spans", "--output", rows)
        assert below(rows) == {"rows.csv": (f"{mode:04o}", group_id)}


@pytest.mark.usefixtures("open_umask")
def test_a_conversion_keeps_who_may_read(tmp_path: Path) -> None:
    """A journal that a group reads becomes Parquet that it reads; any other becomes the user's alone."""
    group = another_group()
    for name, mode, group_id in (("a", 0o600, _OWN_GROUP), ("b", 0o640, group.gr_gid), ("c", 0o644, _OWN_GROUP)):
        spans = tmp_path / name
        for first in (1, 2, 3):
            journal = spans / f"import_00ff-{first:012d}.jsonl"
            journal.parent.mkdir(exist_ok=True)
            journal.write_bytes(write(tmp_path / f"{name}{first}", [span(seq=first)]).read_bytes() + b"{}\n")
            os.chown(journal, -1, group_id)
            journal.chmod(mode)
        dyno(tmp_path, "compact", "--spans", spans, code=1)  # for the broken lines
        made = {path: found for path, found in below(spans).items() if not path.endswith(".jsonl") and path != name}
        assert len(made) == 7  # three files and what they are joined to, and the broken lines of three
        wanted = ("0640", group.gr_gid) if name == "b" else ("0600", os.getegid() if name == "a" else _OWN_GROUP)
        assert set(made.values()) == {wanted}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write into another user's folder")
def test_what_root_converts_stays_its_users(tmp_path: Path) -> None:
    """Root may run `dyno compact` for a user, who can still read the rows afterwards."""
    journal = write(tmp_path / "spans", [span()])
    journal.rename(journal.with_name("import_00ff-000000000001.jsonl"))
    os.chown(journal.with_name("import_00ff-000000000001.jsonl"), 65534, 65534)
    dyno(tmp_path, "compact")
    (made,) = (tmp_path / "spans").glob("*.parquet")
    assert (made.stat().st_uid, stat.S_IMODE(made.stat().st_mode)) == (65534, 0o600)


def test_a_training_log(tmp_path: Path) -> None:
    """What an import makes of a training log is the user's alone, or its group's, as the rest is."""
    group = another_group()
    lines = (
        "2025-10-13 16:43:01,425 INFO:   Effective batch size is 120.",
        "2025-10-13 16:44:01,425 INFO:   | Train Device=CSX, Step=1, Loss=9.0, Rate=10.0 samples/sec, GlobalRate=10.0",
        "2025-10-13 16:48:01,425 INFO:   Processed 120 training sample(s) in 12.0 seconds.",
    )
    (tmp_path / "run.log").write_text("\n".join(lines) + "\n")
    dyno(tmp_path, "import", "run.log", "--spans", "own")
    assert_private(tmp_path / "own")
    dyno(tmp_path, "import", "run.log", "--spans", "shared", DYNO_SPANS_GROUP=group.gr_name)
    assert_of_group(tmp_path / "shared", group.gr_gid)
    assert list((tmp_path / "shared" / "training").glob("*.jsonl"))


@pytest.mark.usefixtures("open_umask")
def test_the_collector_alone(tmp_path: Path) -> None:
    """`dyno collect` without a proxy writes for the user alone too."""
    with running_collector(tmp_path / "c") as collector:
        assert_private(collector.spans)


def test_the_programs_agree() -> None:
    """The three programs, which don't import each other, give the same modes and read the same variable."""
    names = ("OWN_FILE", "OWN_FOLDER", "GROUP_FILE", "GROUP_FOLDER")
    modes = [[getattr(module, name) for name in names] for module in (of_proxy, of_analysis, of_driver)]
    assert modes == [[0o600, 0o700, 0o640, 0o2750]] * 3
    assert of_analysis.GROUP_VARIABLE == of_driver.GROUP_VARIABLE == "DYNO_SPANS_GROUP"
