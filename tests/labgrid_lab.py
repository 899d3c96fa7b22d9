"""A labgrid coordinator and exporter on loopback, from labgrid's own environment, for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType

import pytest

from rig.errors import UsageProblem
from rig.flashers.environment import Environment
from rig.labgrid import tenure
from tests.home_network import free_port
from tests.sim_process import environment
from tests.waiting import wait_until

SER2NET = shutil.which("ser2net", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def labgrid_or_skip() -> Environment:
    """labgrid's environment, made once; the test is skipped where that, or ser2net, cannot be had."""
    if SER2NET is None:
        pytest.skip("ser2net is not installed (Debian: apt install ser2net)")
    try:
        return tenure.environment()
    except UsageProblem as problem:
        pytest.skip(f"labgrid cannot be installed: {problem}")


class Lab:
    """`start` begins the coordinator, `export` an exporter of a file; all of it ends with the context."""

    def __init__(self, folder: Path) -> None:
        self.tools = labgrid_or_skip()
        self.folder = folder
        folder.mkdir()
        self.address = f"127.0.0.1:{free_port()}"
        self.coordinator: subprocess.Popen[bytes] | None = None
        self.exporters: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        log = (self.folder / "coordinator.log").open("ab")
        self.coordinator = self._spawn("coordinator", ["labgrid-coordinator", "-l", self.address], log)
        ready = self.folder / "coordinator.log"
        before = ready.read_bytes().count(b"listening on")
        wait_until(lambda: ready.read_bytes().count(b"listening on") > before, 60, "the coordinator")

    def export(self, file: Path, *options: str) -> None:
        """An exporter that publishes this machine as 127.0.0.1."""
        path = self.folder / f"exporter-{len(self.exporters)}.log"
        words = ["labgrid-exporter", "-c", self.address, "--hostname", "127.0.0.1", "-n", "exporter1"]
        self.exporters.append(self._spawn("exporter", [*words, *options, str(file)], path.open("wb")))
        wait_until(lambda: b"Exporter ready" in path.read_bytes(), 60, "the exporter")

    def _spawn(self, what: str, words: list[str], log: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self.tools.executable(words[0])), *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,  # type: ignore[arg-type]
            env=os.environ | {"PYTHONUNBUFFERED": "1"},  # what it prints is waited for
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            start_new_session=True,
        )

    def log(self) -> str:
        """What the coordinator said so far."""
        return (self.folder / "coordinator.log").read_text()

    def client(self, *words: str, place: str | None = None, user: str | None = None) -> str:
        options = ["-x", self.address, *(["-p", place] if place else [])]
        done = subprocess.run(
            [str(self.tools.executable("labgrid-client")), *options, *words],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
            env=environment() | ({"LG_USERNAME": user} if user else {}),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def place(self, name: str, *groups: str) -> str:
        """A place of these groups, unless the coordinator remembers it; what `--bench` calls it."""
        if name not in self.client("places").split():
            self.client("create", place=name)
            self.client("add-match", *(f"*/{group}/*" for group in groups), place=name)
        return f"labgrid:{name}@{self.address}"

    @property
    def _remembered(self) -> Path:
        """What a coordinator that starts knows of places. The one before it wrote it every 15 s, if they changed."""
        return self.folder / "places.yaml"

    def remember(self, place: str) -> None:
        """Wait until a coordinator started from now on knows this place with what it matches: as nobody's."""

        def is_whole() -> bool:
            kept = self._remembered.read_text() if self._remembered.exists() else ""
            return f"{place}:" in kept and "group:" in kept

        wait_until(is_whole, 60, "the place on disk")

    def forget(self) -> None:
        """A coordinator started from now on knows no place."""
        self._remembered.unlink(missing_ok=True)

    def holder_of(self, place: str) -> str:
        """Who has acquired it; empty: nobody."""
        shown = self.client("show", place=place)
        return (
            next(line for line in shown.splitlines() if "acquired:" in line)
            .split(":")[1]
            .strip()
            .removeprefix("None")
        )

    def kill(self) -> None:
        """kill -9 of the coordinator."""
        assert self.coordinator is not None
        os.killpg(self.coordinator.pid, signal.SIGKILL)
        self.coordinator.wait()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in filter(None, (*self.exporters, self.coordinator)):
            for number in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    os.killpg(process.pid, number)
                    try:
                        process.wait(10)
                    except subprocess.TimeoutExpired:
                        continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # ser2net of an exporter that could not end it
