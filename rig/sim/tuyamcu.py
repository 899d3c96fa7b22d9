"""A simulated TuyaMCU: the second controller of a switch, which talks to the module over UART1 while firmware runs.

Source: Tuya's public "Serial communication protocol" for modules with an MCU. A frame is 55 AA, version, command,
data length (two bytes, high first), data, and the sum of all before it. The module asks, the MCU answers; data points
(DPs) go both ways. It is what OpenBeken's driver "TuyaMCU" and Tuya's own firmware expect at 9600 8N1.

Guesses: how soon it answers, how long a gap makes it forget half a frame.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from rig.sim.soc.clock import MS, NEVER, SECOND

BAUD = 9600
_BYTE_NS = 10 * SECOND // BAUD
_ANSWER_NS = 10 * MS  # guess
_GAP_NS = 100 * MS  # guess

_HEADER = b"\x55\xaa"
_HEAD = 6  # header, version, command, length
LONGEST = 0x400  # bytes of data it has room for; OpenBeken's longest is far below
MCU_VERSION = 3


class Command(IntEnum):
    """What frames are about. REPORT goes to the module only, all others are asked by it."""

    HEARTBEAT = 0x00
    PRODUCT = 0x01
    MODE = 0x02
    NETWORK = 0x03
    SET = 0x06
    REPORT = 0x07
    STATUS = 0x08


class DpType(IntEnum):
    RAW = 0
    BOOL = 1
    VALUE = 2
    TEXT = 3
    ENUM = 4
    BITMAP = 5


_SIZES = {DpType.BOOL: (1,), DpType.VALUE: (4,), DpType.ENUM: (1,), DpType.BITMAP: (1, 2, 4)}


@dataclass(frozen=True)
class Frame:
    """`command` is any byte, known or not."""

    command: int
    data: bytes = b""
    version: int = 0

    def encode(self) -> bytes:
        head = _HEADER + bytes([self.version, self.command]) + len(self.data).to_bytes(2, "big")
        body = head + self.data
        return body + bytes([sum(body) & 0xFF])


class FrameReader:
    """Finds frames in a stream of bytes: what is no frame is passed over, byte by byte."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with `data`."""
        self._buffer += data
        frames = []
        while len(self._buffer) > _HEAD:
            size = int.from_bytes(self._buffer[4:6], "big")
            if self._buffer[:2] != _HEADER or size > LONGEST:
                self._skip()
                continue
            if len(self._buffer) <= _HEAD + size:
                break
            frame, total = self._buffer[: _HEAD + size], self._buffer[_HEAD + size]
            if sum(frame) & 0xFF != total:
                self._skip()
                continue
            frames.append(Frame(frame[3], bytes(frame[_HEAD:]), frame[2]))
            del self._buffer[: _HEAD + size + 1]
        return frames

    def forget(self) -> None:
        """Half a frame is not continued."""
        self._buffer.clear()

    def _skip(self) -> None:
        """To the next byte that may begin a frame."""
        at = self._buffer.find(_HEADER[:1], 1)
        del self._buffer[: at if at > 0 else len(self._buffer)]


@dataclass(frozen=True)
class Dp:
    """A data point: what a product has that can be set or seen."""

    id: int
    type: DpType
    value: bytes

    @classmethod
    def switch(cls, number: int, on: bool = False) -> Dp:
        return cls(number, DpType.BOOL, bytes([on]))

    @classmethod
    def number(cls, number: int, value: int = 0) -> Dp:
        return cls(number, DpType.VALUE, (value & 0xFFFFFFFF).to_bytes(4, "big"))

    def encode(self) -> bytes:
        return bytes([self.id, self.type]) + len(self.value).to_bytes(2, "big") + self.value


def decode_dps(data: bytes) -> list[Dp]:
    """The data points in a SET or REPORT frame. Raises ValueError if it is not made of whole, well-formed ones."""
    found = []
    while data:
        if len(data) < 4:
            raise ValueError(f"{len(data)} bytes are no data point")
        kind, size = DpType(data[1]), int.from_bytes(data[2:4], "big")
        if len(data) < 4 + size or size not in _SIZES.get(kind, (size,)):
            raise ValueError(f"a {kind.name.lower()} of {size} bytes is no data point")
        found.append(Dp(data[0], kind, data[4 : 4 + size]))
        data = data[4 + size :]
    return found


