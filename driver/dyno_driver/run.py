"""One run: it finds the endpoints, makes the schedule, has the requests sent, and records everything."""

import asyncio
import functools
import secrets
import sys
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

from . import run_record
from .asking import Asking, CannotGoOnError, highest_costs
from .client import Endpoint, ProxyClient, select
from .course_choice import chosen_course, result_of_row
from .dry_run import plan_lines
from .errors import WrongUseError
from .load.course import Course
from .load.remaining import Request, remaining, request_of
from .load.schedule import Phase, Turn
from .options.run_options import RunOptions
from .progress import fitted, progress_on
from .prompts.prompt_set import PromptSet
from .recording import Recording
from .resume import Earlier, check_same, prompts_digest, schedule_digest
from .run_json import counted, run_json
from .said import RunResult
from .self_watch import SelfWatch
from .sending import send
from .stopping import Stop, StoppedError, unless


async def run(
    proxy_url: str,
    api_key: str | None,
    options: RunOptions,
    prompt_set: PromptSet,
    spans: Path,
    command: Sequence[str],
    stop: Stop,
    earlier: Earlier | None = None,
) -> RunResult | None:
    """Send every prompt through the proxy; of an `earlier` run, what has no answer yet.

    None for a dry run. The run ends early when a signal or a limit ends it, and keeps what was measured. Raises
    WrongUseError if the run can't begin, and StoppedError if a signal came before the first request.
    """
    begun_s = time.monotonic()
    if earlier is not None and (options.course.search is not None or options.course.hold_s is not None):
        raise WrongUseError(f"--resume {earlier.folder.name}: its loads were held or searched for; start a new run")
    async with ProxyClient(proxy_url, api_key) as client:
        about = await unless(stop.asked, client.about())
        chosen = select(about.endpoints, options.endpoints)
        named = prompt_set.needs_model
        endpoints = [
            await unless(stop.asked, client.with_model(endpoint)) if named else endpoint for endpoint in chosen
        ]
        seed = _seed(options, earlier)
        course = chosen_course(options, prompt_set, [endpoint.name for endpoint in endpoints], seed or 0)
        phases = course.outline()
        _check_room(phases, about.max_requests)
        costs = highest_costs(endpoints, prompt_set, options)
        if options.dry_run:
            print("\n".join((prompt_set.said, *plan_lines(phases, endpoints, prompt_set, options))), flush=True)
            return None
        started = datetime.now(UTC)
        digests = schedule_digest(phases), prompts_digest(prompt_set)
        about_run = (command, started, seed, options, prompt_set, endpoints, proxy_url, about.version, *digests)
        if earlier is None:
            folder = run_record.new_folder(spans, started)
            recording = Recording.begin(folder, run_json(folder.name, *about_run), prompt_set)
        else:
            check_same(earlier, run_json(earlier.folder.name, *about_run), endpoints)
            recording = Recording.resume(earlier.folder, earlier.record)
        asking = Asking(client, endpoints, prompt_set, options, recording, begun_s, costs, seed or 0, course.heard)
        busy = _busy(phases, recording)
        if earlier is not None:
            recording.goes_on()
        print(fitted(prompt_set.said if earlier is None else _goes_on(recording, phases), sys.stdout), flush=True)
        _warn(phases, endpoints)
        watch = SelfWatch()
        stopped_by: str | None = "an error of the driver's own"
        try:
            stopped_by = await _ask_all(asking, course, _Left(course, recording, busy), watch, stop)
        finally:
            await asking.door.end()
            result = _finished(recording, asking, endpoints, course, watch, stopped_by)
    return result


def _seed(options: RunOptions, earlier: Earlier | None) -> int | None:
    """The schedule's seed; None if nothing of it is drawn."""
    if options.seed is None and earlier is not None:
        return earlier.record["seed"]
    draws = options.order == "random" or any(load.rate_per_s is not None for load in options.shape.loads)
    return secrets.randbits(32) if options.seed is None and draws else options.seed


def _check_room(phases: Sequence[Phase], max_requests: int | None) -> None:
    for phase in phases:
        at_once = (phase.load.concurrency or 0) * len(phase.lanes)
        if max_requests is not None and at_once > max_requests:
            raise WrongUseError(
                f"--concurrency {phase.load.concurrency}: that makes {at_once} requests at once, and the proxy takes "
                f"{max_requests}; ask for fewer, or raise 'max_requests' in [proxy] of dyno.toml"
            )


def _busy(phases: Sequence[Phase], recording: Recording) -> set[str]:
    """The endpoints that have requests without an answer. Raises WrongUseError if there are none."""
    busy = {turn.endpoint for phase in phases for turn in phase.turns() if _is_missing(turn, recording)}
    if not busy:
        raise WrongUseError(f"--resume {recording.folder.name}: it is finished: every request has its answer")
    return busy


def _is_missing(turn: Turn, recording: Recording) -> bool:
    return not turn.warmup and request_of(turn) not in recording.done


