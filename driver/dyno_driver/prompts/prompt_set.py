"""Prompt sets: what each request asks, and the reference answers that its response can be scored against.

`science` is a file of this package. Only `squad` and OWNER/NAME ask the hub (hub.py).

    file, hub ──▶ records (files.py, hub.py) ──▶ prompts (records.py: each shape) ──▶ PromptSet
"""

import itertools
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Final

from dyno_driver.errors import WrongUseError
from dyno_driver.load.schedule import WARMUP_PROMPT_ID
from dyno_driver.options.asked import DEFAULT_COUNT
from dyno_driver.options.prompting import Prompting

from .prompt import WARMUP as WARMUP
from .prompt import Prompt as Prompt
from .prompt import published_prompt as published_prompt
from .records import Form, Records, told_apart
from .request import Request
from .tokens import Tokenizer, load_tokenizer

SCIENCE: Final = "science"
SQUAD: Final = "squad"
_SQUAD_ON_THE_HUB: Final = "rajpurkar/squad"
_HUB_ID: Final = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(:(?P<split>[\w.-]+))?")
_DEFAULT_SPLIT: Final = "validation"


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
    left_out: int = 0  # records without anything that a model could answer
    revision: str | None = None  # the hub's commit
    tokenizer: Tokenizer | None = None  # None: tokens are estimated

    @property
    def warmup(self) -> Prompt:
        """What is sent before the measured requests: a question of its own, where the prompts are chat completions.

        Another kind of model wouldn't understand it, so it gets the first request once more.
        """
        first = self.prompts[0]
        if first.request is None or first.request.is_chat:
            return WARMUP
        return replace(first, prompt_id=WARMUP_PROMPT_ID)

    @property
    def needs_model(self) -> bool:
        """Whether any request names the endpoint's model."""
        return any(prompt.request is None or prompt.request.names_model for prompt in (self.warmup, *self.prompts))

    def ready(self) -> dict[str, Request]:
        """What is sent, by the prompts' ids, the warm-up's too: encoded once, so that no request waits for it."""
        return {prompt.prompt_id: prompt.ready() for prompt in (self.warmup, *self.prompts)}


def load_prompts(
    spec: str,
    count: int | None,
    *,
    column: str | None = None,
    template: str | None = None,
    how: Prompting | None = None,
    seed: int | None = None,
) -> PromptSet:
    """The first `count` prompts of the set that `--prompts` names; all of them if it has fewer.

    `count` None: all of a file, DEFAULT_COUNT of a set. `column`: its text is sent as it is. `template`: is sent, with
    columns in braces. `how`: which part of a hub's set, by which tokenizer; where it has lengths, long prompts are made
    of the set's passages, drawn by `seed`. Raises WrongUseError if there is no such set, if it can't be read, if it
    holds no question, or if a record of it can't be used.
    """
    if column is not None and template is not None:
        raise WrongUseError("--column and --template exclude each other; write '{COLUMN}' in the template")
    how = how or Prompting()
    form, tokenizer = Form(column, template), None if how.tokenizer is None else load_tokenizer(how.tokenizer)
    if how.context_tokens:
        from .long_context import long_prompts

        return with_tokens(long_prompts(spec, count, how, seed, tokenizer), tokenizer)
    found = read_set(spec, count, form, how)
    return with_tokens(replace(found, said=_said(spec, found, count, form)), tokenizer)


def with_tokens(found: PromptSet, tokenizer: Tokenizer | None) -> PromptSet:
    """The set with its prompts' tokens, where a tokenizer counts them."""
    if tokenizer is None:
        return found
    return replace(
        found,
        prompts=tuple(replace(prompt, tokens=tokenizer.count(prompt.whole_text())) for prompt in found.prompts),
        tokenizer=tokenizer,
    )


def _said(spec: str, found: PromptSet, count: int | None, form: Form) -> str:
    """How many prompts there are, and how they are sent."""
    number = len(found.prompts)
    what = "1 prompt" if number == 1 else f"{number} prompts"
    if count is not None and number < count:
        what = f"{spec} has {what}, not {count}: all are asked"
    elif count is None and found.whole:
        what = f"all {what} of {spec}"
    else:
        what = f"the first {what} of {spec}" if number > 1 else f"the first prompt of {spec}"
    left_out = "" if not found.left_out else f"; {found.left_out} without a user's turn to answer are left out"
    return f"Prompts: {what}; {form.said(found.prompts)}{left_out}."


def read_set(spec: str, count: int | None, form: Form, how: Prompting) -> PromptSet:
    """The set as `--prompts` names it, without a line about it. Raises WrongUseError."""
    of_set = DEFAULT_COUNT if count is None else count
    of_file = sys.maxsize if count is None else count
    path, hub_id = Path(spec).expanduser(), _HUB_ID.fullmatch(spec)
    from . import files

    on_hub = spec == SQUAD or (hub_id is not None and not path.exists() and path.suffix.lower() not in files.READERS)
    if on_hub:
        return _of_hub(spec, of_set, form, how)
    told = next((flag for flag in ("split", "revision", "subset") if getattr(how, flag) is not None), None)
    if told is not None:
        raise WrongUseError(f"--{told} is for sets of the Hugging Face hub, and --prompts {spec} is none; leave it out")
    if spec == SCIENCE:
        return _science(of_set, form)
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


def _of_hub(spec: str, count: int, form: Form, how: Prompting) -> PromptSet:
    """A set of the Hugging Face hub: its id, and the commit that its records are of, are kept."""
    from . import hub

    hub_id = _HUB_ID.fullmatch(spec)
    in_name = None if hub_id is None else hub_id["split"]
    if in_name is not None and how.split is not None and in_name != how.split:
        raise WrongUseError(f"--split {how.split}: --prompts {spec} names another split; leave out one of the two")
    name = _SQUAD_ON_THE_HUB if hub_id is None else hub_id["name"]
    split = how.split or in_name or _DEFAULT_SPLIT
    found = hub.rows(spec, name, hub.Part(split, how.subset, how.revision), count)
    described = f"split {split} of {name} on the Hugging Face hub"
    if spec == SQUAD:
        described = "Stanford Question Answering Dataset 1.1: questions on passages from Wikipedia"
    at = "" if found.revision is None else f", revision {found.revision}"
    return _set(
        count,
        found.rows,
        form,
        where=spec,
        name=SQUAD if spec == SQUAD else name,
        source=f"https://huggingface.co/datasets/{name}, split {split}{at}",
        license="CC BY-SA 4.0" if spec == SQUAD else None,
        description=described,
        revision=found.revision,
    )


def _science(count: int, form: Form) -> PromptSet:
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
    form: Form,
    *,
    where: str,
    whole: bool = False,
    name: str,
    source: str,
    license: str | None,  # noqa: A002 - the record's own word
    description: str,
    revision: str | None = None,
) -> PromptSet:
    records = Records(where, form)
    prompts = told_apart(itertools.islice(records.prompts(rows), count))
    if not prompts:
        raise WrongUseError(f"--prompts {where}: has no questions; it needs records with 'question' or 'prompt'")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.prompt_id in seen:
            raise WrongUseError(
                f"--prompts {where}: two records have the id '{prompt.prompt_id}'; give each an id of its own"
            )
        seen.add(prompt.prompt_id)
    return PromptSet(
        name, source, license, description, prompts, whole=whole, left_out=records.left_out, revision=revision
    )
