"""Putting the next board into a slot: only with the output read back off, by a command or by a person."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rig.bench.bench import Bench, Slot
from rig.bench.slot import lease_slot, moving_lock
from rig.errors import Aborted, BenchBlocked, RigError
from rig.line.prompts import Prompts, Question, Terminal
from rig.line.queue import Turn
from rig.supply.client import Standby

_CHANGE_TIMEOUT_S = 600.0
_PICTURES = (".svg", ".png", ".jpg")
_BUILT_IN = Path(__file__).parent.parent / "products"

MAINS = "Unplugged from the mains? These boards are mains switches and may not be isolated."


class Loader:
    """Changes boards. `ask(text, over)` is the terminal, if there is one: it returns what was typed, or when `over`
    is set, because the question was answered elsewhere or the run is stopped."""

    def __init__(self, bench: Bench, ask: Terminal | None = None) -> None:
        self.stopped = threading.Event()
        self.ask = ask
        self.standby = Standby()  # the supplies' services, from one unit to the next; closed by the run's end
        self.run = ""  # its name
        self._bench = bench
        self._inside: dict[str, str] = {}  # slot -> unit whose board is in it, where that is known

    def is_in(self, slot: Slot, unit: str) -> None:
        """This unit's board is in the slot, whoever put it there, and in no other."""
        for name in [name for name, inside in self._inside.copy().items() if inside == unit]:
            self._inside.pop(name, None)
        self._inside[slot.name] = unit

    def next_board(
        self, slot: Slot, turn: Turn, prompts: Prompts, *, over: Callable[[], bool] = lambda: False
    ) -> None:
        """Change the board in `slot` for `turn`; on record when it is in. `over`: nothing may begin any more, and
        nobody is asked any longer. Raises BenchBlocked when the output is not off or nobody could, Aborted when the
        run was stopped meanwhile, or is `over`."""
        if not self.confirm_off(slot):
            raise BenchBlocked("supply-lost", "its output could not be read back off, so no board may be changed")
        if turn.origin is not None and not self.confirm_off(self._bench.slot(turn.origin)):
            where = f"slot {turn.origin}, whose output could not be read back off"
            raise BenchBlocked("supply-lost", f"{_board(turn)} may not be taken out of {where}")
        if turn.origin is not None:
            self._inside.pop(turn.origin, None)  # it is taken out of there
        if slot.table.change is None:
            prompts.ask(self._question(slot, turn), over=over)
        else:
            prompts.note(
                f"slot {slot.name}: its change command is to put {_board(turn)} in", slot=slot.name, load=turn.unit
            )
            self._run(slot, slot.table.change, turn)
            if not self.stopped.is_set():
                text = f"Slot {slot.name}: {_board(turn)} was put in by its change command."
                prompts.done_by_command(Question("load", text, slot.name, turn.unit))
        if self.stopped.is_set():
            raise Aborted("stopped while the board was changed")

    def _question(self, slot: Slot, turn: Turn) -> Question:
        mains = f" {MAINS}" if slot.product.mains else ""
        where = f" (it is in slot {turn.origin}, which is off too)" if turn.origin is not None else ""
        text = f"Slot {slot.name} is off. Put {_board(turn)} in{where}, then press Enter.{mains}"
        return Question("load", text, slot.name, turn.unit, picture=self._picture(slot.product.name))

    def _picture(self, product: str) -> str | None:
        """A picture beside the product's profile shows how a board is put in."""
        for folder in (*self._bench.profiles("products"), _BUILT_IN):
            for ending in _PICTURES:
                if (path := folder / f"{product}{ending}").is_file():
                    return str(path.resolve())
        return None

    def confirm_off(self, slot: Slot) -> bool:
        """Take the channel for a moment and read its output back off."""
        try:
            with lease_slot(slot, f"changing the board in slot {slot.name}") as channel:
                self.standby.keep(channel)
                return channel.off()
        except RigError:
            return False

    def _run(self, slot: Slot, command: list[str], turn: Turn) -> None:
        """The change command, until it ends, takes too long, or the run is stopped."""
        told = {"RIG_SLOT": slot.name, "RIG_UNIT": turn.unit, "RIG_ROLE": turn.role, "RIG_FROM": turn.origin or ""}
        told |= {"RIG_UNIT_BEFORE": self._inside.pop(slot.name, ""), "RIG_RUN": self.run}
        with moving_lock(slot) as moving:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=self._bench.path.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                    pass_fds=[moving],
                    env=os.environ | told,
                )
            except (OSError, ValueError) as problem:
                raise BenchBlocked("no-current", f"its change command {command[0]} failed: {problem}") from None
            said = self._waited_for(process)
        if process.returncode and not self.stopped.is_set():
            last = said.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise BenchBlocked("no-current", f"its change command {command[0]} failed: {last[0]}")

    def _waited_for(self, process: subprocess.Popen[str]) -> str:
        """What it said until it ended, by itself or because it was killed."""
        deadline = time.monotonic() + _CHANGE_TIMEOUT_S
        said = ""
        while process.returncode is None:
            try:
                said, _ = process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                if self.stopped.is_set() or time.monotonic() > deadline:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)  # all that it started: nothing goes on moving
                process.poll()  # what it left behind may hold its output open
        return said


def _board(turn: Turn) -> str:
    return f"the golden unit {turn.unit}" if turn.role == "golden" else f"the board of unit {turn.unit}"
