import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from rigs.fake_proxy import Script, fake_proxy

from .test_drive import Driven, drive

Answers = Callable[[web.Request, int], tuple[int, Any]]


def job(answers: Answers) -> Script:
    """An endpoint whose answers depend on the request and on how many polls came before it."""
    polls = 0

    async def script(request: web.Request) -> web.StreamResponse:
        nonlocal polls
        status, document = answers(request, polls)
        polls += request.method == "GET"
        return web.json_response(document, status=status)

    return script


def done_after(number: int, **more: Any) -> Answers:
    """The job is done at the poll after so many."""

    def answers(request: web.Request, polls: int) -> tuple[int, Any]:
        if request.method == "POST":
            return 202, {"task": {"id": "t 7"}, "url": "http://a.example/tasks/t7?x=1"}
        return 200, {"status": "DONE" if polls >= number else "running"} | more

    return answers


async def submitted(
    folder: Path, answers: Answers, poll: Mapping[str, Any], *options: str
) -> tuple[Driven, list[tuple[str, dict[str, str]]]]:
    """The run of one such request without a warm-up, and the paths and baggage that the endpoint saw."""
    path = folder / "p.jsonl"
    record = {"method": "POST", "path": "/triton/process", "body": {"image": "x"}, "poll": {"every_s": 0.01, **poll}}
    path.write_text(json.dumps(record), encoding="utf-8")
    async with fake_proxy({"a": job(answers)}) as proxy:
        run = await drive(proxy, folder / "spans", "--prompts", str(path), "--warmup", "0", *options)
    seen = [
        (received.path, dict(member.split("=", 1) for member in received.headers["baggage"].split(",")))
        for received in proxy.received
    ]
    return run, seen


async def test_submit_and_poll_until_done(tmp_path: Path) -> None:
    """A job is polled until its field has the value; the answer is the last body, and the latency that of the whole.

    The requests that poll are flagged as warm-ups, so that no table counts them.
    """
    poll = {"path": "/tasks/{task.id}", "until": {"status": ["done", "completed"]}, "every_s": 0.1}
    run, seen = await submitted(tmp_path, done_after(2, masks=[1]), poll)
    assert run.code == 0, run.err
    assert [path for path, _ in seen] == ["/a/triton/process", *["/a/tasks/t 7"] * 3]
    assert [tags["dyno.warmup"] for _, tags in seen] == ["false", "true", "true", "true"]
    [row] = run.rows("answers")
    assert json.loads(row["answer"]) == {"status": "DONE", "masks": [1]}
    assert row["client_latency_s"] >= 0.3
    assert (row["error"], row["warmup"]) == (None, False)


async def test_the_address_that_the_answer_gives(tmp_path: Path) -> None:
    """A poll may go to the address in the answer; a field's name alone waits until it has a value."""
    run, seen = await submitted(tmp_path, done_after(0, result="x"), {"path": "{url}", "until": "result"})
    assert run.code == 0, run.err
    assert [path for path, _ in seen] == ["/a/triton/process", "/a/tasks/t7"]


def elsewhere(request: web.Request, _polls: int) -> tuple[int, Any]:
    return 200, {"url": "http://other.example/tasks/7"} if request.method == "POST" else {"status": "done"}


def broken(request: web.Request, _polls: int) -> tuple[int, Any]:
    return (200, {"task": {"id": 7}}) if request.method == "POST" else (500, {"error": {"message": "out of memory"}})


UNTIL = {"until": {"status": "done"}}


@pytest.mark.parametrize(
    ("answers", "poll", "options", "error", "polls"),
    [
        (done_after(9**9), {"path": "/t/{task.id}"}, ("--timeout", "0.5"), "not done within 0.5 s", None),
        (done_after(0), {"path": "/t/{job}"}, (), "the answer has no 'job', which poll.path needs", 0),
        (elsewhere, {"path": "{url}"}, (), "'{url}' is an address of another server", 0),
        (broken, {"path": "/t/{task.id}"}, (), "while polling: HTTP 500: out of memory", 1),
        (
            done_after(9**9),
            {"path": "/t/{task.id}", "failed": {"status": "running"}},
            (),
            "the job failed: status is running",
            1,
        ),
    ],
    ids=["never", "no id", "elsewhere", "error", "failed"],
)
async def test_jobs_that_fail(
    tmp_path: Path, answers: Answers, poll: dict[str, Any], options: tuple[str, ...], error: str, polls: int | None
) -> None:
    """A job that isn't done in time, that fails, or can't be asked for is a failure of that row, with its cause."""
    run, seen = await submitted(tmp_path, answers, UNTIL | poll, *options)
    assert run.code == 1
    [row] = run.rows("answers")
    assert error in row["error"]
    assert polls is None or len(seen) == 1 + polls


async def test_a_submission_that_is_refused(tmp_path: Path) -> None:
    """If submitting itself fails, nothing is polled."""
    run, seen = await submitted(
        tmp_path, lambda _request, _polls: (422, {"detail": "no image"}), UNTIL | {"path": "/t"}
    )
    assert (run.code, len(seen)) == (1, 1)
    assert run.rows("answers")[0]["error"] == "HTTP 422: no image"


async def test_an_endpoint_without_a_model(tmp_path: Path) -> None:
    """Requests that name no model run on an endpoint that has none."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"method": "POST", "path": "/v2/models/x/infer", "body": {"inputs": []}}\n', encoding="utf-8")

    async def infer(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"outputs": [1]})

    async with fake_proxy({"a": infer}, {"a": {"model": None}}) as proxy:
        run = await drive(proxy, tmp_path / "spans", "--prompts", str(path))
    assert run.code == 0, run.err
    assert [received.path for received in proxy.received] == ["/a/v2/models/x/infer"] * 2
    assert [row["warmup"] for row in run.rows("answers")] == [True, False]
