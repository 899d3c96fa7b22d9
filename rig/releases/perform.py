"""One release doing one operation at a board behind tap and guard: what it printed, how it ended, what it left."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rig.bench.slot import OpenSlot
from rig.errors import BenchBlocked, Coded, ImageRefused, UnitFailed, UsageProblem
from rig.flashers.base import ChipIdentity, FlashResult, Link
from rig.flashers.native import NativeFlasher
from rig.flashers.process import Run, run_tool
from rig.flashers.profile import Line, Profile
from rig.image.kinds.uf2 import read_uf2
from rig.image.planning.guard import plan_write
from rig.line.target import board_of
from rig.releases.files import Made
from rig.releases.operations import Operation
from rig.releases.oracle import Said
from rig.releases.tools import Tool
from rig.scrub import HIDDEN
from rig.uart.lines import environment as telling_lines

_LONGEST = 4000  # characters of a line that are looked at
_TAIL = 300  # and of a line as it is kept on record
_MOST_OUTPUT = 20_000_000  # characters; a tool that prints more is ended
_SETTLED_S = 0.6  # after so long the ROM listens no more, and the firmware runs
_TOUCHES = ("write-4k",)  # counted for an interruption


class Stopped(Exception):
    """The study is being stopped: the trial does not count."""


class _Interrupted(Exception):
    """Ended by us on purpose, as the operation says."""


class _Flooded(Exception):
    """It prints and prints."""


@dataclass
class Performed:
    """`said` is for the oracle; `left`: the file a read wrote; `began_ns`: monotonic, of the last run's start."""

    said: Said
    seconds: float
    began_ns: int
    left: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Place:
    """Where it is done: the slot in use, at what speed, and what is known of its board. `held`: its flash now;
    `own`: what it came with. `stopping` ends the trial."""

    used: OpenSlot
    baud: int
    who: ChipIdentity
    held: bytes = field(repr=False)
    own: bytes = field(repr=False)
    stopping: Callable[[], bool] = lambda: False


def lacks(tool: Tool, operation: Operation) -> bool:
    """Whether the tool has no such operation at all."""
    return tool.profile is not None and not _asked(tool, tool.profile, operation)[0]


def perform(tool: Tool, operation: Operation, made: Made | None, place: Place) -> Performed:
    """One trial's asking, of a tool that does not lack it.

    The board is off and discharged before, or its firmware runs, as the operation wants. Raises Coded errors of the
    bench, and Stopped.
    """
    used = place.used
    link = _AtBaud(used, place.baud, keep_on=operation.running)
    native = tool.native
    work = _Native(operation, made, place, link) if native else _Tool(tool, operation, made, place, link)
    if operation.interrupt is not None:
        with suppress(_Interrupted):
            _ready(operation, used)
            work.run(_Limit(used, operation.interrupt))
    _ready(operation, used)
    return work.run(None)


def _ready(operation: Operation, used: OpenSlot) -> None:
    if not operation.running:
        used.link.prepare()
        return
    used.link.boot()
    deadline = time.monotonic() + _SETTLED_S
    while time.monotonic() < deadline:
        used.link.check()
        time.sleep(0.02)


class _AtBaud:
    """The slot's link at the speed of the trial. A flasher that prepares the link of a running board may: that is
    its power-cycle."""

    def __init__(self, used: OpenSlot, baud: int, *, keep_on: bool) -> None:
        self._link = used.link
        self._fresh = not keep_on
        self.baud = baud

    @property
    def path(self) -> str:
        return self._link.path

    @property
    def lines(self) -> str:
        return self._link.lines

    @property
    def power_on_ns(self) -> int:
        return self._link.power_on_ns

    def prepare(self) -> None:
        if self._fresh and not self._link.power_on_ns:  # off and discharged already
            self._fresh = False
            return
        self._link.prepare()

    def off(self) -> bool:
        return self._link.off()

    def sample(self) -> None:
        self._link.sample()

    def check(self) -> None:
        self._link.check()


