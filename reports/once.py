"""What is computed of records once, however many sections of a report ask for it; and ahead, on another core."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

from reports.tables import Records

T = TypeVar("T")
FEWEST_AHEAD = 20_000  # attempts below which another thread gains nothing


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


def ahead(records: Records, several: Iterable[Callable[[Records], Any]]) -> None:
    """Begin to compute these, one after another, in a thread: numpy lets another core work meanwhile. What goes wrong
    there goes wrong again for whoever asks. Of few attempts nothing is done."""
    if len(records.attempts) < FEWEST_AHEAD:
        return

    def work() -> None:
        try:
            for compute in several:
                compute(records)
        except Exception:  # noqa: BLE001
            return  # it is told where the answer is wanted

    threading.Thread(target=work, name="report-ahead", daemon=True).start()


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
