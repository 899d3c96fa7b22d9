"""The chip: its parts wired together, and the loop that lets guest time pass."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from rig.image import beken
from rig.sim.flash import NorFlash
from rig.sim.soc import (
    dma,
    flashctl,
    gpio,
    icu,
    radio,
    saradc,
    sysctrl,
    timers,
    trng,
    uart,
    watchdog,
)
from rig.sim.soc.clock import NEVER, NS_PER_INSTRUCTION, Clock
from rig.sim.soc.codewindow import MAPPED, CodeWindow
from rig.sim.soc.cpu import Cpu, Fault
from rig.sim.soc.idle import IdleFinder
from rig.sim.soc.load import Load, LoadMeter
from rig.sim.soc.memory import RAM_BASE, RAM_SIZE, Memory, other_memories, ram
from rig.sim.soc.registers import Bus, Registers

TAG = b"BK7231\0\0"
TAG_AT = 0x110

# Instructions executed in one go: at first after an interrupt, and at most. What the CPU spins in its idle task until
# the end of a slice is wasted: in known firmware a tick ends within 1000. A slice grows by a quarter while the CPU is
# busy; the longest is how late a peripheral's request may be seen: 80 us.
_SHORT_SLICE = 1000
_LONG_SLICE = 8000
_PRINTING_SLICE = 200  # while it polls for room in a FIFO, which takes milliseconds and few instructions
_SHORTEST_SLICE = 100
_HOPELESS = 3  # times the same instruction faults before its handler is taken to be broken too


def rom_finds_tag(flash: NorFlash) -> bool:
    """Whether the mask ROM would start this flash: "BK7231" and two zero bytes, plain, at flash address 0x110.

    Source: every known BK7231N bootloader has them there, unencrypted in encrypted code. That the ROM stays in
    download mode without them is inferred.
    """
    return flash.read(TAG_AT, len(TAG)) == TAG


class Timed(Protocol):
    """A part that wants to be called at a time of its own, in guest ns."""

    due: int

    def service(self, now: int) -> None: ...


def _ignore(*_: object) -> None:
    return None


class Soc:
    """A BK7231N with its flash, in guest time (ns), which only moves forward.

    `efuse`: 32 bytes, of which 0-15 are the code key and 24-29 the MAC. `on_uart(port, byte, ns)` comes when a byte
    enters the transmit FIFO, `ns` is when its stop bit ends: up to 11 ms (a FIFO at 115,200) ahead. `on_load(what,
    ns)` comes on changes, see `Load`. `on_reset("watchdog", ns)`: the chip reset itself and stands in its ROM until
    `start` is called (which may be within that call). A fault that no handler catches, with the watchdog off, ends in
    HALTED and `running` False. One flash belongs to one Soc for good.
    """

    def __init__(
        self,
        flash: NorFlash,
        efuse: bytes,
        *,
        seed: int = 0,
        on_uart: Callable[[int, int, int], None],
        on_load: Callable[[Load, int], None] = _ignore,
        on_reset: Callable[[str, int], None] = _ignore,
    ) -> None:
        self._flash = flash
        self._on_reset = on_reset
        self._noise = Random(seed)
        self._clock = Clock()
        self._meter = LoadMeter(on_load)
        self._wire_blocks(efuse, Random(seed + 1), on_uart)
        self._window = CodeWindow(flash, beken.key_from_efuse(efuse))
        self._ram = ram()
        self._other_memories = other_memories()
        self._cpu = Cpu(Memory(0, MAPPED, self._window.memory), [self._ram, *self._other_memories], self._buses)
        self._idle = IdleFinder(self._cpu.word)
        self._timed: tuple[Timed, ...] = (self._timers, self._adc, *self._ports, self._meter)
        self._running = False
        self._dead = False
        self._waiting = False
        self._slice = _SHORT_SLICE
        self._faults: list[int] = []
        self.last_fault: Fault | None = None

    def _wire_blocks(self, efuse: bytes, random: Random, on_uart: Callable[[int, int, int], None]) -> None:
        clock = self._clock
        self._icu = icu.Icu()
        self._timers = timers.Timers(clock, self._icu)
        self._watchdog = watchdog.Watchdog(clock, self._icu)
        self._adc = saradc.SarAdc(clock, self._icu)
        self._sysctrl = sysctrl.SystemControl(efuse)
        self._flashctl = flashctl.FlashController(clock, self._flash, self._flash_works)
        self._rf = radio.RfController(clock)
        self._mac = radio.Mac()
        pins = gpio.Gpio()
        self._uarts = {port: uart.Uart(port, clock, self._icu, pins, on_uart) for port in uart.BASE}
        self._ports = tuple(self._uarts.values())
        blocks: list[tuple[int, Registers]] = [
            (sysctrl.BASE, self._sysctrl),
            (icu.BASE, self._icu),
            (trng.BASE, trng.Trng(random)),
            (gpio.BASE, pins),
            (watchdog.BASE, self._watchdog),
            (timers.BASE, self._timers),
            (saradc.BASE, self._adc),
            (flashctl.BASE, self._flashctl),
            (dma.BASE, dma.GeneralDma(lambda *what: self._cpu.copy(*what))),
            *((uart.BASE[port], one) for port, one in self._uarts.items()),
        ]
        self._buses = [
            Bus(0x00800000, 0x20000, blocks),
            Bus.of(radio.BLE_BASE, radio.Ble()),
            Bus.of(radio.RF_BASE, self._rf),
            Bus.of(radio.MAC_BASE, self._mac),
            Bus.of(radio.MAC_PL_BASE, radio.MacPlatform()),
        ]

    @property
    def now_ns(self) -> int:
        """Guest time."""
        return self._clock.now

    @property
    def running(self) -> bool:
        """Whether it executes flash: False in the ROM, after resetting itself, and when it is dead."""
        return self._running

    @property
    def is_dead(self) -> bool:
        """Whether it stopped for good: only a reset or a power cycle brings it back."""
        return self._dead

    @property
    def next_event_ns(self) -> int:
        """The earliest guest time at which it has work: now while the CPU is busy, `NEVER` when not running."""
        if not self._running:
            return NEVER
        if self._clock.now < self._clock.stalled_until:
            return min(self._clock.stalled_until, self._due())
        if self._waiting and not self._interrupted():
            return max(self._clock.now, self._due())
        return self._clock.now

    def power_on(self) -> None:
        """RAM and retention are gone, peripherals reset."""
        self._ram.clear()
        for port in self._uarts.values():
            port.power_off()
        self._cpu.forget_all_code()
        self._reset_parts()
        self._sysctrl.retention = 0

    def reset(self, cause: str) -> None:
        """A reset by the "watchdog" or by the pin, "cen": RAM stays. CEN clears the retention word (guess)."""
        self._reset_parts()
        if cause == "watchdog":
            self._sysctrl.retention = self._sysctrl.retention & 0xFFFF | sysctrl.WATCHDOG_FLAG
        else:
            self._sysctrl.retention = 0

    def start(self) -> bool:
        """The ROM leaves for flash address 0. False, and it stays in the ROM, if the tag is not there."""
        if not rom_finds_tag(self._flash):
            return False
        self._refresh_code()
        self._cpu.preset(self._noise.getrandbits(32), self._noise.getrandbits(32))
        self._running = True
        self._waiting = False
        self._faults.clear()
        self.last_fault = None
        self._meter.set(Load.CPU, self._clock.now)
        return True

    def run(self, until_ns: int) -> None:
        """Execute until guest time reaches `until_ns`, or the chip resets itself or is dead: then it returns at that
        time. Called while not running it lets the time pass. It may overshoot by some microseconds."""
        clock = self._clock
        if not self._running:
            clock.now = max(clock.now, until_ns)
        while clock.now < until_ns and self._running:
            if self._waiting:
                self._tick_over(until_ns)
            if self._running:  # it may have died in a tick
                self._step(until_ns)

    def hang(self) -> None:
        """Core and watchdog stop where they are: only a power cycle or CEN brings it back."""
        if self._running:
            self._die()

    def derail(self, place: float, *, in_ram: bool) -> None:
        """The core goes on somewhere else: at `place`, 0 to 1 of the way through RAM or through flash."""
        base, size = (RAM_BASE, RAM_SIZE) if in_ram else (0, MAPPED)
        self._cpu.jump(base + int(place * size) % size & ~3)
        self._waiting = False
        self._slice = _SHORT_SLICE

    def uart_receive(self, port: int, data: bytes) -> None:
        """Bytes arrive at RX1 or RX2 now."""
        self._uarts[port].receive(data)

    def uart_baud(self, port: int) -> int:
        """The speed the firmware has set a port to, bits a second; 0 while the port is off."""
        return self._uarts[port].baud

    @property
    def task(self) -> str | None:
        """Name of the FreeRTOS task that runs now; None where no scheduler runs (yet)."""
        return self._idle.task_name()

    def _step(self, until: int) -> None:
        clock = self._clock
        due = self._due()
        if self._waiting and due > clock.now >= clock.stalled_until and not self._interrupted():
            self._meter.set(Load.IDLE if self._cpu.irqs_on else Load.CPU, clock.now)
            clock.now = min(due, until)
            if clock.now == until:
                return
        if due <= clock.now:
            self._service(clock.now)
            if not self._running:
                return
            due = self._due()
        if clock.now < clock.stalled_until:
            clock.now = min(self._flashctl.works(clock.now), clock.stalled_until, due, until)
            return
        if self._interrupted():
            self._cpu.interrupt()
            self._waiting = False
            self._slice = _SHORT_SLICE
        if self._waiting:
            return
        self._meter.set(Load.RF_CAL if self._rf.worked else Load.CPU, clock.now)
        self._execute(due, until)

    def _tick_over(self, until: int) -> None:
        """Timer ticks that find the chip idle and leave it so, with nothing else in between: the life of a booted
        board. The same as `_step` would do, by a shorter way."""
        clock, timers, cpu = self._clock, self._timers, self._cpu
        while self._waiting and not self._icu.pending and clock.now >= clock.stalled_until:
            others = self._due_but_timers()
            if timers.due >= min(until, others) or timers.due <= clock.now or not cpu.irqs_on:
                return
            self._meter.set(Load.IDLE, clock.now)
            clock.now = timers.due
            timers.service(clock.now)
            if not self._icu.pending:
                continue
            cpu.interrupt()
            self._slice = _SHORT_SLICE
            self._refresh_code()
            clock.alarm = min(timers.due, others)
            count, fault = cpu.run(_SHORT_SLICE)
            clock.now += count * NS_PER_INSTRUCTION
            self._meter.transmitting(self._mac.active, clock.now)
            self._waiting = False
            if fault:
                self._note(fault)
            else:
                self._faults.clear()
                self._waiting = self._is_waiting()

    def _execute(self, due: int, until: int) -> None:
        clock = self._clock
        self._refresh_code()
        clock.alarm = due
        room = (min(due, until) - clock.now) // NS_PER_INSTRUCTION
        slice_ = _PRINTING_SLICE if self._ports[1].crowded else self._slice
        self._slice = min(self._slice * 5 // 4, _LONG_SLICE)
        count, fault = self._cpu.run(min(slice_, max(room, _SHORTEST_SLICE)))
        clock.now += count * NS_PER_INSTRUCTION
        self._meter.transmitting(self._mac.active, clock.now)
        if fault:
            self._note(fault)
        else:
            self._faults.clear()
            self._waiting = self._is_waiting()

    def _is_waiting(self) -> bool:
        cpu = self._cpu
        if cpu.in_system_mode and cpu.irqs_on and not self._icu.pending and self._idle.in_idle_task():
            return True
        if self._idle.branches_to_itself(cpu.pc, cpu.thumb):
            if not cpu.irqs_on and self._watchdog.due == NEVER:
                if self._clock.now < self._clock.stalled_until:
                    return False  # not before the flash is done
                self._die()
            return True
        return False

    def _note(self, fault: Fault) -> None:
        """A fault goes to its handler; one that comes back at once has none worth running."""
        self.last_fault = fault
        if fault.kind != "data abort" and not self._window.block_is_valid(fault.pc):
            self._flashctl.crc_errors += 1
        self._faults = [*self._faults[1 - _HOPELESS :], fault.pc]
        if self._faults == [fault.pc] * _HOPELESS:
            if self._watchdog.due == NEVER:
                self._die()
            else:
                self._waiting = True  # nothing but the watchdog ends it

    def _die(self) -> None:
        self._running = False
        self._dead = True
        self._meter.transmitting(False, self._clock.now)
        self._meter.set(Load.HALTED, self._clock.now)

    def _service(self, now: int) -> None:
        if self._watchdog.bites(now):
            self.reset("watchdog")
            self._on_reset("watchdog", now)
            return
        for part in self._timed:
            if part.due <= now:
                part.service(now)

    def _due(self) -> int:
        return min(self._timers.due, self._due_but_timers())

    def _due_but_timers(self) -> int:
        one, two = self._ports
        return min(self._watchdog.due, self._adc.due, one.due, two.due, self._meter.due)

    def _interrupted(self) -> bool:
        return self._icu.pending and self._cpu.irqs_on

    def _flash_works(self, load: Load) -> None:
        self._meter.set(load, self._clock.now)

    def _refresh_code(self) -> None:
        changed = self._window.refresh()
        if changed:
            self._cpu.forget_code(*changed)

    def _reset_parts(self) -> None:
        self._running = False
        self._dead = False
        self._waiting = False
        for bus in self._buses:
            bus.reset()
        for memory in self._other_memories:
            memory.clear()
        self._clock.stalled_until = self._clock.now
        self._idle.reset()
        self._meter.transmitting(False, self._clock.now)
        self._meter.set(Load.HALTED, self._clock.now)
