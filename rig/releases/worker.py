"""A slot's worker: a process that makes one trial after the other at its board, and puts the board right at the end.

It is told blocks of trials over a pipe and answers with each trial as it ends. When the pipe closes, for its parent
was killed, it ends the tool, switches off and goes; the board is put right by whoever resumes the study.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rig.bench.bench import Bench, Slot, read_bench
from rig.bench.slot import OpenSlot, slot_lock, use_slot
from rig.chip.client import GARBLED
from rig.errors import Coded, RigError, UnitFailed
from rig.releases.board import Board, State
from rig.releases.files import APP, Images, Made, make
from rig.releases.operations import SECTOR, Catalogue, Condition, Operation, used
from rig.releases.oracle import Seen, Verdict, judge
from rig.releases.perform import Performed, Place, Stopped, clean, lacks, perform
from rig.releases.tools import Tool
from rig.releases.trial import GOOD, TRACES, Spec, Trial, of
from rig.scrub import scrub
from rig.stops import leave_to_parent
from rig.uart.accounting import account
from rig.uart.damage import Damage
from rig.uart.touched import touched_sectors
from rig.uart.trace import Command, save_json

_MOST_COMMANDS = 200_000  # kept of the wire before the slot is taken anew
_MOST_BLOCKED = 3  # trials in a row that the bench spoiled: the slot is out
_SLOW = 5.0  # below this speed only those sectors are asked for that commands on the wire named
_LOCK_S = 20.0  # a killed study's worker lets go of its slot in this time
_LINKING = ("link-check", "reset-pulse", "reset-pulse-while-off")
_AT_ONCE_NS = 150_000_000  # less than a frame's longest gap, and more than 4 KiB at 460800 baud
_MOVES = ("read-4k", "write-4k", "write-256")


@dataclass(frozen=True)
class Asked:
    """A trial to be made. `trace`: what passes on the wire is kept even if all is right. `last`: it was spoiled once
    already, so that what looks like a busy machine is the release's own doing now."""

    spec: Spec
    trace: bool
    last: bool = False


@dataclass(frozen=True)
class Orders:
    """What a worker needs; it crosses processes."""

    bench: Path
    slot: str
    run: Path
    runs: Path
    catalogue: Catalogue = field(repr=False)
    images: Images = field(repr=False)
    tools: dict[str, Tool] = field(repr=False)


def work(pipe: Connection, orders: Orders) -> None:
    """The process's whole life. Sends ("trial", Trial), ("block", number), ("out", sentence), ("ended", sentence)."""
    leave_to_parent()
    with contextlib.suppress(BrokenPipeError, OSError):
        _Worker(pipe, orders).run()


class _Worker:
    def __init__(self, pipe: Connection, orders: Orders) -> None:
        self._pipe = pipe
        self._orders = orders
        self._asked: queue.SimpleQueue[tuple[int, list[Asked]] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._orphan = threading.Event()
        self._blocked = 0
        self._left = ""  # why the board is not as it came
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def _listen(self) -> None:
        try:
            while (told := self._pipe.recv()) is not None:
                if told == "stop":
                    self._stopping.set()
                    break
                self._asked.put(told)
        except (EOFError, OSError):
            self._orphan.set()
            self._stopping.set()
        self._asked.put(None)

    def _tell(self, what: str, value: Any) -> None:
        if not self._orphan.is_set():
            self._pipe.send((what, value))

    def run(self) -> None:
        bench = read_bench(self._orders.bench)
        slot = bench.slot(self._orders.slot)
        rest: list[tuple[int, list[Asked]]] = []
        problem = ""
        try:
            with slot_lock(slot, _LOCK_S):
                while not self._stopping.is_set() and self._blocked < _MOST_BLOCKED:
                    if self._session(bench, slot, rest):
                        break
        except RigError as bad:
            problem = scrub(str(bad))
        problem = problem or self._left
        if self._blocked >= _MOST_BLOCKED:
            self._tell("out", problem or f"{_MOST_BLOCKED} trials in a row were spoiled by the bench")
        elif problem:
            self._tell("out", problem)
        self._tell("ended", problem)

    def _session(self, bench: Bench, slot: Slot, rest: list[tuple[int, list[Asked]]]) -> bool:
        """The slot taken into use until all is done (True), or it has to be taken anew."""
        with use_slot(slot, holder="rig releases", locked=True) as used:
            board = Board(used, self._orders.runs, self._orders.run)
            try:
                try:
                    board.begin()
                except Coded as problem:
                    self._blocked += 1
                    if self._blocked >= _MOST_BLOCKED or isinstance(problem, UnitFailed):
                        self._blocked = _MOST_BLOCKED
                        raise
                    return False
                over = self._blocks(bench, used, board, rest)
                if not self._orphan.is_set():
                    over &= self._put_right(board)
                return over
            finally:
                board.release()
                used.link.off()

    def _put_right(self, board: Board) -> bool:
        """False: it could not be, and the slot is worth another try."""
        try:
            board.put_right()
        except Coded as problem:
            self._left = f"its board was not put right: {scrub(str(problem))}"
            self._blocked += 1
            if self._blocked >= _MOST_BLOCKED:
                raise
            return False
        self._left = ""
        return True

    def _blocks(self, bench: Bench, used: OpenSlot, board: Board, rest: list[tuple[int, list[Asked]]]) -> bool:
        """Trials as they are asked for, until there are no more or the study is stopped (True)."""
        trials = _Trials(bench, used, board, self._orders, self._stopping.is_set)
        while len(used.tap.commands) < _MOST_COMMANDS:
            if not rest:
                asked = self._asked.get()
                if asked is None:
                    return True
                rest.append(asked)
            number, specs = rest[0]
            while specs:
                try:
                    trial = trials.trial(specs[0])
                except Stopped:
                    return True
                self._blocked = self._blocked + 1 if trials.broken else 0
                specs.pop(0)
                self._tell("trial", trial)
                if trials.broken:
                    return self._blocked >= _MOST_BLOCKED
            rest.pop(0)
            self._tell("block", number)
        return False


class _Trials:
    """Trials at one board, one after the other."""

    def __init__(
        self, bench: Bench, used: OpenSlot, board: Board, orders: Orders, stopping: Callable[[], bool]
    ) -> None:
        self._speed = bench.speed
        self._used, self._board, self._orders, self._stopping = used, board, orders, stopping
        self.broken = False  # the slot has to be taken anew

    def trial(self, asked: Asked) -> Trial:
        """One trial, the board put into its state before, looked at afterwards. Raises Stopped.

        What the bench spoils is a trial too: `blocked`.
        """
        spec = asked.spec
        tool = self._orders.tools[spec.release]
        operation = self._orders.catalogue.of(spec.operation)
        condition = self._orders.catalogue.under(spec.condition)
        common = {
            "board": self._board.identity,
            "versions": tool.versions,
            "utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "speed": self._speed,
        }
        if lacks(tool, operation):
            return of(spec, outcome="absent", why=f"{tool.name} has no such operation", **common)
        try:
            return self._made(asked, tool, operation, condition, common)
        except Coded as problem:
            self.broken = True
            return of(spec, outcome="blocked", why=scrub(str(problem)), **common)

    def _made(
        self, asked: Asked, tool: Tool, operation: Operation, condition: Condition, common: dict[str, Any]
    ) -> Trial:
        spec = asked.spec
        made, before = self._before(operation, condition)
        state = State(before, condition.sr or 0, condition.volts, condition.current_limit)
        board, tap = self._board, self._used.tap
        board.put(state)
        sr_before = board.register()
        board.release()
        tap.section(f"trial {spec.n}: {spec.release}, {spec.operation}")
        first = len(tap.commands)
        with board.supplied(state):
            tap.damage(*map(Damage.parse, [*operation.damage, *condition.damage]))
            try:
                place = Place(self._used, spec.baud, board.who, before, board.own, self._stopping)
                done = perform(tool, operation, made, place)
            finally:
                tap.damage()
                board.open_guard()
        commands = list(tap.commands[first:])
        tap.section("rig")
        now = self._look(operation, condition, made, before, commands)
        moved = frozenset(each.baud for each in commands if each.name in _MOVES and each.refused is None)
        sr_after = None if operation.running else board.register()  # firmware protects its flash
        seen = Seen(before, now, sr_before, sr_after, done.left, moved)
        found = judge(operation, board.who, made, spec.baud, tool.name, done.said, seen)
        clean = not (operation.damage or condition.damage)
        if found.outcome not in GOOD and clean and not asked.last and (lost := _lost(commands)):
            return of(spec, outcome="blocked", why=lost, trace=self._trace(spec.n, commands), **common)
        keep = asked.trace or found.outcome not in ("correct", "refuses", "absent")
        trace = self._trace(spec.n, commands) if keep else None
        return _trial(spec, done, found, commands, {**common, "trace": trace})

    def _before(self, operation: Operation, condition: Condition) -> tuple[Made | None, bytes]:
        """(the file, the flash before): what the board came with, behind the image's bootloader, and used bytes where
        the file is to go, so that a skipped erase shows, or where a part is read, so that no blank passes for it. The
        bootloader stays one that tools know, but for what operation and condition do to it."""
        images, own = self._orders.images, self._board.own
        content = bytearray(own)
        content[:APP] = images.whole[:APP]
        made = None if operation.file is None else make(operation.file, operation.offset, images)
        if made is not None and operation.timed:
            made, window = self._other(operation, made)
            content[window : window + len(made.content)] = self._board.now[window : window + len(made.content)]
        elif made is not None:
            random_bytes = used(len(own))
            for at, data in made.pieces:
                low, high = max(APP, (at // SECTOR - 1) * SECTOR), (-(-(at + len(data)) // SECTOR) + 1) * SECTOR
                content[low:high] = random_bytes[low:high]
        elif operation.does == "read" and not operation.running and operation.length < len(own) // 2:
            low, high = operation.offset, operation.offset + operation.length
            content[low:high] = used(len(own))[low:high]
        for laid in (*operation.laid, *condition.laid):
            laid.over(content)
        if condition.laid:  # calibration and storage are not the study's
            content[0x1D0000:0x1D1000] = own[0x1D0000:0x1D1000]
            content[0x1ED000:] = own[0x1ED000:]
        return made, bytes(content[: len(own)])

    def _other(self, operation: Operation, made: Made) -> tuple[Made, int]:
        """Of two files the one that is not in flash already, so that the board need not be written in between."""
        at = operation.offset
        other = make(f"{operation.file}-2", at, self._orders.images)
        held = self._board.now[at : at + len(made.content)]
        if held not in (made.content, other.content):
            held = other.content
            now = self._board.now
            self._board.put(State(now[:at] + held + now[at + len(held) :]))
        return (other if held == made.content else made), at

    def _look(
        self, operation: Operation, condition: Condition, made: Made | None, before: bytes, commands: list[Command]
    ) -> bytes:
        wanted = bytearray(before)
        for at, data in made.pieces if made is not None else ():
            wanted[at : at + len(data)] = data
            end = at + len(data)
            wanted[end : -(-end // SECTOR) * SECTOR] = b"\xff" * (-end % SECTOR)
        sectors: set[int] | None = None
        if self._speed < _SLOW and not (operation.running or operation.damage or condition.damage):
            sectors = touched_sectors(commands, len(before))
        return self._board.look(bytes(wanted), before, sectors)

    def _trace(self, n: int, commands: list[Command]) -> str:
        path = self._orders.run / TRACES / f"{n}.jsonl"
        save_json(path, commands)
        return f"{TRACES}/{n}.jsonl"


def _trial(spec: Spec, done: Performed, found: Verdict, commands: list[Command], common: dict[str, Any]) -> Trial:
    link_ns, asked = _linked(commands)
    sums = account(asked, link_ns)
    whole = account(commands)
    total = sums.total
    return of(
        spec,
        outcome=found.outcome,
        why=found.why,
        says_ok=done.said.claims,
        exit_code=done.said.exit_code,
        tail=clean(done.said.lines),
        seconds=round(done.seconds, 4),
        link_s=round((link_ns - done.began_ns) / 1e9, 4) if link_ns is not None else 0.0,
        host_s=round(total.host_s + sums.before_s, 6),
        wire_s=round(total.wire_s, 6),
        chip_s=round(total.chip_s, 6),
        lost_s=round(total.lost_s, 6),
        commands={row.name: row.count for row in whole.rows},
        retries=total.retries,
        bytes_out=whole.total.bytes_out,
        bytes_in=whole.total.bytes_in,
        differing=found.differing,
        **common,
    )


def _lost(commands: Sequence[Command]) -> str | None:
    """What was lost between tool and chip as on a noisy line, or on a machine that has too much to do: a frame that
    the tool gave whole and at once, and the chip had not whole; a SetBaud's reply that came at the other speed."""
    for each in commands:
        if each.status in GARBLED and each.refused is None and each.sent_ns - each.begun_ns < _AT_ONCE_NS:
            return (
                f"{each.name} came to the board incomplete though the tool sent it whole: a bad line, or a machine "
                "that is too busy for the speed"
            )
        if each.name == "set-baud" and not each.answered and each.reply_size:
            return "the reply to set-baud came while the other side stood at the old speed: the machine is too busy"
    return None


def _linked(commands: Sequence[Command]) -> tuple[int | None, Sequence[Command]]:
    """(when the first link check was answered, what was asked from then on). None: nobody answered.

    Of a row of link checks only the last is on record, and it may be one whose answer came after the tool went on.
    """
    first = next((at for at, each in enumerate(commands) if each.name not in _LINKING), len(commands))
    answered = [each.reply_end_ns for each in commands[:first] if each.answered]
    if answered:
        return answered[-1], commands[first:]
    return (commands[first].begun_ns, commands[first:]) if first < len(commands) else (None, ())
