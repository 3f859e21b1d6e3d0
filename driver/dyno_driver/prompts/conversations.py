"""Prompts → conversations of several turns: one prompt for each place where a model answers. Pure.

    messages  user ─ assistant ─ user ─ assistant ─ user      id#1 ends here ─┐
              └──────┘ id#1      └ … ┘ id#2          └ id#3    before the model's answer

Questions without turns become conversations by their subject: one question after the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dyno_driver.errors import WrongUseError

from .prompt import Prompt, published_prompt
from .request import chat
from .turns import last_question

Message = Mapping[str, Any]
ANSWERS = ("assistant",)
RESULTS = ("tool", "function")


def conversations(prompts: Sequence[Prompt], where: str) -> tuple[Prompt, ...]:
    """The turns of all conversations. WrongUseError if there is none."""
    told = [turn for prompt in prompts if prompt.conversation for turn in _turns(prompt)]
    subjects: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        subject = prompt.domain or prompt.title
        if prompt.request is None and prompt.question is not None and subject is not None:
            subjects.setdefault(subject, []).append(prompt)
    told += [turn for subject, questions in subjects.items() for turn in _of_questions(subject, questions)]
    if not told:
        raise WrongUseError(
            f"--conversations: {where} has no conversations; use chat messages, ShareGPT's shape, or questions with a "
            "'title'"
        )
    return tuple(told)


def added(before: Sequence[Message], now: Sequence[Message], answer: Message) -> list[Message]:
    """What a turn adds to what its predecessor sent, with the endpoint's answer in place of the recorded one.

    A recorded call of a tool stays where the tool's recorded result follows: a result belongs to its own call.
    """
    new = list(now[len(before) :])
    answers = 0
    while answers < len(new) and new[answers]["role"] in ANSWERS:
        answers += 1
    rest = new[answers:]
    return new if rest and rest[0]["role"] in RESULTS else [answer, *rest]


def _turns(prompt: Prompt) -> Iterator[Prompt]:
    messages, number = prompt.conversation, 0
    for end in range(1, len(messages) + 1):
        ends = end == len(messages) or messages[end]["role"] in ANSWERS
        if not ends or messages[end - 1]["role"] in (*ANSWERS, "system", "developer"):
            continue
        number += 1
        yield _turn(prompt, prompt.prompt_id, number, messages[:end], last_question(list(map(dict, messages[:end]))))


def _of_questions(subject: str, questions: Sequence[Prompt]) -> Iterator[Prompt]:
    messages: list[Message] = []
    contexts: set[str | None] = {None}
    for number, asked in enumerate(questions, start=1):
        context = None if asked.context in contexts else asked.context
        contexts.add(asked.context)
        text = published_prompt(asked.question or "", context)
        messages.append({"role": "user", "content": text})
        yield _turn(asked, subject, number, tuple(messages), text)
        recorded = asked.reference_answers[0] if asked.reference_answers else ""
        messages.append({"role": "assistant", "content": recorded})


def _turn(prompt: Prompt, name: str, number: int, messages: Sequence[Message], text: str) -> Prompt:
    limit = {} if prompt.max_tokens is None else {"max_tokens": prompt.max_tokens}
    return replace(
        prompt,
        prompt_id=f"{name}#{number}",
        prompt=text,
        request=chat(list(messages), {**limit, **prompt.parameters}),
        conversation=tuple(messages),
        conversation_id=name,
        turn=number,
    )