class _Left:
    """What of each phase has no answer yet, with warm-ups of the endpoints concerned."""

    def __init__(self, course: Course, recording: Recording, busy: Collection[str]) -> None:
        self._course, self._recording, self._busy = course, recording, busy
        self._earlier = {Request(row["endpoint"], row["prompt_id"], row["repeat"]): row for row in recording.earlier}

    def of(self, phase: Phase) -> Phase | None:
        """The phase without what has an answer from before, which the course hears now; None if nothing is left."""
        if _warms_up(phase):
            return remaining(phase, lambda turn: turn.endpoint in self._busy)
        for turn in phase.turns():
            row = self._earlier.get(request_of(turn))
            if row is not None and not turn.warmup:
                self._course.heard(result_of_row(turn, row))
        return remaining(phase, self.misses)

    def misses(self, turn: Turn) -> bool:
        """Whether it counts and has no answer."""
        return _is_missing(turn, self._recording)


def _warms_up(phase: Phase) -> bool:
    return all(turn.warmup for turn in phase.turns())


def _goes_on(recording: Recording, phases: Sequence[Phase]) -> str:
    missing = sum(_is_missing(turn, recording) for phase in phases for turn in phase.turns())
    return f"Run {recording.folder.name} goes on: {len(recording.done)} answers are there, {missing} are missing"


def _warn(phases: Sequence[Phase], endpoints: Sequence[Endpoint]) -> None:
    """Say that a rate is above an endpoint's limit: its requests will leave late."""
    most = max((phase.load.rate_per_s or 0.0 for phase in phases), default=0.0)
    for endpoint in endpoints:
        if endpoint.rate_limit is not None and most > endpoint.rate_limit.per_s:
            print(
                f"--rate {most:g} is above the rate_limit of {endpoint.name}, {endpoint.rate_limit.per_s:g} a second: "
                "its requests will leave later and later after they are due",
                file=sys.stderr,
                flush=True,
            )


async def _ask_all(asking: Asking, course: Course, left: _Left, watch: SelfWatch, stop: Stop) -> str | None:
    """Send what the course says. Returns what stopped the run before its end; None if nothing did, or a limit."""
    door, outline = asking.door, course.outline()
    door.ledger.expect(turn for phase in outline for turn in phase.turns() if left.misses(turn))
    closing = asyncio.ensure_future(_close_at(stop, asking))
    try:
        with progress_on(sys.stderr, sum(len(phase.turns()) for phase in outline)) as progress:
            ask = functools.partial(asking.ask, progress=progress)
            while not door.closed.is_set() and (phase := course.next()) is not None:
                part = left.of(phase)
                if part is not None and door.ledger.reached is not None:
                    # After a limit only what it reserved is left: the other halves of pairs that have begun.
                    part = remaining(part, door.may)
                if part is not None:
                    with watch.under(phase.load):
                        await unless(stop.now, send(part, ask, door))
    except StoppedError:
        return door.why or "a signal"
    except CannotGoOnError as error:
        return str(error)
    finally:
        closing.cancel()
    return door.why


async def _close_at(stop: Stop, asking: Asking) -> None:
    """Let nothing more begin when the first signal comes, and say what the next one does."""
    await stop.asked.wait()
    asking.door.close("a signal")
    what = "it" if asking.running == 1 else "them"
    waits = f"waiting for {counted(asking.running, 'request')} under way; Ctrl-C again gives {what} up"
    print(f"stopping: {waits if asking.running else 'no request is under way'}", file=sys.stderr, flush=True)


def _finished(
    recording: Recording,
    asking: Asking,
    endpoints: Sequence[Endpoint],
    course: Course,
    watch: SelfWatch,
    stopped_by: str | None,
) -> RunResult:
    answers, lanes = recording.answers, asking.door.lanes
    told = {name: [a.simulated for a in answers if a.turn.endpoint == name] for name in lanes}
    # One simulated answer is enough. None if no answer tells.
    simulated = {name: any(said) if any(one is not None for one in said) else None for name, said in told.items()}
    broken_off = asking.conversations.not_sent
    not_sent = {name: sent for name, lane in lanes.items() if (sent := lane.not_sent + broken_off[name])}
    limited_by = asking.door.ledger.reached
    driver = watch.found(answers)
    ended_early = stopped_by is not None or limited_by is not None
    not_kept = recording.finish(simulated, not_sent, course.found(), driver, interrupted=ended_early)
    return RunResult(
        recording.folder.name,
        recording.folder,
        tuple(endpoint.name for endpoint in endpoints),
        sum(len(phase.turns()) for phase in course.outline()) - sum(not row["warmup"] for row in recording.earlier),
        tuple(answers),
        simulated,
        stopped_by,
        limited_by,
        sum(not row["warmup"] for row in recording.earlier),
        asking.given_up,
        sum(not_sent.values()),
        not_kept,
        (*asking.door.said(), *asking.conversations.said()),
        tuple(course.said()),
        tuple(driver["invalid_for_rate"]),
    )
