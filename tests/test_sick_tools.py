"""Tools that hang, crash, flood or lie: each run ends, in bounded memory, with its exit on record and nobody left."""

from __future__ import annotations

import os
import signal
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import UnitFailed
from rig.flashers import load_flasher
from rig.flashers.external import ExternalFlasher
from rig.flashers.process import Kept, Run, run_tool
from tests.sick_tools import FLOOD, fall_ill
from tests.test_flashers_external import FakeLink, alive
from tests.waiting import until

BOUND = 12_000_000  # bytes of memory; the shortest flood here has 20,000,000


@pytest.fixture
def link() -> Iterator[FakeLink]:
    link = FakeLink()
    yield link
    link.close()


def sick(folder: Path, name: str, **patience: float) -> ExternalFlasher:
    fall_ill(folder, name, **patience)
    flasher = load_flasher(name, folders=[folder / "flashers"], work=folder)
    assert isinstance(flasher, ExternalFlasher)
    return flasher


def children(output: str) -> list[int]:
    return [int(pid) for line in output.splitlines() if line.startswith("child ") for pid in line.split()[1:]]


@pytest.mark.parametrize(
    ("name", "sentence", "exit_code"),
    [
        ("hang", "hang hung: it printed nothing for 0.5 s and was ended", -signal.SIGKILL),
        ("busy", "busy was not done after 1 s and was ended", -signal.SIGKILL),
        ("traceback", "said: KeyError: 'flash size'", 1),
        ("segfault", f"ended with exit code {-signal.SIGSEGV}; its last line: linked", -signal.SIGSEGV),
        ("flood-forever", "flood-forever was not done after 1 s and was ended", -signal.SIGKILL),
    ],
)
def test_it_ends_and_is_on_record(tmp_path: Path, link: FakeLink, name: str, sentence: str, exit_code: int) -> None:
    flasher = sick(tmp_path, name, silence=0.5, start=1.0)
    with pytest.raises(UnitFailed, match=sentence) as failure:
        flasher.write(link, [(0x11000, b"x")])
    assert failure.value.code == "flasher-failed"
    pids = children(flasher.last_output)
    assert name not in ("hang", "busy") or pids
    assert until(lambda: not any(map(alive, pids))), "what is killed is gone a moment later"
    assert f"# exit code {exit_code} after " in (tmp_path / "flasher-01-write.txt").read_text()


def test_a_child_that_holds_the_output_is_not_waited_for(tmp_path: Path, link: FakeLink) -> None:
    flasher = sick(tmp_path, "orphan")
    assert flasher.write(link, [(0x11000, b"x")]).ok
    (child,) = children(flasher.last_output)
    assert until(lambda: not alive(child))


def test_who_says_done_and_does_nothing_is_believed_by_nobody_who_looks(tmp_path: Path, link: FakeLink) -> None:
    """A write is judged by `rig.flashers.judge`, a read by the file."""
    flasher = sick(tmp_path, "says-done")
    assert flasher.write(link, [(0x11000, b"x")]).said == "wrote 1 bytes"
    with pytest.raises(UnitFailed, match="says it is done and left 0 of 16 bytes"):
        flasher.read(link, 0x11000, 16)


@pytest.mark.parametrize(
    ("name", "size", "lines"),
    [
        ("flood", 20_000_000, 20_000_000 // 921),
        ("endless-line", 20_000_000, 20_000_000 // 0x20000),
        pytest.param("flood", FLOOD, FLOOD // 921, marks=pytest.mark.soak),
        pytest.param("endless-line", FLOOD, FLOOD // 0x20000, marks=pytest.mark.soak),
    ],
)
def test_a_flood_is_kept_in_bounded_memory(tmp_path: Path, name: str, size: int, lines: int) -> None:
    fall_ill(tmp_path, name)
    program = tmp_path / "bin" / name
    program.write_text(program.read_text().replace(str(FLOOD), str(size)))
    run, heard = Run((str(program), "-", "-")), 0

    def hear(line: str) -> None:
        nonlocal heard
        heard += 1

    tracemalloc.start()
    try:
        run_tool(run, folder=tmp_path, path=tmp_path, silence=60, limit=600, check=lambda: None, on_line=hear)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < BOUND
    assert run.exit_code == 0
    assert run.lines[0] == "linked"
    assert run.lines[-1] == "done"
    assert heard >= lines * 0.99  # its judge has seen every line; it prints 64 at once
    assert isinstance(run.lines, Kept)
    assert len(run.lines) + run.lines.dropped == heard
    assert ("lines left out here)" in run.output) == (run.lines.dropped > 0)
    assert len(run.output) < BOUND


@settings(max_examples=60, derandomize=True, deadline=None)
@given(most=st.integers(1, 5), lines=st.lists(st.text("ab", max_size=3), max_size=60))
def test_the_first_and_the_last_lines_are_kept(most: int, lines: list[str]) -> None:
    kept = Kept(most)
    for line in lines:
        kept.append(line)
    assert len(kept) <= 3 * most
    assert len(kept) + kept.dropped == len(lines)
    assert kept[:most] == lines[:most]
    assert kept[-most:] == lines[-most:]
    gaps = [line for line in kept.told if "left out" in line]
    assert gaps == ([f"({kept.dropped} lines left out here)"] if kept.dropped else [])


def test_of_a_long_line_the_beginning_is_kept() -> None:
    kept = Kept()
    kept.append("x" * 5000)
    assert kept == [f"{'x' * 4000} (1000 characters more)"]


def test_its_process_group_is_its_own() -> None:
    """What is ended with it must not be us."""
    run = Run(("/bin/sh", "-c", "ps -o pgid= -p $$"))
    run_tool(run, folder=Path("/"), path=Path("/bin"), silence=20, limit=20, check=lambda: None)
    assert int(run.lines[0]) != os.getpgrp()
