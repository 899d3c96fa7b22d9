"""Putting the next board into a slot: only with the output read back off, by a command or by a person."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from rig.bench.bench import Bench, Slot
from rig.bench.slot import lease_slot
from rig.errors import BenchBlocked, RigError

_CHANGE_TIMEOUT_S = 600.0

MAINS = "Unplugged from the mains? These boards are mains switches and may not be isolated."


class Loader:
    """Asks for boards. `ask(text)` prompts a person and returns when they are done."""

    def __init__(self, bench: Bench, ask: Callable[[str], None]) -> None:
        self._bench = bench
        self._ask = ask
        self._one_prompt = threading.Lock()

    def next_board(self, slot: Slot, unit: str) -> None:
        """Change the board in `slot` for `unit`. Raises BenchBlocked when the output is not off or nobody could."""
        if not self.confirm_off(slot):
            raise BenchBlocked("supply-lost", "its output could not be read back off, so no board may be changed")
        if slot.table.change is None:
            with self._one_prompt:
                mains = f" {MAINS}" if slot.product.mains else ""
                self._ask(f"Slot {slot.name} is off. Put the board of unit {unit} in, then press Enter.{mains}")
            return
        self._run(slot, slot.table.change)

    def confirm_off(self, slot: Slot) -> bool:
        """Take the channel for a moment and read its output back off."""
        try:
            with lease_slot(slot, f"changing the board in slot {slot.name}") as channel:
                return channel.off()
        except RigError:
            return False

    def _run(self, slot: Slot, command: list[str]) -> None:
        folder: Path = self._bench.path.parent
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_CHANGE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise BenchBlocked("no-current", f"its change command {command[0]} failed: {problem}") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise BenchBlocked(
                "no-current", f"its change command {command[0]} failed: {said[-1] if said else done.returncode}"
            )
