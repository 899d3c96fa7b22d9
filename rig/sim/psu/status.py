"""What an instrument says about errors: the SCPI error queue and the IEEE 488.2 event registers.

Source: SCPI-99 volume 2 chapter 21 (numbers and texts), IEEE 488.2 chapter 11 (registers).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

DEPTH = 20  # entries; Source: Agilent E3631A user's guide ("20 deep"), taken for both supplies

TEXTS: Mapping[int, str] = {
    0: "No error",
    -100: "Command error",
    -101: "Invalid character",
    -103: "Invalid separator",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -111: "Header separator error",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -121: "Invalid character in number",
    -123: "Exponent too large",
    -131: "Invalid suffix",
    -138: "Suffix not allowed",
    -148: "Character data not allowed",
    -151: "Invalid string data",
    -171: "Invalid expression",
    -211: "Trigger ignored",
    -221: "Settings conflict",
    -222: "Data out of range",
    -223: "Too much data",
    -224: "Illegal parameter value",
    -226: "Lists not same length",
    -310: "System error",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    -420: "Query UNTERMINATED",
    # Of one maker's own (Keysight: E3631A user's guide; N6700 service guide)
    302: "Option not installed",
    514: "Command allowed only with RS-232",
    550: "Command not allowed in local",
}


class ScpiError(Exception):
    """A message unit that cannot be carried out; `code` is the SCPI number that goes into the queue."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code},{TEXTS[code]}")
        self.code = code

    @property
    def voids_the_rest(self) -> bool:
        """Whether the parser lost its place, so that the rest of the line is dropped.

        Command errors (-1xx) do, execution errors (-2xx) do not. Source: IEEE 488.2 11.5.1.1.4 leaves it open; guess.
        """
        return -200 < self.code <= -100


class Status:
    """Error queue, standard event register, and the status byte made of them."""

    PON, CME, EXE, DDE, QYE, OPC = 128, 32, 16, 8, 4, 1

    def __init__(self, texts: Mapping[int, str] = TEXTS) -> None:
        self._texts = texts
        self._queue: deque[int] = deque()
        self.esr = self.PON
        self.ese = 0
        self.sre = 0

    def error(self, code: int) -> None:
        """Queue `code` and set its event bit. A full queue keeps the oldest and ends with -350."""
        self.esr |= {1: self.CME, 2: self.EXE, 3: self.DDE, 4: self.QYE}.get(-code // 100, self.DDE)
        if len(self._queue) < DEPTH:
            self._queue.append(code)
        else:
            self._queue[-1] = -350

    def next_error(self) -> tuple[int, str]:
        """The oldest error, taken out of the queue; (0, "No error") when there is none."""
        code = self._queue.popleft() if self._queue else 0
        return code, self._texts[code]

    def take_esr(self) -> int:
        """The standard event register; reading clears it."""
        value, self.esr = self.esr, 0
        return value

    def byte(self) -> int:
        """The status byte: 4 error queue not empty, 32 enabled standard event, 64 their enabled summary."""
        value = (4 if self._queue else 0) | (32 if self.esr & self.ese else 0)
        return value | (64 if value & self.sre else 0)

    def clear(self) -> None:
        """*CLS: empties queue and event register, keeps the enables."""
        self._queue.clear()
        self.esr = 0
