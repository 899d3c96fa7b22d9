"""One interface for whatever puts bytes into a board's flash.

A flasher is given a `Link`, never a port: the rig powers the board when the flasher's first link frame is seen,
and the wire's guard stands between. What a flasher says of itself (`FlashResult.said`) and what the flash holds
are two things: the conversion suite checks the second with the chip's own CRC, whatever the tool claims.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total) in bytes, as often as a flasher knows more."""


def no_progress(what: str, done: int, total: int) -> None:
    """For callers who do not look."""


class Link(Protocol):
    """A board as a flasher reaches it: a pseudo-terminal to open at 115200, and power when it is needed."""

    @property
    def path(self) -> str:
        """What to open as the serial port."""
        ...

    @property
    def lines(self) -> str:
        """Where RTS and DTR of a tool are heard, for `rig.uart.lines.environment`; empty: nobody does."""
        ...

    @property
    def baud(self) -> int:
        """Fastest speed this slot should try."""
        ...

    def prepare(self) -> None:
        """Switch the board off and let it discharge; the next link check seen on `path` switches it on."""
        ...

    @property
    def power_on_ns(self) -> int:
        """Monotonic nanoseconds of when the board got its power; 0 while it has none."""
        ...

    def off(self) -> bool:
        """Switch the board off now; True when the output was read back off. Waits for no port that hangs."""
        ...

    def sample(self) -> None:
        """Have the supply read once more while the board is on: for whoever asks afterwards why it did not answer."""
        ...

    def check(self) -> None:
        """Raise what went wrong underneath: a lost port, a supply that failed, a command the guard stopped."""
        ...


@dataclass(frozen=True)
class ChipIdentity:
    """What a board says it is. Fields a flasher could not learn are None."""

    chip: str | None = None
    chip_id: int | None = None
    flash_id: bytes | None = None
    flash_size: int | None = None  # bytes
    mac: str | None = None
    efuse: bytes | None = None  # 32 bytes: holds the chip's key, private
    text: str = ""  # what the tool printed


@dataclass(frozen=True)
class FlashResult:
    """How an operation went. `ok` is read from what the tool did and said, never from an exit code alone."""

    ok: bool
    said: str  # one line for a person
    seconds: float
    size: int = 0  # bytes moved
    retries: tuple[str, ...] = ()
    output: str = ""  # all the tool printed
    data: bytes | None = field(default=None, repr=False)  # what a read read
    verified: bool = False  # the chip's own CRC agreed over all of it, after the last byte was written


class Flasher(Protocol):
    """The contract. Offsets and lengths are physical flash bytes; pieces are (offset, content)."""

    @property
    def name(self) -> str:
        """Such as `native` or `ltchiptool==4.15.0`."""
        ...

    def identify(self, link: Link, progress: Progress = no_progress) -> ChipIdentity: ...

    def read(self, link: Link, offset: int, length: int, progress: Progress = no_progress) -> FlashResult: ...

    def write(
        self, link: Link, pieces: Sequence[tuple[int, bytes]], progress: Progress = no_progress
    ) -> FlashResult: ...

    def verify(
        self, link: Link, pieces: Sequence[tuple[int, bytes]], progress: Progress = no_progress
    ) -> FlashResult: ...

    def erase(self, link: Link, offset: int, length: int, progress: Progress = no_progress) -> FlashResult: ...

    def close(self) -> None:
        """Let go of the link, if one is held."""
        ...
