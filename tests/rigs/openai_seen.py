"""What a user of OpenAI's SDK sees, as plain values that can be compared."""

from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, AsyncStream


def client(url: str, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="none", **{"max_retries": 0, **options})


def described(error: openai.APIError) -> dict[str, Any]:
    """An exception as a user's code sees it."""
    seen = {"class": type(error).__name__, "message": str(error), "body": error.body}
    seen |= {"code": error.code, "type": error.type, "param": error.param}
    if isinstance(error, openai.APIStatusError):
        headers = {name: value for name, value in error.response.headers.items() if name != "connection"}
        seen |= {"status": error.status_code, "request_id": error.request_id, "headers": headers}
    return seen


async def raised(call: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    with pytest.raises(openai.APIError) as caught:
        await call()
    return described(caught.value)


async def read_on(stream: AsyncStream[Any]) -> tuple[list[Any], openai.APIError | None]:
    """The stream's events, and the exception that broke it off."""
    seen: list[Any] = []
    while True:
        try:
            seen.append((await anext(stream)).to_dict())
        except StopAsyncIteration:
            return seen, None
        except openai.APIError as error:
            return seen, error
