"""One run: it finds the endpoints, makes the schedule, has the requests sent, and records everything."""

import asyncio
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from . import run_record
from .baggage import Due
from .client import Answer, Endpoint, Parameters, ProxyClient, select
from .dry_run import plan_lines
from .errors import ProxyGoneError, WrongUseError
from .load.schedule import Asked, Phase, Turn, plan
from .options.run_options import RunOptions
from .preflight import why_not
from .progress import fitted, progress_on
from .prompts.prompt_set import PromptSet
from .run_json import counted, rfc3339, run_json
from .sending import send
from .stopping import StoppedError, unless
from .submitting import ask_until_done


@dataclass(frozen=True, slots=True)
class RunResult:
    """What was measured. `stopped_by` says what ended the run early; None if nothing did."""

    run_id: str
    folder: Path
    endpoints: tuple[str, ...]
    planned: int
    answers: tuple[Answer, ...]
    simulated: dict[str, bool | None]
    stopped_by: str | None

    @property
    def measured(self) -> list[Answer]:
        """The answers that count, which those of warm-up requests don't."""
        return [answer for answer in self.answers if not answer.turn.warmup]

    @property
    def exit_code(self) -> int:
        failed = any(answer.error is not None for answer in self.measured)
        return 1 if failed or self.stopped_by is not None else 0


async def run(
    proxy_url: str,
    api_key: str | None,
    options: RunOptions,
    prompt_set: PromptSet,
    spans: Path,
    command: Sequence[str],
    stop: asyncio.Event,
) -> RunResult | None:
    """Send every prompt through the proxy. The run ends early when `stop` is set, and keeps what was measured.

    None for a dry run. Raises WrongUseError if the run can't begin, and StoppedError if `stop` was set before the first
    request.
    """
    async with ProxyClient(proxy_url, api_key) as client:
        about = await unless(stop, client.about())
        chosen = select(about.endpoints, options.endpoints)
        named = prompt_set.needs_model
        endpoints = [await unless(stop, client.with_model(endpoint)) if named else endpoint for endpoint in chosen]
        seed = secrets.randbits(32) if options.seed is None and _draws(options) else options.seed
        phases = _phases(options, prompt_set, [endpoint.name for endpoint in endpoints], seed or 0)
        _check_room(phases, about.max_requests)
        if options.dry_run:
            print("\n".join((prompt_set.said, *plan_lines(phases, endpoints, prompt_set, options))), flush=True)
            return None
        started = datetime.now(UTC)
        folder = run_record.new_folder(spans, started)
        record = run_json(folder.name, command, started, seed, options, prompt_set, endpoints, proxy_url, about.version)
        run_record.write_run(folder, record)
        run_record.write_prompts(folder, prompt_set.prompts)
        print(fitted(prompt_set.said, sys.stdout), flush=True)
        answers: list[Answer] = []
        stopped_by: str | None = "an error of the driver's own"
        try:
            stopped_by = await _ask_all(client, phases, endpoints, prompt_set, options, folder.name, answers, stop)
        finally:
            simulated = _simulated(endpoints, answers)
            for name, entry in record["endpoints"].items():
                entry["simulated"] = simulated[name]
            record["finished_at"] = rfc3339(datetime.now(UTC))
            record["interrupted"] = stopped_by is not None
            run_record.write_answers(folder, answers)
            run_record.write_run(folder, record)
    return RunResult(
        folder.name,
        folder,
        tuple(endpoint.name for endpoint in endpoints),
        sum(len(phase.turns()) for phase in phases),
        tuple(answers),
        simulated,
        stopped_by,
    )


def _draws(options: RunOptions) -> bool:
    """Whether anything of the schedule is drawn."""
    return options.order == "random" or any(load.rate_per_s is not None for load in options.shape.loads)


def _phases(options: RunOptions, prompt_set: PromptSet, endpoints: Sequence[str], seed: int) -> list[Phase]:
    """The schedule. Each load has prompts of its own where there are enough, so that no load finds a warm cache."""
    ids = [prompt.prompt_id for prompt in prompt_set.prompts]
    loads, count = len(options.shape.loads), options.count or len(ids)
    own = len(ids) >= count * loads
    shares = [ids[number * count :][:count] if own else ids[:count] for number in range(loads)]
    return plan(options.shape, Asked(endpoints, shares, options.repeat, options.warmup, options.order, seed))


