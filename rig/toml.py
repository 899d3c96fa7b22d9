"""TOML files that people write: read, checked, and every mistake told in one sentence with file and key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from rig.errors import UsageProblem

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The file's content. Raises UsageProblem for one that is missing, unreadable, or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageProblem(f"no {what} at {path}") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageProblem(f"cannot read the {what} {path}: {problem}") from None
    except tomllib.TOMLDecodeError as problem:
        raise UsageProblem(f"{path} is not valid TOML: {problem}") from None


def checked(model: type[Model], data: object, where: str) -> Model:
    """`data` as a `model`; the first mistake as one sentence, an unknown key with the nearest right one."""
    try:
        return model.model_validate(data)
    except ValidationError as problem:
        error = problem.errors()[0]
        raise UsageProblem(_sentence(model, error, where)) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there is {', '.join(names) or 'none'}"


def _sentence(model: type[BaseModel], error: Any, where: str) -> str:
    keys = [str(key) for key in error["loc"]]
    dotted = ".".join(keys)
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, keys[:-1])
        return f"{where}: unknown key {dotted!r}; {nearest(keys[-1], known)}"
    if error["type"] == "missing":
        return f"{where}: {dotted!r} is missing"
    return f"{where}: {dotted!r} is {error.get('input')!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names allowed where `path` leads (through dicts of models)."""
    current: Any = model
    for key in path:
        fields = getattr(current, "model_fields", None)
        if fields is None:
            continue
        by_alias = {(field.alias or name): field for name, field in fields.items()}
        if key not in by_alias:
            continue
        current = _model_in(by_alias[key].annotation)
    fields = getattr(current, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
