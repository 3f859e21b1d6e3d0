"""Records → prompts. Each record's shape is seen from its columns, and all of a set must have the same.

messages, conversation, prompt: [{role, content}]   a conversation in OpenAI's form
conversations: [{from, value}]                       a conversation in ShareGPT's form
custom_id, method, url, body                         a line of OpenAI's batch files
method, path, body                                   a request as it is
prompt, or question with context                     a text
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

from dyno_driver.errors import WrongUseError

from . import raw, turns
from .cells import BrokenRecordError, NothingToAskError, answers_of, clean, parameters_of, parsed, text_of
from .prompt import Prompt, published_prompt
from .request import Request, chat

# Every request carries its prompt's id in a header. In characters.
LONGEST_ID: Final = 200

_BRACES: Final = re.compile(r"\{(\w[\w .-]*)\}")
_CONVERSATIONS: Final = ("messages", "conversation", "conversations", "prompt")
_ID_COLUMNS: Final = ("id", "prompt_id", "custom_id", "conversation_id")

Row = Mapping[str, Any]

TEXT: Final = "a text"
CHAT: Final = "chat messages"
SHAREGPT: Final = "a ShareGPT conversation"
BATCH: Final = "a line of a batch file"
RAW: Final = "a request"


@dataclass(frozen=True, slots=True)
class Form:
    """How a record becomes the text that is sent; both None: by its own shape."""

    column: str | None = None
    template: str | None = None

    def text(self, row: Row, number: int, where: str) -> str | None:
        """The text by column or template; None if neither is given. WrongUseError if a column isn't there."""
        if self.column is not None:
            return self._cell(row, self.column, number, where, "--column")
        if self.template is None:
            return None

        def filled(found: re.Match[str]) -> str:
            return self._cell(row, found[1], number, where, "--template")

        return _BRACES.sub(filled, self.template.replace("\\n", "\n"))

    def said(self, prompts: tuple[Prompt, ...]) -> str:
        """How they are sent, in words."""
        if all(prompt.request is not None and prompt.request.poll is not None for prompt in prompts):
            return "each submits a job and polls until done; tables show the submission, answers.parquet the whole time"
        if any(prompt.request is not None and not prompt.conversation for prompt in prompts):
            return "each is a request of its own"
        if all(prompt.conversation for prompt in prompts):
            return "sent as chat messages, up to the last user's turn"
        if self.column is not None:
            return f"the column '{self.column}' is sent as it is"
        if self.template is not None:
            return "sent by --template"
        verbatim = sum(
            prompt.question is None or prompt.prompt != published_prompt(prompt.question, prompt.context)
            for prompt in prompts
        )
        context = "Context: … " if any(prompt.context for prompt in prompts) else ""
        wrapped = f"sent as '{context}Question: … Answer:'"
        if verbatim == len(prompts):
            return "the column 'prompt' is sent as it is"
        return wrapped if not verbatim else f"{verbatim} of them as they are, the others {wrapped}"

    def _cell(self, row: Row, name: str, number: int, where: str, flag: str) -> str:
        text = text_of(row, name)
        if text is None:
            columns = ", ".join(map(str, row)) or "none"
            raise WrongUseError(f"{flag}: record {number} of {where} has no '{name}' (its columns: {columns})")
        return text


