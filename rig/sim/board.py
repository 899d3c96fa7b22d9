"""One simulated board: rail, ROM, executing chip, two UARTs.

Power comes up: the mask ROM listens on UART1 for a while; a link check makes it stay, else the chip executes
what is in its flash. All is driven by the next thing that can happen, and happens at its own time however late the
board is looked at; an idle board sleeps. The process around it is rig.sim.boardloop.
"""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from enum import Enum

from rig.sim.constants import load_constants
from rig.sim.diepower import RailOfDie
from rig.sim.disturbance import Disturbances
from rig.sim.flash import SECTOR, NorFlash
from rig.sim.flashtimes import ChipTimes
from rig.sim.flashuse import FlashUse
from rig.sim.power import Rail
from rig.sim.rom import Rom
from rig.sim.sag import ArmedSag
from rig.sim.soc import NEVER, Load, Soc
from rig.sim.spec import BoardSpec
from rig.sim.tuyamcu import BAUD as MCU_BAUD
from rig.sim.tuyamcu import TuyaMcu
from rig.sim.undervolt import Mishap, Undervolted
from rig.sim.wire import Wire

ROM_WINDOW_S = 0.25  # guess: public notes say "a few hundred milliseconds"; never divided by the speed
_LOG_BAUD = 115200
# choices, as they cost the machine least:
_IDLE_SLEEP_S = 0.05  # an idle board wakes no oftener: many RTOS ticks are run in one go
_UNHEARD_S = 0.05  # what nobody hears of is carried out no oftener, each at its own time
_PRINTING_SLEEP_S = 0.01  # and one that prints no oftener than this
_GUEST_STEP_NS = 2_000_000  # guest time run at once: an RTOS tick
_RUN_BUDGET_S = 0.005  # wall time a busy chip, or a rail, may take before supply and ports are looked at again
_LONGEST_LAG_S = 0.1  # behind its clock by more, a chip's rail goes on without it, and a busy rail loses the rest
_CEN_PULSE_S = 0.05  # guess: how long somebody bridges CEN


class Phase(Enum):
    OFF = "off"
    ROM = "rom"
    RUNNING = "running"


