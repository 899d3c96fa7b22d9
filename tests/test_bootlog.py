"""The boot log thread, on pseudo-terminals: stamps, waiting, saving, ports that are missing, busy or go away."""

from __future__ import annotations

import os
import pty
import stat
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import BenchBlocked
from rig.image.firmware import load_profiles
from rig.uart.bootlog import BootLog, LineSplitter, LogLine, visible
from rig.uart.markers import watch
from rig.uart.verdict import BootKind, judge
from tests.waiting import until

# A reader that dies of anything but a lost port, such as a port closed under it, fails the test it happens in.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

BYTE_NS = 10 * 1e9 / 115200
ENOUGH_S = 30.0


class Board:
    """The far end of a log port."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self._guard = threading.Lock()
        tty.setraw(self._master)
        self.port = os.ttyname(slave)
        os.close(slave)

    def says(self, text: str | bytes) -> None:
        os.write(self._master, text.encode() if isinstance(text, str) else text)

    def goes_away(self) -> None:
        """Once, whichever thread comes first: a timer or the end of a test."""
        with self._guard:
            if self._master >= 0:
                os.close(self._master)
            self._master = -1


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.goes_away()


@pytest.fixture
def log(board: Board) -> Iterator[BootLog]:
    with BootLog.open(board.port) as opened:
        yield opened


def test_lines_come_in_with_stamps(board: Board, log: BootLog) -> None:
    before = time.monotonic_ns()
    board.says("V:BK7231N_1.0.1\r\nJ 0x10000\r\n")
    line = log.wait_for("^J 0x", ENOUGH_S)
    assert line is not None
    assert [seen.text for seen in log.lines] == ["V:BK7231N_1.0.1", "J 0x10000"]
    assert before - 100 * BYTE_NS <= log.lines[0].mono_ns <= log.lines[1].mono_ns <= time.monotonic_ns()
    assert log.raw == b"V:BK7231N_1.0.1\r\nJ 0x10000\r\n"


def test_waiting_wakes_when_the_line_comes(board: Board, log: BootLog) -> None:
    threading.Timer(0.2, board.says, ["boot complete\n"]).start()
    begun = time.monotonic()
    assert log.wait_for(lambda line: line.text == "boot complete", ENOUGH_S) is not None
    assert time.monotonic() - begun < ENOUGH_S / 2


def test_waiting_ends_in_time(log: BootLog) -> None:
    begun = time.monotonic()
    assert log.wait_for("never", 0.1) is None
    assert 0.1 <= time.monotonic() - begun < ENOUGH_S


def test_half_a_line_counts_only_when_time_is_up(board: Board, log: BootLog) -> None:
    board.says("go os_addr(")
    assert until(lambda: log.raw == b"go os_addr(")
    assert log.wait_for("nothing", 0.2) is None
    assert [line.text for line in log.lines] == ["go os_addr("]
    found = log.wait_for("go os_addr", 0.1)
    assert found is not None
    board.says("0x10000)\n")
    whole = log.wait_for(r"0x10000\)$", ENOUGH_S)
    assert whole == LogLine(found.mono_ns, "go os_addr(0x10000)")


def test_waiting_for_what_comes_after_a_mark(board: Board, log: BootLog) -> None:
    board.says("J 0x10000\n")
    assert log.wait_for("J 0x", ENOUGH_S)
    mark = log.mark("power-on")
    assert log.wait_for("J 0x", 0.1, since_ns=mark) is None
    assert log.lines_since(mark) == []
    board.says("J 0x10000\n")
    found = log.wait_for("J 0x", ENOUGH_S, since_ns=mark)
    assert found is not None
    assert found.mono_ns >= mark
    assert log.lines_since(mark) == [found]


def test_saved_private_with_seconds_since_power_on(board: Board, tmp_path: Path) -> None:
    path = tmp_path / "unit" / "boot.log"
    with BootLog.open(board.port, path) as log:
        board.says("before\n")
        assert log.wait_for("before", ENOUGH_S)
        log.mark("power-on")
        board.says("after \xe9\n".encode("latin-1") + b"unfinished")
        assert until(lambda: log.raw.endswith(b"unfinished"))
        assert log.wait_for("unfinished", 0.2)
        log.mark("power-off")
    rows = path.read_text().splitlines()
    assert [row[13:] for row in rows] == [
        "before",
        "--- power-on ---",
        "after \\xe9",
        "unfinished",
        "--- power-off ---",
    ]
    stamps = [float(row[1:11]) for row in rows]
    assert stamps[0] <= 0 == stamps[1] <= stamps[2] < ENOUGH_S
    assert all(row[0] == "[" and row[11:13] == "] " for row in rows)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_port_that_goes_away_blocks(board: Board, log: BootLog) -> None:
    board.says("last words\n")
    assert log.wait_for("last words", ENOUGH_S)
    threading.Timer(0.1, board.goes_away).start()
    begun = time.monotonic()
    with pytest.raises(BenchBlocked, match="went away") as caught:
        log.wait_for("never", ENOUGH_S)
    assert time.monotonic() - begun < ENOUGH_S / 2
    assert caught.value.code == "port-lost"
    assert log.wait_for("last words", 0.1), "what came before is still there"


def test_a_missing_port(tmp_path: Path) -> None:
    with pytest.raises(BenchBlocked, match="there is no port") as caught:
        BootLog.open(str(tmp_path / "ttyUSB9"))
    assert caught.value.code == "port-lost"


def test_a_port_in_use(board: Board, log: BootLog) -> None:
    with pytest.raises(BenchBlocked, match="in use"):
        BootLog.open(board.port)


def test_closing_gives_back_thread_and_port(board: Board) -> None:
    log = BootLog.open(board.port)
    board.says("a\n")
    assert log.wait_for("a", ENOUGH_S)
    log.close()
    log.close()
    assert not [thread.name for thread in threading.enumerate() if board.port in thread.name]
    log.check()
    assert [line.text for line in log.lines] == ["a"]
    BootLog.open(board.port).close()


def test_closing_wakes_who_waits(board: Board) -> None:
    log = BootLog.open(board.port)
    threading.Timer(0.1, log.close).start()
    begun = time.monotonic()
    assert log.wait_for("never", ENOUGH_S) is None
    assert time.monotonic() - begun < ENOUGH_S / 2


def test_a_whole_boot_is_waited_for_and_judged(board: Board, log: BootLog) -> None:
    profiles = load_profiles()
    demo = next(profile for profile in profiles if profile.name == "rig-demo")
    mark = log.mark("power-on")
    board.says(b"\x00\xff\nrig-boot 1\nST:00000000\nJ 0x10000\nrig-demo BK7231N, version 1.0.0\n")
    board.says("reset cause 0 power-on\nradio ready\nalive 1\nboot complete\n")
    assert log.wait_for(watch(demo.log.complete), ENOUGH_S, since_ns=mark)
    found = judge(log.lines_since(mark), profiles)
    assert (found.kind, found.complete, found.version) == (BootKind.BOOTED, True, "1.0.0")


# --- without a port -----------------------------------------------------------------------------------------------


def test_a_line_is_stamped_with_its_first_byte() -> None:
    splitter = LineSplitter()
    read_ns = 10**9
    lines = splitter.feed(b"ab\ncde\nf", read_ns)
    stamps = {line.text: read_ns - line.mono_ns for line in lines}
    assert stamps == {"ab": round(7 * BYTE_NS), "cde": round(4 * BYTE_NS)}
    assert splitter.partial == LogLine(read_ns, "f")


def test_no_byte_came_before_the_read_before() -> None:
    splitter = LineSplitter()
    splitter.feed(b"a\n", 10**9)
    (line,) = splitter.feed(b"x" * 1000 + b"\n", 10**9 + 1000)
    assert line.mono_ns == 10**9


def test_no_byte_came_before_the_mark_before(board: Board, log: BootLog) -> None:
    mark = log.mark("power-on")
    board.says("x" * 2000 + "\n")  # a pseudo-terminal hands over in no time what a wire needs 174 ms for
    line = log.wait_for("x" * 2000, ENOUGH_S, since_ns=mark)
    assert line is not None
    assert mark <= line.mono_ns <= time.monotonic_ns()


def test_a_mark_told_late_moves_what_was_read_after_it(board: Board, log: BootLog) -> None:
    board.says("early\n")
    assert log.wait_for("early", ENOUGH_S)
    moment = time.monotonic_ns()
    board.says("y" * 2000 + "\nhalf")
    assert log.wait_for("y" * 2000, ENOUGH_S)
    assert until(lambda: log.raw.endswith(b"half"))
    assert log.wait_for("half", 0.2)
    assert log.mark("power-on", moment) == moment
    assert [line.text[:4] for line in log.lines_since(moment)] == ["yyyy", "half"]
    assert log.text().startswith(f"[{(log.lines[0].mono_ns - moment) / 1e9:10.3f}] early\n[     0.000] --- power-on")


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_lines_do_not_depend_on_how_they_were_read(data: bytes, cuts: list[int]) -> None:
    whole, parts = LineSplitter(), LineSplitter()
    expected = [line.text for line in whole.feed(data, 10**9)]
    at, texts, stamps = 0, [], []
    for number, cut in enumerate([*sorted(cuts), len(data)]):
        for line in parts.feed(data[at : max(at, cut)], 10**9 * (number + 1)):
            texts.append(line.text)
            stamps.append(line.mono_ns)
        at = max(at, cut)
    assert texts == expected
    assert stamps == sorted(stamps)
    assert (parts.partial is None) == (whole.partial is None)
    assert all(char.isprintable() or char == "\t" for text in texts for char in text)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain\r", "plain"),
        (b"\rplain", "plain"),
        (b"\x1b[32m", "\\x1b[32m"),
        (b"\xff\x00a\tb", "\\xff\\x00a\tb"),
        ("é".encode(), "é"),
        ("\x85".encode(), "\\xc2\\x85"),
    ],
)
def test_bytes_that_are_no_text_are_shown(raw: bytes, text: str) -> None:
    assert visible(raw) == text
