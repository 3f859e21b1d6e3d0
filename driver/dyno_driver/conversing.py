"""What has been said in each conversation, at each endpoint. Pure: answers are told to it.

turn ─▶ request: all that was said before, with the endpoint's own answers ─▶ heard ─▶ the next turn's request
"""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .load.schedule import Turn
from .options.chatting import Chatting
from .prompts.conversations import Message, added
from .prompts.prompt import Prompt
from .prompts.request import Request, chat

Talk = tuple[str, str | None, int]  # endpoint, conversation, repeat


class Conversations:
    """`prompts` by id; those of conversations have a turn. `not_sent` counts turns after a failure, by endpoint."""

    def __init__(self, prompts: Mapping[str, Prompt], how: Chatting, seed: int) -> None:
        self._prompts, self._how, self._seed = prompts, how, seed
        self._said: dict[Talk, list[Message]] = {}
        self._sent: dict[Talk, Sequence[Message]] = {}
        self._answers: dict[Talk, Message] = {}
        self._failed: set[Talk] = set()
        self.not_sent: Counter[str] = Counter()

    def wait_s(self, turn: Turn) -> float:
        """How long the user thinks before this turn, in s. The same at each endpoint."""
        if self._later(turn) is None:
            return 0.0
        draw = random.Random(f"{self._seed} {turn.prompt_id} {turn.repeat}")  # noqa: S311 - reproducible, not secret
        return draw.uniform(*self._how.think_s)

    def request(self, turn: Turn) -> Request | None:
        """What is sent, where that depends on earlier answers; None: what the prompt says."""
        prompt = self._later(turn)
        if prompt is None or self._how.recorded:
            return None
        talk = _talk(turn, prompt)
        messages = [*self._said[talk], *added(self._sent[talk], prompt.conversation, self._answers[talk])]
        own = (
            {name: value for name, value in (prompt.request.own or {}).items() if name != "messages"}
            if (prompt.request)
            else {}
        )
        return chat(messages, own)

    def goes_on(self, turn: Turn) -> bool:
        """Whether the turn may be sent. After a failure it may not, and is counted."""
        prompt = self._later(turn)
        if prompt is None:
            return True
        talk = _talk(turn, prompt)
        if talk in self._answers and talk not in self._failed:
            return True
        self.not_sent[turn.endpoint] += 1
        return False

    def heard(self, turn: Turn, text: str | None, *, ok: bool) -> None:
        """The turn's answer has come."""
        prompt = self._prompts.get(turn.prompt_id)
        if turn.warmup or prompt is None or prompt.turn is None:
            return
        talk = _talk(turn, prompt)
        if not ok or (prompt.turn > 1 and talk not in self._said):
            self._failed.add(talk)
            return
        if prompt.turn == 1:
            self._said[talk] = list(prompt.conversation)
        else:
            self._said[talk] += added(self._sent[talk], prompt.conversation, self._answers[talk])
        self._sent[talk] = prompt.conversation
        self._answers[talk] = {"role": "assistant", "content": text or ""}

    def heard_before(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The answers of the run that is resumed, as they were kept."""
        for row in sorted(rows, key=lambda row: self._number(row["prompt_id"])):
            turn = Turn(row["endpoint"], row["prompt_id"], row["repeat"], bool(row["warmup"]))
            self.heard(turn, row["answer"], ok=row["error"] is None)

    def session(self, turn: Turn, run_id: str) -> str | None:
        """The id by which an endpoint knows the conversation; None: the request is a session of its own."""
        prompt = self._prompts.get(turn.prompt_id)
        if turn.warmup or prompt is None or prompt.turn is None:
            return None
        known = hashlib.sha256(f"{prompt.conversation_id} {turn.repeat}".encode("utf-8", "replace")).hexdigest()
        return f"{run_id}-{known[:16]}"

    def said(self) -> list[str]:
        """What wasn't sent, as lines for the summary."""
        return [
            f"{name}: {number} turn{'' if number == 1 else 's'} not sent, since an earlier turn of the conversation "
            "failed."
            for name, number in self.not_sent.items()
        ]

    def _later(self, turn: Turn) -> Prompt | None:
        """The prompt of a turn that follows another one; None for any other request."""
        prompt = self._prompts.get(turn.prompt_id)
        return None if turn.warmup or prompt is None or prompt.turn is None or prompt.turn == 1 else prompt

    def _number(self, prompt_id: str) -> int:
        prompt = self._prompts.get(prompt_id)
        return 0 if prompt is None else prompt.turn or 0


def _talk(turn: Turn, prompt: Prompt) -> Talk:
    return turn.endpoint, prompt.conversation_id, turn.repeat
