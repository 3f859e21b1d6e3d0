"""Runs a test of network code on asyncio's own loop and on uvloop, on which `dyno proxy` runs."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

Test = Callable[..., Coroutine[Any, Any, None]]


def on_both_loops(test: Test) -> Callable[..., None]:
    """Run an async test twice, once on each loop."""

    @functools.wraps(test)
    def on_one_loop(loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**fixtures))

    # pytest finds the test's fixtures by its signature.
    signature = inspect.signature(test)
    added = inspect.Parameter("loop_factory", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [added, *signature.parameters.values()]
    vars(on_one_loop)["__signature__"] = signature.replace(parameters=parameters)
    loops = pytest.mark.parametrize(
        "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    both: Callable[..., None] = loops(on_one_loop)
    return both
