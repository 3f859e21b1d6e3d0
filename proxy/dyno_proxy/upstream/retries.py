"""A request's attempts: on an idle connection or a new one, and once more where that is allowed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from dyno_proxy.errors import UpstreamError, connect_ending, connect_message
from dyno_proxy.exchange.exchange import Exchange

from .endpoint import Endpoint
from .relay import UpstreamConnection

_FIRST_RETRY_S: Final = 0.1
_LONGEST_RETRY_S: Final = 2.0


async def attempt(
    endpoint: Endpoint,
    exchange: Exchange,
    send: Callable[[UpstreamConnection], Awaitable[None]],
    *,
    replayable: Callable[[], bool],
    retries: int,
) -> UpstreamConnection:
    """Send the request and wait for its response's end; returns the connection that served it last.

    `send` does both on a given connection, and `replayable` says whether it could do so once more. A retry happens only
    before the first byte of a response, `retries` times at most. Raises UpstreamError where no connection could be had.
    """
    connection = endpoint.pool.resting()
    exchange.connection_reused = connection is not None
    exchange.retries = 0 if retries else None
    while True:
        if connection is None:
            try:
                connection = await _connect(endpoint)
            except UpstreamError as error:
                late = error.ending[0] == "upstream_timeout"
                if late or not replayable() or not await _may_retry(exchange, retries):
                    raise
                continue
        exchange.connected_ns = time.monotonic_ns()
        try:
            await send(connection)
        except BaseException:
            connection.release()
            connection.abort()
            raise
        endpoint.pool.put_back(connection)
        failed = exchange.broken is not None and exchange.broken[0] == "upstream_unreachable"
        if not failed or connection.responded or not replayable():
            return connection
        # The endpoint may have closed an idle connection just as we took it. It has then ignored the request, so
        # sending it again isn't a retry. Any other repetition is one, and needs the configuration's leave.
        if not exchange.connection_reused and not await _may_retry(exchange, retries):
            return connection
        exchange.connection_reused = False
        exchange.broken = None
        connection = None


async def _may_retry(exchange: Exchange, retries: int) -> bool:
    """Count a retry and wait a little before it; False where none is left."""
    if exchange.retries is None or exchange.retries >= retries:
        return False
    await asyncio.sleep(min(_FIRST_RETRY_S * 2**exchange.retries, _LONGEST_RETRY_S))
    exchange.retries += 1
    return True


async def _connect(endpoint: Endpoint) -> UpstreamConnection:
    try:
        return await endpoint.pool.connect()
    except Exception as error:
        ending = connect_ending(error)
        if ending is None:
            raise
        raise UpstreamError(ending, connect_message(error, ending, f"{endpoint.host}:{endpoint.port}")) from error
