"""Work on a report in a process of its own, on another core: threads gain nothing, since pandas seldom lets go of the
interpreter. The process is forked, so that it has the records without copying or sending them."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from reports.tables import Records

FEWEST = 20_000  # attempts below which it gains nothing


@contextlib.contextmanager
def apart(records: Records, several: Sequence[Callable[[], Any]]) -> Iterator[list[Callable[[], Any]]]:
    """Begin these in another process, one after the other. Gives for each what waits for its answer; ask in this
    order. An answer that does not come (the process was killed, or it went wrong there) is computed here, when it is
    asked for. So it is with few attempts, and where other threads are at work: what they hold locked would stay so.
    """
    if len(records.attempts) < FEWEST or threading.active_count() > 1:
        yield list(several)
        return
    reader, writer = os.pipe()
    gc.freeze()  # or collecting garbage here or there writes into every object, and so copies what is shared
    child = _fork()
    if child == 0:
        os.close(reader)
        _compute(several, writer)
    os.close(writer)  # without a child the answers are at their end at once
    try:
        with open(reader, "rb") as answers:
            yield [_Answer(answers, compute) for compute in several]
    finally:
        if child is not None:
            os.kill(child, signal.SIGKILL)  # not yet waited for: the number is still its own
            os.waitpid(child, 0)
        gc.unfreeze()


def _fork() -> int | None:
    """None where there is no memory or no process left for another one."""
    with warnings.catch_warnings(), contextlib.suppress(OSError):
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, on pyarrow's threads: it minds forks
        return os.fork()
    return None


class _Answer:
    """One answer to come."""

    def __init__(self, answers: IO[bytes], compute: Callable[[], Any]) -> None:
        self._answers, self._compute = answers, compute

    def __call__(self) -> Any:
        try:
            return pickle.load(self._answers)
        except (EOFError, pickle.UnpicklingError):
            return self._compute()


def _compute(several: Sequence[Callable[[], Any]], writer: int) -> None:
    """All there is to the other process."""
    try:
        with (
            contextlib.suppress(BaseException),
            open(writer, "wb") as answers,
        ):  # what went wrong goes wrong there again
            for compute in several:
                pickle.dump(compute(), answers, pickle.HIGHEST_PROTOCOL)
                answers.flush()
    finally:
        os._exit(0)  # nothing of the parent's is flushed or tidied up here
