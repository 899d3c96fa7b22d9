"""Events for other programs: each one as a line of JSON, as the journal has it."""

from __future__ import annotations

import os
import threading
from typing import IO

from rig.records.events import Event


class JsonEvents:
    """Prints to `stream`, flushed line by line, from whichever thread. Every field is as in the journal: secrets are
    hidden before an event is made. The journal's own chain is left out.

    A reader that goes away costs the run nothing: from then on nothing is printed.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._gone = False

    def event(self, event: Event) -> None:
        """One event of the journal, already durable."""
        line = event.model_dump_json(fallback=str) + "\n"
        with self._lock:
            if self._gone:
                return
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):
                self._gone = True
                self._hush()

    def _hush(self) -> None:
        """What is left in the stream's buffer would be tried again at exit, and end in a traceback."""
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass
