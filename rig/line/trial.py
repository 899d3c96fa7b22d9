"""One power-on with link checks running, and everything that can be seen of it: the link doctor's examination."""

from __future__ import annotations

import time

import serial

from rig.bench.link import SlotLink
from rig.bench.power import BoardPower
from rig.chip.client import GARBLED, LINK_BAUD
from rig.chip.frames import Reply, ReplyParser, Request, Short
from rig.errors import BenchBlocked
from rig.supply.channel import Reading
from rig.uart.bootlog import BootLog

_PERIOD_S = 0.005  # rhythm of link checks, as every tool's
_POWER_S = 5.0  # from the first link check to power
_WINDOW_S = 0.6  # after so long the ROM listens no more: a few hundred milliseconds, say public sources
_SETTLE_S = 0.3  # inrush, and the meter's own averaging
_LOOK_S = 0.05  # how often the supply is asked
_ALIKE = 3  # so many readings in a row decide
_NOISE = 4  # bytes; fewer are what switching on leaves on a line
_SHOWN = 16
_MANY = 20  # link checks after the first answer tell
_ANSWERED = 0.7  # less of them is no link: one is sent once the last was answered, or after 5 ms
_FRAME = Request(Short.LINK_CHECK).encode()


class Trial:
    """What one power-on with link checks shows."""

    def __init__(
        self, link: SlotLink, power: BoardPower, boot_log: BootLog | None, patience_s: float, least_amps: float
    ) -> None:
        self.least_amps = least_amps  # of a ROM
        self.link, self.power, self.boot_log = link, power, boot_log
        self.patience_s = patience_s
        self.asked = 0  # link checks sent since the board has its power
        self.asked_linked = 0  # and since its first answer
        self.heard = bytearray()
        self.replies: list[Reply] = []
        self.readings: list[Reading] = []
        self.on_ns = 0
        self._parser = ReplyParser()

    def run(self) -> None:
        """Until it is clear, or patience is over. Raises what fails underneath: a lost port, supply or rail."""
        self.link.prepare()
        with serial.Serial(self.link.path, LINK_BAUD, timeout=_PERIOD_S) as port:
            began = time.monotonic()
            while not self._over(began):
                port.write(_FRAME)
                self.asked += bool(self.on_ns)
                self.asked_linked += self.linked
                self._take(port.read(1) + port.read(port.in_waiting))
                self.link.check()
                self._look()

    def _take(self, data: bytes) -> None:
        self.heard += data
        self.replies += self._parser.feed(data)

    def _look(self) -> None:
        """The supply's meter, as often as it is worth it, once it shows this board and no inrush."""
        if not self.on_ns:
            self.on_ns = self.link.power_on_ns
            if self.on_ns and self.boot_log is not None:
                self.boot_log.mark("power-on", self.on_ns)
        settled = self.on_ns + int((_SETTLE_S + self.power.refresh_s) * 1e9)
        last = self.readings[-1].mono_ns if self.readings else 0
        if self.on_ns and time.monotonic_ns() > max(settled, last + int(_LOOK_S * 1e9)):
            reading = self.power.reading()
            if reading is not None:
                self.readings.append(reading)

    def _over(self, began: float) -> bool:
        if not self.on_ns:
            if time.monotonic() - began > _POWER_S:
                raise BenchBlocked("supply-lost", f"the output stayed off for {_POWER_S:g} s of link checks")
            return False
        since = (time.monotonic_ns() - self.on_ns) / 1e9
        if since > self.patience_s:
            return True
        if len(self.readings) < _ALIKE:
            return False
        last = self.readings[-_ALIKE:]
        starved = all(each.mode in ("off", "cc") or each.amps < self.least_amps for each in last)
        told = self.garbled or self.misheard or self.log_lines > 1
        return self.linked or starved or (since > _WINDOW_S and told)

    # -- what it comes to ------------------------------------------------------------------------------

    @property
    def linked(self) -> bool:
        """It has answered a link check."""
        return self.answers > 0

    @property
    def complaints(self) -> int:
        """Replies that say the chip got a frame in pieces."""
        said = [reply.status if reply.long else (*reply.payload, 0)[0] for reply in self.replies]
        return sum(status in GARBLED for status in said)

    @property
    def noise(self) -> int:
        """Bytes that belong to no reply."""
        return len(self.heard) - sum(len(reply.encode()) for reply in self.replies)

    @property
    def garbled(self) -> bool:
        """What comes from the board is damaged, or is not the ROM's."""
        return self.noise >= max(_NOISE, len(self.heard) // 10)

    @property
    def misheard(self) -> bool:
        """What the board gets is damaged: it says so, or answers now and then only. No link to flash over."""
        rarely = self.linked and self.asked_linked > _MANY and self.answers < self.asked_linked * _ANSWERED
        return self.complaints > 0 or rarely

    @property
    def answers(self) -> int:
        """Answers to link checks."""
        return sum(not reply.long and reply.code == 1 and reply.payload == b"\x00" for reply in self.replies)

    @property
    def log_lines(self) -> int:
        return len(self.boot_log.lines_since(self.on_ns)) if self.boot_log is not None and self.on_ns else 0

    @property
    def mode(self) -> str:
        """How the supply regulates most of the time."""
        modes = [each.mode for each in self.readings]
        return max(set(modes), key=modes.count) if modes else "unknown"

    @property
    def volts(self) -> float:
        return _median([each.volts for each in self.readings])

    @property
    def amps(self) -> float:
        return _median([each.amps for each in self.readings])

    @property
    def limit(self) -> float:
        """Amps that the supply is set to give at most."""
        return self.power.setting.amps if self.power.setting else self.power.supplied.current_limit

    def measurements(self) -> dict[str, float | int | str]:
        found: dict[str, float | int | str] = {}
        if self.link.off_volts is not None:
            found["volts_off"] = round(self.link.off_volts, 3)
        if self.readings:
            found |= {"volts": round(self.volts, 3), "amps": round(self.amps, 4), "regulates": self.mode}
            found["amps_limit"] = self.limit
        found |= {"link_checks": self.asked, "answers": self.answers, "other_bytes": self.noise}
        if self.noise:
            found["bytes"] = bytes(self.heard[:_SHOWN]).hex(" ")
        found["log_lines"] = "no log port" if self.boot_log is None else self.log_lines
        return found


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
