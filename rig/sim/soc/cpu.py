"""The ARM968E-S core: slices of execution in Unicorn, and the delivery of exceptions.

Unicorn has no 968. The ARM946 has the same instruction set (ARMv5TE), so opcodes of later cores are undefined as on
the chip. Unlike the chip it does not rotate unaligned loads; nothing in the boot of known firmware depends on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unicorn import unicorn_const as uc_const
from unicorn.arm_const import (
    UC_ARM_REG_CPSR,
    UC_ARM_REG_LR,
    UC_ARM_REG_PC,
    UC_ARM_REG_SP,
    UC_ARM_REG_SPSR,
    UC_CPU_ARM_946,
)

from rig.sim.soc.engine import Engine, EngineError
from rig.sim.soc.memory import Memory
from rig.sim.soc.registers import Bus

_THUMB = 1 << 5
_IRQ_OFF = 1 << 7
_MODE_MASK = 0x1F
_MODE_AND_STATE = 0x3F

SVC, IRQ, FIQ, ABORT, UNDEFINED, SYSTEM = 0x13, 0x12, 0x11, 0x17, 0x1B, 0x1F

_SOFTWARE_INTERRUPT, _BREAKPOINT = 2, 7  # Unicorn's numbers

_FETCH = {uc_const.UC_ERR_FETCH_UNMAPPED, uc_const.UC_ERR_FETCH_PROT}
_TRANSLATION_BUFFER = 32 * 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """An exception the firmware did not ask for: what kind, at which instruction."""

    kind: str  # "undefined" | "prefetch abort" | "data abort"
    pc: int


class Cpu:
    """Registers, memory map and execution. Interrupts are delivered between slices, by the caller's word.

    The first of `memories` is RAM, where code runs too.
    """

    def __init__(self, code: Memory, memories: list[Memory], buses: list[Bus]) -> None:
        self._engine = Engine(UC_CPU_ARM_946, _TRANSLATION_BUFFER)
        self._uc = self._engine.uc
        self._readable = (memories[0], code)
        self._uc.mem_map_ptr(code.base, code.size, uc_const.UC_PROT_READ | uc_const.UC_PROT_EXEC, code.buffer)
        for index, memory in enumerate(memories):
            rights = uc_const.UC_PROT_ALL if index == 0 else uc_const.UC_PROT_READ | uc_const.UC_PROT_WRITE
            self._uc.mem_map_ptr(memory.base, memory.size, rights, memory.buffer)
        for bus in buses:
            self._engine.map_bus(bus)
        self._engine.on_exception(self._on_interrupt)
        self._state = self._engine.registers(UC_ARM_REG_PC, UC_ARM_REG_CPSR)
        self._entry = self._engine.registers(UC_ARM_REG_CPSR, UC_ARM_REG_SPSR, UC_ARM_REG_LR, UC_ARM_REG_PC)
        self.pc = 0
        self._cpsr = 0

    def preset(self, irq_lr: int, fiq_lr: int) -> None:
        """Registers as the ROM leaves them. Source: the bootloader's banner on three boards, the same each time
        but for the link registers of IRQ and FIQ."""
        for mode, spsr, sp, lr in (
            (0xD2, 0x10, 0x00401E0C, irq_lr),
            (0xD1, 0x10, 0x00401FFC, fiq_lr),
            (0xDF, None, 0x0040192C, 0x00000158),
            (0xD3, 0, 0x00401C1C, 0x000033AC),
        ):
            self._engine.write(UC_ARM_REG_CPSR, mode)
            if spsr is not None:
                self._engine.write(UC_ARM_REG_SPSR, spsr)
            self._engine.write(UC_ARM_REG_SP, sp)
            self._engine.write(UC_ARM_REG_LR, lr)
        self._cpsr = 0xD3
        self.pc = 0
        self._engine.write(UC_ARM_REG_PC, 0)

    def run(self, count: int) -> tuple[int, Fault | None]:
        """Execute `count` instructions. A fault ends the slice: how many were executed is then an estimate, and
        the fault's handler comes next."""
        fault = None
        begin = self.pc | 1 if self._cpsr & _THUMB else self.pc
        try:
            self._engine.start(begin, count)
        except EngineError as error:
            fault = self._fault(error)
        self.pc, self._cpsr = self._state.read()
        return (count + 1) // 2 if fault else count, fault

    @property
    def irqs_on(self) -> bool:
        return not self._cpsr & _IRQ_OFF

    @property
    def thumb(self) -> bool:
        return bool(self._cpsr & _THUMB)

    @property
    def in_system_mode(self) -> bool:
        return self._cpsr & _MODE_MASK == SYSTEM

    def interrupt(self) -> None:
        """Enter the IRQ exception."""
        self._enter(IRQ, 0x18, self.pc + 4)

    def jump(self, address: int) -> None:
        """Go on at `address`, in ARM state."""
        self.pc, self._cpsr = address, self._cpsr & ~_THUMB

    def word(self, address: int) -> int | None:
        """The aligned word of RAM or code at `address`, None elsewhere."""
        for memory in self._readable:
            if memory.holds(address):
                return memory.word(address & ~3)
        return None

    def copy(self, source: int, destination: int, length: int) -> None:
        """What a DMA channel does. Outside of memory it does nothing."""
        try:
            self._uc.mem_write(destination, bytes(self._uc.mem_read(source, length)))
        except EngineError:
            return

    def forget_code(self, start: int, end: int) -> None:
        """The code in this range changed behind the core's back."""
        self._uc.ctl_remove_cache(start, end)

    def forget_all_code(self) -> None:
        self._uc.ctl_flush_tb()

    def _on_interrupt(self, number: int) -> None:
        """An instruction that asks for an exception. Setting the PC goes on at the vector."""
        pc, self._cpsr = self._state.read()
        if number == _SOFTWARE_INTERRUPT:  # the PC is already past it
            self._enter(SVC, 0x08, pc)
        elif number == _BREAKPOINT:
            self._enter(ABORT, 0x0C, pc + 4)
        else:
            self._enter(UNDEFINED, 0x04, pc + 4)

    def _fault(self, error: Any) -> Fault:
        pc, self._cpsr = self._state.read()
        if error.errno == uc_const.UC_ERR_INSN_INVALID:
            fault = Fault("undefined", pc)
            self._enter(UNDEFINED, 0x04, pc + (2 if self._cpsr & _THUMB else 4))
        elif error.errno in _FETCH:
            fault = Fault("prefetch abort", pc)
            self._enter(ABORT, 0x0C, pc + 4)
        else:
            fault = Fault("data abort", pc)
            self._enter(ABORT, 0x10, pc + 8)
        return fault

    def _enter(self, mode: int, vector: int, link: int) -> None:
        old = self._cpsr
        self._cpsr = old & ~_MODE_AND_STATE | _IRQ_OFF | mode
        self._entry.write(self._cpsr, old, link & 0xFFFFFFFF, vector)
        self.pc = vector
