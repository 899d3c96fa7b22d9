"""One simulated board in a process of its own: rail, ROM, executing chip, two UARTs, in one event loop.

Power comes up: the mask ROM listens on UART1 for a while; a link check makes it stay, else the chip executes
what is in its flash. All is driven by the next thing that can happen; an idle board sleeps.

Run as `python -m rig.sim.board FD`, FD an inherited socket to the bench process, which speaks JSON lines:
`supply`, `sense`, `load-flash`, `reset`, `pull`, `insert`, `fault`, `heal`, `faults`, `dump`, `status`, `quit`.
"""

from __future__ import annotations

import base64
import json
import math
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from rig.sim.constants import load_constants
from rig.sim.diepower import RailOfDie
from rig.sim.disturbance import Disturbances
from rig.sim.flash import NorFlash
from rig.sim.flashuse import FlashUse
from rig.sim.power import Rail, SetPoint
from rig.sim.rom import ChipTimes, Rom
from rig.sim.sag import ArmedSag
from rig.sim.soc import NEVER, Load, Soc
from rig.sim.spec import BoardSpec
from rig.sim.tuyamcu import BAUD as MCU_BAUD
from rig.sim.tuyamcu import TuyaMcu
from rig.sim.wire import Wire

ROM_WINDOW_S = 0.25  # guess: public notes say "a few hundred milliseconds"; never divided by the speed
_LOG_BAUD = 115200
_IDLE_SLEEP_S = 0.05  # an idle board wakes no oftener: many RTOS ticks are run in one go
_PRINTING_SLEEP_S = 0.01  # and one that prints no oftener than this
_GUEST_STEP_NS = 2_000_000  # guest time run at once: an RTOS tick
_RUN_BUDGET_S = 0.005  # wall time a busy chip may run before supply and ports are looked at again
_LONGEST_LAG_S = 0.1  # behind its clock by more, a chip's rail goes on without it
_CEN_PULSE_S = 0.05


class Phase(Enum):
    OFF = "off"
    ROM = "rom"
    RUNNING = "running"


class Board:
    """The board and its clock. `flash` and `efuse` are replaced as a whole when another board is put in."""

    def __init__(self, spec: BoardSpec, flash: bytes, efuse: bytes) -> None:
        self.spec = spec
        now = time.monotonic()
        self._constants = load_constants(spec.constants)
        self._amps = self._constants.amps
        self.rail = Rail(self._constants, speed=spec.speed, now=now, source=spec.source)
        self.rail.feed.fixed = spec.powered
        self._armed: ArmedSag | None = None
        self.uart1 = Wire(speed=spec.speed, seed=spec.seed)
        self.uart2 = Wire(speed=spec.speed, seed=spec.seed + 1)
        self.faults = Disturbances(self.uart1, self.uart2, self.rail, speed=spec.speed, seed=spec.seed)
        self._switched_ns = 0  # when the output was last switched
        self.phase = Phase.OFF
        self._radio_on = False
        self._crossed = False  # the rail crossed a reset level while the chip ran
        self._self_reset = False  # the chip reset itself while it ran
        self._window_end = math.inf
        self._op_end = math.inf
        self._baud_at = math.inf
        self._last_traffic = now
        self._anchor = (now, 0)  # (wall seconds, guest nanoseconds) that are the same moment
        # (guest ns of its stop bit, byte, baud)
        self._out: dict[int, deque[tuple[int, int, int]]] = {1: deque(), 2: deque()}
        self.resets = 0
        self.insert(flash, efuse)

    def insert(self, flash: bytes, efuse: bytes) -> None:
        """Put a board in: new flash content and efuses, powered off."""
        self.mcu = TuyaMcu() if self.spec.mcu else None
        self.flash = NorFlash(flash, law=self._constants.flash.law, seed=self.spec.seed)
        self.efuse = bytearray(efuse)
        die_supply = RailOfDie(self.rail, self._constants.flash)
        self._flash_use = FlashUse(self.flash, die_supply, self.spec.speed)
        self.rom = Rom(
            self.flash,
            self.efuse,
            send=self._rom_sends,
            on_reset=self._rom_resets,
            on_load=self._rom_loads,
            times=ChipTimes().scaled(self.spec.speed),
            die_supply=die_supply,
        )
        self.soc = Soc(
            self.flash,
            bytes(self.efuse),
            seed=self.spec.seed,
            on_uart=self._soc_sends,
            on_load=self._soc_loads,
            on_reset=self._soc_resets,
        )

    # -- callbacks -------------------------------------------------------------------------------------

    def _rom_sends(self, at: float, data: bytes, baud: int) -> None:
        self._last_traffic = at + len(data) * self.uart1.byte_time(baud)
        self.uart1.send(at, data, baud)

    def _rom_resets(self, at: float) -> None:
        self._reset("reboot", at)

    def _rom_loads(self, name: str, until: float) -> None:
        self.rail.load = self._amps.of(name)
        self._op_end = until
        if self._armed is not None and self._armed.comes(name):
            self.rail.sag(self._armed.volts, self._armed.seconds)
            self._armed = None

    def _soc_sends(self, port: int, byte: int, at: int) -> None:
        if self._crossed:
            return
        baud = self.soc.uart_baud(port)
        self._out[port].append((at, byte, baud))
        if port == 1 and self.mcu:
            self.mcu.receive(self.uart1.heard(bytes([byte]), baud, MCU_BAUD), at)

    def _soc_loads(self, load: Load, at: int) -> None:
        if self._crossed:
            return
        moment = self._wall(at)
        if self.rail.advance(moment):
            self._crossed = True
            return
        if load is not Load.RF_TX:  # a burst hides what else goes on
            self._flash_use.load_changed(load in (Load.ERASE, Load.PROGRAM), moment)
        name = str(load)
        self._radio_on = self._radio_on or load is Load.RF_TX
        if self._radio_on and name in ("idle", "cpu"):
            name = "radio_idle"
        self.rail.load = self._amps.of(name)

    def _soc_resets(self, cause: str, at: int) -> None:
        self._self_reset = True

    # -- clocks ----------------------------------------------------------------------------------------

    def _guest(self, now: float) -> int:
        wall, guest = self._anchor
        return guest + int((now - wall) * self.spec.speed * 1e9)

    def _wall(self, guest_ns: int) -> float:
        wall, guest = self._anchor
        return wall + (guest_ns - guest) / (self.spec.speed * 1e9)

    def _lived(self, now: float) -> float:
        """How far the rail may go: not past what a chip behind its clock has still to do, but for a lasting lag."""
        if self.phase is not Phase.RUNNING or self._self_reset:
            return now
        return min(now, max(self._wall(self.soc.now_ns), now - _LONGEST_LAG_S))

    # -- power and reset -------------------------------------------------------------------------------

    def _power_changed(self, now: float) -> None:
        self._crossed = False
        if self.rail.alive:
            self.flash.power_on()
            self.soc.power_on()
            if self.mcu:
                self.mcu.power_on()
            self._enter_rom(now)
        else:
            self.rom.power_lost(now)
            self._flash_use.power_lost(now)
            self._silence()
            self.phase = Phase.OFF
            self.rail.load = 0.0

    def _reset(self, cause: str, now: float) -> None:
        self.soc.reset(cause)
        self.rom.reset()
        self._silence()
        self._enter_rom(now)

    def _enter_rom(self, now: float) -> None:
        self.resets += 1
        self.phase = Phase.ROM
        self._self_reset = False
        self._flash_use.watch(False)
        if self.mcu:
            self.mcu.take(sys.maxsize)  # what it was about to answer reaches nobody
        self.rom.reset()
        self._radio_on = False
        self.rail.load = self._amps.rom
        self._window_end = math.inf if self.faults.dead else now + ROM_WINDOW_S
        self._baud_at = self._op_end = math.inf

    def _silence(self) -> None:
        self.uart1.silence()
        self.uart2.silence()
        for out in self._out.values():
            out.clear()

    def _leave_rom(self, now: float) -> None:
        self._window_end = math.inf
        self._anchor = (now, self.soc.now_ns)
        if self.soc.start():
            self.phase = Phase.RUNNING
            self._flash_use.watch(True)
            self.rail.load = self._amps.cpu

    # -- the loop --------------------------------------------------------------------------------------

    def step(self, now: float) -> None:
        """Everything that is due by `now`."""
        self.faults.step(now)
        if self.faults.dead and self.phase is Phase.RUNNING:
            self._reset("cen", now)
        if self.phase is Phase.RUNNING:
            self._run_chip(now)
        while self._crossed or self._follow(self._lived(now)):
            self._power_changed(now)
        self.uart1.pull(now)
        self.uart2.pull(now)
        baud = self.rom.baud if self.phase is Phase.ROM else self.soc.uart_baud(1)
        for at, data in self.uart1.arrived(now, baud):
            self._receive(at, data)
        self.uart2.arrived(now, _LOG_BAUD)
        if self.phase is Phase.ROM:
            self._rom_due(now)
        reset_every = self.spec.reset_every
        if reset_every and self.phase is not Phase.OFF and now - self._last_traffic > reset_every:
            self._last_traffic = now
            self._reset("cen", now + _CEN_PULSE_S)
        self.uart1.flush(now)

    def _follow(self, until: float) -> bool:
        """The rail up to `until`, with what the ROM's operations draw up to their ends; True as Rail.advance."""
        while self._op_end <= until:
            if self.rail.advance(self._op_end):
                return True
            self.rail.load = self._amps.rom
            self._op_end = math.inf
        return self.rail.advance(until)

    def _receive(self, at: float, data: bytes) -> None:
        if self.phase is Phase.ROM:
            self.rom.receive(data, at)
            if b"\x01\xe0\xfc" in data or self.rom.in_frame:  # noise at another baud is nobody's traffic
                self._last_traffic = max(self._last_traffic, at)
            if self.rom.linked:
                self._window_end = math.inf
            if self.rom.baud_change and self._baud_at == math.inf:
                self._baud_at = at + self.rom.baud_change[1] / 1000
        elif self.phase is Phase.RUNNING:
            self.soc.uart_receive(1, data)

    def _rom_due(self, now: float) -> None:
        self.rom.tick(now)
        if now >= self._baud_at:
            self._baud_at = math.inf
            self.rom.finish_baud_change(now)
        if now >= self._window_end:
            self._leave_rom(now)

    def _run_chip(self, now: float) -> None:
        target, until = self._guest(now), time.monotonic() + _RUN_BUDGET_S
        while self.soc.now_ns < target and not self._crossed and not self._self_reset:
            self.soc.run(min(target, self.soc.now_ns + _GUEST_STEP_NS, self._mcu_due))
            self._mcu_speaks()
            if time.monotonic() > until:
                break
        self._crossed = self._crossed or self.rail.advance(self._lived(now))
        self._deliver(self._guest(self.rail.now) if self._crossed else self.soc.now_ns)
        if self._self_reset and not self._crossed:
            self._deliver(sys.maxsize)  # a chip reset does not take back what is in the FIFO (guess)
            self._enter_rom(now)

    @property
    def _mcu_due(self) -> int:
        return self.mcu.due if self.mcu else NEVER

    def _mcu_speaks(self) -> None:
        data = self.mcu.take(self.soc.now_ns) if self.mcu else b""
        if data:
            self.soc.uart_receive(1, self.uart1.heard(data, MCU_BAUD, self.soc.uart_baud(1)))

    def _deliver(self, until_ns: int) -> None:
        """To the host, every byte whose stop bit is over by guest time `until_ns`."""
        for port, out in self._out.items():
            wire = self.uart1 if port == 1 else self.uart2
            while out and out[0][0] <= until_ns:
                baud, due = out[0][2], bytearray()
                while out and out[0][0] <= until_ns and out[0][2] == baud:
                    due.append(out.popleft()[1])
                wire.deliver(bytes(due), baud)

    def next_event(self, now: float) -> float:
        """When step() is needed next if nothing comes in."""
        events = [self.uart1.next_event(), self.rail.next_event(), self.faults.next_event()]
        if self.phase is Phase.ROM:
            events += [self._window_end, self._baud_at, self._op_end, self.rom.due]
        if self.phase is Phase.RUNNING:
            soonest = min(self.soc.next_event_ns, self._mcu_due)
            events.append(max(self._wall(soonest), now + self._nap(now)))
            if printed := [out[0][0] for out in self._out.values() if out]:
                events.append(max(self._wall(min(printed)), now + _PRINTING_SLEEP_S / self.spec.speed))
        if self.spec.reset_every and self.phase is not Phase.OFF:
            events.append(self._last_traffic + self.spec.reset_every + 0.001)
        return min(events)

    def _nap(self, now: float) -> float:
        """How long a running chip may be left alone: not at all while it is behind its clock."""
        behind = self._guest(now) - self.soc.now_ns > _GUEST_STEP_NS
        return 0.0 if behind else _IDLE_SLEEP_S / self.spec.speed

    # -- the bench's requests --------------------------------------------------------------------------

    def handle(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Carry out one request of the bench; the answer, None where there is none."""
        name = "_do_" + str(message.get("op", "")).replace("-", "_")
        action: Callable[[dict[str, Any]], dict[str, Any] | None] | None = getattr(self, name, None)
        if action is None:
            return {"error": f"unknown op {message.get('op')!r}"}
        try:
            return action(message)
        except (KeyError, ValueError, OSError) as problem:
            return {"error": f"{message['op']}: {type(problem).__name__}: {problem}"}

    def _do_supply(self, message: dict[str, Any]) -> None:
        if message["on"] != self.rail.set_point.on:
            self._switched_ns = time.monotonic_ns()
        self.rail.set_point = SetPoint(message["on"], message["volts"], message["amps"])

    def _do_sense(self, message: dict[str, Any]) -> dict[str, Any]:
        volts, amps, mode = self.faults.short_reading() or self.rail.sense()
        return {"volts": volts, "amps": amps, "mode": mode}

    def _do_load_flash(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.rail.set_point.on:
            return {"error": "the output is on: a board is changed only with its supply off"}
        self.rail.discharge()
        self._armed = None
        self.faults.board_changed()
        self.phase = Phase.OFF
        self._silence()
        self.insert(Path(message["flash"]).read_bytes(), bytes.fromhex(message["efuse"]))
        return {"ok": True}

    def _do_reset(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.phase is not Phase.OFF:
            self._reset("cen", time.monotonic())
        return {"ok": True}

    def _do_pull(self, message: dict[str, Any]) -> dict[str, Any]:
        self.faults.in_jig(False)
        return {"ok": True}

    def _do_insert(self, message: dict[str, Any]) -> dict[str, Any]:
        self.faults.in_jig(True)
        return {"ok": True}

    def _do_fault(self, message: dict[str, Any]) -> dict[str, Any]:
        self.faults.begin(message["name"], message.get("options", {}), time.monotonic())
        return {"ok": True}

    def _do_heal(self, message: dict[str, Any]) -> dict[str, Any]:
        """One fault by its name, or all of them."""
        self.faults.heal(message.get("name"))
        return {"ok": True}

    def _do_faults(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"active": self.faults.listed()}

    def _do_dump(self, message: dict[str, Any]) -> dict[str, Any]:
        Path(message["path"]).write_bytes(self.flash.data)
        return {"ok": True, "efuse": self.efuse.hex()}

    def _do_poke(self, message: dict[str, Any]) -> dict[str, Any]:
        """Damage: overwrite flash bytes behind the chip's back (`offset`, `data`), or make bits read wrong:
        `weak` is a list of [address, mask, probability], or with a fourth `true` for bits that no erase heals.
        `sr` is the status register, `sr_locked` whether the chip can write it."""
        if "offset" in message or "weak" not in message:
            self.flash.overwrite(message["offset"], base64.b64decode(message["data"]))
        for address, mask, probability, *stuck in message.get("weak", []):
            self.flash.weaken(address, mask, probability, stuck=any(stuck))
        if "sr" in message:
            self.flash.sr = message["sr"]
        if "sr_locked" in message:
            self.flash.sr_locked = bool(message["sr_locked"])
        return {"ok": True}

    def _do_sag(self, message: dict[str, Any]) -> dict[str, Any]:
        """Pull the rail to `volts` for `seconds` of the board's time: now, or as the ROM begins its next "erase" or
        "program" (`at`), after `skip` of them."""
        sag = ArmedSag.asked(message)
        if sag.at:
            self._armed = sag
        else:
            self.rail.sag(sag.volts, sag.seconds)
        return {"ok": True}

    def _do_trace(self, message: dict[str, Any]) -> dict[str, Any]:
        """The rail at `points` moments from wall time `begin` to `end`, for a witness."""
        begin, end, points = message["begin"], message["end"], message["points"]
        step = (end - begin) / max(1, points - 1)
        times = [self.rail.model(begin + step * index) for index in range(points)]
        return {"volts": [None if math.isnan(volts) else round(volts, 5) for volts in self.rail.trace.sampled(times)]}

    def _do_status(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "phase": self.phase.value,
            "volts": self.rail.volts,
            "on": self.rail.set_point.on,
            "switched_ns": self._switched_ns,
            "resets": self.resets,
            "linked": self.rom.linked,
            "guest_s": self.soc.now_ns / 1e9,
            "erased_sectors": len(self.flash.erases),
            "sr": self.flash.sr,
            "weak_bits": self.flash.weak_bits,
        }


def serve(board: Board, control: socket.socket) -> None:
    """The event loop: until the bench says `quit` or goes away."""
    control.setblocking(False)
    pending = b""
    while True:
        now = time.monotonic()
        board.step(now)
        wait = board.next_event(now) - time.monotonic()
        ports = [wire.master for wire in (board.uart1, board.uart2) if wire.plugged]
        watched: list[socket.socket | int] = [control, *ports]
        # select, not poll: at a high speed factor events are microseconds apart, poll's clock is milliseconds
        ready, _, _ = select.select(watched, [], [], None if wait == math.inf else max(0.0, wait))
        if control not in ready:
            continue
        data = control.recv(65536)
        if not data:
            return
        pending += data
        while b"\n" in pending:
            line, pending = pending.split(b"\n", 1)
            board.step(time.monotonic())
            message = json.loads(line)
            if message.get("op") == "quit":
                return
            answer = board.handle(message)
            if answer is not None:
                control.sendall(json.dumps(answer).encode() + b"\n")


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    reader = control.makefile("rb")
    hello = json.loads(reader.readline())
    board = Board(BoardSpec(**hello["spec"]), Path(hello["flash"]).read_bytes(), bytes.fromhex(hello["efuse"]))
    for wire, name in ((board.uart1, "uart1"), (board.uart2, "uart2")):
        wire.link = Path(hello["links"][name])
        wire.link.symlink_to(wire.path)
    control.sendall(json.dumps({"uart1": board.uart1.path, "uart2": board.uart2.path}).encode() + b"\n")
    serve(board, control)


if __name__ == "__main__":
    main()
