"""What releases of flashing tools do at a board, beside what is expected of them: docs/flasher-releases.md.

    python -m benchmarks.flasher_releases [--image FILE] [--dump FILE] [--only NAME==VERSION ...]

Each release is typed at the port of a simulated board as a person would type it, with nothing of the rig between:
no tap, no guard. What it did is read from the board's flash, from the file it left and from its output; its exit
code alone proves nothing. flasher_releases.toml beside this says what is expected, and why. Exit code 1: something
was seen that it does not explain, or a release could not be installed. With --only the table goes to the terminal and
the document stays, as it does where a release could not be installed.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.flasher_expectations import Expectations, Operation, Seen, load, outcome, tool_of
from benchmarks.flasher_table import Row, document
from rig.errors import RigError, UsageProblem
from rig.flashers import environment_of
from rig.flashers.environment import Environment
from rig.flashers.process import Run, run_tool
from rig.sim import firmware
from rig.sim.bench import SimBench
from rig.sim.flash import SIZE
from rig.sim.hands import hand
from rig.sim.spec import SimOptions
from rig.uart.lines import LineWatch, environment

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "flasher-releases.md"
IMAGE = "OpenBK7231N_QIO_1.18.300.bin"
APP = 0x11000
SECTOR = 0x1000
MAC_AT = 0x1D0024
SLOT = "A"
PATIENCE_S = 180.0  # for one operation


@dataclass
class Table:
    """The simulated board on the table, and what is on disk for the tools."""

    bench: SimBench
    folder: Path
    content: bytes  # of the board before an operation
    files: dict[str, bytes]
    pulses: int = field(default=0)

    @property
    def port(self) -> str:
        return self.bench.ports[SLOT]["uart1"]

    def hand(self, op: str, **more: Any) -> dict[str, Any]:
        answer = hand(self.bench.folder / "control", SLOT, op, **more)
        if "error" in answer:
            raise UsageProblem(f"the simulated bench: {answer['error']}")
        return answer

    def pulse(self) -> None:
        """A tool pulled its reset lines: they are wired to CEN."""
        self.pulses += 1
        self.hand("reset")

    def flash(self) -> tuple[bytes, bytes]:
        """(flash, efuse) as they are."""
        path = self.folder / "flash.bin"
        answer = self.hand("dump", path=str(path))
        return path.read_bytes(), bytes.fromhex(answer["efuse"])


def put(table: Table, state: dict[str, Any]) -> bytes:
    """The board in the state an operation begins with; its flash content."""
    content = bytearray(table.content)
    if "damage" in state:
        start, length = state["damage"]
        content[start : start + length] = bytes(length)
    more = {"weak": state["weak"]} if "weak" in state else {}
    table.hand("poke", offset=0, data=base64.b64encode(content).decode(), sr=state.get("sr", 0),
               sr_locked=state.get("sr_locked", False), **more)  # fmt: skip
    if state.get("pulled"):
        table.hand("pull")
    if state.get("running"):
        table.hand("reset")
        deadline = time.monotonic() + 10
        while table.hand("status")["phase"] != "running":
            if time.monotonic() > deadline:
                raise UsageProblem("the simulated board does not start its firmware")
            time.sleep(0.01)
    return bytes(content)


def clear(table: Table, state: dict[str, Any]) -> None:
    """What a next operation would not set anew."""
    if "weak" in state:
        table.hand("change")
    if state.get("pulled"):
        table.hand("insert")


def perform(table: Table, tool: str, at: Environment, operation: Operation) -> Seen:
    """One release, one operation."""
    state = dict(operation.board)
    before = put(table, state)
    file = table.folder / "file.bin"
    file.unlink(missing_ok=True)
    if operation.file:
        file.write_bytes(table.files[operation.file])
    mac = ":".join(f"{byte:02X}" for byte in before[MAC_AT : MAC_AT + 6])
    words = [word.replace("{port}", table.port).replace("{file}", str(file)) for word in operation.commands[tool]]
    verbose = ["-v"] if tool == "ltchiptool" else []
    run = Run((str(at.executable(tool)), *verbose, *words))
    table.pulses = 0
    try:
        with LineWatch(table.pulse) as watch:
            run_tool(
                run,
                folder=table.folder,
                path=at.bin,
                variables=environment(watch.address),
                silence=PATIENCE_S,
                limit=PATIENCE_S,
                check=lambda: None,
                tidy=lambda line: line.lstrip("#"),
            )
        after, efuse = table.flash()
        status = table.hand("status")
    finally:
        clear(table, state)
    seen = Seen("", run.exit_code or 0, table.pulses, run.lines)
    touched = after != before if operation.proof == "write" else None
    left = file.read_bytes() if file.is_file() else b""
    if operation.proof == "read":
        done = len(left) == operation.length and left == before[: operation.length]
    elif operation.proof == "efuse":
        done = left == efuse
    elif operation.proof == "write":
        done = after == overlaid(before, operation.at, left) and status["sr"] == 0
    else:
        done = all(seen.says(pattern.replace("{mac}", mac)) for pattern in operation.patterns[tool])
    seen.outcome = outcome(done=done, exit_code=seen.exit_code, lines=run.lines, touched=touched)
    return seen


def overlaid(before: bytes, at: int, data: bytes) -> bytes:
    """`before` with `data` at `at`, FF behind it to the end of its last sector, as these tools leave it."""
    end = -(-(at + len(data)) // SECTOR) * SECTOR
    return before[:at] + data.ljust(end - at, b"\xff") + before[end:]


def run_release(table: Table, expectations: Expectations, release: str) -> Row:
    """A row of the table; says on stderr how far it is."""
    tool = tool_of(release)
    try:
        at = environment_of(release, say=lambda line: say(f"  {line}"))
    except UsageProblem as problem:
        say(f"  *** {problem}")
        return Row(release, tool, {}, str(problem))
    row = Row(release, tool, at.versions)
    for operation in expectations.operations:
        if tool not in operation.commands:
            continue
        began = time.monotonic()
        row.seen[operation.id] = seen = perform(table, tool, at, operation)
        wrong = row.differences(expectations, operation.id)
        say(f"  {operation.title}: {seen.outcome} ({time.monotonic() - began:.1f} s){' ***' if wrong else ''}")
        for difference in wrong:
            say(f"    {difference}; its last lines: {' / '.join(seen.lines[-3:])}")
    return row


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def contents(image: Path, dump: Path | None) -> tuple[bytes, dict[str, bytes]]:
    """(what the board holds, what is written to it). Raises UsageProblem."""
    try:
        whole = image.read_bytes()
        board = dump.read_bytes() if dump else whole[:APP] + firmware.factory_dump(1)[APP:]
    except OSError as problem:
        raise UsageProblem(f"{problem.filename}: {problem.strerror}") from None
    if len(whole) <= APP or len(board) != SIZE:
        raise UsageProblem(f"--image: bootloader and app, more than {APP} bytes; --dump: a whole flash of {SIZE}")
    small = random.Random(5).randbytes(3 * SECTOR + 100)
    return board, {"whole": whole, "app": whole[APP:], "small": small}


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flasher_releases")
    default = Path(os.environ.get("RIG_FIRMWARE_DIR", ".")) / IMAGE
    parser.add_argument("--image", type=Path, default=default, help=f"bootloader and app; default {default}")
    parser.add_argument("--dump", type=Path, help="the board's flash; default: image's bootloader, own factory app")
    parser.add_argument("--only", action="append", metavar="NAME==VERSION", help="these releases, to the terminal")
    parser.add_argument("--speed", type=float, default=50.0, help="of the simulated board; default 50")
    options = parser.parse_args(words)
    try:
        expectations = load()
        board, files = contents(options.image, options.dump)
        with tempfile.TemporaryDirectory(prefix="rig-releases-") as name:
            flash = Path(name) / "board.bin"
            flash.write_bytes(board)
            with SimBench(SimOptions(boards=1, flash=flash, speed=options.speed, powered=True, seed=1)) as bench:
                table = Table(bench, Path(name), board, files)
                rows = []
                for release in options.only or expectations.releases:
                    say(release)
                    rows.append(run_release(table, expectations, release))
    except RigError as problem:
        say(f"flasher_releases: {problem}")
        return int(problem.exit_code)
    about = f"{options.image.name} (sha256 {hashlib.sha256(files['whole']).hexdigest()[:16]})"
    text = document(expectations, rows, about)
    missing = [row.release for row in rows if row.problem]
    if options.only:
        sys.stdout.write(text)
    elif missing:
        say(f"not written, since these could not be installed: {', '.join(missing)}")
    else:
        DOCUMENT.write_text(text, encoding="utf-8")
        say(f"written: {DOCUMENT}")
    wrong = len(missing) + sum(len(row.differences(expectations, id)) for row in rows for id in row.seen)
    say(f"{wrong} unexplained difference(s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
