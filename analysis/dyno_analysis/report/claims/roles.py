"""Which endpoints the claims are about: by their names, or by `--as metis=NAME,sophia=NAME`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dyno_analysis.errors import InputError

ROLES: Final = ("metis", "sophia")
_VARIANTS: Final = ("long", "short")
_USAGE: Final = "write --as metis=NAME,sophia=NAME"


@dataclass(frozen=True)
class Roles:
    """The endpoints in the roles of Metis and Sophia; and, if said, with the long and the short context."""

    first: str
    second: str
    variants: tuple[str, str] | None = None


def roles(asked: str | None, endpoints: Sequence[str], order: Sequence[str]) -> Roles:
    """The roles of the runs' `endpoints`; `order`: two names of `--endpoints`, or none.

    Without both, an endpoint whose name has 'metis' or 'sophia' in it has that role; two others have the roles in their
    order. Raises InputError where that isn't clear, or names no endpoint.
    """
    named = _read(asked) if asked is not None else {}
    for role, name in named.items():
        if name not in endpoints:
            raise InputError(f"--as {role}={name}: no such endpoint in the runs; theirs: {', '.join(endpoints)}")
    variants = (named["long"], named["short"]) if "long" in named else None
    if "metis" in named:
        return Roles(named["metis"], named["sophia"], variants)
    if order:
        if len(order) != 2:
            raise InputError("--endpoints: claims are about two endpoints; write two names, or " + _USAGE[6:])
        if missing := [name for name in order if name not in endpoints]:
            raise InputError(f"--endpoints: no request of '{missing[0]}' in the runs; theirs: {', '.join(endpoints)}")
        return Roles(order[0], order[1], variants)
    by_name = [[name for name in endpoints if role in name.lower()] for role in ROLES]
    if all(len(found) == 1 for found in by_name) and by_name[0] != by_name[1]:
        return Roles(by_name[0][0], by_name[1][0], variants)
    if len(endpoints) == 2:
        return Roles(endpoints[0], endpoints[1], variants)
    theirs = ", ".join(endpoints) or "none"
    raise InputError(f"claims are about two endpoints, and the runs have {len(endpoints)} ({theirs}); {_USAGE}")


def _read(text: str) -> dict[str, str]:
    named: dict[str, str] = {}
    for part in text.split(","):
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if not equals or not name or role not in (*ROLES, *_VARIANTS):
            raise InputError(f"--as {text}: '{part.strip()}' isn't a role with a name; {_USAGE}")
        if role in named:
            raise InputError(f"--as {text}: '{role}' stands there twice; leave one out")
        named[role] = name
    for pair in (ROLES, _VARIANTS):
        given = [role for role in pair if role in named]
        if len(given) == 1:
            lacking = next(role for role in pair if role not in named)
            raise InputError(f"--as {text}: '{lacking}' is missing; write {pair[0]}=NAME,{pair[1]}=NAME")
        if given and named[pair[0]] == named[pair[1]]:
            raise InputError(f"--as {text}: '{named[pair[0]]}' can't be both {pair[0]} and {pair[1]}")
    return named
