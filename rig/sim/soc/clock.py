"""Guest time: nanoseconds the chip has lived, counted from instructions and from what it waited for."""

from __future__ import annotations

NEVER = 2**63 - 1  # a time that does not come

US = 1_000
MS = 1_000_000
SECOND = 1_000_000_000

# 100 million instructions a second: the core runs at 120 MHz, and the firmware's own delay loops count 120 iterations
# as 10 us. A guess that keeps those loops and the boot's length about right.
NS_PER_INSTRUCTION = 10


class Clock:
    """`now` is guest time in ns. It only moves forward, through resets too.

    `stalled_until`: when the CPU gets the bus back from flash operations. `alarm`: the next time at which something
    outside the CPU happens. A slice of execution cannot be ended from a register access (Unicorn would repeat the
    access), so a poll skips no further than that, or timer ticks would be lost.
    """

    def __init__(self) -> None:
        self.now = 0
        self.stalled_until = 0
        self.alarm = NEVER

    def skip_to(self, ns: int) -> None:
        """Let time pass that the guest would have spent polling."""
        self.now = max(self.now, min(ns, self.alarm))

    def stall(self, ns: int) -> None:
        """Take the bus from the CPU for `ns`, from the end of the slice in progress."""
        self.stalled_until = max(self.stalled_until, self.now) + ns
