import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.errors import WrongUseError
from dyno_driver.prompts.prompt_set import PromptSet, load_prompts
from dyno_driver.prompts.request import chat, text_request, with_body
from rigs.fake_proxy import answering, fake_proxy, saying

from .test_drive import drive

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "default": None}}}
RUN = {"temperature": 0.0, "max_tokens": 512, "stream": True, "stream_options": {"include_usage": True}}


def saved(folder: Path, *records: Any, name: str = "p.jsonl") -> str:
    path = folder / name
    text = json.dumps(list(records)) if name.endswith(".json") else "".join(json.dumps(r) + "\n" for r in records)
    path.write_text(text, encoding="utf-8")
    return str(path)


def loaded(folder: Path, *records: Any, name: str = "p.jsonl") -> PromptSet:
    return load_prompts(saved(folder, *records, name=name), None)


def body(found: PromptSet, number: int = 0) -> dict[str, Any]:
    """What is sent to an endpoint whose model is `m`."""
    sent: dict[str, Any] = json.loads(found.prompts[number].ready().body("m", RUN))
    return sent


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def refused(folder: Path, *records: Any, name: str = "p.jsonl") -> str:
    with pytest.raises(WrongUseError) as raised:
        loaded(folder, *records, name=name)
    message = str(raised.value)
    assert "\n" not in message
    assert str(folder / name) in message
    return message


def test_chat_messages_are_sent_up_to_the_last_question(tmp_path: Path) -> None:
    """Turns, tools, images and own parameters are sent; a recorded answer at the end isn't, and is kept."""
    turns = [
        {"role": "system", "content": "Be brief."},
        user("Hi"),
        {"role": "assistant", "content": "Hello."},
        user([{"type": "text", "text": "What is this?"}, IMAGE]),
        {"role": "assistant", "content": "A dot."},
    ]
    found = loaded(tmp_path, {"id": "a", "messages": turns, "tools": [TOOL], "max_tokens": 9, "answers": ["A dot"]})
    [prompt] = found.prompts
    assert body(found) == {"model": "m", "messages": turns[:4], "tools": [TOOL], **RUN, "max_tokens": 9}
    assert (prompt.prompt_id, prompt.prompt, prompt.reference_answers) == ("a", "What is this?\n[image]", ("A dot",))
    assert list(prompt.conversation) == turns
    assert found.said.endswith("sent as chat messages, up to the last user's turn.")


def test_tool_results_are_answered(tmp_path: Path) -> None:
    """A conversation that ends with a tool's result is sent whole; its readable text is the user's question."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    turns = [
        user("Rain?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "yes"},
    ]
    found = loaded(tmp_path, {"messages": turns})
    assert body(found)["messages"] == turns
    assert found.prompts[0].prompt == "Rain?"


@pytest.mark.parametrize("column", ["messages", "conversation", "prompt"])
@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "csv"])
def test_conversations_from_every_format(tmp_path: Path, column: str, kind: str) -> None:
    """A conversation is the same from each format and under each name; Parquet's nulls and CSV's texts are mended."""
    turns = [{"role": "system", "content": "S"}, user("Why?")]
    path = tmp_path / f"p.{kind}"
    if kind == "parquet":
        padded = [turn | {"tool_calls": None, "name": None} for turn in turns]
        pq.write_table(pa.table({column: pa.array([padded]), "max_tokens": pa.array([7.0])}), path)
    elif kind == "csv":
        cell = json.dumps(turns).replace('"', '""')
        path.write_text(f'{column},max_tokens\n"{cell}",7\n', encoding="utf-8")
    else:
        saved(tmp_path, {column: turns, "max_tokens": 7}, name=path.name)
    found = load_prompts(str(path), None)
    assert body(found)["messages"] == turns
    assert body(found)["max_tokens"] == 7
    assert load_prompts(str(path), None, column=column).prompts == found.prompts


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_sharegpt(tmp_path: Path, name: str) -> None:
    """ShareGPT's turns become messages: blank ones, an answer that opens, and the last answer aren't sent."""
    turns = [
        {"from": "gpt", "value": "cut off"},
        {"from": "human", "value": "One?"},
        {"from": "gpt", "value": "1"},
        {"from": "human", "value": " "},
        {"from": "Human", "value": "Two?"},
        {"from": "gpt", "value": "2"},
    ]
    empty = [{"id": "e", "conversations": []}, {"id": "f", "conversations": [turns[0]]}]
    found = loaded(tmp_path, *empty, {"id": "x", "conversations": turns, "system": "S"}, name=name)
    assert body(found)["messages"] == [
        {"role": "system", "content": "S"},
        user("One?"),
        {"role": "assistant", "content": "1"},
        user("Two?"),
    ]
    assert [prompt.prompt_id for prompt in found.prompts] == ["x"]
    assert found.prompts[0].conversation[-1] == {"role": "assistant", "content": "2"}
    assert "2 without a user's turn to answer are left out" in found.said


def test_turns_with_roles_under_sharegpts_name(tmp_path: Path) -> None:
    """What is called conversations may hold OpenAI's turns; an empty one tells no shape and is left out."""
    found = loaded(tmp_path, {"conversations": []}, {"conversations": [user("a")]}, {"conversations": [user("b")]})
    assert [prompt.prompt for prompt in found.prompts] == ["a", "b"]
    assert found.left_out == 1


