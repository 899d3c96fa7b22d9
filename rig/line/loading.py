"""Putting the next board into a slot: only with the output read back off, by a command or by a person."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable

from rig.bench.bench import Bench, Slot
from rig.bench.slot import lease_slot
from rig.errors import Aborted, BenchBlocked, RigError

_CHANGE_TIMEOUT_S = 600.0

MAINS = "Unplugged from the mains? These boards are mains switches and may not be isolated."


class Loader:
    """Asks for boards. `ask(text, stopped)` prompts a person and returns when they are done, or when `stopped` is
    set: then nobody waits for a board any more."""

    def __init__(self, bench: Bench, ask: Callable[[str, threading.Event], None]) -> None:
        self.stopped = threading.Event()
        self._bench = bench
        self._ask = ask
        self._one_prompt = threading.Lock()

    def next_board(self, slot: Slot, unit: str) -> None:
        """Change the board in `slot` for `unit`. Raises BenchBlocked when the output is not off or nobody could,
        Aborted when the run was stopped meanwhile."""
        if not self.confirm_off(slot):
            raise BenchBlocked("supply-lost", "its output could not be read back off, so no board may be changed")
        if slot.table.change is None:
            with self._one_prompt:
                mains = f" {MAINS}" if slot.product.mains else ""
                self._ask(
                    f"Slot {slot.name} is off. Put the board of unit {unit} in, then press Enter.{mains}",
                    self.stopped,
                )
        else:
            self._run(slot, slot.table.change)
        if self.stopped.is_set():
            raise Aborted("stopped while the board was changed")

    def confirm_off(self, slot: Slot) -> bool:
        """Take the channel for a moment and read its output back off."""
        try:
            with lease_slot(slot, f"changing the board in slot {slot.name}") as channel:
                return channel.off()
        except RigError:
            return False

    def _run(self, slot: Slot, command: list[str]) -> None:
        """The change command, until it ends, takes too long, or the run is stopped."""
        try:
            process = subprocess.Popen(
                command,
                cwd=self._bench.path.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        except OSError as problem:
            raise BenchBlocked("no-current", f"its change command {command[0]} failed: {problem}") from None
        deadline = time.monotonic() + _CHANGE_TIMEOUT_S
        said = ""
        while process.returncode is None:
            try:
                said, _ = process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                if self.stopped.is_set() or time.monotonic() > deadline:
                    process.kill()
        if process.returncode and not self.stopped.is_set():
            last = said.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise BenchBlocked("no-current", f"its change command {command[0]} failed: {last[0]}")
