"""Prompt sets: what each request asks, and the reference answers that its response can be scored against.

`science` is a file of this package. Only `squad` and OWNER/NAME ask the hub (hub.py).
"""

import contextlib
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from dyno_driver.errors import WrongUseError
from dyno_driver.load.schedule import WARMUP_PROMPT_ID
from dyno_driver.options.asked import DEFAULT_COUNT

# Every request carries its prompt's id in a header. In characters.
LONGEST_ID: Final = 200

_HUB_ID: Final = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(:(?P<split>[\w.-]+))?")
_BRACES: Final = re.compile(r"\{(\w[\w .-]*)\}")
_WARMUP_PROMPT: Final = "Question: Which planet is closest to the Sun?\n\nAnswer:"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question; `prompt` is the text as it is sent. A part that the source doesn't have is None."""

    prompt_id: str
    prompt: str
    question: str | None = None
    context: str | None = None
    title: str | None = None
    domain: str | None = None
    reference_answers: tuple[str, ...] = ()
    max_tokens: int | None = None


WARMUP: Final = Prompt(WARMUP_PROMPT_ID, _WARMUP_PROMPT)


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The prompts of a run, and where they come from. Their ids differ."""

    name: str
    source: str
    license: str | None  # None: the source doesn't say
    description: str
    prompts: tuple[Prompt, ...]
    whole: bool = False  # whether it is all that its file has
    said: str = ""  # how many, of what, and how they are sent: a line to print


def load_prompts(spec: str, count: int | None, *, column: str | None = None, template: str | None = None) -> PromptSet:
    """The first `count` prompts of the set that `--prompts` names; all of them if it has fewer.

    `count` None: all of a file, DEFAULT_COUNT of a set. `column`: its text is sent as it is. `template`: is sent, with
    columns in braces. Raises WrongUseError if there is no such set, if it can't be read, if it holds no question, or if
    a record of it can't be used.
    """
    if column is not None and template is not None:
        raise WrongUseError("--column and --template exclude each other; write '{COLUMN}' in the template")
    found = _load(spec, count, _Form(column, template))
    return replace(found, said=_said(spec, found, count, _Form(column, template)))


def _said(spec: str, found: PromptSet, count: int | None, form: "_Form") -> str:
    """How many prompts there are, and how they are sent."""
    number = len(found.prompts)
    what = "1 prompt" if number == 1 else f"{number} prompts"
    if count is not None and number < count:
        what = f"{spec} has {what}, not {count}: all are asked"
    elif count is None and found.whole:
        what = f"all {what} of {spec}"
    else:
        what = f"the first {what} of {spec}" if number > 1 else f"the first prompt of {spec}"
    return f"Prompts: {what}; {form.said(found.prompts)}."


def _load(spec: str, count: int | None, form: "_Form") -> PromptSet:
    of_set = DEFAULT_COUNT if count is None else count
    of_file = sys.maxsize if count is None else count
    if spec == "science":
        return _science(of_set, form)
    if spec == "squad":
        from . import hub

        return _set(
            of_set,
            hub.rows(spec, "rajpurkar/squad", "validation", of_set),
            form,
            where="squad",
            name="squad",
            source="https://huggingface.co/datasets/rajpurkar/squad, split validation",
            license="CC BY-SA 4.0",
            description="Stanford Question Answering Dataset 1.1: questions on passages from Wikipedia",
        )
    path = Path(spec).expanduser()
    from . import files

    hub_id = _HUB_ID.fullmatch(spec)
    if hub_id is None or path.exists() or path.suffix.lower() in files.READERS:
        if "/" not in spec and not path.suffix and not path.exists():
            raise WrongUseError(
                f"--prompts {spec}: no such set or file; sets: science, squad, OWNER/NAME on the hub, or a FILE"
            )
        return _set(
            of_file,
            files.rows(path, of_file),
            form,
            whole=count is None,
            where=str(path),
            name=path.stem,
            source=str(path.resolve()),
            license=None,
            description=f"prompts from the file {path.name}",
        )
    from . import hub

    name, split = hub_id["name"], hub_id["split"] or "validation"
    return _set(
        of_set,
        hub.rows(spec, name, split, of_set),
        form,
        where=spec,
        name=name,
        source=f"https://huggingface.co/datasets/{name}, split {split}",
        license=None,
        description=f"split {split} of {name} on the Hugging Face hub",
    )


def published_prompt(question: str, context: str | None) -> str:
    """The published benchmark's prompt. Without a passage (`context`), its first part is left out."""
    asked = f"Question: {question}\n\nAnswer:"
    return f"Context: {context}\n\n{asked}" if context else asked


