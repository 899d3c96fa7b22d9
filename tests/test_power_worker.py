"""rig power's worker when its bench fails it: it answers what it was asked, and waits for nothing in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rig.errors import BenchBlocked, UsageProblem
from rig.power import worker
from rig.power.plan import Asked
from rig.power.trial import Cell, Trial
from rig.power.worker import Orders, Task

ASKED = Asked(Cell("small/link", "link"), reference=True)
PATIENCE_S = 60.0


class Subject:
    """A board under study; each call is noted, and `fails` says what it raises, call by call."""

    fails: dict[str, list[Exception]]
    calls: list[str]

    def __init__(self, *_: object, **__: object) -> None:
        self.broken = False

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _do(self, what: str) -> None:
        self.calls.append(what)
        if self.fails.get(what):
            raise self.fails[what].pop(0)

    def begin(self) -> None:
        self._do("begin")

    def put_right(self, *, leave_image: bool) -> None:
        self._do("put right")

    def trial(self, cell: Cell, n: int, *, reference: bool) -> Trial:
        self._do("trial")
        return Trial(n, cell, "A", "board-1", reference, "unaffected", "as ever")


@contextmanager
def _slot_in_use(*_: object, **__: object) -> Iterator[Any]:
    instrument = SimpleNamespace(model="E36312A")
    yield SimpleNamespace(
        tap=SimpleNamespace(commands=[]), link=SimpleNamespace(off=lambda: None), instrument=instrument
    )


@pytest.fixture
def at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, list[Exception]]], Connection]]:
    """Start a worker at a `Subject` that fails so; its parent's end of the pipe."""
    bench = SimpleNamespace(profiles=lambda _: (), slot=lambda _: SimpleNamespace(product=None, speed=1.0))
    monkeypatch.setattr(worker, "read_bench", lambda _: bench)
    monkeypatch.setattr(worker, "load_profiles", lambda *_: ())
    monkeypatch.setattr(worker, "slot_lock", _slot_in_use)
    monkeypatch.setattr(worker, "use_slot", _slot_in_use)
    monkeypatch.setattr(worker, "Subject", Subject)
    left: list[tuple[threading.Thread, Connection]] = []

    def start(fails: dict[str, list[Exception]], **more: str) -> Connection:
        monkeypatch.setattr(Subject, "fails", fails, raising=False)
        monkeypatch.setattr(Subject, "calls", [], raising=False)
        ours, theirs = Pipe()
        orders = Orders(tmp_path, "A", tmp_path, tmp_path, tmp_path, later=1, widen=False, **more)  # type: ignore[arg-type]
        thread = threading.Thread(target=worker._Worker(theirs, orders).run, daemon=True)
        thread.start()
        left.append((thread, ours))
        return ours

    yield start
    for thread, pipe in left:
        with suppress(BrokenPipeError):  # it listens to nobody any more
            pipe.send(None)  # else its listener would take the closed pipe for its parent's death
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def told(pipe: Connection) -> tuple[str, Any]:
    assert pipe.poll(PATIENCE_S), f"it says nothing, after {Subject.calls}"
    what, value = pipe.recv()
    return what, value


def test_a_bench_that_fails_outside_of_a_trial_has_it_made_again(at_work: Any) -> None:
    """A log port that is lost, a disk that is full: the trial is still owed."""
    pipe = at_work({"trial": [BenchBlocked("port-lost", "no log port"), OSError(28, "No space left on device")]})
    pipe.send(Task(1, ASKED))
    what, trial = told(pipe)
    assert (what, trial.n) == ("trial", 1)
    assert Subject.calls == ["begin", "trial"] * 3
    pipe.send(None)
    assert told(pipe) == ("ended", "")
    assert Subject.calls[-1] == "put right"


def test_a_full_disk_is_said(at_work: Any) -> None:
    pipe = at_work({"trial": [OSError(28, "No space left on device")] * 3})
    pipe.send(Task(1, ASKED))
    said = "it spoiled trial after trial: [Errno 28] No space left on device"
    assert [told(pipe), told(pipe)] == [("out", said), ("ended", said)]


def test_one_that_refuses_and_cannot_put_its_board_right_tries_that_again_and_no_trial(at_work: Any) -> None:
    lost = BenchBlocked("link-lost", "no answer")
    pipe = at_work({"trial": [UsageProblem("it would trip the OVP")], "put right": [lost]})
    pipe.send(Task(1, ASKED))
    assert [told(pipe), told(pipe)] == [("refused", "it would trip the OVP"), ("ended", "")]
    assert Subject.calls == ["begin", "trial", "put right", "begin", "put right"]


def test_a_study_goes_on_at_its_own_model_of_supply_only(at_work: Any) -> None:
    pipe = at_work({}, supply="DP832")
    pipe.send(Task(1, ASKED))
    what, said = told(pipe)
    assert (what, told(pipe)) == ("refused", ("ended", ""))
    assert "is fed by another supply (E36312A) than the study began with (DP832)" in said
    assert Subject.calls == []
