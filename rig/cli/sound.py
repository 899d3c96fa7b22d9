"""What happened, for ears: a unit ended, somebody is asked, the line stopped.

The terminal's bell: once for a good unit, twice for any other and when a person is needed. Or a command of one's own,
from the environment: `RIG_SOUND="aplay -q"` is run with one more word, an outcome (`pass`, `fail`, ...), `asked` or
`stopped`; a shell is not involved.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO

from rig.errors import UsageProblem
from rig.records import events
from rig.records.events import Event

VARIABLE = "RIG_SOUND"
_BELL = "\a"
_BETWEEN_S = 0.4  # closer bells are one to most terminals


def command_of(environment: Mapping[str, str]) -> list[str]:
    """The words of RIG_SOUND; none: the bell. Raises UsageProblem for a quote that is not closed."""
    text = environment.get(VARIABLE, "")
    try:
        return shlex.split(text)
    except ValueError as problem:
        raise UsageProblem(f"{VARIABLE}={text}: {str(problem).lower()}") from None


class Sound:
    """Follows events. `stream` is the terminal; `command` replaces its bell. What goes wrong here stops no run, and
    nobody waits for a sound."""

    def __init__(self, stream: IO[str], command: Sequence[str] = ()) -> None:
        self._stream = stream
        self._command = list(command)
        self._playing: list[subprocess.Popen[bytes]] = []

    def event(self, event: Event) -> None:
        if isinstance(event, events.UnitEnded):
            self._say(event.outcome.value, 1 if event.outcome.good else 2)
        elif isinstance(event, events.Prompted) and event.headless is None:
            self._say("asked", 2)
        elif isinstance(event, events.LineStopped):
            self._say("stopped", 2)

    def _say(self, word: str, bells: int) -> None:
        if self._command:
            self._run(word)
            return
        self._ring()
        for count in range(1, bells):
            timer = threading.Timer(count * _BETWEEN_S, self._ring)
            timer.daemon = True
            timer.start()

    def _ring(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(_BELL)
            self._stream.flush()

    def _run(self, word: str) -> None:
        self._playing = [each for each in self._playing if each.poll() is None]
        with contextlib.suppress(OSError, ValueError):
            quiet = subprocess.DEVNULL
            command = [*self._command, word]
            self._playing.append(subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet))
