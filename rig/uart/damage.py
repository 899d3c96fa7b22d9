"""Damage on request to what passes the tap: drop, delay or flip, in either direction, by kind and number of command.

For tests and studies of how flashers bear a bad line, on simulated and real boards alike. Whatever is damaged on its
way to the chip is decided on by the guard once more: what a damaged frame asks for and may not have is left out, so
that no board is hurt by it. A short frame that lost a byte cannot be decided on, so it never gets there at all,
unless what comes next completes it. A `Damage` says what to do once; `Damager` does it as bytes pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from rig.chip.frames import Header, RequestScanner
from rig.errors import UsageProblem
from rig.uart.trace import Command

What = Literal["drop", "delay", "flip"]
Way = Literal["chip", "host"]
ANY = "*"


@dataclass(frozen=True)
class Damage:
    """One thing done to one command.

    `to`: "chip" is the request, "host" the reply. `command` is a kind as the trace names it (`erase`, `write-4k`,
    `check-crc`, `link-check` ...) or `*`; `number` counts that kind from when the damage was asked for, 1 is the
    first, 0 is every one. `at` and `count`: which bytes of the frame (count 0: all from there on). `bits`: which of
    a byte are turned over by a flip. `seconds`: how long all of the frame is held back by a delay.
    """

    what: What
    to: Way
    command: str = ANY
    number: int = 1
    at: int = 0
    count: int = 0
    bits: int = 0x01
    seconds: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Damage:
        """`drop:host:write-4k:2`, `flip:chip:read-4k:1:at=9,bits=0x80`, `delay:host:check-crc:0:seconds=0.5`.

        Raises UsageProblem that says what would be right.
        """
        wanted = "drop|delay|flip:chip|host:COMMAND[:NUMBER[:at=..,count=..,bits=..,seconds=..]]"
        what, to, command, number, listed = [*text.split(":", 4), *[""] * 4][:5]
        if what not in get_args(What) or to not in get_args(Way) or not command:
            raise UsageProblem(f"a damage is {wanted}, not {text!r}")
        try:
            options = dict(word.split("=") for word in listed.split(",") if word)
            seconds = float(options.pop("seconds", "0"))
            whole = {name: int(value, 0) for name, value in options.items()}
            found = cls(what, to, command, int(number or "1", 0), seconds=seconds, **whole)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            raise UsageProblem(f"a damage is {wanted}, not {text!r}") from None
        sane = 0 < found.bits < 0x100 and 0 <= found.seconds < 3600
        if min(found.number, found.at, found.count) < 0 or not sane:
            raise UsageProblem(f"a damage has numbers from 0, bits from 1 to 0xff, seconds below 3600, not {text!r}")
        return found

    def __str__(self) -> str:
        if self.what == "delay":
            return f"delay to {self.to} by {self.seconds:g} s"
        end = "end" if self.count == 0 else f"{self.at + self.count - 1}"
        with_bits = f" by 0x{self.bits:02x}" if self.what == "flip" else ""
        return f"{self.what} to {self.to}, bytes {self.at} to {end}{with_bits}"

    def strikes(self, position: int) -> bool:
        """Whether it hits this byte of its frame, counted from 0."""
        return position >= self.at and (self.count == 0 or position < self.at + self.count)

    def on(self, byte: int) -> bytes:
        """What becomes of a byte it hits."""
        if self.what == "drop":
            return b""
        return bytes((byte ^ self.bits,)) if self.what == "flip" else bytes((byte,))


@dataclass
class _Struck:
    """The command under way, and what is done to it."""

    command: Command
    to_chip: list[Damage] = field(default_factory=list)
    to_host: list[Damage] = field(default_factory=list)


class Damager:
    """Does `damages` to bytes as they pass. `rule` says which rule a frame breaks (the guard's; None: it may pass).

    `begin` is told of each command that was let through; `to_chip` and `to_host` return (bytes, seconds to hold
    them and all that follows). One thread at a time.
    """

    def __init__(self, damages: Sequence[Damage], rule: Callable[[Header], str | None]) -> None:
        self.damages = tuple(damages)
        self._rule = rule
        self._seen: dict[str, int] = {}
        self._waiting: list[_Struck] = []  # begun, and their first byte not yet passed on
        self._now: _Struck | None = None  # whose request is passing
        self._replying: _Struck | None = None
        self._position = 0
        self._ended = False
        self._hold = 0.0
        self._frames = RequestScanner(self._frame_begins, self._frame_ends)
        self._again = RequestScanner(self._judge)

    def begin(self, command: Command) -> None:
        """The guard let this command through."""
        struck = _Struck(command)
        for kind in (ANY, command.name):
            self._seen[kind] = number = self._seen.get(kind, 0) + 1
            for damage in self.damages:
                if damage.command == kind and damage.number in (0, number):
                    (struck.to_chip if damage.to == "chip" else struck.to_host).append(damage)
        told = [str(damage) for damage in (*struck.to_chip, *struck.to_host)]
        command.damage = "; ".join(told) or None
        self._waiting.append(struck)
        self._replying = struck

    def reset(self) -> None:
        """The other side started anew, or a frame broke off."""
        self._waiting.clear()
        self._now = self._replying = None
        self._frames.reset()
        self._again.reset()

    def given_up(self) -> None:
        """The chip said that it waits no longer for the rest of a frame."""
        self._again.reset()

    def to_chip(self, data: bytes) -> tuple[bytes, float]:
        """What of the host's bytes, all of which the guard has let through, goes on to the chip."""
        self._hold, out = 0.0, bytearray()
        for at in range(len(data)):  # byte by byte: where in its frame each one stands decides
            for byte in self._frames.feed(data[at : at + 1]):
                out += self._again.feed(self._struck(byte))
            if self._ended:
                self._now, self._ended = None, False
        return bytes(out), self._hold

    def to_host(self, data: bytes, position: int) -> tuple[bytes, float]:
        """What of the chip's bytes goes on to the host; `position` is how many of this reply came before."""
        if self._replying is None or not self._replying.to_host:
            return data, 0.0
        hold = 0.0
        out = bytearray()
        for at, byte in enumerate(data):
            kept = bytes((byte,))
            for damage in self._replying.to_host:
                if damage.what == "delay":
                    hold = max(hold, damage.seconds if position + at == 0 else 0.0)
                elif kept and damage.strikes(position + at):
                    kept = damage.on(kept[0])
            out += kept
        return bytes(out), hold

    def _struck(self, byte: int) -> bytes:
        kept = bytes((byte,))
        if self._now is not None:
            for damage in self._now.to_chip:
                if kept and damage.strikes(self._position):
                    kept = damage.on(kept[0])
            self._position += 1
        return kept

    def _frame_begins(self, header: Header) -> bool:
        self._now = self._waiting.pop(0) if self._waiting else None
        self._position = 0
        if self._now is not None:
            self._hold = max([self._hold, *(each.seconds for each in self._now.to_chip if each.what == "delay")])
        return True

    def _frame_ends(self, header: Header) -> None:
        self._ended = True

    def _judge(self, header: Header) -> bool:
        """The guard's second look, at what is left of a frame."""
        rule = self._rule(header)
        struck = self._now or self._replying
        if rule is not None and struck is not None:
            struck.command.damage = f"{struck.command.damage}; left out, for it came to {header.name}: {rule}"
        return rule is None
