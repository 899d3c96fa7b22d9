"""TOML files that people write: read, checked, and every mistake told in one sentence with file and key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from rig.errors import UsageProblem
from rig.files import why_unreadable

Model = TypeVar("Model", bound=BaseModel)
_LONGEST_VALUE = 60  # of a value shown in a sentence
_PLAIN = {  # pydantic's kinds of mistakes, in the words of the file
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "a table"),
    "string_type": "text, in quotes",
    "path_type": "the name of a file or folder, in quotes",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "list_type": "a list, in square brackets",
    **dict.fromkeys(("date_type", "date_parsing", "date_from_datetime_parsing"), "a date, such as 2027-05-01"),
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "literal_error": "{expected}",
    "finite_number": "a number",
    "string_too_short": "a text that is not empty",
    "string_too_long": "at most {max_length} characters long",
}
NOT_SHOWN = "not_shown"  # the type of a validator's error whose value is not repeated: it may be a secret


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The file's content. Raises UsageProblem for one that is missing, unreadable, or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # as Windows editors may begin it
    except FileNotFoundError:
        raise UsageProblem(f"no {what} at {path}") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageProblem(f"cannot read the {what} {path}: {why_unreadable(problem)}") from None
    except tomllib.TOMLDecodeError as problem:
        raise UsageProblem(f"{path} is not valid TOML: {problem}") from None


def checked(model: type[Model], data: object, where: str) -> Model:
    """`data` as a `model`; the first mistake as one sentence, an unknown key with the nearest right one."""
    try:
        return model.model_validate(data)
    except ValidationError as problem:
        errors = problem.errors()
        # a mistyped key is told before the key that is missing because of it
        error = next((found for found in errors if found["type"] == "extra_forbidden"), errors[0])
        raise UsageProblem(_sentence(model, error, where)) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there is {', '.join(names) or 'none'}"


def _sentence(model: type[BaseModel], error: Any, where: str) -> str:
    keys = [key for key in map(str, error["loc"]) if "[" not in key]  # else pydantic's name of one kind it may be of
    dotted = ".".join(keys)
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, keys[:-1])
        return f"{where}: unknown key {dotted!r}; {nearest(keys[-1], known)}"
    if error["type"] == "missing":
        table = _fields_at(model, keys)
        return f"{where}: the table [{dotted}] is missing" if table else f"{where}: {dotted!r} is missing"
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] in _PLAIN:
        said = f"this must be {_PLAIN[error['type']].format(**error.get('ctx', {}))}"
    said = said[0].lower() + said[1:]
    if not keys:
        return f"{where}: {said}"
    if error["type"] == NOT_SHOWN:
        return f"{where}: {said} ({dotted})"  # no "password: ..", which would be taken for one and hidden
    if isinstance(error.get("input"), dict) and error["type"] not in _PLAIN:
        return f"{where}: [{dotted}] {said}"  # of the table as a whole
    return f"{where}: {dotted!r} is {_short(error.get('input'))}: {said}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names allowed where `path` leads (through tables of tables, whose keys are the user's)."""
    current: Any = model
    for key in path:
        found = _model_in(current)
        if found is not None:
            by_alias = {(field.alias or name): field for name, field in found.model_fields.items()}
            current = by_alias[key].annotation if key in by_alias else None
        else:
            current = next(iter(get_args(current)[-1:]), None)
    found = _model_in(current)
    return [field.alias or name for name, field in found.model_fields.items()] if found else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that `annotation` is, or may be: `Model | None`. Not one inside a list or dict."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None