def _check_room(phases: Sequence[Phase], max_requests: int | None) -> None:
    for phase in phases:
        at_once = (phase.load.concurrency or 0) * len(phase.lanes)
        if max_requests is not None and at_once > max_requests:
            raise WrongUseError(
                f"--concurrency {phase.load.concurrency}: that makes {at_once} requests at once, and the proxy takes "
                f"{max_requests}; ask for fewer, or raise 'max_requests' in [proxy] of dyno.toml"
            )


class _CannotGoOnError(Exception):
    """An endpoint's first answer says that no further one would come."""


async def _ask_all(
    client: ProxyClient,
    phases: Sequence[Phase],
    endpoints: Sequence[Endpoint],
    prompt_set: PromptSet,
    options: RunOptions,
    run_id: str,
    answers: list[Answer],
    stop: asyncio.Event,
) -> str | None:
    """Put each turn's answer into `answers`. Returns what stopped the run before its last turn; None if nothing did."""
    by_name = {endpoint.name: endpoint for endpoint in endpoints}
    requests = prompt_set.ready()
    parameters = Parameters(
        options.temperature, options.max_tokens, options.sampling_seed, options.stream, options.timeout_s
    )
    preflight = replace(parameters, timeout_s=min(options.preflight_s, options.timeout_s))
    asked: set[str] = set()

    async def ask(turn: Turn, due: Due | None) -> None:
        if not turn.filler:
            progress.sending(turn)
        endpoint, first = by_name[turn.endpoint], turn.endpoint not in asked
        asked.add(turn.endpoint)
        how = preflight if first else parameters
        request = requests[turn.prompt_id]
        answer = await ask_until_done(client, turn, endpoint, request, how, run_id, options.workload, due)
        answers.append(answer)
        if not turn.filler:
            progress.answered(answer)
        if first and (why := why_not(endpoint, answer)) is not None:
            raise _CannotGoOnError(why)

    with progress_on(sys.stderr, sum(len(phase.turns()) for phase in phases)) as progress:
        for phase in phases:
            try:
                await unless(stop, send(phase, ask))
            except StoppedError:
                return "a signal"
            except (ProxyGoneError, _CannotGoOnError) as error:
                return str(error)
    return None


def _simulated(endpoints: Sequence[Endpoint], answers: Sequence[Answer]) -> dict[str, bool | None]:
    """Whether each endpoint is simulated: one simulated answer is enough. None if no answer tells."""
    told = {endpoint.name: [a.simulated for a in answers if a.turn.endpoint == endpoint.name] for endpoint in endpoints}
    return {name: any(said) if any(one is not None for one in said) else None for name, said in told.items()}


def summary(result: RunResult) -> list[str]:
    """The lines that a person should read before the tables."""
    lines = [*troubles(result)]
    asked = f"{counted(len(result.measured), 'request')} to {', '.join(result.endpoints)}"
    lines.insert(result.stopped_by is not None, f"Run {result.run_id}: {asked}, in {result.folder}")
    simulated = [name for name, said in result.simulated.items() if said]
    if simulated:
        lines.append(f"Simulated, as they say themselves: {', '.join(simulated)}. These figures are a simulator's.")
    return lines


def troubles(result: RunResult) -> list[str]:
    """What stopped the run, and each endpoint's first failure: what no table says."""
    lines = []
    if result.stopped_by is not None:
        sent = sum(not answer.turn.filler for answer in result.answers)
        asked = f"{sent} of {result.planned} requests"
        lines.append(f"Stopped by {result.stopped_by}, after {asked}; what was measured is kept.")
    for name in result.endpoints:
        own = [answer for answer in result.measured if answer.turn.endpoint == name]
        errors = [answer.error for answer in own if answer.error is not None]
        if errors:
            lines.append(f"{name}: {len(errors)} of {len(own)} requests failed; the first: {errors[0]}")
    lags_s = sorted(answer.due.lag_s for answer in result.measured if answer.due is not None)
    if lags_s:
        lines.append(
            f"Requests left {lags_s[len(lags_s) // 2] * 1e3:.1f} ms after they were due (median), the latest "
            f"{lags_s[-1] * 1e3:.0f} ms."
        )
    return lines
