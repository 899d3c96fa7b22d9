"""What is computed of records once, however many sections of a report ask for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from reports.tables import Records

T = TypeVar("T")
_of: dict[int, tuple[weakref.ref[Records], dict[Callable[..., Any], Any]]] = {}


def once(compute: Callable[[Records], T]) -> Callable[[Records], T]:
    """`compute`, which asked again of the same records gives what it gave before: nobody may modify that. It is
    forgotten with the records."""

    @wraps(compute)
    def asked(records: Records) -> T:
        kept = _kept(records)
        if compute not in kept:
            kept[compute] = compute(records)
        found: T = kept[compute]
        return found

    return asked


def _kept(records: Records) -> dict[Callable[..., Any], Any]:
    at = id(records)
    known = _of.get(at)
    if known is None or known[0]() is not records:
        known = (weakref.ref(records, lambda gone: _forget(at, gone)), {})
        _of[at] = known
    return known[1]


def _forget(at: int, gone: weakref.ref[Records]) -> None:
    if at in _of and _of[at][0] is gone:
        del _of[at]