class Board:
    """The board and its clock. `flash` and `efuse` are replaced as a whole when another board is put in.

    `run_budget_s`: wall time after which a step is over with work left, so that its caller comes to its turn.
    """

    def __init__(self, spec: BoardSpec, flash: bytes, efuse: bytes, *, run_budget_s: float = _RUN_BUDGET_S) -> None:
        self.spec = spec
        self.run_budget_s = run_budget_s
        now = self.now = time.monotonic()  # of the last step
        self._constants = load_constants(spec.constants)
        self._amps = self._constants.amps
        self.rail = Rail(self._constants, speed=spec.speed, now=now, source=spec.source)
        self.rail.feed.fixed = spec.powered
        self.armed: ArmedSag | None = None
        reset_volts = self._constants.rail.reset_falling_volts
        self._core = Undervolted(self.rail, self._constants.core, reset_volts, spec.seed)
        self._mishap: Mishap | None = None  # that is still to take effect
        self.mishaps = 0
        self.uart1 = Wire(speed=spec.speed, seed=spec.seed)
        self.uart2 = Wire(speed=spec.speed, seed=spec.seed + 1)
        self.faults = Disturbances(self.uart1, self.uart2, self.rail, speed=spec.speed, seed=spec.seed)
        self.phase = Phase.OFF
        self._radio_on = False
        self._crossed = False  # the rail crossed a reset level while the chip ran
        self._behind = False  # the rail could not be followed to where it should be
        self._self_reset = False  # the chip reset itself while it ran
        self._window_end = math.inf
        self._op_end = math.inf
        self._baud_at = math.inf
        self._last_traffic = now
        self._looked = now  # when the host's port was last read
        self._anchor = (now, 0)  # (wall seconds, guest nanoseconds) that are the same moment
        # (guest ns of its stop bit, byte, baud)
        self._out: dict[int, deque[tuple[int, int, int]]] = {1: deque(), 2: deque()}
        self.resets = 0
        self.insert(flash, efuse)

    def change(self, flash: bytes, efuse: bytes) -> None:
        """Another board in the jig: without a charge, nor what was done to the last one."""
        self.rail.discharge()
        self.armed = None
        self.faults.board_changed()
        self._off()
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
        if self.armed is not None and self.armed.comes(name):
            self.rail.sag(self.armed.volts, self.armed.seconds)
            self.armed = None

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

    def bridge_cen(self) -> None:
        """A reset by hand."""
        if self.phase is not Phase.OFF:
            self._reset("cen", self.now)

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
            self._off()

    def _off(self) -> None:
        self._silence()
        self._executes(False)
        self.phase = Phase.OFF
        self.rail.load = 0.0
        self._window_end = self._baud_at = self._op_end = math.inf

    def _reset(self, cause: str, now: float) -> None:
        self.soc.reset(cause)
        self._silence()
        self._enter_rom(now)

    def _enter_rom(self, now: float) -> None:
        self.resets += 1
        self.phase = Phase.ROM
        self._self_reset = False
        self._executes(False)
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
            self._executes(True)
            self.rail.load = self._amps.cpu

    def _executes(self, on: bool) -> None:
        self._flash_use.watch(on)
        self._core.executes(on)
        self._mishap = None

    def _suffers(self) -> None:
        """What too few volts do to the core that executes."""
        if not self.soc.running or self._self_reset:
            return
        mishap = self._core.lived()
        if mishap is not None:
            self.mishaps += 1
            self._mishap = mishap
        mishap = self._mishap
        if mishap is None:
            return
        if mishap.stray is not None:
            if self.rail.volts < self._constants.flash.works_volts:
                return
            self.flash.erase(mishap.stray, SECTOR)
        self._mishap = None
        if mishap.hangs:
            self.soc.hang()
        else:
            self.soc.derail(mishap.place, in_ram=mishap.in_ram)

    # -- the loop --------------------------------------------------------------------------------------

    def step(self, now: float) -> None:
        """Everything that is due by `now`."""
        self.now = now
        self.faults.step(now)
        if self.faults.dead and self.phase is Phase.RUNNING:
            self._reset("cen", now)
        if self.phase is Phase.RUNNING:
            self._run_chip(now)
        self._live(now)
        if self.phase is Phase.RUNNING:
            self._suffers()
        self.uart1.pull(now)
        self._looked = now
        self.uart2.pull(now)
        self.uart2.arrived(now, _LOG_BAUD)
        if self._neglected(now):
            self._last_traffic = now
            self._reset("cen", now + _CEN_PULSE_S)
        self.uart1.flush(now)

    def _neglected(self, now: float) -> bool:
        """Nobody has said anything for so long that CEN is bridged. What was pulled just now is heard first: a board
        that was starved of the CPU took it for silence."""
        if not self.spec.reset_every or self.phase is Phase.OFF or self.uart1.next_arrival < math.inf:
            return False
        return now - self._last_traffic > self.spec.reset_every

    def _live(self, now: float) -> None:
        """Power, what arrives on UART1 and the ROM's own times up to `now`, in their order and each at its time.

        A rail that goes into and out of reset faster than that can be carried out is left behind its clock.
        """
        patience = time.monotonic() + self.run_budget_s
        self._behind = False
        while not self._behind:
            due, ran = min(now, self._due()), self.phase is Phase.RUNNING
            if self._crossed or self._follow(self._lived(due)):
                self._power_changed(self.rail.now)
                self._behind = time.monotonic() > patience
                continue
            baud = self.rom.baud if self.phase is Phase.ROM else self.soc.uart_baud(1)
            for at, data in self.uart1.arrived(due, baud):
                self._receive(at, data)
            if self.phase is Phase.ROM:
                self._rom_due(due)
            if due >= now or (self.phase is Phase.RUNNING and not ran):  # it has to run before it hears more
                return
        self.rail.put_off(now - _LONGEST_LAG_S)

    def _due(self) -> float:
        """When something arrives, or the ROM has something to do."""
        if self.phase is not Phase.ROM:
            return self.uart1.next_arrival
        return min(self.uart1.next_arrival, self._window_end, self._baud_at, self.rom.due)

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
        if now >= self._window_end and not self._heard_in_time():
            self._leave_rom(now)

    def _heard_in_time(self) -> bool:
        """Whether the host linked before the window was over. What is in its port by now came since it was last read:
        a board that got to it late, starved of the machine's time, takes it for written then."""
        self.uart1.pull(max(self._looked, self._window_end - ROM_WINDOW_S))
        for at, data in self.uart1.arrived(self._window_end, self.rom.baud):
            self._receive(at, data)
        return self.rom.linked

    def _run_chip(self, now: float) -> None:
        target, until = self._guest(now), time.monotonic() + self.run_budget_s
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
        if self._behind:
            return now
        events = [self.uart1.next_event(), self.rail.next_event(), self.faults.next_event()]
        if self.phase is Phase.ROM:
            events += [self._window_end, self._baud_at, self.rom.speaks_at]
            unheard = min(self._op_end, self.rom.due)  # sixteen pages a sector, none of which is late for anybody
            events.append(max(unheard, now + _UNHEARD_S / self.spec.speed))
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
