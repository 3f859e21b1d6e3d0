import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from dyno_driver.errors import WrongUseError
from dyno_driver.options.prompting import Prompting
from dyno_driver.prompts.prompt_set import load_prompts
from dyno_driver.prompts.tokens import count_tokens, estimated_tokens, load_tokenizer
from rigs.fake_proxy import answering, fake_proxy

from .test_drive import drive


def words(folder: Path) -> Path:
    """A tokenizer.json by which each word is a token; it cuts texts to 3 tokens, as a trainer's file may."""
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"?": 0, "a": 1}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(3)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def ranks(folder: Path, *merged: bytes) -> Path:
    """A tiktoken file of all bytes and these tokens."""
    tokens = [bytes([byte]) for byte in range(256)] + list(merged)
    path = folder / "x.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % rank for rank, t in enumerate(tokens)))
    return path


def test_an_estimate_without_a_file() -> None:
    """Four characters are a token, and a text that isn't empty has at least one."""
    assert [estimated_tokens(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    assert count_tokens("abcdefgh") == 2


def test_a_tokenizer_of_hugging_face(tmp_path: Path) -> None:
    """A tokenizer.json counts the whole text, also where its file cuts texts; its folder's name will do."""
    for path in (words(tmp_path), tmp_path):
        tokenizer = load_tokenizer(path)
        assert tokenizer.count("a b c d e") == 5
        assert tokenizer.count("") == 0
        assert tokenizer.count("a \ud800 b") == 3


def test_a_tiktoken_file(tmp_path: Path) -> None:
    """A tiktoken file counts by its ranks: what has merged is one token, what hasn't is a token a byte."""
    tokenizer = load_tokenizer(ranks(tmp_path, b"he", b"hel"))
    assert tokenizer.count("hello") == 3
    assert tokenizer.count("ä\ud800") == 3
    assert tokenizer.count("<|endoftext|>") == 13


def test_a_prompts_tokens_are_kept(tmp_path: Path) -> None:
    """With a tokenizer each prompt's tokens are known: of a conversation, of all its turns."""
    path = tmp_path / "p.jsonl"
    turns = [{"role": "system", "content": "b c"}, {"role": "user", "content": "a d"}]
    path.write_text(json.dumps({"messages": turns}), encoding="utf-8")
    [prompt] = load_prompts(str(path), None, how=Prompting(tokenizer=words(tmp_path))).prompts
    assert prompt.tokens == 4
    assert load_prompts(str(path), None).prompts[0].tokens is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has 0 tokens"),
        (b"YQ== 0\n", "has 1 tokens; a tiktoken file has at least 256"),
        (b"hello\n", "neither a tokenizer.json nor a tiktoken file"),
        (b"*** 0\n", "neither a tokenizer.json nor a tiktoken file"),
        (b"\x80\x04pickle", "neither a tokenizer.json nor a tiktoken file"),
        (b"{}", "not a tokenizer.json"),
        (b'{"model": {"type": "Novel"}}', "not a tokenizer.json"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: bytes | None, says: str) -> None:
    """Any other file is one line that names it and what would do."""
    path = tmp_path / "t"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WrongUseError) as raised:
        load_tokenizer(path)
    assert says in str(raised.value)
    assert f"--tokenizer {path}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_libraries_are_asked_for_only_where_used(tmp_path: Path) -> None:
    """Without the libraries everything else works, and a tokenizer is one line that says what to install."""
    path = words(tmp_path)
    program = (
        "import sys\n"
        "sys.modules['tokenizers'] = sys.modules['tiktoken'] = None\n"
        "from pathlib import Path\n"
        "from dyno_driver.errors import WrongUseError\n"
        "from dyno_driver.prompts.tokens import count_tokens, load_tokenizer\n"
        "print(count_tokens('abcd'))\n"
        "try:\n    load_tokenizer(Path(sys.argv[1]))\n"
        "except WrongUseError as error:\n    print(error)\n"
    )
    for file, library in ((path, "tokenizers"), (ranks(tmp_path), "tiktoken")):
        done = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=True)
        first, second = done.stdout.splitlines()
        assert first == "1"
        assert second == (
            f"--tokenizer {file}: needs the package '{library}', which isn't installed; "
            "pip install 'inference-dyno[tokenizer]'"
        )


async def test_the_dry_run_counts_by_the_tokenizer(tmp_path: Path) -> None:
    """A dry run says by what it counts, and sends nothing."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a b c d e"}\n', encoding="utf-8")
    options = ("--prompts", str(path), "--dry-run", "--warmup", "0")
    async with fake_proxy({"a": answering("42")}) as proxy:
        counted = await drive(proxy, tmp_path / "spans", *options, "--tokenizer", str(words(tmp_path)))
        estimated = await drive(proxy, tmp_path / "spans", *options)
        wrong = await drive(proxy, tmp_path / "spans", *options, "--tokenizer", str(path))
    assert "by the tokenizer tokenizer.json" in counted.out
    assert "some 5 tokens of prompts" in counted.out
    assert "some 3 tokens of prompts" in estimated.out
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert proxy.received == []
