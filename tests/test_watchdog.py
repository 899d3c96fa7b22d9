"""What systemd hears from a station, at a socket that stands in for systemd's."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.errors import Exit
from rig.line.foreman import Line
from rig.line.watchdog import Watchdog, WatchedJournal
from rig.records import events, journal
from rig.records.events import Noted
from tests.station_bench import StationBench, fake_units
from tests.waiting import until, wait_until

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "docs" / "deploy"
TIMEOUT_S = 0.5  # as WatchdogSec would be; four words within it


class Systemd:
    """What was said at the socket, with when."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._heard: list[str] = []

    def words(self) -> list[str]:
        """All words so far, in order."""
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self._socket.recv(4096, socket.MSG_DONTWAIT).decode()
                self._heard += text.split("\n")
        return list(self._heard)

    def count(self, word: str) -> int:
        return self.words().count(word)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    found = Systemd(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", found.address)
    monkeypatch.setenv("WATCHDOG_USEC", str(int(TIMEOUT_S * 1e6)))
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    yield found
    found.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StationBench:
    fake_units(monkeypatch)
    return StationBench(tmp_path)


# -- a station ---------------------------------------------------------------------------------------------


def test_a_station_says_that_it_is_ready_alive_and_ending(systemd: Systemd, bench: StationBench) -> None:
    bench.behave(**{"1": ["held"]})
    with bench.start(bench.job("1", "2")) as run:
        wait_until(lambda: systemd.count("WATCHDOG=1") >= 3, 60, "three words of life")
        status = f"STATUS=run {bench.run.id} running: 1 running, 1 remaining"
        wait_until(lambda: status in systemd.words(), 60, "how it stands")
        assert "NOTIFY_SOCKET" not in os.environ, "units' processes must not speak for the station"
        bench.go("1")
        assert run.end() is Exit.GOOD
    words = systemd.words()
    assert words[0] == "READY=1"
    assert words[-1] == "STOPPING=1"
    assert words.count("READY=1") == words.count("STOPPING=1") == 1


def test_a_station_whose_loop_hangs_falls_silent(
    systemd: Systemd, bench: StationBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, released, hung = threading.Event(), threading.Event(), threading.Event()
    real = Line.look

    def look(self: Line) -> None:
        if hangs.is_set():
            hung.set()
            released.wait(60)
        real(self)

    monkeypatch.setattr(Line, "look", look)
    bench.behave(**{"1": ["held"]})
    with bench.start(bench.job("1")) as run:
        wait_until(lambda: systemd.count("WATCHDOG=1"), 60, "a word of life")
        hangs.set()
        assert hung.wait(60)
        before = systemd.count("WATCHDOG=1")
        assert not until(lambda: systemd.count("WATCHDOG=1") > before, 1.5 * TIMEOUT_S)
        hangs.clear()
        released.set()
        wait_until(lambda: systemd.count("WATCHDOG=1") > before, 60, "life again")
        bench.go("1")
        assert run.end() is Exit.GOOD


def test_a_station_whose_disk_hangs_falls_silent(
    systemd: Systemd, bench: StationBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, released, hung = threading.Event(), threading.Event(), threading.Event()
    real = os.fsync

    def fsync(fd: int) -> None:
        if hangs.is_set():
            hung.set()
            released.wait(60)
        real(fd)

    bench.behave(**{"1": ["held"]})
    with bench.start(bench.job("1")) as run:
        wait_until(lambda: systemd.count("WATCHDOG=1"), 60, "a word of life")
        monkeypatch.setattr(os, "fsync", fsync)
        hangs.set()
        bench.go("1")  # it has something to put on record now
        assert hung.wait(60)
        until(lambda: False, TIMEOUT_S / 2 + 0.2)  # as long as a write may take
        before = systemd.count("WATCHDOG=1") + 1  # one may have been on its way
        assert not until(lambda: systemd.count("WATCHDOG=1") > before, 1.5 * TIMEOUT_S)
        hangs.clear()
        released.set()
        assert run.end() is Exit.GOOD


def test_a_station_that_is_stopped_says_so_at_once(systemd: Systemd, bench: StationBench) -> None:
    bench.behave(**{"1": ["held"]})
    with bench.start(bench.job("1")) as run:
        bench.wait(events.UnitStarted)
        run.station.stop()
        run.station.stop()  # a second Ctrl-C
        wait_until(lambda: systemd.count("STOPPING=1"), 60, "the word of its end")
        assert run.end() is Exit.ABORTED
    assert systemd.count("STOPPING=1") == 1


# -- the line to systemd -----------------------------------------------------------------------------------


def test_without_systemd_nothing_is_said(tmp_path: Path) -> None:
    alone = Watchdog.of_environment({})
    alone.ready()
    alone.beat(lambda: pytest.fail("nobody asked"))
    alone.stopping()
    with WatchedJournal(tmp_path / "journal.jsonl", alone) as kept:
        kept.append(Noted(text="as ever"))
    assert journal.read_journal(tmp_path / "journal.jsonl")[0][0].kind == "noted"


def test_a_systemd_that_is_gone_or_busy_costs_the_station_nothing(tmp_path: Path) -> None:
    gone = Watchdog(str(tmp_path / "nobody"), TIMEOUT_S)
    gone.ready()
    gone.beat(lambda: "well")
    busy = Systemd(tmp_path)
    watchdog = Watchdog(busy.address, 0.0)  # a word each time

    def speak() -> None:
        for _ in range(5000):  # more than the socket holds
            watchdog.beat(lambda: "well")

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    speaker.join(60)
    assert not speaker.is_alive(), "it waits for systemd"
    assert 0 < busy.count("WATCHDOG=1") < 5000
    watchdog.close()
    watchdog.stopping()  # after its end: nothing
    busy.close()


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_time_is_that_which_systemd_told_this_process(told: dict[str, str], seconds: float | None) -> None:
    environ = {"NOTIFY_SOCKET": "@rig-test", "HOME": "/", **told}
    watchdog = Watchdog.of_environment(environ)
    assert watchdog.timeout_s == seconds
    assert environ == {"HOME": "/"}
    watchdog.close()


def test_a_socket_without_a_file_is_reached(tmp_path: Path) -> None:
    name = f"rig-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0" + name)
        watchdog = Watchdog("@" + name)
        watchdog.ready()
        watchdog.beat(lambda: "two\nlines")
        assert heard.recv(100) == b"READY=1"
        assert heard.recv(100) == b"STATUS=two lines"  # no watchdog was asked for
        watchdog.close()
