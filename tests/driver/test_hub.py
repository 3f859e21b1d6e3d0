import asyncio
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyno_driver.errors import WrongUseError
from dyno_driver.options.prompting import Prompting
from dyno_driver.prompts.prompt_set import load_prompts
from rigs.fake_hub import REVISION, fake_hub

# Its hub settings are read once a process, so each case is a process of its own.
PROGRAM = """
import sys
from dyno_driver.prompts.prompt_set import load_prompts
from dyno_driver.errors import WrongUseError
try:
    prompt_set = load_prompts(sys.argv[1], 3)
except WrongUseError as error:
    sys.exit(str(error))
print(prompt_set.name, [(prompt.prompt_id, prompt.question, prompt.reference_answers) for prompt in prompt_set.prompts])
"""

CARD = b"""---
configs:
- config_name: plain_text
  data_files:
  - split: train
    path: plain_text/train-*
  - split: validation
    path: plain_text/validation-*
  default: true
---
"""


def squad_table(prefix: str) -> bytes:
    """Five rows of the columns that `rajpurkar/squad` has."""
    rows = [
        {
            "id": f"{prefix}{number}",
            "title": "Super_Bowl_50",
            "context": "The Denver Broncos won.",
            "question": f"Who won {number}?",
            "answers": {"text": ["Denver Broncos", "Broncos"], "answer_start": [4, 11]},
        }
        for number in range(5)
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Without the user's cache and hub settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return kept | {"HF_HOME": str(folder), "no_proxy": "127.0.0.1", **more}


async def load(spec: str, environment: dict[str, str]) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, spec, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_squad_from_the_hub_and_then_from_its_cache(tmp_path: Path) -> None:
    """`squad` is the first n of rajpurkar/squad's validation split, in order; once fetched, no hub is needed."""
    files = {
        "README.md": CARD,
        "plain_text/train-00000-of-00001.parquet": squad_table("t"),
        "plain_text/validation-00000-of-00001.parquet": squad_table("v"),
    }
    asked: list[str] = []
    async with fake_hub("rajpurkar/squad", files, asked) as url:
        online = await load("squad", environment(tmp_path, HF_ENDPOINT=url))
        wrong_split = await load("rajpurkar/squad:tset", environment(tmp_path, HF_ENDPOINT=url))
    offline = await load("squad", environment(tmp_path, HF_ENDPOINT=url))
    references = ("Denver Broncos", "Broncos")
    expected = [(f"v{number}", f"Who won {number}?", references) for number in range(3)]
    assert online == (0, f"squad {expected}\n", "Asking the Hugging Face hub for rajpurkar/squad …\n")
    assert offline == (0, f"squad {expected}\n", "")
    assert any("validation-00000-of-00001.parquet" in path for path in asked)
    code, _, message = wrong_split
    assert code == 1
    assert "--prompts rajpurkar/squad:tset: " in message
    assert "['train', 'validation']" in message


@pytest.mark.parametrize("told", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["unreachable", "offline"])
async def test_no_hub_and_no_cache(tmp_path: Path, told: dict[str, str]) -> None:
    """Without a hub and a copy there is one line that names `--prompts science` and FILE, within seconds."""
    begun = time.monotonic()
    code, out, err = await load("squad", environment(tmp_path, HF_ENDPOINT="http://127.0.0.1:1", **told))
    assert time.monotonic() - begun < 20
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "--prompts squad: " in err
    assert "--prompts science" in err
    assert "--prompts FILE" in err


async def test_a_hub_that_never_answers(tmp_path: Path) -> None:
    """With a network that swallows all packets, the error comes within seconds, not minutes."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    begun = time.monotonic()
    code, _, err = await load("squad", environment(tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{port}"))
    server.close()
    await server.wait_closed()
    assert time.monotonic() - begun < 25
    assert code == 1
    assert "--prompts science" in err


async def test_a_set_without_questions(tmp_path: Path) -> None:
    """If a set of the hub has no questions, the error says which columns it has."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), sink)
    async with fake_hub("me/labels", {"README.md": b"", "validation.parquet": sink.getvalue()}, []) as url:
        code, _, err = await load("me/labels", environment(tmp_path, HF_ENDPOINT=url))
    assert code == 1
    assert "(its columns: text, label)" in err


async def test_the_revision_is_kept_and_pinned(tmp_path: Path) -> None:
    """A branch or a commit is asked for as --revision says, and the commit that came is known, also from the cache."""
    table, asked = squad_table("v"), list[str]()
    async with fake_hub("me/qa", {"README.md": b"", "validation.parquet": table, "train.parquet": table}, asked) as url:
        hub = environment(tmp_path, HF_ENDPOINT=url)
        online = await ask_part("me/qa", hub, "--revision=v1", "--split=train")
        newest = await ask_part("me/qa", hub)
        wrong = await ask_part("me/qa:test", hub, "--split=train")
    assert online == (0, f"me/qa {REVISION} https://huggingface.co/datasets/me/qa, split train, revision {REVISION}\n")
    assert any("/resolve/v1/" in path for path in asked), asked
    assert newest[1].startswith(f"me/qa {REVISION} ")
    assert wrong[0] == 1
    assert "--split train: --prompts me/qa:test names another split" in wrong[1]
    offline = await ask_part("me/qa", environment(tmp_path, HF_ENDPOINT=url), f"--revision={REVISION[:12]}")
    assert offline[1].startswith(f"me/qa {REVISION} ")
    other = await ask_part("me/qa", environment(tmp_path, HF_ENDPOINT=url), "--revision=fedcba")
    assert other[0] == 1
    assert f"the cached copy of me/qa is of {REVISION}" in other[1]


async def ask_part(spec: str, environment: dict[str, str], *flags: str) -> tuple[int | None, str]:
    """The exit code, and what a process prints that loads this part of a set."""
    program = (
        "import sys\n"
        "from dyno_driver.errors import WrongUseError\n"
        "from dyno_driver.options.prompting import Prompting\n"
        "from dyno_driver.prompts.prompt_set import load_prompts\n"
        "told = dict(flag.removeprefix('--').split('=') for flag in sys.argv[2:])\n"
        "try:\n    found = load_prompts(sys.argv[1], 2, how=Prompting(**told))\n"
        "except WrongUseError as error:\n    sys.exit(str(error))\n"
        "print(found.name, found.revision, found.source)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, spec, *flags, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode() if process.returncode == 0 else err.decode()


@pytest.mark.parametrize(
    ("flag", "how"),
    [("split", Prompting(split="x")), ("revision", Prompting(revision="x")), ("subset", Prompting(subset="x"))],
)
def test_parts_are_the_hubs(flag: str, how: Prompting) -> None:
    """A split, revision or subset of a set that isn't the hub's is refused in one line."""
    with pytest.raises(WrongUseError, match=f"--{flag} is for sets of the Hugging Face hub, and --prompts science"):
        load_prompts("science", 1, how=how)