def test_sharegpts_tools(tmp_path: Path) -> None:
    """A function_call becomes a tool call, and what follows from a tool bears its id."""
    turns = [
        {"from": "human", "value": "Rain?"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"at": "Bonn"}}'},
        {"from": "observation", "value": "yes"},
    ]
    found = loaded(tmp_path, {"conversations": turns, "tools": json.dumps([TOOL])})
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Bonn"}'}}
    assert body(found)["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "yes", "tool_call_id": "call_1"},
    ]
    assert body(found)["tools"] == [TOOL]


def test_a_batch_file(tmp_path: Path) -> None:
    """A batch file's bodies are sent to their paths: the model is the endpoint's, and what they say goes first."""
    lines = [
        {
            "custom_id": "a",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "gpt-4o", "messages": [user("Why?")], "max_completion_tokens": 5, "temperature": 1},
        },
        {"custom_id": "b", "method": "POST", "url": "/v1/embeddings", "body": {"model": "ada", "input": "text"}},
    ]
    found = loaded(tmp_path, *lines)
    first = {"messages": [user("Why?")], "max_completion_tokens": 5, "temperature": 1}
    run = {"stream": True, "stream_options": {"include_usage": True}}
    assert body(found) == {"model": "m", **first, **run}
    assert body(found, 1) == {"model": "m", "input": "text"}
    assert [(p.prompt_id, p.prompt) for p in found.prompts] == [("a", "Why?"), ("b", "text")]
    assert found.prompts[1].ready().path == "/v1/embeddings"


