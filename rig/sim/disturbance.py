"""What the faults of `faults.py` do to one board: to the bytes on its two lines, to its ports, to its contacts.

A board process holds one :class:`Disturbances`. Options come checked; all that is random is seeded, so that a run
can be had again. Faults with `after` wait until that many more bytes have crossed their line.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rig.sim.faults import Fault, find
from rig.sim.power import Rail
from rig.sim.wire import Disturbance, Wire

_LINKED = bytes.fromhex("040E0501E0FC0100")  # the ROM's answer to a link check
# What an MCU says: the answer to a heartbeat. Source: Tuya's serial protocol, 55 AA version command length data sum.
_MCU_FRAME = bytes.fromhex("55AA030000010104")
_MCU_BAUD = 9600


class Open(Disturbance):
    """A wire that is open: nothing passes towards `to`."""

    def __init__(self, to: str) -> None:
        self._to = to

    def to_chip(self, data: bytes) -> bytes:
        return b"" if self._to in ("chip", "both") else data

    def to_host(self, data: bytes) -> bytes:
        return b"" if self._to in ("host", "both") else data


class Late(Disturbance):
    def __init__(self, ms: float) -> None:
        self.delay_s = ms / 1000


class Doubled(Disturbance):
    def __init__(self, of: str) -> None:
        self._of = of

    def replies(self, data: bytes) -> list[bytes]:
        return [data, data] if self._of == "all" or data == _LINKED else [data]


class Damaged(Disturbance):
    """Bytes flipped or lost, each with probability `rate`."""

    def __init__(self, rate: float, to: str, seed: int, *, lost: bool) -> None:
        self._rate = rate
        self._to = to
        self._lost = lost
        self._random = random.Random(seed)
        self._left = {"chip": self._gap(), "host": self._gap()}  # bytes that pass before the next is hit

    def to_chip(self, data: bytes) -> bytes:
        return self._hit("chip", data)

    def to_host(self, data: bytes) -> bytes:
        return self._hit("host", data)

    def _hit(self, way: str, data: bytes) -> bytes:
        if self._to not in (way, "both"):
            return data
        out, at = bytearray(), 0
        while len(data) - at > self._left[way]:
            hit = at + self._left[way]
            out += data[at:hit]
            if not self._lost:
                out.append(data[hit] ^ 1 << self._random.randrange(8))
            at, self._left[way] = hit + 1, self._gap()
        self._left[way] -= len(data) - at
        return bytes(out + data[at:])

    def _gap(self) -> int:
        """How many bytes pass unharmed: geometric, so that a rare hit costs no draw a byte."""
        if self._rate <= 0:
            return 1 << 60
        if self._rate >= 1:
            return 0
        return int(math.log(1 - self._random.random()) / math.log1p(-self._rate))


class Driver(Disturbance):
    """Another output on RX1: push-pull and high at rest, it wins a bit that the adaptor pulls low with probability
    `wins`. A byte whose start bit it wins is none. One with a `period` (seconds) sends frames of its own."""

    def __init__(self, wins: float, period: float, seed: int) -> None:
        self._wins = wins
        self._period = period
        self._next = 0.0 if period else math.inf
        self._random = random.Random(seed)

    def to_chip(self, data: bytes) -> bytes:
        return bytes(self._fought(byte) for byte in data if not self._won())

    def _won(self) -> bool:
        return self._random.random() < self._wins

    def _fought(self, byte: int) -> int:
        return byte | sum(1 << bit for bit in range(8) if self._won())

    def speaks(self, now: float) -> list[tuple[bytes, int]]:
        if now < self._next:
            return []
        self._next = now + self._period
        return [(_MCU_FRAME, _MCU_BAUD)]

    def next_event(self) -> float:
        return self._next


class Noise(Disturbance):
    """Bytes to the host that no chip sent, every `period` real seconds."""

    def __init__(self, size: int, period: float, seed: int) -> None:
        self._size = size
        self._period = period
        self._next = 0.0
        self._random = random.Random(seed)

    def murmurs(self, now: float) -> bytes:
        if now < self._next:
            return b""
        self._next = now + self._period
        return self._random.randbytes(self._size)

    def next_event(self) -> float:
        return self._next


@dataclass
class _Active:
    fault: Fault
    options: Mapping[str, Any]
    wire: Wire
    begins: float  # at this many bytes on `wire`
    begun: bool = False
    disturbance: Disturbance | None = None
    ends: float = math.inf  # wall time: an unplugged port comes back
    touches: int = 0  # boards put in since it began
    since: float = math.inf  # seconds of the model: until then the rail was seen to be up; inf: it was not yet


class Disturbances:
    """The faults of one slot's board. `step` begins and ends what is due."""

    def __init__(self, uart1: Wire, uart2: Wire, rail: Rail, *, speed: float, seed: int) -> None:
        self._wires = {"flash": uart1, "log": uart2}
        self._rail = rail
        self._speed = speed
        self._seed = seed
        self._active: dict[str, _Active] = {}
        self._in_jig = True

    # -- asked for -------------------------------------------------------------------------------------

    def begin(self, name: str, options: Mapping[str, Any], now: float) -> None:
        """A fault of the catalogue, from now or after its bytes; one with the same key is replaced."""
        fault = find(name)
        options = fault.checked(options)
        key = fault.key(options)
        self.heal(key)
        wire = self._wires["log" if name == "tx2-open" else options.get("port", "flash")]
        self._active[key] = _Active(fault, options, wire, wire.carried + options.get("after", 0))
        self.step(now)

    def heal(self, name: str | None = None) -> None:
        """End the fault called `name` (all of that name, or one by its key); None: all of them."""
        for key, active in list(self._active.items()):
            if name in (None, key, active.fault.name):
                del self._active[key]
                self._end(active)

    def board_changed(self) -> None:
        """Another board is in the jig: what was wrong with the last one is gone."""
        self._in_jig = True
        for key, active in list(self._active.items()):
            if active.fault.where == "board":
                self.heal(key)
            active.touches += active.begun
        self._touch()

    def in_jig(self, there: bool) -> None:
        """A person pulled the board out, or put it back."""
        self._in_jig = there
        self._touch()

    def listed(self) -> dict[str, dict[str, Any]]:
        """What is asked for, by key; `begun` says whether it has."""
        return {key: {**active.options, "begun": active.begun} for key, active in self._active.items()}

    # -- in effect -------------------------------------------------------------------------------------

    @property
    def dead(self) -> bool:
        return self._holds("dead") is not None

    def short_reading(self) -> tuple[float, float, str] | None:
        """(volts, amps, mode) of a supply whose output is on into a short; None without one."""
        short = self._holds("short")
        point = self._rail.set_point
        if short is None or not point.on:
            return None
        amps = min(point.amps, point.volts / short["ohms"])
        return amps * short["ohms"], amps, "cc" if amps >= point.amps else "cv"

    def step(self, now: float) -> None:
        for active in self._active.values():
            if not active.begun and active.wire.carried >= active.begins:
                if self._fell(active):
                    self._start(active, now)
            elif active.ends <= now:
                active.ends = math.inf
                active.wire.plug()

    def next_event(self) -> float:
        return min([math.inf, *(active.ends for active in self._active.values())])

    def _fell(self, active: _Active) -> bool:
        """Whether the rail stood, and then fell below what the fault waits for, by something else than the switch."""
        below, rail = active.options.get("below", 0.0), self._rail
        if not below:
            return True
        if not rail.set_point.on:
            active.since = math.inf
            return False
        now = rail.model(rail.now)
        fell = active.since < now and rail.trace.lowest(active.since, now) < below
        if active.since < math.inf or rail.volts >= below:
            active.since = now
        return fell

    def _holds(self, name: str) -> Mapping[str, Any] | None:
        active = self._active.get(name)
        return active.options if active is not None and active.begun else None

    def _start(self, active: _Active, now: float) -> None:
        active.begun = True
        name, options = active.fault.name, active.options
        if name == "unplug":
            active.wire.unplug()
            if options["back"]:
                active.ends = now + options["back"]
        active.disturbance = self._disturbance(name, options)
        if active.disturbance is not None:
            active.wire.disturbances.append(active.disturbance)
        self._touch()

    def _disturbance(self, name: str, options: Mapping[str, Any]) -> Disturbance | None:
        if name == "dead":
            return Open("both")
        if name == "open-pin" and options["pin"] in ("rx1", "tx1"):
            return Open("chip" if options["pin"] == "rx1" else "host")
        if name == "tx2-open":
            return Open("host")
        if name == "rx1-driver":
            period = options["period"] / self._speed if options["kind"] == "tuyamcu" else 0.0
            return Driver(options["wins"], period, self._seed)
        if name == "noise":
            return Noise(int(options["bytes"]), options["period"], self._seed)
        if name == "late":
            return Late(options["ms"])
        if name == "doubled":
            return Doubled(options["of"])
        if name in ("flip", "lose"):
            return Damaged(options["rate"], options["to"], self._seed + (name == "lose"), lost=name == "lose")
        return None

    def _end(self, active: _Active) -> None:
        if active.disturbance is not None:
            active.wire.disturbances.remove(active.disturbance)
        if active.fault.name == "unplug" and active.begun:
            active.wire.plug()
        self._touch()

    def _needle_ohms(self) -> float:
        """What a worn needle has at this touch: more with each board, and up or down by a chance that is seeded."""
        worn = self._active.get("worn-needle")
        if worn is None or not worn.begun:
            return 0.0
        options = worn.options
        chance = random.Random(f"{self._seed} {worn.touches}").uniform(-options["spread"], options["spread"])
        ohms: float = options["ohms"] + options["per_board"] * worn.touches + chance
        return max(0.0, ohms)

    def _touch(self) -> None:
        """The rail's contact, from all that bears on it."""
        self._rail.contact_ohms = self._needle_ohms()
        open_needle = any(self._holds(f"open-pin {pin}") is not None for pin in ("3v3", "gnd"))
        self._rail.contact = self._in_jig and not open_needle and self._holds("short") is None
