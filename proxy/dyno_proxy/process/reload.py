"""Loads a new configuration whenever one is asked for, has it taken, and says what came of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from dyno_proxy.config.schema import Config, ConfigError

_LOG: Final = logging.getLogger("dyno.proxy")


async def reload_on(
    asked: asyncio.Event, load: Callable[[], Config], take: Callable[[Config], Awaitable[list[str]]]
) -> None:
    """Whenever `asked` is set, load the configuration and `take` it; `take` returns the keys that need a restart.

    A configuration that can't be loaded or taken gives one line in the log, and the old one stays.
    """
    while True:
        await asked.wait()
        asked.clear()
        try:
            config = load()
            waiting = await take(config)
        except ConfigError as error:
            _LOG.error("configuration not reloaded, the old one stays: %s", error)
            continue
        except Exception:  # noqa: BLE001  # a fault of ours must not keep the next SIGHUP from working
            _LOG.exception("configuration not reloaded")
            continue
        if waiting:
            _LOG.warning("these keys changed, but need a restart: %s", ", ".join(waiting))
        print(f"dyno proxy: configuration reloaded, endpoints: {', '.join(config.endpoints)}", flush=True)