class _Limit:
    """So many programmed sectors, counted on the wire from now."""

    def __init__(self, used: OpenSlot, count: int) -> None:
        self._commands = used.tap.commands
        self._first = len(self._commands)
        self._count = count

    def check(self) -> None:
        passed = sum(command.name in _TOUCHES for command in self._commands[self._first :])
        if passed >= self._count:
            raise _Interrupted


class _Tool:
    """A release of an outside tool."""

    def __init__(self, tool: Tool, operation: Operation, made: Made | None, place: Place, link: _AtBaud) -> None:
        assert tool.profile is not None
        assert tool.environment is not None
        self._tool, self._profile, self._environment = tool, tool.profile, tool.environment
        self._operation, self._made, self._place, self._link = operation, made, place, link
        self._printed = 0
        self._command, self._success = _asked(tool, self._profile, operation)

    def run(self, limit: _Limit | None) -> Performed:
        """Raises _Interrupted at the limit."""
        with tempfile.TemporaryDirectory(prefix="rig-release-") as name:  # private: flash holds Wi-Fi passwords
            folder = Path(name)
            file = folder / f"{self._operation.id}{self._made.suffix if self._made else '.bin'}"
            if self._made is not None:
                file.write_bytes(self._made.content)
            run = Run(tuple(self._words(file)))
            hung = stopped = None
            began = time.monotonic_ns()
            try:
                self._run(run, folder, limit)
            except UnitFailed as problem:
                hung = str(problem)
            except _Flooded:
                hung = f"it printed more than {_MOST_OUTPUT // 1_000_000} million characters and was ended"
            except BenchBlocked as problem:
                if problem.code != "guard-stopped":
                    raise
                stopped = str(problem).removeprefix("the guard stopped ")
            left = file.read_bytes() if self._operation.does in ("read", "efuse") and file.is_file() else None
        return Performed(self._said(run, hung, stopped), run.seconds, began, left)

    def _run(self, run: Run, folder: Path, limit: _Limit | None) -> None:
        operation, profile, link = self._operation, self._profile, self._link
        size = len(self._made.content) if self._made else operation.length

        def check() -> None:
            if self._place.stopping():
                raise Stopped
            if limit is not None:
                limit.check()
            link.check()

        run_tool(
            run,
            folder=folder,
            path=self._environment.bin,
            variables=telling_lines(link.lines) if link.lines else {},
            silence=min(operation.silence, profile.patience.silence),
            limit=operation.limit or profile.patience.limit(size, link.baud),
            check=check,
            on_line=self._count,
            tidy=self._tidy,
        )
        link.check()

    def _count(self, line: str) -> None:
        self._printed += len(line)
        if self._printed > _MOST_OUTPUT:
            raise _Flooded

    def _tidy(self, line: str) -> str:
        output = self._profile.output
        line = line[:_LONGEST]
        if output.noise is not None:
            line = output.noise.sub("", line, count=1)
        for private in output.private:
            line = private.sub(lambda found: found[0].replace(found["value"] or found[0], HIDDEN), line)
        return line

    def _words(self, file: Path) -> list[str]:
        operation = self._operation
        values: dict[str, object] = {
            "tool": self._environment.executable(self._profile.executable),
            "port": self._link.path,
            "baud": self._link.baud,
            "family": self._profile.families[self._place.used.slot.product.chip],
            "file": file,
            "offset": operation.offset,
            "length": operation.length or (len(self._made.content) if self._made else 0),
        }
        return [word.format(**values) for word in self._command]

    def _said(self, run: Run, hung: str | None, stopped: str | None) -> Said:
        error = next(
            (found for line in reversed(run.lines) if (found := self._profile.output.error.search(line))), None
        )
        good = run.exit_code in self._profile.exit_codes
        done = all(any(pattern.search(line) for line in run.lines) for pattern in self._success)
        return Said(
            claims=done and good and error is None,
            error=error["value"].strip().rstrip(".") if error else None,
            exit_good=good,
            exit_code=run.exit_code,
            lines=list(run.lines),
            hung=hung,
            stopped=stopped,
        )


