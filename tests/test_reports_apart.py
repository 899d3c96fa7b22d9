"""Work on a report in another process: its answers, and what becomes of them where it goes wrong."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import wait_until

from reports.apart import FEWEST, apart
from reports.batch import write_report
from tests.synthetic_batches import Batch, records

ENOUGH: Any = SimpleNamespace(attempts=range(FEWEST))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs the tests may have threads of its own."""
    others = set(threading.enumerate())  # some of which may end meanwhile
    every = threading.enumerate
    monkeypatch.setattr("reports.apart.threading.active_count", lambda: 1 + len(set(every()) - others))


def children() -> set[str]:
    path = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children"
    with open(path) as file:
        return set(file.read().split())


def test_answers_come_from_another_process_in_their_order() -> None:
    kept, before = {"big": bytes(1 << 20)}, children()
    with apart(ENOUGH, [os.getpid, lambda: kept["big"], lambda: 3]) as (pid, big, three):
        assert pid() != os.getpid()
        assert big() == kept["big"]  # more than a pipe holds
        assert three() == 3
    assert children() <= before


@pytest.mark.parametrize("few", [range(FEWEST - 1), range(0)])
def test_few_attempts_are_worked_on_here(few: range) -> None:
    with apart(SimpleNamespace(attempts=few), [os.getpid]) as (pid,):  # type: ignore[arg-type]
        assert pid() == os.getpid()


def test_beside_another_thread_nothing_is_forked() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with apart(ENOUGH, [os.getpid]) as (pid,):
            assert pid() == os.getpid()
    finally:
        done.set()
        other.join()


def test_what_goes_wrong_there_goes_wrong_here() -> None:
    def wrong() -> None:
        raise ValueError(f"in {os.getpid()}")

    with apart(ENOUGH, [lambda: 1, wrong, os.getpid]) as (one, bad, pid):
        assert one() == 1
        with pytest.raises(ValueError, match=f"in {os.getpid()}"):
            bad()
        assert pid() == os.getpid()


def test_a_process_that_is_killed_is_done_without() -> None:
    here, before = os.getpid(), children()

    def killed() -> int:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return 5

    with apart(ENOUGH, [killed]) as (five,):
        assert five() == 5
    assert children() <= before


def test_nobody_is_left_when_the_answers_are_not_wanted() -> None:
    forever: Callable[[], Any] = threading.Event().wait
    before = children()
    with apart(ENOUGH, [forever]):
        wait_until(lambda: len(children() - before) == 1, 60, "the other process")
    assert children() <= before


def test_a_page_is_the_same_whether_made_by_one_process_or_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = records(Batch(units=128, worn="C", seed=1))
    monkeypatch.setattr("reports.page.whole.moment", lambda when: "now")
    pages = []
    for fewest in (FEWEST, 1):
        monkeypatch.setattr("reports.apart.FEWEST", fewest)
        pages.append(write_report(told, tmp_path / str(fewest)).read_text())
    assert pages[0] == pages[1]
    assert "Western Electric" in pages[0]


def test_where_no_process_can_be_made_it_is_worked_on_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("reports.apart.os.fork", full)
    before = len(os.listdir("/proc/self/fd"))
    with apart(ENOUGH, [os.getpid, lambda: 3]) as (pid, three):
        assert (pid(), three()) == (os.getpid(), 3)
    assert len(os.listdir("/proc/self/fd")) <= before
