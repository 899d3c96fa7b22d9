"""A simulated bench: boards and the supplies that feed them (a process each), and a bench.toml that names it all.

`SimBench` owns the processes; `rig sim` and `--bench sim:N` run one. A control socket beside the bench file is
for the operator's hands: the next board in, a board pulled out, the CEN wire bridged; and for faults on request.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import shutil
import socketserver
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rig.errors import RigError, UsageProblem
from rig.files import write_durably
from rig.sim import faults, firmware
from rig.sim.drawer import Drawer
from rig.sim.flash import SIZE
from rig.sim.processes import BoardProcess, SupplyProcess
from rig.sim.psu import PERSONALITIES
from rig.sim.scope import Scope
from rig.sim.spec import BoardSpec, SimOptions, board_constants, slot_name

# what the control socket takes
HANDS = ("change", "pull", "insert", "reset", "poke", "dump", "status", "fault", "heal", "faults", "sag",
         "supply-fault", "supply-heal")  # fmt: skip


class SimBench:
    """A bench of `options.boards` boards; use as a context manager. `bench_file` is where to reach it."""

    def __init__(self, options: SimOptions, bench_file: Path | None = None) -> None:
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="rig-sim-"))
        self.bench_file = bench_file or self.folder / "bench.toml"
        self.boards: dict[str, BoardProcess] = {}
        self.supplies: list[SupplyProcess] = []
        self.scopes: dict[str, Scope] = {}
        self._seed = random.randrange(1, 1 << 20) if options.seed is None else options.seed
        self._numbers = itertools.count((self._seed << 3) + 1)  # of units out of the box; slots change side by side
        self.ports: dict[str, dict[str, str]] = {}
        self._drawer = Drawer(self.folder / "drawer")
        self._named: dict[str, str] = {}  # slot -> whose board is in it, as far as anybody has said
        self._changing = threading.Lock()
        self._control: socketserver.ThreadingUnixStreamServer | None = None

    def __enter__(self) -> SimBench:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _start(self) -> None:
        if importlib.util.find_spec("unicorn") is None:
            raise UsageProblem("a simulated board needs the extra `sim`: pip install -e '.[sim]'")
        constants = board_constants(self.options)
        for index in range(self.options.boards):
            slot = slot_name(index)
            flash, efuse = self.next_board(slot)
            spec = BoardSpec(
                slot,
                self.options.speed,
                self._seed + 100 * index,
                self.options.powered,
                self.options.reset_every,
                mcu=self.options.mcu,
                constants=constants[slot],
                source=self.options.source,
            )
            self.ports[slot] = {name: str(self.folder / f"{slot}.{name}") for name in ("uart1", "uart2")}
            self.boards[slot] = BoardProcess(spec, flash, efuse, self.ports[slot])
        boards, share = list(self.boards.values()), self.options.share
        for index in range(0, len(boards), share):
            fed = boards[index : index + share]
            self.supplies.append(
                SupplyProcess(self.options.supply, fed, serial=self._serial(index // share), speed=self.options.speed)
            )
        for board in boards:
            board.wait()
        for supply in self.supplies:
            supply.wait()
        if self.options.witness:
            for slot, board in self.boards.items():
                self.scopes[slot] = Scope(board.trace, serial=f"{self._serial(0)}-{slot}")
                self.scopes[slot].start()
        for asked in self.options.faults:
            self._begin(asked.slot, asked.name, asked.options)
        (self.folder / "rig-demo_QIO.bin").write_bytes(firmware.demo_image())
        self._listen()
        write_durably(self.bench_file, self.bench_toml())

    def _serial(self, index: int) -> str:
        """No two benches' supplies share one: the rig tells instruments apart by it."""
        return f"SIM{os.getpid()}-{index + 1}"

    def stop(self) -> None:
        if self._control is not None:
            self._control.shutdown()
            self._control.server_close()
        for scope in self.scopes.values():
            scope.stop()
        for supply in self.supplies:
            supply.stop()
        for board in self.boards.values():
            board.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- boards ----------------------------------------------------------------------------------------

    def next_board(self, slot: str) -> tuple[Path, bytes]:
        """The next unit out of the box: a file with its flash, and its efuses."""
        number, given = next(self._numbers), self.options.flash
        content = firmware.factory_dump(number) if given is None else _read_flash(given)
        path = self.folder / f"{slot}.flash"
        path.write_bytes(content)
        return path, firmware.efuse(number)

    def bench_toml(self) -> str:
        """The bench file: what differs from a real table is resources, ports, and the command that changes boards."""
        lines = [
            "[bench]",
            'name = "simulated"',
            f"simulated_speed = {self.options.speed:g}",
            f"image = {json.dumps(str(self.folder / 'rig-demo_QIO.bin'))}",
            "",
        ]
        model = PERSONALITIES[self.options.supply]
        for index, supply in enumerate(self.supplies):
            lines += [
                f"[supply.psu{index + 1}]",
                f'resource = "{supply.resource}"',
                f'dialect = "{model.dialect}"',
                *([f'serial = "{self._serial(index)}"'] if "{serial}" in model.idn else []),
                "",
            ]
        for index, slot in enumerate(self.boards):
            ports = self.ports[slot]
            change = [sys.executable, "-m", "rig.sim.hands", str(self.folder / "control"), "change", slot]
            lines += [
                f"[slot.{slot}]",
                f'supply = "psu{index // self.options.share + 1}"',
                f"channel = {index % self.options.share + 1}",
                f"flash_port = {json.dumps(ports['uart1'])}",
                f"log_port = {json.dumps(ports['uart2'])}",
                "baud = 921600",
                'product = "ds-121"',
                f'ovp = "{"supply" if all(spec.ovp for spec in model.specs) else "none"}"',
                f"change = {json.dumps(change)}",
                *([f'witness = "scope-{slot}"'] if slot in self.scopes else []),
                "",
            ]
        for slot, scope in self.scopes.items():
            lines += [
                f"[witness.scope-{slot}]",
                f'resource = "{scope.resource}"',
                'dialect = "keysight-dsox1000"',
                f'serial = "{scope.serial}"',
                "channel = 1",
                "",
            ]
        return "\n".join(lines)

    # -- the operator's hands --------------------------------------------------------------------------

    def _listen(self) -> None:
        bench = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    try:
                        answer = bench.hand(json.loads(line))
                    except (RigError, ValueError, KeyError, OSError, RuntimeError) as problem:
                        answer = {"error": str(problem)}
                    self.wfile.write(json.dumps(answer).encode() + b"\n")

        path = self.folder / "control"
        self._control = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self._control.daemon_threads = True
        path.chmod(0o600)
        threading.Thread(target=self._control.serve_forever, args=(0.05,), daemon=True).start()

    def hand(self, message: dict[str, Any]) -> dict[str, Any]:
        """One request to a slot: `change` puts the next board in, that of `unit` if it was here before, or the one
        whose `flash` (a file) and `efuse` are given, as `dump` told them; faults begin and are healed, the others go
        to the board as they are."""
        slot = message.pop("slot")
        if slot not in self.boards:
            return {"error": f"no slot {slot}; there are {', '.join(self.boards)}"}
        if message["op"] not in HANDS:
            return {"error": f"no operation {message['op']!r}; there are {', '.join(HANDS)}"}
        board = self.boards[slot]
        if message["op"] == "change" and "flash" in message:
            return board.ask(op="load-flash", flash=message["flash"], efuse=message["efuse"])
        if message["op"] == "change":
            with self._changing:
                return self._change(slot, message)
        if message["op"] in ("fault", "supply-fault"):
            name = ("supply-" if message["op"] == "supply-fault" else "") + message["name"]
            return self._begin(slot, name, message.get("options", {}))
        if message["op"] == "supply-heal":
            self._supply_of(slot).clear_faults(*filter(None, [message.get("name")]))
            return {"ok": True}
        if message["op"] == "faults":
            active = {"active": board.ask(op="faults")["active"], "supply": self._supply_of(slot).faults}
            return {"faults": faults.catalogue()} | active
        return board.ask(**message)

    def _change(self, slot: str, told: Mapping[str, str]) -> dict[str, Any]:
        """The board of `unit`, if it was here in this `run`, from the drawer or from another slot (`origin`, where it
        is said); else the next one out of the box. The one that goes out is `before`'s, where that is said."""
        unit, before, run = (told.get(each) for each in ("unit", "before", "run"))
        name = f"{run}/{unit}" if unit else None
        if before:
            self._named[slot] = f"{run}/{before}"
        if name and told.get("origin") in self.boards:
            self._named[told["origin"]] = name
        there = next((other for other, whose in self._named.items() if whose == name), slot)
        both = dict.fromkeys((there, slot))
        for each in both:
            if self.boards[each].ask(op="status")["on"]:
                where = "the output" if each == slot else f"the output of slot {each}, where that board is,"
                return {"error": f"{where} is on: a board is changed only with its supply off"}
        for each in both:
            self._put_away(each)
        if there != slot:
            self._put_in(there, None)
        return self._put_in(slot, name)

    def _put_away(self, slot: str) -> None:
        """A board that nobody has named is never asked for again."""
        name = self._named.pop(slot, None)
        if name is not None:
            path = self.folder / f"{slot}.out"
            efuse = self.boards[slot].ask(op="dump", path=str(path))["efuse"]
            self._drawer.put(name, path.read_bytes(), efuse)

    def _put_in(self, slot: str, name: str | None) -> dict[str, Any]:
        kept = self._drawer.take(name) if name is not None else None
        if kept is None:
            flash, fuses = self.next_board(slot)
            efuse = fuses.hex()
        else:
            flash, efuse = self.folder / f"{slot}.flash", kept[1]
            flash.write_bytes(kept[0])
        answer = self.boards[slot].ask(op="load-flash", flash=str(flash), efuse=efuse)
        if name is not None and "error" not in answer:
            self._named[slot] = name
        return answer

    def _begin(self, slot: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """A fault of the slot's board, or of the supply that feeds it. Raises UsageProblem."""
        options = faults.checked(name, options)
        bare = faults.supply_fault(name)
        if bare is None:
            return self.boards[slot].ask(op="fault", name=name, options=options)
        self._supply_of(slot).fault(bare, options)
        return {"ok": True}

    def _supply_of(self, slot: str) -> SupplyProcess:
        return self.supplies[list(self.boards).index(slot) // self.options.share]


def _read_flash(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise UsageProblem(f"cannot read the flash content {path}: {problem.strerror}") from None
    if len(content) > SIZE:
        raise UsageProblem(f"{path} has {len(content)} bytes, a board's flash holds {SIZE}")
    return content
