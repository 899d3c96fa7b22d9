"""Unicorn, with the calls made thousands of times a second taken past its Python wrappers.

The wrappers build and convert objects at each register access and nest three calls at each memory-mapped one, which
costs a fifth of an idle board's CPU time. A binding that is laid out differently is used through its public methods.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import unicorn
from unicorn import unicorn_const as const

from rig.sim.soc.registers import Bus

_UNICORN: Any = unicorn  # half typed

try:
    from unicorn.unicorn_py3 import unicorn as _binding_module

    _binding: Any = _binding_module
    _LIBRARY: Any = _binding.uclib
    # The same library, called without letting go of the interpreter: the core calls back a dozen times a tick.
    _HELD: Any = ctypes.PyDLL(_LIBRARY._name, handle=_LIBRARY._handle)
    _HELD.uc_emu_start.argtypes = _LIBRARY.uc_emu_start.argtypes
    _LOAD: Any = _binding.MMIO_READ_CFUNC
    _STORE: Any = _binding.MMIO_WRITE_CFUNC
except (ImportError, AttributeError):
    _LIBRARY = None

EngineError: Any = _UNICORN.UcError


class Engine:
    """One Unicorn engine of an ARM core. `uc` is its public interface."""

    def __init__(self, model: int, translation_buffer: int) -> None:
        self.uc = _UNICORN.Uc(const.UC_ARCH_ARM, const.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(model)
        self.uc.ctl_set_tcg_buffer_size(translation_buffer)
        self.handle = getattr(self.uc, "_uch", None)
        self.direct = _LIBRARY is not None and self.handle is not None
        self._value = ctypes.c_uint64()
        self._reference = ctypes.byref(self._value)
        self._callbacks: list[object] = []
        self._error: BaseException | None = None

    def read(self, register: int) -> int:
        """A register of the current mode."""
        if self.direct:
            self._value.value = 0
            if not _LIBRARY.uc_reg_read(self.handle, register, self._reference):
                return self._value.value
        value: int = self.uc.reg_read(register)
        return value

    def write(self, register: int, value: int) -> None:
        if self.direct:
            self._value.value = value
            if not _LIBRARY.uc_reg_write(self.handle, register, self._reference):
                return
        self.uc.reg_write(register, value)

    def registers(self, *registers: int) -> Batch:
        """These registers, to be read or written in one go."""
        return Batch(self, registers)

    def start(self, begin: int, count: int) -> None:
        """Execute `count` instructions from `begin` (bit 0 set = Thumb). Raises `EngineError`, or what a register
        access or a hook raised."""
        if self.direct:
            status = _HELD.uc_emu_start(self.handle, begin, 0xFFFFFFFF, 0, count)
            if status and self._error is None:
                raise EngineError(status)
        else:
            self.uc.emu_start(begin, 0xFFFFFFFF, 0, count)
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def on_exception(self, action: Callable[[int], None]) -> None:
        """Call `action` with Unicorn's number of an exception that an instruction asks for."""

        def hook(_uc: object, number: int, _data: object) -> None:
            try:
                action(number)
            except BaseException as error:  # noqa: BLE001  (as in map_bus)
                self._fail(error)

        self.uc.hook_add(const.UC_HOOK_INTR, hook)

    def map_bus(self, bus: Bus) -> None:
        """Let `bus` answer the accesses to its range."""
        if not self.direct:
            self.uc.mmio_map(
                bus.base,
                bus.size,
                lambda _uc, offset, width, _data: bus.read(offset, width),
                None,
                lambda _uc, offset, width, value, _data: bus.write(offset, width, value),
                None,
            )
            return
        steps, bits = bus.steps, bus.STEP_BITS  # whole words, nearly all, take the short way

        def on_load(_handle: int, offset: int, width: int, _data: int) -> int:
            try:
                if width != 4:
                    return bus.read(offset, width)
                block, start = steps[offset >> bits]
                return block.read(offset - start)
            except BaseException as error:  # noqa: BLE001  (nothing may escape into C; start() raises it)
                self._fail(error)
                return 0

        def on_store(_handle: int, offset: int, width: int, value: int, _data: int) -> None:
            try:
                if width != 4:
                    bus.write(offset, width, value)
                    return
                block, start = steps[offset >> bits]
                block.write(offset - start, value)
            except BaseException as error:  # noqa: BLE001
                self._fail(error)

        pair = (_LOAD(on_load), _STORE(on_store))
        self._callbacks.append(pair)
        status = _LIBRARY.uc_mmio_map(self.handle, bus.base, bus.size, pair[0], 0, pair[1], 0)
        if status:
            raise EngineError(status)

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.uc.emu_stop()


class Batch:
    """Some registers of an engine. Writing keeps their order, which matters: the CPSR banks the others."""

    def __init__(self, engine: Engine, registers: tuple[int, ...]) -> None:
        self._engine = engine
        self._registers = registers
        self._values = [ctypes.c_uint64() for _ in registers]
        self._numbers = (ctypes.c_int * len(registers))(*registers)
        self._pointers = (ctypes.c_void_p * len(registers))(*(ctypes.addressof(value) for value in self._values))
        self._size = len(registers)

    def read(self) -> list[int]:
        """Their values, of the current mode."""
        engine = self._engine
        if engine.direct and not _LIBRARY.uc_reg_read_batch(engine.handle, self._numbers, self._pointers, self._size):
            return [value.value for value in self._values]
        return [engine.read(register) for register in self._registers]

    def write(self, *values: int) -> None:
        for slot, value in zip(self._values, values, strict=True):
            slot.value = value
        engine = self._engine
        if engine.direct and not _LIBRARY.uc_reg_write_batch(
            engine.handle, self._numbers, self._pointers, self._size
        ):
            return
        for register, value in zip(self._registers, values, strict=True):
            engine.write(register, value)
