"""Events over the socket: acknowledged means on disk; a lost client is told, a lost station aborts."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rig.errors import Aborted
from rig.records.events import Event, Noted, Outcome, UnitEnded, UnitStarted
from rig.records.journal import Journal, JournalLost, read_journal
from rig.records.sink import JournalSink, SinkServer, SocketSink


def started(unit: str, attempt: int = 1) -> UnitStarted:
    return UnitStarted(unit=unit, slot="A", attempt=attempt)


def ended(unit: str, attempt: int = 1) -> UnitEnded:
    return UnitEnded(unit=unit, slot="A", attempt=attempt, outcome=Outcome.PASS, duration_s=1.0)


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    changed = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        changed.wait(0.005)


@pytest.fixture
def journal(tmp_path: Path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        yield journal


def test_an_acknowledged_event_is_in_the_journal(journal: Journal) -> None:
    told: list[Event] = []
    lost: list[str] = []
    with SinkServer(journal, told.append, lost.append) as server:
        with SocketSink(server.address, "SN1") as sink:
            for event in (started("SN1"), Noted(text="hé\n\u2028"), ended("SN1")):
                sink.emit(event)
                assert read_journal(journal.path)[0][-1] == event
        server.emit(Noted(text="the station's own"))
    assert told == read_journal(journal.path)[0]
    assert lost == []


def test_many_units_keep_their_order_and_the_listener_the_journals(journal: Journal) -> None:
    told: list[Event] = []
    with SinkServer(journal, told.append) as server:

        def unit(name: str) -> None:
            with SocketSink(server.address, name) as sink:
                for attempt in range(1, 11):
                    sink.emit(started(name, attempt))
                sink.emit(ended(name, 10))

        threads = [threading.Thread(target=unit, args=(f"SN{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    events, _ = read_journal(journal.path)
    assert told == events
    assert len(events) == 44
    for n in range(4):
        mine = [event.attempt for event in events if event.unit == f"SN{n}"]
        assert mine == [*range(1, 11), 10]


CLIENT = """
import sys, time
from pathlib import Path
from rig.records.sink import SocketSink
from rig.records.events import UnitStarted, UnitEnded
sink = SocketSink(Path(sys.argv[1]), "SN7")
if sys.argv[2] != "nothing":
    sink.emit(UnitStarted(unit="SN7", slot="A", attempt=1))
if sys.argv[2] == "ends":
    sink.emit(UnitEnded(unit="SN7", slot="A", attempt=1, outcome="pass", duration_s=1))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("does", "is_lost"), [("starts", True), ("ends", False), ("nothing", True)])
def test_a_unit_killed_before_its_end_is_told_as_lost(journal: Journal, does: str, is_lost: bool) -> None:
    lost: list[str] = []
    with SinkServer(journal, on_lost=lost.append) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(server.address), does],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdin is not None
        with child.stdout, child.stdin:
            assert child.stdout.readline() == "ready\n"
            assert lost == []
            child.send_signal(signal.SIGKILL)
            child.wait(60)
        wait_for(lambda: not server._clients)
    assert lost == (["SN7"] if is_lost else [])


@pytest.mark.parametrize(
    "cut", [b'{"n": 1, "event": {"kind": "noted", "te', b'{"n": 1, "event": {"kind": "noted", "text": ""}}']
)
def test_the_lost_callback_may_mark_the_unit(journal: Journal, cut: bytes) -> None:
    def mark(unit: str) -> None:
        server.emit(
            UnitEnded(unit=unit, slot="A", attempt=1, outcome=Outcome.BLOCKED, duration_s=0.0, code="crashed")
        )

    with SinkServer(journal, on_lost=mark) as server:
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(str(server.address))
        raw.sendall(b'{"unit": "SN1"}\n' + cut)  # dies in the middle of a line
        raw.close()
        wait_for(lambda: len(read_journal(journal.path)[0]) == 1)
        wait_for(lambda: not server._clients)
    assert len(read_journal(journal.path)[0]) == 1
    assert read_journal(journal.path)[0][0].code == "crashed"


def test_a_retry_in_the_same_process_counts_as_running_again(journal: Journal) -> None:
    lost: list[str] = []
    with SinkServer(journal, on_lost=lost.append) as server:
        with SocketSink(server.address, "SN1") as sink:
            sink.emit(started("SN1"))
            sink.emit(ended("SN1"))
            sink.emit(started("SN1", 2))
        wait_for(lambda: lost == ["SN1"])


def test_a_lost_station_aborts_now_and_ever_after(journal: Journal) -> None:
    server = SinkServer(journal)
    with SocketSink(server.address, "SN1") as sink:
        sink.emit(started("SN1"))
        server.close()
        for _ in range(2):
            with pytest.raises(Aborted, match="went away"):
                sink.emit(ended("SN1"))
        with pytest.raises(Aborted, match="is not there"):
            SocketSink(server.address, "SN2")
    assert not server.address.parent.exists()


def test_a_station_that_answers_nothing_aborts_after_patience(tmp_path: Path) -> None:
    address = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(address))
        deaf.listen()
        with SocketSink(address, "SN1", patience_s=0.1) as sink, pytest.raises(Aborted, match="went away"):
            sink.emit(started("SN1"))


def test_an_unwritable_journal_aborts_the_unit_with_the_reason(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(event: Event) -> None:
        raise JournalLost("The journal can no longer be written: No space left on device.")

    told: list[Event] = []
    with SinkServer(journal, told.append) as server, SocketSink(server.address, "SN1") as sink:
        monkeypatch.setattr(journal, "append", full)
        with pytest.raises(Aborted, match="No space left"):
            sink.emit(started("SN1"))
    assert told == []


def test_emitting_after_the_end_is_refused_not_hung(journal: Journal) -> None:
    with SinkServer(journal) as server:
        sink = SocketSink(server.address, "SN1")
        sink.close()
        with pytest.raises(Aborted, match="closed"):
            sink.emit(started("SN1"))


def test_a_failing_listener_harms_nothing(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("page bug")

    with SinkServer(journal, broken) as server, SocketSink(server.address, "SN1") as sink:
        sink.emit(started("SN1"))
        sink.emit(ended("SN1"))
    assert len(read_journal(journal.path)[0]) == 2
    assert "page bug" in caplog.text


def test_an_interrupt_while_waiting_loses_no_event(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of an emit: the event still arrives, and `unit-ended` can follow."""
    gate, inside = threading.Event(), threading.Event()

    def slow(event: Event) -> None:
        if isinstance(event, Noted):
            inside.set()
            assert gate.wait(60)
        Journal.append(journal, event)

    monkeypatch.setattr(journal, "append", slow)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        assert inside.wait(60)
        signal.pthread_kill(main, signal.SIGINT)

    with SinkServer(journal) as server, SocketSink(server.address, "SN1") as sink:
        sink.emit(started("SN1"))
        poker = threading.Thread(target=interrupt)
        poker.start()
        with pytest.raises(KeyboardInterrupt):
            sink.emit(Noted(text="while writing"))
        poker.join(60)
        gate.set()
        sink.emit(ended("SN1"))
    assert [event.kind for event in read_journal(journal.path)[0]] == ["unit-started", "noted", "unit-ended"]


def test_the_direct_sink_writes_then_tells(journal: Journal) -> None:
    seen: list[int] = []
    JournalSink(journal, lambda event: seen.append(len(read_journal(journal.path)[0]))).emit(started("SN1"))
    assert seen == [1]
