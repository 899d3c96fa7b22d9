"""Where the time on the wire went: sums by hand, cut without rest, and against the clock of an unmodified tool."""

from __future__ import annotations

import os
import re
import statistics
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import serial
from chip_on_wire import ChipOnWire
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.chip.client import RomClient
from rig.errors import UsageProblem
from rig.flashers import load_flasher
from rig.flashers.native import NativeFlasher
from rig.sim.flash import NorFlash
from rig.sim.flashtimes import ChipTimes
from rig.uart.accounting import account, shares, table
from rig.uart.guard import Guard
from rig.uart.tap import Tap
from rig.uart.trace import Command, page

MS = 1_000_000
SECTOR_S = 0.398  # a sector at 115200 baud in the log below, its median
LOG = "ds121_ltchiptool_write_log_4085447.txt"


def command(name: str, begun: float, took: float, out: int = 13, back: int = 16, **more: object) -> Command:
    """`begun` and `took` in milliseconds."""
    start = round(begun * MS)
    fields = {"address": None, "answered": True, "reply_end_ns": start + round(took * MS)} | more
    return Command(name, begun_ns=start, sent_ns=start, size=out, reply_size=back, **fields)  # type: ignore[arg-type]


def test_a_write_of_a_sector_by_hand() -> None:
    """115200 baud: 11520 bytes a second."""
    sums = account(
        [
            command("erase", 100, 27.5174),  # 29 bytes: 2.5174 ms
            command("write-4k", 128, 358.5, 4108, 15),  # 4123 bytes: 357.8993 ms
            command("check-crc", 490, 11.4333, 13, 11),  # 24 bytes: 2.0833 ms
        ],
        began_ns=40 * MS,
        ended_ns=510 * MS,
    )
    rows = {row.name: row for row in sums.rows}
    assert rows["erase"].wire_s == pytest.approx(2.5174e-3, abs=1e-6)
    assert rows["erase"].chip_s == pytest.approx(25e-3, abs=1e-6)
    assert rows["write-4k"].host_s == pytest.approx(0.4826e-3, abs=1e-6)
    assert rows["write-4k"].chip_s == pytest.approx(0.6007e-3, abs=1e-6)
    assert rows["check-crc"].host_s == pytest.approx(3.5e-3, abs=1e-6)
    assert rows["check-crc"].chip_s == pytest.approx(9.35e-3, abs=1e-6)
    assert (sums.before_s, sums.after_s) == (pytest.approx(0.060), pytest.approx(8.5667e-3))
    assert sums.wall_s == pytest.approx(0.470)
    assert (sums.total.count, sums.total.bytes_out, sums.total.bytes_in) == (3, 4134, 42)
    assert sums.rows[0].name == "write-4k"  # the costliest first


def test_a_lost_reply_and_its_retry() -> None:
    found = list(
        shares(
            [
                command("erase", 0, 30, head="20"),
                command("write-4k", 40, 0, 4108, 0, address=0x1000, answered=False, reply_end_ns=0),
                command("erase", 1400, 30, head="20"),
                command("write-4k", 1440, 360, 4108, 15, address=0x1000),
                command("check-crc", 1810, 10, 13, 11, head="aa"),
                command("check-crc", 1830, 10, 13, 11, head="aa"),  # before and after an erase: no retry
            ]
        )
    )
    assert [share.again for share in found] == [False, False, True, True, False, False]
    lost = found[1]
    assert lost.lost
    assert lost.wire_s == pytest.approx(4108 * 10 / 115200)
    assert lost.lost_s == pytest.approx(1.36 - lost.wire_s)
    assert found[2].host_s == 0
    assert sum(share.host_s + share.wire_s + share.chip_s + share.lost_s for share in found) == pytest.approx(1.84)


def test_what_repeats_is_a_retry_only_within_one_operation() -> None:
    read = {"address": 0x11000, "out": 12, "back": 4111}
    names = [
        command("read-4k", 0, 400, **read),
        command("spi-op", 400, 3),  # it asks who the flash is: what it read before was a probe
        command("read-4k", 500, 400, **read),
        command("check-crc", 900, 10),
        command("read-4k", 1000, 400, **read),  # the CRC differed
        command("read-sr", 1500, 1, answered=False, head="05"),
        command("read-sr", 2500, 2, head="05"),
        command("read-sr", 2600, 2, head="05", status=6),
        command("read-sr", 2700, 2, head="05"),
    ]
    assert [share.again for share in shares(names)] == [False] * 4 + [True, False, True, False, True]
    assert account(names).row("read-sr").retries == 2


def test_a_row_of_link_checks_waits_for_the_board() -> None:
    linked = command("link-check", 900, 2, 5, 8, first_ns=100 * MS, waited_ns=790 * MS, sent=160)
    row = account([linked, command("read-reg", 903, 4, 9, 15)]).row("link-check")
    assert (row.count, row.bytes_out, row.unanswered) == (160, 800, 0)
    assert row.lost_s == pytest.approx(0.790)
    assert row.host_s == pytest.approx(0.010)
    assert row.wire_s == pytest.approx(13 * 10 / 115200)