# A four-gang switch with a countdown, by the ids Tuya gives such products.
FOUR_GANG = (*(Dp.switch(number) for number in (1, 2, 3, 4)), Dp.number(7))


class TuyaMcu:
    """One MCU on the module's UART1; times are guest ns of the chip it hangs on.

    `dps` is the state of the product by id, `heard` the frames that came from the module, `network` what it said last
    of its network (None: nothing yet). It speaks only when asked, and what it does not know it does not answer. A
    reset of the module leaves it as it is; `power_on` starts it anew.
    """

    def __init__(self, product: str = "rigsim4gang00001", dps: Iterable[Dp] = FOUR_GANG) -> None:
        self.product = product
        self._initial = {dp.id: dp for dp in dps}
        self.power_on()

    def power_on(self) -> None:
        """Power came: nothing heard, nothing to say, each data point at its first value."""
        self.dps = dict(self._initial)
        self.heard: list[Frame] = []
        self.network: int | None = None
        self._reader = FrameReader()
        self._met = False  # the first answer to a heartbeat tells that the MCU has started
        self._last_ns = 0
        self._free_at = 0
        self._sending: deque[tuple[int, int]] = deque()  # (when its stop bit is over, byte)

    @property
    def due(self) -> int:
        """When the next byte has arrived at the module: `NEVER` if there is none."""
        return self._sending[0][0] if self._sending else NEVER

    def receive(self, data: bytes, ns: int) -> None:
        """Bytes of the module, the last of them complete at `ns`."""
        if ns - self._last_ns > _GAP_NS:
            self._reader.forget()
        self._last_ns = ns
        for frame in self._reader.feed(data):
            self.heard.append(frame)
            for answer in self._answers(frame):
                self._say(answer, ns)

    def take(self, until_ns: int) -> bytes:
        """The bytes that have arrived at the module by `until_ns`."""
        due = bytearray()
        while self._sending and self._sending[0][0] <= until_ns:
            due.append(self._sending.popleft()[1])
        return bytes(due)

    def _say(self, frame: Frame, now: int) -> None:
        at = max(self._free_at, now + _ANSWER_NS)
        for byte in frame.encode():
            at += _BYTE_NS
            self._sending.append((at, byte))
        self._free_at = at

    def _answers(self, frame: Frame) -> list[Frame]:
        if frame.command == Command.HEARTBEAT:
            met, self._met = self._met, True
            return [self._frame(Command.HEARTBEAT, bytes([met]))]
        if frame.command == Command.PRODUCT:
            product = json.dumps({"p": self.product, "v": "1.0.0", "m": 0}, separators=(",", ":"))
            return [self._frame(Command.PRODUCT, product.encode())]
        if frame.command == Command.MODE:  # no data: the module has the button and the network's lamp
            return [self._frame(Command.MODE)]
        if frame.command == Command.NETWORK:
            self.network = frame.data[0] if frame.data else None
            return [self._frame(Command.NETWORK)]
        if frame.command == Command.STATUS:
            return [self._frame(Command.REPORT, dp.encode()) for dp in self.dps.values()]
        if frame.command == Command.SET:
            return self._set(frame.data)
        return []

    def _set(self, data: bytes) -> list[Frame]:
        """Take over the data points that the product has, in their own type, and report each as it is now."""
        try:
            wanted = decode_dps(data)
        except ValueError:
            return []
        known = [dp for dp in wanted if dp.id in self.dps and self.dps[dp.id].type == dp.type]
        self.dps.update((dp.id, dp) for dp in known)
        return [self._frame(Command.REPORT, dp.encode()) for dp in known]

    @staticmethod
    def _frame(command: Command, data: bytes = b"") -> Frame:
        return Frame(command, data, MCU_VERSION)
