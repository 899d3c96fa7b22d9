"""A simulated bench started as a person would, for tests that stop, kill and damage things around it."""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from rig.bench.bench import read_bench
from rig.sim.hands import hand
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
RIG = [sys.executable, "-m", "rig.cli"]
BACKED_UP = 2_117_000  # bytes on the flash line until a whole flash is read: 512 sectors with frames, CRCs, efuse
FAST_BACKED_UP = 415_000  # with --backup fast where no block is known: in the last read before the first erase


class SimProcess:
    """`python -m rig.sim` with its bench file in `folder`; `options` are its command-line options."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.bench_file = folder / "b.toml"
        self._log = (folder / "sim.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rig.sim", "--bench-file", str(self.bench_file), "--seed", "1", *options],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
        try:
            wait_until(lambda: self.bench_file.exists() or self.process.poll() is not None, 90, "the simulated bench")
            assert self.process.poll() is None, self.log()
        except BaseException:
            self.stop()
            raise
        slot = next(iter(read_bench(self.bench_file).slots.values()))
        self.control = Path(slot.table.flash_port).parent / "control"

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def hand(self, op: str, slot: str = "A", **more: Any) -> dict[str, Any]:
        answer = hand(self.control, slot, op, **more)
        assert "error" not in answer, answer
        return answer

    def status(self, slot: str = "A") -> dict[str, Any]:
        return self.hand("status", slot)

    def went_off(self, slot: str = "A") -> int:
        """Monotonic nanoseconds of when the supply switched the slot's output off, by its own account: how soon this
        process gets to see it does not count. Waits for it."""
        wait_until(lambda: not self.status(slot)["on"], 60, f"slot {slot} going off")
        switched: int = self.status(slot)["switched_ns"]
        return switched

    def off_after(self, act: Callable[[], object], slot: str = "A") -> float:
        """Seconds from the end of `act` until the slot's output, which is on, was switched off."""
        before = time.monotonic_ns()
        act()
        after = time.monotonic_ns()
        switched = self.went_off(slot)
        assert switched > before, f"slot {slot} was off already"
        return (switched - after) / 1e9

    def poke(self, offset: int, data: bytes, slot: str = "A") -> None:
        self.hand("poke", slot, offset=offset, data=base64.b64encode(data).decode())

    def dump(self, folder: Path, slot: str = "A") -> bytes:
        path = folder / f"{slot}.dump"
        self.hand("dump", slot, path=str(path))
        return path.read_bytes()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._log.close()

    def __enter__(self) -> SimProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@functools.cache
def _without_reports() -> str:
    """A folder that hides pandas, as in an install without the extra `report`; gone at exit."""
    folder = tempfile.mkdtemp(prefix="rig-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (Path(folder) / "pandas.py").write_text('raise ModuleNotFoundError("not installed", name="pandas")\n')
    return folder


def environment(*, reports: bool = False) -> dict[str, str]:
    """What rig commands run in. Without `reports` the extra of that name is hidden: a line works without it."""
    path = str(ROOT) if reports else f"{_without_reports()}{os.pathsep}{ROOT}"
    return os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}


def rig(
    *words: str | Path, cwd: Path, timeout: float = 300, reports: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a rig command to its end, nobody at the terminal."""
    return subprocess.run(
        [*RIG, *map(str, words)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment(reports=reports),
    )


def rig_inside(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As `rig`, in this process: for commands that end before they have started any other, without the start-up."""
    from rig.cli import main

    said, complained = io.StringIO(), io.StringIO()
    before, argv, folder = signal.getsignal(signal.SIGTERM), sys.argv, Path.cwd()
    os.chdir(cwd)
    sys.argv = ["rig", *map(str, words)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os.chdir(folder)
        sys.argv = argv
        signal.signal(signal.SIGTERM, before)
    return subprocess.CompletedProcess(sys.argv, code, said.getvalue(), complained.getvalue())


def start_rig(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start a rig command and leave it running."""
    return subprocess.Popen(
        [*RIG, *map(str, words)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