@pytest.mark.parametrize(
    ("record", "method", "path", "sent"),
    [
        ({"method": "get", "path": "/health"}, "GET", "/health", b""),
        ({"path": "/v2/models/a/infer", "body": {"model": "a"}}, "POST", "/v2/models/a/infer", b'{"model": "a"}'),
        ({"method": "POST", "path": "/x", "body": [1, "ä"]}, "POST", "/x", '[1, "ä"]'.encode()),
        ({"method": "POST", "path": "/x?y=1", "body": {}}, "POST", "/x?y=1", b"{}"),
        (
            {"path": "/v1/chat/completions", "body": {"model": "z", "n": 1}},
            "POST",
            "/v1/chat/completions",
            b'{"model": "m", "n": 1}',
        ),
    ],
)
def test_raw_requests(tmp_path: Path, record: dict[str, Any], method: str, path: str, sent: bytes) -> None:
    """A raw request is sent as it stands; only a model below /v1/ becomes the endpoint's own."""
    request = loaded(tmp_path, record).prompts[0].ready()
    assert (request.method, request.path, request.body("m", RUN)) == (method, path, sent)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([{"messages": []}], "record 1 has no user's turn"),
        ([{"messages": [user("a")]}, {"messages": [user(" ")]}], "record 2 has a blank last user's turn"),
        ([{"messages": [user([])]}], "blank last user's turn"),
        ([{"messages": [{"role": "assistant", "content": "a"}]}], "no user's turn"),
        ([{"messages": [{"role": "narrator", "content": "a"}]}], "turn 1 has the unknown role 'narrator'; roles are"),
        ([{"messages": [{"content": "a"}]}], "turn 1 has no role"),
        ([{"messages": ["a"]}], "turn 1 must be an object"),
        ([{"messages": [user(None)]}], "turn 1 has no 'content'"),
        ([{"messages": [user(5)]}], "neither a text nor a list"),
        ([{"messages": [user([{"text": "a"}])]}], "a part without 'type'"),
        ([{"messages": [user([{"type": "image_url", "image_url": {"url": "a.png"}}])]}], "data: or https: URL"),
        ([{"messages": [user("a")], "tools": {}}], "'tools' must be a list"),
        ([{"messages": [user("a")], "max_tokens": 0}], "'max_tokens' must be a whole number"),
        ([{"messages": [user("a")], "temperature": "hot"}], "'temperature' must be a number"),
        ([{"conversations": [{"from": "narrator", "value": "a"}]}], "unknown 'from' 'narrator'; known are human"),
        ([{"conversations": [{"from": "human"}]}], "turn 1 must be an object with 'from' and 'value'"),
        ([{"conversations": [{"from": "human", "value": 5}]}], "a 'value' that is no text"),
        ([{"conversations": [{"from": "gpt", "value": "a"}]}], "has no questions"),
        ([{"messages": [user("a")]}, {"prompt": "b"}], "record 2 is a text, and record 1 is chat messages"),
        (
            [{"prompt": "b"}, {"conversations": [{"from": "human", "value": "a"}]}],
            "record 2 is a ShareGPT conversation",
        ),
        ([{"custom_id": "a", "url": "/v1/embeddings"}], "has no 'body'"),
        ([{"url": "/v1/embeddings", "body": {}}], "has no 'custom_id'"),
        ([{"custom_id": "a", "url": "/v1/x", "body": "b"}], "a 'body' that is no object"),
        ([{"custom_id": "a", "url": "https://x/v1/x", "body": {}}], "without a host"),
        ([{"custom_id": "a", "url": "/v1/chat/completions", "body": {}}], "has no 'messages' in its body"),
        ([{"custom_id": "a", "url": "/v1/x", "body": {}}] * 2, "two records have the id 'a'"),
        ([{"method": "BREW", "path": "/x"}], "has the method 'BREW'; known are GET"),
        ([{"method": "GET", "path": "x"}], "has the path 'x'"),
        ([{"method": "GET", "path": "/a/../b"}], "leave '.' and '..' out"),
        ([{"method": "GET", "path": "/a/%2e%2E/b"}], "leave '.' and '..' out"),
        ([{"method": "GET", "path": "/a b"}], "percent-encoded"),
        ([{"method": "GET", "path": "/a\r\nX: y"}], "percent-encoded"),
        ([{"method": "POST", "path": "/a", "poll": {"path": "/b"}}], "has no 'until' in 'poll'"),
        ([{"method": "POST", "path": "/a", "poll": {"until": "x"}}], "has no path in 'poll'"),
        ([{"method": "POST", "path": "/a", "poll": {"path": "/b\r\nX: {id}", "until": "x"}}], "has no path in 'poll'"),
        ([{"method": "POST", "path": "/a", "poll": {"path": "http://b/{id}", "until": "x"}}], "has no path in 'poll'"),
        ([{"method": "POST", "path": "/a", "poll": {"path": "/b", "until": "x", "wait": 1}}], "unknown key 'wait'"),
        ([{"method": "POST", "path": "/a", "poll": {"path": "/b", "until": "x", "every_s": 0}}], "0.001 to 3600"),
    ],
)
def test_records_that_wont_do(tmp_path: Path, records: list[Any], says: str) -> None:
    """A broken record, or one of another shape, is one line with the file, the record and the mend."""
    assert says in refused(tmp_path, *records)


def test_nan_and_depth_are_refused(tmp_path: Path) -> None:
    """What JSON can't hold, and what is nested too deep to be read, is one line."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"path": "/x", "body": {"a": NaN}}\n')
    with pytest.raises(WrongUseError, match="record 1 has NaN"):
        load_prompts(str(path), None)
    path.write_text('{"path": "/x", "body": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(WrongUseError, match="line 1 is not JSON"):
        load_prompts(str(path), None)


def test_a_huge_line(tmp_path: Path) -> None:
    """An image of 40 MB in a line is taken; a line beyond the limit is one line of refusal, and isn't held."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000_000}}
    found = loaded(tmp_path, {"messages": [user([image])]})
    assert found.prompts[0].prompt == "[image]"
    assert len(found.prompts[0].ready().body("m", RUN)) > 40_000_000
    path = tmp_path / "q.jsonl"
    with path.open("wb") as file:
        file.write(b'{"prompt": "a"}\n')
        file.truncate(10 * 2**30)
    with pytest.raises(WrongUseError, match="line 2 is over 64 MiB"):
        load_prompts(str(path), None)


