"""run.json means the same to the driver, to `dyno import`, to the analysis and in docs/spans.md."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from dyno_analysis.runs import record
from dyno_driver import run_json
from rigs.dyno_command import dyno, refusal
from rigs.fake_proxy import answering, fake_proxy
from rigs.imports import SAMPLES
from rigs.stored_spans import RUN_ID, prompts, write

PAGE: Final = Path(__file__).parents[2] / "docs" / "spans.md"
IMPORTS_ALONE: Final = {"imported_from", "imported_kind", "imported_sha256", "definitions", "published"}


def test_both_sides_declare_the_same_fields() -> None:
    """The analysis declares the driver's fields with the same types. Beside them it declares only those of imports."""
    written, read = get_type_hints(run_json.RunJson), get_type_hints(record.RunJson)
    assert set(read) - set(written) == IMPORTS_ALONE
    assert set(written) - set(read) == set()
    assert run_json.SCHEMA == record.SCHEMA
    for name, kind in written.items():
        if is_typeddict(kind) and is_typeddict(read[name]):
            assert set(get_type_hints(kind)) == set(get_type_hints(read[name])), name
    endpoints = (get_type_hints(module.EndpointJson) for module in (run_json, record))
    assert len({tuple(sorted(hints)) for hints in endpoints}) == 1


async def test_a_real_run_writes_what_is_declared(tmp_path: Path) -> None:
    """`dyno drive` writes exactly the declared fields, and each has its type on both sides."""
    async with fake_proxy({"a": answering("one", "dyno-simulate"), "b": answering("two")}) as proxy:
        done = await asyncio.to_thread(dyno, "drive", "--proxy", proxy.url, "--spans", tmp_path, "-n", "2")
    assert done.returncode == 0, done.stderr
    written = stored(tmp_path)
    assert list(written) == list(get_type_hints(run_json.RunJson))
    assert written["schema"] == run_json.SCHEMA
    assert [*misfits(written, run_json.RunJson), *misfits(written, record.RunJson)] == []


@pytest.mark.parametrize("sample", ["vllm_bench.json", "guidellm_0.2.1.json", "ours"])
def test_an_import_writes_what_is_declared(tmp_path: Path, sample: str) -> None:
    """The run.json of an import has no field, and no type, that the analysis doesn't declare."""
    path = SAMPLES / sample
    if sample == "ours":
        write(tmp_path / "first", prompts(3))
        done = dyno("report", RUN_ID, "--spans", tmp_path / "first", "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        (path,) = (tmp_path / "out").glob("*.json")
    done = dyno("import", path, "--spans", tmp_path / "spans")
    assert done.returncode == 0, done.stderr
    written = stored(tmp_path / "spans")
    assert written["schema"] == record.SCHEMA
    assert set(written) >= IMPORTS_ALONE - {"definitions"}
    assert list(misfits(written, record.RunJson)) == []


def test_a_misfit_is_found() -> None:
    """The comparison in these tests finds an unknown field and a wrong type, at any depth."""
    assert list(misfits({"schema": "1"}, record.RunJson)) == ["schema"]
    assert list(misfits({"colour": 1}, record.RunJson)) == ["colour"]
    assert list(misfits({"endpoints": {"a": {"model": 7}}}, record.RunJson)) == ["endpoints.a.model"]
    assert list(misfits({"definitions": [1]}, record.RunJson)) == ["definitions.0"]


@pytest.mark.parametrize("schema", [record.SCHEMA + 1, "2", None])
def test_a_newer_record_is_refused(tmp_path: Path, schema: object) -> None:
    """A later schema is refused in one line that names the file, both numbers and the fix.

    A file without the field is read.
    """
    write(tmp_path, prompts(3))
    path = tmp_path / "runs" / RUN_ID / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schema": schema, "run_id": RUN_ID}))
    line = refusal("report", RUN_ID, "--spans", tmp_path)
    assert f"'{path}' has schema {schema!r}, and this version of Dyno reads {record.SCHEMA}" in line
    assert "install a newer one" in line
    path.write_text(json.dumps({"run_id": RUN_ID}))
    assert dyno("report", RUN_ID, "--spans", tmp_path).returncode == 0


def test_the_page_lists_the_fields() -> None:
    """docs/spans.md has each field once, in the file's order, and says which program writes it."""
    section = re.search(r"^## Runs\n(.*?)^## ", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert section is not None
    rows = [line.strip("| ").split(" | ") for line in section[1].splitlines() if line.startswith("| `")]
    assert [name.strip("`") for name, *_ in rows] == [
        *get_type_hints(run_json.RunJson),
        *(name for name in get_type_hints(record.RunJson) if name in IMPORTS_ALONE),
    ]
    imports = {name.strip("`") for name, *_, by in rows if by == "an import"}
    assert imports == IMPORTS_ALONE


def stored(spans: Path) -> dict[str, Any]:
    (path,) = (spans / "runs").glob("*/run.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def misfits(value: Any, kind: Any, path: str = "") -> Iterator[str]:
    """The paths at which a JSON value isn't of its declared type, and those of unknown fields."""
    inner = f"{path}." if path else ""
    if is_typeddict(kind):
        hints = get_type_hints(kind)
        if not isinstance(value, dict):
            yield path
            return
        for name, each in value.items():
            if name in hints:
                yield from misfits(each, hints[name], inner + name)
            else:
                yield inner + name
    elif isinstance(kind, UnionType):
        if all([*misfits(value, each, path)] for each in get_args(kind)):
            yield path
    elif get_origin(kind) is not None and issubclass(get_origin(kind), Mapping):
        if not isinstance(value, dict):
            yield path
            return
        for name, each in value.items():
            yield from misfits(each, get_args(kind)[1], inner + name)
    elif get_origin(kind) is list:
        for position, each in enumerate(value):
            yield from misfits(each, get_args(kind)[0], f"{inner}{position}")
    elif kind is float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            yield path
    elif kind is not Any and type(value) is not (NoneType if kind is None else kind):
        yield path
