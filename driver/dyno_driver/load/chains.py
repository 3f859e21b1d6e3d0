"""Conversations in a schedule: a chain of turns stands where the schedule has a conversation. Pure.

group (a: talk, b: talk) ─▶ (a: talk#1, a: talk#2, a: talk#3, b: talk#1, b: talk#2, b: talk#3)
"""

from collections.abc import Mapping, Sequence

from .schedule import Group, Lane, Phase, Turn

Chains = Mapping[str, Sequence[str]]  # a conversation's id → the prompt ids of its turns


def chained(phases: Sequence[Phase], chains: Chains) -> list[Phase]:
    """The phases with each conversation as its turns, one after the other. What fills a load is a first turn."""
    return [phase._replace(lanes=tuple(_lane(lane, chains) for lane in phase.lanes)) for phase in phases]


def _lane(lane: Lane, chains: Chains) -> Lane:
    return lane._replace(
        groups=tuple(_group(group, chains) for group in lane.groups),
        ramp=tuple(_first(turn, chains) for turn in lane.ramp),
        drain=tuple(_first(turn, chains) for turn in lane.drain),
    )


def _group(group: Group, chains: Chains) -> Group:
    return tuple(
        turn._replace(prompt_id=prompt_id, chain=turn.prompt_id) if turn.prompt_id in chains else turn
        for turn in group
        for prompt_id in chains.get(turn.prompt_id, (turn.prompt_id,))
    )


def _first(turn: Turn, chains: Chains) -> Turn:
    return turn._replace(prompt_id=chains.get(turn.prompt_id, (turn.prompt_id,))[0])
