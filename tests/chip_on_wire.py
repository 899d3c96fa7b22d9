"""A mask ROM behind a pseudo-terminal, in a thread, for tests that need no whole board."""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from rig.chip.client import RomClient
from rig.chip.frames import Reply
from rig.errors import RigError
from rig.sim.flash import NorFlash
from rig.sim.rom import ChipTimes, Rom
from rig.sim.wire import Wire

SPEED = 50.0
_PASSING_S = 0.05  # a pseudo-terminal's bytes are passed on by the kernel, a moment after they were written
_SWITCHING_S = 5.0
EFUSE = bytes(range(0x40, 0x60))


class ChipOnWire:
    """`path` is the serial port. `twist` sees each reply before it is sent and answers with what is sent instead.

    Above `worst_baud` the chip's clock is off, so that neither side understands the other.
    """

    def __init__(
        self,
        flash: NorFlash | None = None,
        *,
        speed: float = SPEED,
        worst_baud: int = 4_000_000,
        twist: Callable[[bytes], bytes] = lambda reply: reply,
    ) -> None:
        self.flash = flash or NorFlash()
        self.efuse = bytearray(EFUSE)
        self.wire = Wire(speed=speed)
        self.twist = twist
        self.heard = bytearray()  # every byte that arrived while it had power
        self.powered = True
        self.resets = 0
        self._worst_baud = worst_baud
        self._patience_s = 0.0
        self.rom = Rom(self.flash, self.efuse, send=self._send, on_reset=self._reset, times=ChipTimes().scaled(speed))
        self._lock = threading.Lock()
        self._wake_r, self._wake_w = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def path(self) -> str:
        return self.wire.path

    def __enter__(self) -> ChipOnWire:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        os.write(self._wake_w, b"x")
        self._thread.join()
        self.wire.close()
        os.close(self._wake_r)
        os.close(self._wake_w)

    def switch(self, on: bool) -> None:
        """Power off, or on: from off the ROM starts anew."""
        with self._lock:
            self.powered = on
            self.rom.reset()
            self.wire.silence()

    def idle(self) -> bool:
        """It has read all that the host wrote, and has nothing more to say to it."""
        with self._lock:
            unread, _, _ = select.select([self.wire.master], [], [], 0)
            asked = unread or self.rom.baud_change or self.rom.speaks_at < math.inf
            return not asked and self.wire.next_event() == math.inf

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Clients in this process give up on no reply that is still to come, however late their thread or the chip's
        runs: what a test makes of time-outs is then what was lost, and not what the machine was busy with."""
        wait = RomClient._wait

        def patient(client: RomClient, fits: Callable[[Reply], bool], timeout_s: float) -> Reply | None:
            while (reply := wait(client, fits, timeout_s)) is None:
                if self.idle() or not self._thread.is_alive():
                    return wait(client, fits, _PASSING_S)
            return reply

        self._patience_s = _SWITCHING_S
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RomClient, "_wait", patient)
            yield

    def _send(self, at: float, data: bytes, baud: int) -> None:
        twisted = self.twist(data)
        if twisted:
            self.wire.send(at, twisted, baud)

    def _reset(self, at: float) -> None:
        self.resets += 1
        self.rom.reset()

    def _run(self) -> None:
        baud_at = math.inf
        while True:
            with self._lock:
                now = time.monotonic()
                self.wire.pull(now)
                for at, data in self.wire.arrived(now, self.rom.baud):
                    if not self.powered:
                        continue
                    self.heard += data
                    self.rom.receive(data, at)
                    if self.rom.baud_change and baud_at == math.inf:
                        baud_at = at + self.rom.baud_change[1] / 1000
                if now >= baud_at and not self._host_is_late(now - baud_at):
                    baud_at = math.inf
                    self._change_baud(now)
                self.rom.tick(now)
                self.wire.flush(now)
                due = min(self.wire.next_event(), max(baud_at, now + 0.001), self.rom.due)
            wait = None if due == math.inf else max(0.0, due - time.monotonic())
            ready, _, _ = select.select([self.wire.master, self._wake_r], [], [], wait)
            if self._wake_r in ready:
                return

    def _host_is_late(self, late_s: float) -> bool:
        """To change its own speed: the answer at the new one would be lost."""
        return late_s < self._patience_s and self.wire.fits(self.wire._read_baud(), self.rom.baud)

    def _change_baud(self, now: float) -> None:
        if self.rom.baud_change and self.rom.baud_change[0] > self._worst_baud:
            baud, delay = self.rom.baud_change
            self.rom.baud_change = (baud * 3 // 4, delay)
        self.rom.finish_baud_change(now)


class DirectLink:
    """A board as a flasher reaches it, without tap and supply: `prepare` restarts the ROM."""

    def __init__(self, chip: ChipOnWire, baud: int = 921600) -> None:
        self.chip = chip
        self.baud = baud
        self.prepared = 0
        self.power_on_ns = 0
        self.problem: RigError | None = None

    @property
    def path(self) -> str:
        return self.chip.path

    def prepare(self) -> None:
        self.prepared += 1
        self.chip.switch(True)
        self.power_on_ns = time.monotonic_ns()

    def off(self) -> bool:
        self.chip.switch(False)
        self.power_on_ns = 0
        return True

    def sample(self) -> None: ...

    def check(self) -> None:
        if self.problem is not None:
            raise self.problem
