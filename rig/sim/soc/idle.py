"""Is the CPU only waiting for the next interrupt?

Two forms of waiting are known: a branch to itself, as small firmware does, and FreeRTOS running its idle task.
"""

from __future__ import annotations

from collections.abc import Callable

_IRQ_HANDLER = 0x00400000  # the bootloader's IRQ vector jumps to the address an app stores here
_LOAD_LITERAL = 0xE59F0000  # ldr r0, [pc, #n]
_SEARCH_WORDS = 64

# FreeRTOS 9 as configured in the Beken SDK: offsets in a task control block.
_PRIORITY = 0x2C
_NAME, _NAME_BYTES = 0x34, 16
_IDLE_NAMES = (int.from_bytes(b"IDLE", "little"), int.from_bytes(b"idle", "little"))

_ARM_SELF = 0xEAFFFFFE
_THUMB_SELF = 0xE7FE


class IdleFinder:
    """`word(address)` reads guest memory and returns None where there is none."""

    def __init__(self, word: Callable[[int], int | None]) -> None:
        self._word = word
        self.reset()

    def reset(self) -> None:
        """Another program may run now."""
        self._handler: int | None = None
        self._current = 0  # &pxCurrentTCB
        self._idle_task = 0

    def branches_to_itself(self, pc: int, thumb: bool) -> bool:
        word = self._word(pc & ~3)
        if word is None:
            return False
        if thumb:
            return (word >> (16 if pc & 2 else 0)) & 0xFFFF == _THUMB_SELF
        return word == _ARM_SELF

    def in_idle_task(self) -> bool:
        """Whether the task FreeRTOS runs now is its idle task (only asked while in SYS mode, interrupts on)."""
        task = self._task()
        if not task:
            return False
        if task != self._idle_task and (
            self._word(task + _NAME) not in _IDLE_NAMES
            or self._word(task + _PRIORITY) != 0
            or (self._word(task + _NAME + 4) or 0) & 0xFF
        ):
            return False
        self._idle_task = task
        return True

    def task_name(self) -> str | None:
        """The name of the task FreeRTOS runs now, None where none is known."""
        task = self._task()
        words = [self._word(task + _NAME + at) for at in range(0, _NAME_BYTES, 4)] if task else []
        text = b"".join(word.to_bytes(4, "little") for word in words if word is not None)
        return text.split(b"\0")[0].decode("latin-1") or None

    def _task(self) -> int:
        """The control block of the task FreeRTOS runs now, 0 where none is known."""
        handler = self._word(_IRQ_HANDLER)
        if handler != self._handler:
            self.reset()
            self._handler = handler
            self._current = self._find_current_task(handler or 0)
        return (self._word(self._current) or 0) if self._current else 0

    def _find_current_task(self, handler: int) -> int:
        """The IRQ entry saves the context with two literals: &ulCriticalNesting, then &pxCurrentTCB."""
        if not handler or handler & 3:
            return 0
        literals = []
        for at in range(handler, handler + 4 * _SEARCH_WORDS, 4):
            word = self._word(at)
            if word is not None and word & 0xFFFFF000 == _LOAD_LITERAL:
                literals.append(self._word(at + 8 + (word & 0xFFF)))
                if len(literals) == 2:
                    return literals[1] or 0
        return 0