def test_what_was_stopped_costs_no_wire_and_a_reboot_is_no_lost_reply() -> None:
    stopped = command("erase-all", 5, 0, 9, 0, answered=False, reply_end_ns=0, refused="not on the list")
    reboot = command("reboot", 20, 0, 6, 0, answered=False, reply_end_ns=0)
    pulse = Command("reset-pulse", None, 100 * MS, 400 * MS)
    sums = account([stopped, reboot, pulse])
    assert (sums.total.stopped, sums.total.unanswered, sums.total.lost_s) == (1, 0, 0)
    assert sums.row("erase-all").wire_s == 0
    assert sums.row("reset-pulse").host_s == pytest.approx(0.380)
    assert sums.wall_s == pytest.approx(0.395)
    text = page([stopped, reboot, pulse])
    assert "erase-all 9 > 0 bytes at 115200  [STOPPED: not on the list]" in text
    assert "1 stopped by the guard" in text


def test_nothing_passed() -> None:
    assert account([]).wall_s == 0
    assert page([]) == "Nothing passed on the wire.\n"
    assert table(account([]))[-1] == "in all 0.000 s"


times = st.integers(0, 2_000 * MS)
any_command = st.builds(
    lambda name, begun, sent, took, out, back, answered, refused, row: Command(
        name,
        0x1000,
        begun,
        begun + sent,
        reply_end_ns=begun + took if back else 0,
        size=out,
        reply_size=back,
        answered=answered and back > 0,
        refused="no" if refused else None,
        first_ns=max(0, begun - row),
        waited_ns=min(row, begun),
        sent=1 + bool(row),
    ),
    st.sampled_from(["erase", "read-4k", "write-4k", "link-check", "reboot", "spi-op", "reset-pulse"]),
    times, st.integers(0, 5 * MS), st.integers(0, 400 * MS), st.sampled_from([0, 5, 4108]),
    st.sampled_from([0, 8, 4111]), st.booleans(), st.booleans(), st.sampled_from([0, 0, 300 * MS]),
)  # fmt: skip


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(any_command, min_size=1, max_size=8))
def test_time_is_cut_without_rest_and_without_overlap(commands: list[Command]) -> None:
    commands.sort(key=lambda each: each.starts_ns)
    found = list(shares(commands))
    for share in found:
        assert min(share.host_s, share.wire_s, share.chip_s, share.lost_s) >= 0
    total = sum(share.host_s + share.wire_s + share.chip_s + share.lost_s for share in found)
    last = max(max(each.begun_ns, each.sent_ns, each.reply_end_ns) for each in commands)
    assert total == pytest.approx((last - commands[0].starts_ns) / 1e9, abs=1e-9)
    sums = account(commands)
    assert sums.wall_s == pytest.approx(total)
    assert sums.total.count == sum(each.sent for each in commands)


# -- a chip at its real pace ---------------------------------------------------------------------------------


class TapLink:
    """A board as a flasher reaches it: the tap, and a chip that gets its power at the first link check."""

    def __init__(self, tap: Tap, chip: ChipOnWire, baud: int) -> None:
        self._tap, self._chip, self.baud = tap, chip, baud
        self.path, self.lines, self.power_on_ns = tap.path, tap.lines, 0

    def prepare(self) -> None:
        self._tap.hold()
        self._chip.switch(False)
        self._tap.arm()

    def off(self) -> bool:
        self._chip.switch(False)
        return True

    def sample(self) -> None: ...

    def check(self) -> None:
        self._tap.check()
        assert self._tap.guard.refusals == []


@contextmanager
def a_link(baud: int) -> Iterator[tuple[TapLink, Tap, ChipOnWire]]:
    guard = Guard()
    guard.allow_writes([(0x11000, 0x40000)])
    content = bytes(0x11000) + bytes(range(256)) * 0x1EF0
    with ChipOnWire(NorFlash(content), speed=1.0) as chip:
        chip.powered = False
        with Tap(chip.path, guard, on_link=lambda: chip.switch(True)) as tap:
            link = TapLink(tap, chip, baud)
            tap.on_pulse = lambda: link.prepare() or True  # type: ignore[func-returns-value]
            yield link, tap, chip


def test_the_chip_s_share_is_what_the_chip_takes() -> None:
    """What is not the wire's is the simulated chip's own time, and what this machine needs to wake up."""
    times = ChipTimes()
    with a_link(921600) as (link, tap, _):
        flasher = NativeFlasher()
        began = time.monotonic_ns()
        flasher.write(link, [(0x11000, b"\x5a" * 0x4000)])
        flasher.crc(link, 0x11000, 0x4000)
        ended = time.monotonic_ns()
        flasher.close()
        sums = account(tap.commands, began, ended)
    row = sums.row
    assert row("write-4k").count == 4
    assert row("write-4k").wire_s == pytest.approx(4 * 4123 * 10 / 921600, rel=1e-6)
    # a machine with much else to do only ever makes it more, and not each time
    assert times.page < least(tap, "write-4k") < times.page + 0.1
    assert times.erase_4k < least(tap, "erase") < times.erase_4k + 0.1
    assert least(tap, "read-4k") < 0.1
    asked = [each for each in sums.rows if each.name != "link-check"]  # those begin before the chip has woken up
    assert sum(each.retries + each.unanswered for each in asked) == 0
    assert sums.wall_s == pytest.approx((ended - began) / 1e9, rel=0.02)