class Records:
    """Reads the prompts of a set's records. `left_out`: how many had nothing that a model could answer."""

    def __init__(self, where: str, form: Form) -> None:
        self._where = where
        self._form = form
        self._shape: tuple[str, int] | None = None  # of the first record that was used, and its number
        self.left_out = 0

    def prompts(self, rows: Iterable[Row]) -> Iterator[Prompt]:
        """The prompts in order. WrongUseError for a record that is broken, or of another shape than the first."""
        for number, row in enumerate(rows, start=1):
            if row.get("conversations") == [] and "messages" not in row and self._form == Form():
                self.left_out += 1  # an empty one tells no shape
                continue
            shape = _shape(row, self._form)
            if self._shape is not None and self._shape[0] != shape:
                raise WrongUseError(
                    f"--prompts {self._where}: record {number} is {shape}, and record {self._shape[1]} is "
                    f"{self._shape[0]}; put each shape into a file of its own"
                )
            self._shape = self._shape or (shape, number)
            try:
                yield self._prompt(shape, row, number)
            except BrokenRecordError as error:
                if isinstance(error, NothingToAskError) and shape == SHAREGPT:
                    self.left_out += 1  # the harvested sets have many of these
                    continue
                raise WrongUseError(f"--prompts {self._where}: record {number} {error}") from error

    def _prompt(self, shape: str, row: Row, number: int) -> Prompt:
        prompt_id = _id(row, number)
        if shape == TEXT:
            return self._text(row, number, prompt_id)
        if shape in (BATCH, RAW):
            request = raw.batch_request(row) if shape == BATCH else raw.raw_request(row)
            return _titled(row, prompt_id, raw.readable_body(request, row), request)
        return self._conversation(shape, row, prompt_id)

    def _conversation(self, shape: str, row: Row, prompt_id: str) -> Prompt:
        told = _turns(row, self._form) or []
        messages = turns.sharegpt_messages(told, row.get("system")) if shape == SHAREGPT else turns.chat_messages(told)
        sent, own = turns.answerable(messages), parameters_of(row, conversation=True)
        found = _titled(row, prompt_id, turns.last_question(sent), chat(sent, own))
        return replace(found, parameters=own, conversation=tuple(messages))

    def _text(self, row: Row, number: int, prompt_id: str) -> Prompt:
        question, verbatim = text_of(row, "question"), self._form.text(row, number, self._where)
        verbatim = text_of(row, "prompt") if verbatim is None else verbatim
        if question is None and verbatim is None:
            columns = ", ".join(map(str, row)) or "none"
            raise BrokenRecordError(
                f"has no question; fill 'question' or 'prompt', or name a column with --column (its columns: {columns})"
            )
        context = text_of(row, "context")
        sent = verbatim if verbatim is not None else published_prompt(question or "", context)
        found = _titled(row, prompt_id, sent, None)
        return replace(found, parameters=parameters_of(row, conversation=False))


def _titled(row: Row, prompt_id: str, text: str, request: Request | None) -> Prompt:
    """A prompt with what the record says about it."""
    return Prompt(
        prompt_id=prompt_id,
        prompt=clean(text),
        question=text_of(row, "question"),
        context=text_of(row, "context"),
        title=text_of(row, "title"),
        domain=text_of(row, "domain"),
        reference_answers=answers_of(row),
        request=request,
    )


def told_apart(prompts: Iterable[Prompt]) -> tuple[Prompt, ...]:
    """The prompts, where requests that differ also differ in their readable text.

    The analysis knows a prompt by its text. Two images under one question are two prompts, so both get a mark.
    """
    found = tuple(prompts)
    texts = Counter(prompt.prompt for prompt in found if prompt.request is not None)
    return tuple(
        replace(prompt, prompt=f"{prompt.prompt}\n[{sha256(prompt.request.content).hexdigest()[:12]}]")
        if prompt.request is not None and texts[prompt.prompt] > 1
        else prompt
        for prompt in found
    )


def _turns(row: Row, form: Form) -> list[Any] | None:
    """The record's turns; None if it is no conversation."""
    if form.template is not None:
        return None
    for column in _CONVERSATIONS if form.column is None else (form.column,):
        value = parsed(row.get(column))
        if column in ("messages", "conversations") and isinstance(value, list):
            return value
        if turns.is_conversation(value) and any("role" in turn or "from" in turn for turn in value):
            told: list[Any] = value
            return told
    return None


def _shape(row: Row, form: Form) -> str:
    told = _turns(row, form)
    if told is not None:
        names_sharegpt = (
            "conversations" in row
            and "messages" not in row
            and not any(isinstance(turn, Mapping) and "role" in turn for turn in told)
        )
        return SHAREGPT if turns.is_sharegpt(told) or names_sharegpt else CHAT
    if form.column is not None or form.template is not None:
        return TEXT
    if raw.is_batch(row):
        return BATCH
    return RAW if raw.is_raw(row) else TEXT


def _id(row: Row, number: int) -> str:
    prompt_id = next(filter(None, (text_of(row, column) for column in _ID_COLUMNS)), str(number))
    if len(prompt_id) > LONGEST_ID:
        raise BrokenRecordError(f"has an id of over {LONGEST_ID} characters; it must be shorter")
    return prompt_id
