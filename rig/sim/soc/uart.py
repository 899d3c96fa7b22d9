"""UART1 (0x00802100) and UART2 (0x00802200).

Source: Beken SDK driver/uart/uart.h. The FIFO depth of 128 is a guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rig.sim.soc.clock import NEVER, SECOND, Clock
from rig.sim.soc.gpio import Gpio
from rig.sim.soc.icu import Icu, Irq
from rig.sim.soc.registers import Registers

BASE = {1: 0x00802100, 2: 0x00802200}
TX_PIN = {1: 11, 2: 0}  # P11 = TX1, P0 = TX2

DEPTH = 128
_CRYSTAL_HZ = 26_000_000

_CONFIG = 0x00
_FIFO_CONFIG = 0x04
_FIFO_STATUS = 0x08
_PORT = 0x0C
_INT_ENABLE = 0x10
_INT_STATUS = 0x14

_TX_ENABLE, _RX_ENABLE = 1 << 0, 1 << 1
_PARITY, _TWO_STOPS = 1 << 5, 1 << 7

_TX_FULL, _TX_EMPTY, _RX_FULL, _RX_EMPTY, _WRITE_READY, _READ_READY = (1 << bit for bit in range(16, 22))
_TX_NEED_WRITE, _RX_NEED_READ, _RX_OVERFLOW = 1 << 0, 1 << 1, 1 << 2
_TX_STOP_END, _RX_STOP_END = 1 << 5, 1 << 6


OnByte = Callable[[int, int, int], None]


class Uart(Registers):
    """One port. Transmitted bytes leave at the wire rate, and only while the TX pin has been given to the UART.

    `on_byte(port, byte, ns)` is called when a byte enters the FIFO, with the guest time at which its stop bit ends:
    up to one FIFO in the future. A reset does not take back what the FIFO already holds (guess).
    """

    def __init__(self, port: int, clock: Clock, icu: Icu, gpio: Gpio, on_byte: OnByte) -> None:
        super().__init__(0x80)
        self._clock = clock
        self._icu = icu
        self._port = port
        self._irq = Irq.UART1 if port == 1 else Irq.UART2
        self._gpio = gpio
        self._pin = TX_PIN[port]
        self._on_byte = on_byte
        self._rx: deque[int] = deque()
        self._overflow = False
        self._byte_ns = 0
        self._free_at = 0  # the line is free from then on
        self._idle_polls = 0
        self.due = NEVER

    def receive(self, data: bytes) -> None:
        """Bytes have come in at RX."""
        if not self.words[_CONFIG >> 2] & _RX_ENABLE:
            return
        room = DEPTH - len(self._rx)
        self._rx.extend(data[:room])
        self._overflow = self._overflow or len(data) > room
        self._request()

    def power_off(self) -> None:
        """What was still to be sent is gone."""
        self._free_at = 0

    def service(self, now: int) -> None:
        """The transmitter may have come to ask for more."""
        if now >= self.due:
            self._request()

    @property
    def baud(self) -> int:
        """Bits a second, by the divisor the firmware has set; 0 while the port is off."""
        config = self.words[_CONFIG >> 2]
        return _CRYSTAL_HZ // _divisor(config) if config & (_TX_ENABLE | _RX_ENABLE) else 0

    @property
    def crowded(self) -> bool:
        """Whether the transmit FIFO is so full that the firmware will soon have to wait."""
        return self._queued() > DEPTH // 2

    def read(self, offset: int) -> int:
        if offset == _FIFO_STATUS:
            return self._status()
        if offset == _PORT:
            byte = self._rx.popleft() if self._rx else 0
            self._request()
            return byte << 8
        if offset == _INT_STATUS:
            return self._levels() & self.words[_INT_ENABLE >> 2]
        return self.words[offset >> 2]

    def write(self, offset: int, value: int) -> None:
        if offset == _PORT:
            self._transmit(value & 0xFF)
            return
        if offset == _INT_STATUS:
            self._overflow = self._overflow and not value & _RX_OVERFLOW
        else:
            self.words[offset >> 2] = value
        if offset == _CONFIG:
            self._byte_ns = self._wire_time(value)
        self._request()

    def reset(self) -> None:
        super().reset()
        self._rx.clear()
        self._overflow = False
        self._byte_ns = 0
        self.due = NEVER

    def _wire_time(self, config: int) -> int:
        bits = 1 + 5 + (config >> 3 & 3) + bool(config & _PARITY) + 1 + bool(config & _TWO_STOPS)
        return bits * _divisor(config) * SECOND // _CRYSTAL_HZ

    def _transmit(self, byte: int) -> None:
        self._idle_polls = 0
        if not self.words[_CONFIG >> 2] & _TX_ENABLE or self._queued() >= DEPTH:
            return
        self._free_at = max(self._free_at, self._clock.now) + self._byte_ns
        if self._gpio.is_peripheral(self._pin):
            self._on_byte(self._port, byte, self._free_at)
        self._request()

    def _queued(self) -> int:
        left = self._free_at - self._clock.now
        return -(-left // self._byte_ns) if left > 0 and self._byte_ns else 0

    def _status(self) -> int:
        """Also where time passes: firmware prints by polling this word, which no model has to do byte by byte."""
        queued = self._queued()
        if queued >= DEPTH:
            self._clock.skip_to(self._free_at - (DEPTH - 1) * self._byte_ns)
            queued = self._queued()
        elif queued:
            self._idle_polls += 1
            if self._idle_polls > 4:  # it waits for empty, not for room
                self._clock.skip_to(min(self._free_at, self._clock.now + self._byte_ns))
                queued = self._queued()
        got = len(self._rx)
        return (
            queued
            | min(got, 0xFF) << 8
            | (0 if queued else _TX_EMPTY)
            | (_RX_FULL if got >= DEPTH else 0)
            | (_READ_READY if got else _RX_EMPTY)
            | (_TX_FULL if queued >= DEPTH else _WRITE_READY)
        )

    def _levels(self) -> int:
        queued = self._queued()
        threshold = self.words[_FIFO_CONFIG >> 2] & 0xFF
        return (
            (_TX_NEED_WRITE if queued < threshold or not queued else 0)
            | (_RX_NEED_READ | _RX_STOP_END if self._rx else 0)
            | (_RX_OVERFLOW if self._overflow else 0)
            | (0 if queued else _TX_STOP_END)
        )

    def _request(self) -> None:
        enabled = self.words[_INT_ENABLE >> 2]
        self._icu.set_line(self._irq, bool(self._levels() & enabled))
        self.due = NEVER
        if enabled & (_TX_NEED_WRITE | _TX_STOP_END) and self._free_at > self._clock.now:
            threshold = self.words[_FIFO_CONFIG >> 2] & 0xFF if enabled & _TX_NEED_WRITE else 1
            below = self._free_at - max(threshold - 1, 0) * self._byte_ns
            self.due = below if below > self._clock.now else self._free_at


def _divisor(config: int) -> int:
    return (config >> 8 & 0x1FFF) + 1