def _science(count: int, form: "_Form") -> PromptSet:
    text = resources.files("dyno_driver").joinpath("science.json").read_text(encoding="utf-8")
    return _set(
        count,
        json.loads(text),
        form,
        where="science",
        name="science",
        source="written for Dyno (dyno_driver/science.json)",
        license="Apache-2.0",
        description="questions on short passages about quantum mechanics, photosynthesis, machine learning, genetics "
        "and thermodynamics, in turn",
    )


def _set(
    count: int,
    rows: Iterable[Mapping[str, Any]],
    form: "_Form",
    *,
    where: str,
    whole: bool = False,
    name: str,
    source: str,
    license: str | None,  # noqa: A002 - the record's own word
    description: str,
) -> PromptSet:
    prompts = tuple(itertools.islice(_prompts(rows, where, form), count))
    if not prompts:
        raise WrongUseError(f"--prompts {where}: has no questions; it needs records with 'question' or 'prompt'")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.prompt_id in seen:
            raise WrongUseError(
                f"--prompts {where}: two records have the id '{prompt.prompt_id}'; give each an id of its own"
            )
        seen.add(prompt.prompt_id)
    return PromptSet(name, source, license, description, prompts, whole=whole)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a record becomes the text that is sent; both None: by the columns `prompt`, or `question` and `context`."""

    column: str | None = None
    template: str | None = None

    def text(self, row: Mapping[str, Any], number: int, where: str) -> str | None:
        """The text by column or template; None if neither is given. WrongUseError if a column isn't there."""
        if self.column is not None:
            return self._cell(row, self.column, number, where, "--column")
        if self.template is None:
            return None

        def filled(found: re.Match[str]) -> str:
            return self._cell(row, found[1], number, where, "--template")

        return _BRACES.sub(filled, self.template.replace("\\n", "\n"))

    def said(self, prompts: tuple[Prompt, ...]) -> str:
        """How the texts are sent, in words."""
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

    def _cell(self, row: Mapping[str, Any], name: str, number: int, where: str, flag: str) -> str:
        text = _text(row, name)
        if text is None:
            columns = ", ".join(map(str, row)) or "none"
            raise WrongUseError(f"{flag}: record {number} of {where} has no '{name}' (its columns: {columns})")
        return text


def _prompts(rows: Iterable[Mapping[str, Any]], where: str, form: _Form) -> Iterator[Prompt]:
    for number, row in enumerate(rows, start=1):
        question, verbatim = _text(row, "question"), form.text(row, number, where)
        verbatim = _text(row, "prompt") if verbatim is None else verbatim
        if question is None and verbatim is None:
            columns = ", ".join(map(str, row)) or "none"
            raise WrongUseError(
                f"--prompts {where}: record {number} has no question; fill 'question' or 'prompt', or name a column "
                f"with --column (its columns: {columns})"
            )
        context = _text(row, "context")
        yield Prompt(
            prompt_id=_id(row, number, where),
            prompt=verbatim if verbatim is not None else published_prompt(question or "", context),
            question=question,
            context=context,
            title=_text(row, "title"),
            domain=_text(row, "domain"),
            reference_answers=_answers(row, where, number),
        )


def _id(row: Mapping[str, Any], number: int, where: str) -> str:
    prompt_id = _text(row, "id") or _text(row, "prompt_id") or str(number)
    if len(prompt_id) > LONGEST_ID:
        raise WrongUseError(
            f"--prompts {where}: record {number} has an id of over {LONGEST_ID} characters; it must be shorter"
        )
    return prompt_id


def _text(row: Mapping[str, Any], column: str) -> str | None:
    """The column as text; None if it is missing or blank."""
    value = row.get(column)
    if value is None:
        return None
    text = _clean(str(value))
    return text if text.strip() else None


def _clean(text: str) -> str:
    """The text with lone surrogates as question marks: JSON can spell them, but UTF-8 and Parquet can't hold them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _answers(row: Mapping[str, Any], where: str, number: int) -> tuple[str, ...]:
    """The record's reference answers, without repetition.

    They may be a text, a list, SQuAD's `{"text": […]}` or `[{"text": …}]`, or one of these as JSON in a cell.
    """
    value: Any = None
    for column in ("answers", "answer", "reference_answers"):
        value = row.get(column)
        if value is not None:
            break
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        # If this isn't JSON, it is an answer that begins with a bracket.
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, Mapping):
        value = value.get("text")
    if value is None:
        return ()
    texts = [item.get("text") if isinstance(item, Mapping) else item for item in _each(value)]
    if any(isinstance(text, list | Mapping) for text in texts):
        raise WrongUseError(f"--prompts {where}: record {number} has answers of an unknown shape; use a list of texts")
    return tuple(dict.fromkeys(_clean(str(text)) for text in texts if text is not None and str(text).strip()))


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
