"""How fast a slot's link goes: the ladder of speeds, what is remembered of a slot, adaptors that hold replies back.

What works in a slot is a fact about its adaptor, wires and needles, not about a run or a board. So it is remembered
in a file of its own, whose path the caller gives: best in the user's state folder (`state_file`), which outlives runs
and is not shared between machines. One file a slot: the slot's lock is all the locking it needs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from rig.files import write_durably

LADDER = (2_000_000, 1_500_000, 921_600, 460_800, 230_400, 115_200)
_CLEAN_SESSIONS = 20  # choice: after so many without a repeat the next faster speed gets another chance
_TROUBLES, _WITHIN = 3, 64  # choice: so many repeats within so many commands, and the link steps down


def below(baud: int) -> int | None:
    """The next lower speed of the ladder; None at its end."""
    return next((speed for speed in LADDER if speed < baud), None)


def above(baud: int) -> int | None:
    return next((speed for speed in reversed(LADDER) if speed > baud), None)


class Unsteady:
    """Counts repeats over commands: one now and then is a bench's weather, several close together are its speed."""

    def __init__(self) -> None:
        self._commands = 0
        self._troubles: list[int] = []

    def count(self, troubles: int) -> bool:
        """One command, with so many repeats. True: too many of late."""
        self._commands += 1
        self._troubles += [self._commands] * troubles
        self._troubles = [at for at in self._troubles if at > self._commands - _WITHIN]
        return len(self._troubles) >= _TROUBLES

    def forget(self) -> None:
        self._troubles.clear()


@dataclass
class _Remembered:
    asked: int  # what bench.toml asked for then; another figure there is a new beginning
    baud: int  # what worked
    clean: int = 0  # sessions without a repeat since


class SpeedMemory:
    """What speed worked in one slot, in the file `path`. It is a hint: a file that is missing or damaged is none, and
    one that cannot be written keeps nobody from flashing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def first(self, asked: int) -> int:
        """The speed to begin with where `asked` is the slot's fastest, in baud."""
        found = self._load()
        if found is None or found.asked != asked or found.baud >= asked:
            return asked
        if found.clean >= _CLEAN_SESSIONS:
            return min(above(found.baud) or asked, asked)
        return found.baud

    def lowered(self, asked: int, baud: int) -> None:
        """`baud` is what the link came down to."""
        self._save(_Remembered(asked, baud))

    def ended_well(self, asked: int, baud: int) -> None:
        """A session without a repeat at `baud` is over."""
        found = self._load()
        if found is None or found.asked != asked or baud > found.baud:
            self._save(_Remembered(asked, baud))
        elif baud < asked:
            self._save(_Remembered(asked, baud, found.clean + 1))

    def _load(self) -> _Remembered | None:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            made = _Remembered(**found)
        except (OSError, ValueError, TypeError):
            return None
        return made if all(isinstance(value, int) for value in asdict(made).values()) and made.baud > 0 else None

    def _save(self, what: _Remembered) -> None:
        with contextlib.suppress(OSError):
            write_durably(self.path, json.dumps(asdict(what)) + "\n")


def state_file(flash_port: str, root: Path | None = None) -> Path:
    """Where the speed of the slot at `flash_port` (as bench.toml names it) is remembered.

    `root`: default $XDG_STATE_HOME/rig, else ~/.local/state/rig. Source of the folder: XDG base directory
    specification, state that should outlive a restart.
    """
    if root is None:
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        root = Path(home) / "rig"
    slug = re.sub(r"[^A-Za-z0-9]+", "-", flash_port).strip("-")[-40:]
    return root / "speed" / f"{slug}-{hashlib.sha256(flash_port.encode()).hexdigest()[:8]}.json"


def remembered(flash_port: str, root: Path | None = None) -> SpeedMemory | None:
    """The memory of the slot at `flash_port`; None for a pseudo-terminal, whose name says nothing about any wire."""
    if os.path.realpath(flash_port).startswith("/dev/pts/"):
        return None
    return SpeedMemory(state_file(flash_port, root))


def latency_advice(port: str, sysfs: Path = Path("/sys")) -> str | None:
    """One sentence on how to fix an adaptor that holds replies back, None where nothing is to be fixed or known.

    FTDI adaptors wait 16 ms by default before they hand over a packet that is not full, so that every short reply
    costs that much; the kernel shows it as `latency_timer`. Source: Linux `drivers/usb/serial/ftdi_sio.c`, FTDI
    application note AN232B-04.
    """
    name = Path(os.path.realpath(port)).name
    timer = sysfs / "bus" / "usb-serial" / "devices" / name / "latency_timer"
    try:
        ms = int(timer.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    if ms <= 1:
        return None
    return (
        f"The adaptor at {port} holds each reply back for up to {ms} ms: `echo 1 | sudo tee {timer}` until it is "
        'unplugged, for good the udev rule ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", '
        'ATTR{latency_timer}="1".'
    )
