"""A sag made by hand at a simulated board: now, or as an operation of the ROM begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class ArmedSag:
    """Volts, seconds of the board's time; `at` is "erase" or "program", after `skip` of them, or "" for now."""

    volts: float
    seconds: float
    at: str
    skip: int

    @classmethod
    def asked(cls, message: dict[str, Any]) -> ArmedSag:
        """From a hand's request. Raises ValueError."""
        sag = cls(
            float(message["volts"]), float(message["seconds"]), message.get("at", ""), int(message.get("skip", 0))
        )
        if not (0 <= sag.volts <= 3.6 and 0 < sag.seconds <= 60 and sag.at in ("", "erase", "program")):
            raise ValueError("a sag has volts of 0 to 3.6, seconds up to 60, and `at` erase or program, or none")
        return sag

    def comes(self, name: str) -> bool:
        """Whether the operation that begins is the one."""
        if name != self.at:
            return False
        self.skip -= 1
        return self.skip < 0
