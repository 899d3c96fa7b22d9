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

_UNICORN: Any = unicorn  # half typed

try:
    from unicorn.unicorn_py3 import unicorn as _binding_module

    _binding: Any = _binding_module
    _LIBRARY: Any = _binding.uclib
    _LOAD: Any = _binding.MMIO_READ_CFUNC
    _STORE: Any = _binding.MMIO_WRITE_CFUNC
except (ImportError, AttributeError):
    _LIBRARY = None

EngineError: Any = _UNICORN.UcError

OnLoad = Callable[[int, int], int]  # (offset, size) -> value
OnStore = Callable[[int, int, int], None]  # (offset, size, value)


class Engine:
    """One Unicorn engine of an ARM core. `uc` is its public interface."""

    def __init__(self, model: int, translation_buffer: int) -> None:
        self.uc = _UNICORN.Uc(const.UC_ARCH_ARM, const.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(model)
        self.uc.ctl_set_tcg_buffer_size(translation_buffer)
        self._handle = getattr(self.uc, "_uch", None)
        self._direct = _LIBRARY is not None and self._handle is not None
        self._value = ctypes.c_uint64()
        self._reference = ctypes.byref(self._value)
        self._callbacks: list[object] = []
        self._error: BaseException | None = None

    def read(self, register: int) -> int:
        """A register of the current mode."""
        if self._direct:
            self._value.value = 0
            if not _LIBRARY.uc_reg_read(self._handle, register, self._reference):
                return self._value.value
        value: int = self.uc.reg_read(register)
        return value

    def write(self, register: int, value: int) -> None:
        if self._direct:
            self._value.value = value
            if not _LIBRARY.uc_reg_write(self._handle, register, self._reference):
                return
        self.uc.reg_write(register, value)

    def start(self, begin: int, count: int) -> None:
        """Execute `count` instructions from `begin` (bit 0 set = Thumb). Raises `EngineError`, or what a register
        access raised."""
        self.uc.emu_start(begin, 0xFFFFFFFF, 0, count)
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def map_io(self, base: int, size: int, load: OnLoad, store: OnStore) -> None:
        """Call `load` and `store` for accesses to [base, base + size)."""
        if not self._direct:
            self.uc.mmio_map(
                base,
                size,
                lambda _uc, offset, width, _data: load(offset, width),
                None,
                lambda _uc, offset, width, value, _data: store(offset, width, value),
                None,
            )
            return

        def on_load(_handle: int, offset: int, width: int, _data: int) -> int:
            try:
                return load(offset, width)
            except BaseException as error:  # noqa: BLE001  (nothing may escape into C; start() raises it)
                self._fail(error)
                return 0

        def on_store(_handle: int, offset: int, width: int, value: int, _data: int) -> None:
            try:
                store(offset, width, value)
            except BaseException as error:  # noqa: BLE001
                self._fail(error)

        pair = (_LOAD(on_load), _STORE(on_store))
        self._callbacks.append(pair)
        status = _LIBRARY.uc_mmio_map(self._handle, base, size, pair[0], 0, pair[1], 0)
        if status:
            raise EngineError(status)

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.uc.emu_stop()
