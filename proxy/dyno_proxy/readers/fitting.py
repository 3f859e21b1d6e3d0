"""Decodes JSON as a msgspec Struct. One odd field costs that field alone, not the whole text. Pure.

msgspec reads a text in one go, and refuses all of it for one value of another type, one lone surrogate, one byte that
isn't UTF-8, a NaN, or an unknown member that is nested too deeply. It is quick, and nearly every text is sound. Where
it refuses, the text is decoded once more, leniently, and each field is taken by itself if its value fits.
"""

import json
import math
import re
from collections.abc import Callable
from functools import cache
from types import NoneType
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import msgspec

from .skim import Skim, wanted

Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]

_T = TypeVar("_T", bound=msgspec.Struct)

_WHOLE_NUMBER: Final = re.compile(r"\s*(-?\d{1,18})(?:\.0*)?\s*", re.ASCII)
_NUMBER: Final = re.compile(r"\s*-?\d{1,18}(?:\.\d{0,18})?(?:[eE][-+]?\d{1,2})?\s*", re.ASCII)
_MOST_DIGITS: Final = 1000  # of an integer: Python takes its time over longer ones
_UNFIT: Final = object()


def decoded(decoder: "msgspec.json.Decoder[_T]", data: bytes) -> _T | None:
    """Decode a JSON object, without the fields that don't fit the decoder's type. None if it isn't an object."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return fitted(decoder.type, data)


def fitted(struct: type[_T], data: bytes) -> _T | None:
    """The same, for a text that msgspec has refused."""
    try:
        value = _loads(data)
    except ValueError:
        return None
    except RecursionError:
        # What nobody looks at may be nested as deeply as it likes: skimming leaves it out.
        skim = Skim(wanted(struct))
        skim.feed(data)
        try:
            value = _loads(skim.finish() or b"")
        except (ValueError, RecursionError):
            return None
    made = _struct_fit(struct)(value)
    return None if made is _UNFIT else made


def is_json(data: bytes) -> bool:
    """Whether it is a whole JSON text, if a lenient reader takes it."""
    try:
        _loads(data)
    except RecursionError:
        skim = Skim(wanted())
        skim.feed(data)
        return skim.whole
    except ValueError:
        return False
    return True


def _integer_of(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MOST_DIGITS else None


_LENIENT: Final = json.JSONDecoder(strict=False, parse_int=_integer_of)


def _loads(data: bytes) -> Any:
    return _LENIENT.decode(data.decode("utf-8", "replace").lstrip("\ufeff"))


_Fit = Callable[[Any], Any]  # the value as the field's type, or _UNFIT


@cache
def _struct_fit(struct: type[msgspec.Struct]) -> _Fit:
    fields = [(field.encode_name, field.name, _fit_of(field.type)) for field in msgspec.structs.fields(struct)]

    def fit(value: Any) -> Any:
        if not isinstance(value, dict):
            return _UNFIT
        made = struct()
        for key, name, fit_field in fields:
            if key in value and (of_field := fit_field(value[key])) is not _UNFIT:
                setattr(made, name, of_field)
        return made

    return fit


def _fit_of(kind: Any) -> _Fit:
    parts = [part for part in get_args(kind) if part is not NoneType] if NoneType in get_args(kind) else [kind]
    (part,) = parts
    if get_origin(part) is Annotated:
        return _not_negative(_fit_of(get_args(part)[0]))
    if get_origin(part) is list:
        return _list_fit(_fit_of(get_args(part)[0]))
    if isinstance(part, type) and issubclass(part, msgspec.Struct):
        return _struct_fit(part)
    return _FITS[part]


def _list_fit(fit_item: _Fit) -> _Fit:
    def fit(value: Any) -> Any:
        if not isinstance(value, list):
            return _UNFIT
        return [made for item in value if (made := fit_item(item)) is not _UNFIT]

    return fit


def _not_negative(fit_number: _Fit) -> _Fit:
    def fit(value: Any) -> Any:
        number = fit_number(value)
        return number if number is not _UNFIT and number >= 0 else _UNFIT

    return fit


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else _UNFIT


def _integer(value: Any) -> Any:
    """An integer, also one that is written as a text or with a decimal point."""
    if isinstance(value, str):
        match = _WHOLE_NUMBER.fullmatch(value)
        return _UNFIT if match is None else int(match[1])
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else _UNFIT
    return value if type(value) is int else _UNFIT


def _number(value: Any) -> Any:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else _UNFIT
    if type(value) is int:
        return float(value) if -(2**63) <= value < 2**63 else _UNFIT
    return value if isinstance(value, float) and math.isfinite(value) else _UNFIT


def _anything(value: Any) -> Any:
    return value


def _raw(value: Any) -> Any:
    return msgspec.Raw(json.dumps(value).encode())


_FITS: Final[dict[Any, _Fit]] = {Any: _anything, str: _text, int: _integer, float: _number, msgspec.Raw: _raw}
