"""Whether the proxy asks an endpoint for its streams' usage. Some refuse `stream_options`; then it stops asking there.

asking ──a refusal that names stream_options──▶ stopped
  │  ▲
  │  └──the next stream, without it, is refused too: it isn't to blame
  └──a refusal that doesn't say why, and no stream with it was ever taken──▶ in doubt ──the next is taken──▶ stopped
"""

import logging
from typing import Final

_LOG: Final = logging.getLogger("dyno.proxy")

_REFUSED: Final = (400, 422)
_NAMES: Final = (b"stream_options", b"include_usage")


class UsageAsking:
    """What is known of one endpoint."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken = False  # a stream that asked was taken: a refusal that doesn't name it has another reason
        self._in_doubt = False
        self._stopped = False

    @property
    def asks(self) -> bool:
        """Whether the next stream asks."""
        return not (self._stopped or self._in_doubt)

    def answered(self, status: int, refusal: bytes, *, asked: bool) -> None:
        """A stream had this status, and this body if that refuses it. `asked`: it had our `stream_options`."""
        refused = status in _REFUSED
        if self._stopped or not (refused or status == 200):
            return
        if asked:
            self._taken = self._taken or not refused
            if refused and any(name in refusal for name in _NAMES):
                self._stop(status)
            elif refused and not self._taken:
                self._in_doubt = True
        elif self._in_doubt:
            self._in_doubt = False
            if not refused:
                self._stop(status)

    def _stop(self, status: int) -> None:
        self._stopped = True
        why = f"answers {status} to it" if status in _REFUSED else "took a stream only without it"
        _LOG.warning(
            "endpoint '%s' refuses stream_options (it %s): streams' usage is no longer asked for there; "
            "remove ask_usage from [endpoints.%s]",
            *(self._name, why, self._name),
        )