def least(tap: Tap, name: str) -> float:
    """Seconds of the chip in the quickest of these commands; 0 where none passed."""
    return min((share.chip_s for share in shares(tap.commands) if share.command.name == name), default=0.0)


def released(folder: Path):
    try:
        return load_flasher("ltchiptool==4.15.0", work=folder)
    except UsageProblem as problem:
        if "cannot be reached" in str(problem):
            pytest.skip(str(problem))
        raise


def written(tap: Tap) -> list[float]:
    """Seconds from one sector's erase to the next one's, without the first: it is erased with a CRC before."""
    erases = [each.begun_ns for each in tap.commands if each.name == "erase"]
    return [(after - before) / 1e9 for before, after in pairwise(erases[1:])]


def check_write(tmp_path: Path, sectors: int) -> None:
    """One write of ltchiptool at 115200: its own clock, the kept log's pace, and the parts of the sum."""
    flasher = released(tmp_path)
    data = bytes(range(1, 256)) * (sectors * 0x1000 // 255 + 1)
    with a_link(115200) as (link, tap, chip):
        began = time.monotonic_ns()
        result = flasher.write(link, [(0x11000, data[: sectors * 0x1000])])
        ended = time.monotonic_ns()
        assert chip.flash.read(0x11000, sectors * 0x1000) == data[: sectors * 0x1000]
        sums, commands = account(tap.commands, began, ended), list(tap.commands)
        paces = written(tap)
    # a machine with much else to do only ever makes it slower: that it is no slower is told by its parts
    assert statistics.median(paces) > SECTOR_S * 0.90
    # Other clocks: the process's, from its start to its end, and the tool's own, from before it opens its port.
    assert sums.wall_s == pytest.approx((ended - began) / 1e9, rel=0.02)
    said = float(re.findall(r"Finished in ([\d.]+) s", result.output)[-1])
    assert sums.total.seconds < said < result.seconds < sums.wall_s
    # The parts, from what they are made of and not from the clock: frames at their baud, the chip's own times.
    times, erases = ChipTimes(), sums.row("erase").count
    sizes = [(each.size, each.reply_size) for each in commands if each.name in ("erase", "write-4k")]
    assert sorted(set(sizes)) == [(13, 16), (4108, 15)]
    wire = (erases * (13 + 16) + sums.row("write-4k").count * (4108 + 15)) * 10 / 115200
    assert sums.row("erase").wire_s + sums.row("write-4k").wire_s == pytest.approx(wire, rel=1e-6)
    pace = wire / sectors + times.erase_4k + times.page
    assert pace == pytest.approx(SECTOR_S, rel=0.10)
    assert times.erase_4k < least(tap, "erase") < times.erase_4k + 0.1
    assert times.page < least(tap, "write-4k") < times.page + 0.1
    crcs = [each for each in commands if each.name == "check-crc"]
    asked = sum(struct.unpack("<II", bytes.fromhex(each.head or ""))[1] - (each.address or 0) + 1 for each in crcs)
    chip = erases * times.erase_4k + sums.row("write-4k").count * times.page + asked / times.crc_bytes_per_s
    parts = sums.total.wire_s + chip + sums.total.host_s + sums.total.lost_s
    assert parts < sums.total.seconds * 1.02
    assert (sums.total.retries, sums.total.unanswered, sums.total.stopped) == (0, 0, 0)


def test_ltchiptool_writes_at_the_pace_of_the_kept_log(tmp_path: Path) -> None:
    check_write(tmp_path, 4)


@pytest.mark.soak
def test_ltchiptool_writes_for_a_minute_at_the_pace_of_the_kept_log(tmp_path: Path) -> None:
    check_write(tmp_path, 64)


def test_the_pace_is_that_of_the_log() -> None:
    folder = os.environ.get("RIG_LOG_DIR")
    if not folder:
        pytest.skip("RIG_LOG_DIR is not set")
    rows = re.findall(r"\[ *([\d.]+)\].*Erasing and writing at 0x(\w+)", (Path(folder) / LOG).read_text())
    stamps = [float(stamp) for stamp, _ in rows[1:]]
    assert len(stamps) >= 10
    assert statistics.median(b - a for a, b in pairwise(stamps)) == pytest.approx(SECTOR_S, abs=0.001)


def test_a_client_s_gaps_are_the_host_s(tmp_path: Path) -> None:
    with a_link(115200) as (link, tap, _):
        link.prepare()
        with serial.Serial(link.path, 115200, timeout=0.005) as port:
            client = RomClient(port)
            client.link(3)
            asked = time.monotonic()
            client.read_register(0x800000)
            began = time.monotonic()
            while time.monotonic() < began + 0.2:
                port.read(1)
            client.read_register(0x800000)
            answered = time.monotonic()
        *_, second = (share for share in shares(tap.commands) if share.command.name == "read-reg")
    assert 0.19 < second.host_s < answered - asked