def test_lone_surrogates_are_mended(tmp_path: Path) -> None:
    """Texts in turns, tools, keys and bodies hold no lone surrogates, so that they can be sent and stored."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a\\ud800b"}], "tools": [{"\\udfff": "\\ud800"}]}\n')
    found = load_prompts(str(path), None)
    assert found.prompts[0].prompt == "a?b"
    assert body(found)["tools"] == [{"?": "?"}]
    path.write_text('{"conversations": [{"from": "human", "value": "a\\ud800b"}]}\n')
    assert body(load_prompts(str(path), None))["messages"] == [user("a?b")]
    path.write_text('{"path": "/x", "body": {"a": "\\ud800"}}\n')
    assert body(load_prompts(str(path), None)) == {"a": "?"}


def test_requests_that_read_alike_are_told_apart(tmp_path: Path) -> None:
    """The analysis knows a prompt by its text, so one question on two images is two texts."""
    other = {"type": "image_url", "image_url": {"url": "data:image/png;base64,BBBB"}}
    question = {"type": "text", "text": "What?"}
    first = loaded(tmp_path, {"messages": [user([question, IMAGE])]}, {"messages": [user([question, other])]})
    texts = [prompt.prompt for prompt in first.prompts]
    assert len(set(texts)) == 2
    assert all(text.startswith("What?\n[image]\n[") for text in texts)
    assert [prompt.prompt for prompt in loaded(tmp_path, {"messages": [user("a")]}).prompts] == ["a"]


def test_a_text_may_have_a_limit_of_its_own(tmp_path: Path) -> None:
    """A text's record may set max_tokens and the like; other columns of a table are no parameters."""
    found = loaded(tmp_path, {"prompt": "a", "max_tokens": 3, "seed": 9, "user": "x", "parameters": {"top_k": 5}})
    assert body(found) == {"model": "m", "messages": [user("a")], **RUN, "max_tokens": 3, "top_k": 5}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "stream", "temperature", "max_tokens"]), json_values), st.booleans())
def test_a_body_is_what_its_parts_say(own: dict[str, Any], takes: bool) -> None:
    """Whatever a body holds, what is sent is JSON with the model, the prompt's own members, and the run's others."""
    sent = json.loads(with_body(own, takes_parameters=takes).body("m", {"temperature": 0.5, "seed": 1}))
    run = {"temperature": 0.5, "seed": 1} if takes else {}
    options = {"stream_options": {"include_usage": True}} if takes and own.get("stream") is True else {}
    assert sent == {"model": "m"} | run | options | own


def test_stream_options_go_with_stream() -> None:
    """A prompt that isn't to be streamed gets no stream options, and one that is gets them."""
    whole = json.loads(chat([user("a")], {"stream": False}).body("m", RUN))
    assert "stream_options" not in whole
    assert whole["stream"] is False
    assert json.loads(text_request("a", {"stream": True}).body("m", {"stream": False})) == {
        "model": "m",
        "messages": [user("a")],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_exact_lengths_are_the_prompts_own() -> None:
    """Where answers must be as long as asked, a prompt's own limit is that length. No limit forces nothing."""
    run = {"max_tokens": 512, "min_tokens": 512, "ignore_eos": True}
    own = json.loads(text_request("a", {"max_tokens": 9}).body("m", run))
    assert (own["max_tokens"], own["min_tokens"], own["ignore_eos"]) == (9, 9, True)
    unlimited = json.loads(text_request("a").body("m", {"min_tokens": None, "ignore_eos": True}))
    assert set(unlimited) == {"model", "messages"}


async def test_a_run_of_conversations(tmp_path: Path) -> None:
    """The proxy gets the conversation, and the run keeps the last user's turn as the prompt's text."""
    turns = [{"role": "system", "content": "S"}, user([{"type": "text", "text": "What?"}, IMAGE])]
    path = saved(tmp_path, {"id": "x", "messages": turns, "tools": [TOOL]})
    async with fake_proxy({"a": answering("42")}) as proxy:
        done = await drive(proxy, tmp_path / "spans", "--prompts", path)
    assert done.code == 0, done.err
    assert proxy.asked("a")[1]["messages"] == turns
    assert proxy.asked("a")[1]["tools"] == [TOOL]
    [row] = done.rows("prompts")
    assert (row["prompt_id"], row["prompt"]) == ("x", "What?\n[image]")


async def test_a_run_of_another_api(tmp_path: Path) -> None:
    """Embeddings are asked under their path, warm-ups too; the body that answers is kept."""
    path = saved(tmp_path, {"custom_id": "e", "url": "/v1/embeddings", "body": {"input": "text"}})
    answer = {"data": [{"embedding": [0.5]}]}
    async with fake_proxy({"a": saying(200, answer)}) as proxy:
        done = await drive(proxy, tmp_path / "spans", "--prompts", path)
    assert done.code == 0, done.err
    assert [received.path for received in proxy.received] == ["/a/v1/embeddings"] * 2
    assert proxy.received[1].body == {"model": "a-model", "input": "text"}
    assert json.loads(done.rows("answers")[1]["answer"]) == answer


async def test_a_broken_record_ends_the_command(tmp_path: Path) -> None:
    """The command says the broken record in one line and exits with 2, before anything is sent."""
    path = saved(tmp_path, {"messages": [user("a")]}, {"messages": [{"role": "x", "content": "a"}]})
    async with fake_proxy({"a": answering("42")}) as proxy:
        done = await drive(proxy, tmp_path / "spans", "--prompts", path)
    assert (done.code, done.err.count("\n"), proxy.received) == (2, 1, [])
    assert f"--prompts {path}: record 2 turn 1 has the unknown role 'x'" in done.err
