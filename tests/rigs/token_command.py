"""A token's command as a real script that counts its runs, and functions that wait for it."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from dyno_proxy.upstream.token import Token
from rigs.until import until


class Command:
    """A shell script that records each run, does what else it is told, and then prints `token`."""

    def __init__(self, folder: Path, before: str = "", after: str = "") -> None:
        self.runs_file, self.token_file, self._script = folder / "runs", folder / "token", folder / "script.sh"
        self._gate = folder / "gate"
        self.runs_file.touch()
        self.says("one")
        self.does(before, after)

    def does(self, before: str = "", after: str = "") -> None:
        lines = [f"echo run >> '{self.runs_file}'", before, f"cat '{self.token_file}'", after]
        self._script.write_text("\n".join([*lines, ""]), encoding="utf-8")

    def waits(self, after: str = "") -> None:
        """From now on each run waits until `goes_on` is called."""
        self._gate.unlink(missing_ok=True)
        self.does(before=f"until [ -e '{self._gate}' ]; do sleep 0.02; done", after=after)

    def goes_on(self) -> None:
        self._gate.touch()

    def says(self, token: str) -> None:
        self.token_file.write_text(f"{token}\n", encoding="utf-8")

    @property
    def runs(self) -> int:
        return len(self.runs_file.read_text(encoding="utf-8").splitlines())

    def token(self, *, refresh_s: float = 3600.0, rest_s: float = 0.0, timeout_s: float = 30.0) -> Token:
        return Token(
            "e",
            env=None,
            file=None,
            command=f"sh '{self._script}'",
            refresh_s=refresh_s,
            command_timeout_s=timeout_s,
            command_rest_s=rest_s,
        )


def jwt(**claims: Any) -> str:
    parts = [{"alg": "none"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2ln"])


async def until_it_is(token: Token, value: bytes) -> None:
    async def it_is() -> bool:
        return await token.authorization() == value

    await until(it_is, f"the token to be {value!r}", every_s=0.02)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "dyno.proxy"]