def _asked(tool: Tool, profile: Profile, operation: Operation) -> tuple[Sequence[str], Iterable[Line]]:
    """(the command's words, what it must print); none where the tool has no such operation."""
    if tool.name in operation.commands:
        return operation.commands[tool.name], operation.success.get(tool.name, [])
    if operation.own_words or operation.does == "efuse":
        return [], []
    found = profile.operation(operation.does)
    return ([], []) if found is None else (found.command, found.success)


class _Native:
    """The rig's own flasher, put to the same through its interface: what it raises is what it says."""

    def __init__(self, operation: Operation, made: Made | None, place: Place, link: Link) -> None:
        self._operation, self._made, self._place, self._link = operation, made, place, link
        self._limit: _Limit | None = None

    def run(self, limit: _Limit | None) -> Performed:
        self._limit = limit
        flasher = NativeFlasher()
        began = time.monotonic_ns()
        left: bytes | None = None
        try:
            left, lines = self._done(flasher)
            said = Said(True, None, True, 0, lines)
        except (UnitFailed, ImageRefused, UsageProblem) as problem:
            said = _error(str(problem))
        except BenchBlocked as problem:
            if problem.code == "guard-stopped":
                said = _error(str(problem), stopped=str(problem).removeprefix("the guard stopped "))
            elif problem.code == "link-lost":
                said = _error(str(problem))
            else:
                raise
        finally:
            seconds = (time.monotonic_ns() - began) / 1e9
            with suppress(Coded):
                flasher.close()
        return Performed(said, seconds, began, left)

    def _done(self, flasher: NativeFlasher) -> tuple[bytes | None, list[str]]:
        """(the file that it leaves, what it says). Raises as flashers do."""
        operation = self._operation
        if operation.does == "identify":
            return None, _lines(flasher.identify(self._link, self._progress))
        if operation.does == "efuse":
            return flasher.identify(self._link, self._progress).efuse, ["efuse read"]
        if operation.does == "read":
            read = flasher.read(self._link, operation.offset, operation.length, self._progress)
            return read.data, _result(read)
        wrote = flasher.write(self._link, self._pieces(), self._progress)
        if not wrote.ok:
            raise UnitFailed("verify-failed", wrote.said)
        return None, _result(wrote)

    def _pieces(self) -> Sequence[tuple[int, bytes]]:
        operation, made = self._operation, self._made
        assert made is not None
        if operation.native == "uf2":
            file = read_uf2(made.content)
            if file.problems:
                raise UnitFailed("flasher-failed", file.problems[0])
            return [(piece.flash_offset, piece.content) for piece in file.pieces]
        if operation.native == "planned":
            product = self._place.used.slot.product
            place = self._place
            board = board_of(product, efuse=place.who.efuse, held=place.held, backup=place.own)
            start = None if operation.own_words else operation.offset
            plan = plan_write(made.content, f"{operation.id}{made.suffix}", board=board, start=start)
            return plan.contents(made.content)
        return made.pieces

    def _progress(self, what: str, done: int, total: int) -> None:
        if self._place.stopping():
            raise Stopped
        if self._limit is not None:
            self._limit.check()


def _error(text: str, stopped: str | None = None) -> Said:
    return Said(False, text, False, 1, [text], stopped=stopped)


def _result(result: FlashResult) -> list[str]:
    return [*result.retries, result.said]


def _lines(who: ChipIdentity) -> list[str]:
    flash_id = (who.flash_id or b"").hex(" ")
    return [f"chip {who.chip}, id 0x{who.chip_id or 0:x}, flash {flash_id}, MAC {(who.mac or 'not known').upper()}"]


def clean(lines: Sequence[str], most: int = 12) -> list[str]:
    """The last lines of an output as a record keeps them: scrubbed, none too long, no names of temporary files."""
    from rig.scrub import scrub

    return [_TEMPORARY.sub("", scrub(line[:_TAIL])) for line in lines[-most:]]


_TEMPORARY = re.compile(r"/\S*rig-release-\w+/")
