"""What is computed of records once, however many sections of a report ask for it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

from reports.tables import Records

T = TypeVar("T")


@dataclass
class _Answer:
    lock: threading.RLock = field(default_factory=threading.RLock)
    told: list[Any] = field(default_factory=list)  # the one answer, once it is there


_lock = threading.Lock()
_of: dict[int, tuple[weakref.ref[Records], dict[Callable[..., Any], _Answer]]] = {}


def once(compute: Callable[[Records], T]) -> Callable[[Records], T]:
    """`compute`, which asked again of the same records gives what it gave before: nobody may modify that. It is
    forgotten with the records. Of two threads that ask at a time one waits for the other."""

    @wraps(compute)
    def asked(records: Records) -> T:
        answer = _answer(records, compute)
        with answer.lock:
            if not answer.told:
                answer.told.append(compute(records))
        found: T = answer.told[0]
        return found

    return asked


def _answer(records: Records, compute: Callable[..., Any]) -> _Answer:
    at = id(records)
    with _lock:
        known = _of.get(at)
        if known is None or known[0]() is not records:
            known = (weakref.ref(records, lambda gone: _forget(at, gone)), {})
            _of[at] = known
        return known[1].setdefault(compute, _Answer())


def _forget(at: int, gone: weakref.ref[Records]) -> None:
    known = _of.get(at)
    if known is not None and known[0] is gone:
        _of.pop(at, None)
