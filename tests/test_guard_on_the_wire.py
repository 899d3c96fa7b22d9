"""The guard where it stands: frames that may not pass, typed at the tap, split and joined at any byte, and what an
unmodified tool sends. The board behind it does not change, and what the run ends with says why."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig.bench.link import SlotLink
from rig.chip.frames import Header, Reply, ReplyParser, Request, RequestScanner
from rig.errors import BenchBlocked
from rig.uart.guard import Guard, answer
from tests.chip_on_wire import EFUSE
from tests.test_guard import ALWAYS, NEVER, NEVER_EVEN_OPEN, WRITES, header
from tests.test_tap import NOISE, READ_CHIP_ID, Table, a_table
from tests.waiting import until

CHIP_ID = bytes.fromhex("040e0c01e0fc03000080001c230700")
SHORT_CODES = {0x00, 0x01, 0x03, 0x0E, 0x0F, 0x10, 0x11}  # the allow-list, in other words than the guard's
LONG_CODES = {0x06, 0x07, 0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F}
OUTSIDE = [Request(code, bytes(4)) for code in range(256) if code not in SHORT_CODES]
OUTSIDE += [Request(code, bytes(4), long=True) for code in range(256) if code not in LONG_CODES]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """One chip for all: nothing that is tried here changes it. A frame cut off is forgotten at once."""
    with a_table() as table:
        table.linked()
        yield table


class Power:
    """What a link needs of a supply that is well."""

    on_ns = 1

    def check(self) -> None: ...


def verdict(table: Table) -> BenchBlocked:
    """What the run ends with."""
    with pytest.raises(BenchBlocked) as caught:
        SlotLink(table.tap, Power(), 921600).check()  # type: ignore[arg-type]
    return caught.value


def sent(table: Table, pieces: Sequence[bytes]) -> list[Reply]:
    """Write the pieces one by one, then ask for the chip's id; all replies until it came."""
    for piece in pieces:
        table.port.write(piece)
        table.port.flush()
        if len(pieces) > 1:
            until(lambda: not table.port.out_waiting)
    table.port.write(READ_CHIP_ID)
    parser, found = ReplyParser(), []

    def answered() -> bool:
        found.extend(parser.feed(table.port.read(max(1, table.port.in_waiting))))
        return bool(found) and found[-1].code == 3 and not found[-1].long and len(found[-1].payload) == 8

    assert until(answered), found
    return found


def check_untouched(table: Table, heard: int) -> None:
    """The chip has what it had, and heard only frames that may pass."""
    assert table.chip.efuse == EFUSE
    assert table.chip.flash.erases == {}
    assert table.chip.flash.sr == 0
    assert bytes(table.chip.flash.data) == NOISE
    frames: list[Header] = []
    RequestScanner(lambda header: bool(frames.append(header)) or True).feed(bytes(table.chip.heard[heard:]))
    guard = Guard()
    assert [frame.name for frame in frames if guard.decide(frame)] == []


def test_every_opcode_outside_the_allow_list_is_stopped(table: Table) -> None:
    """All of them joined, in pieces of any size."""
    heard, before = len(table.chip.heard), len(table.guard.refusals)
    stream, cuts = b"".join(request.encode() for request in OUTSIDE), random.Random(5)
    assert len(OUTSIDE) == 512 - 16
    pieces = []
    while stream:
        size = cuts.randrange(1, 60)
        pieces, stream = [*pieces, stream[:size]], stream[size:]
    replies = sent(table, pieces)
    check_untouched(table, heard)
    stopped = table.guard.refusals[before:]
    assert [refusal.command for refusal in stopped] == [request.name for request in OUTSIDE]
    assert {refusal.rule for refusal in stopped} == {"not on the list of commands that may pass"}
    assert [(reply.code, reply.long) for reply in replies[:-1]] == [(each.code, each.long) for each in OUTSIDE]
    assert all(reply.status in (6, 7) for reply in replies if reply.long)
    assert all(reply.payload in (b"\x06", b"\x07") for reply in replies[:-1] if not reply.long)
    problem = verdict(table)
    assert problem.code == "guard-stopped"
    assert str(problem) == "the guard stopped long-ff: not on the list of commands that may pass"


@pytest.mark.parametrize("name", [*NEVER, *WRITES])
def test_what_may_not_pass_without_a_backup_is_stopped_and_named(name: str, table: Table) -> None:
    request = {**NEVER, **WRITES}[name]
    heard = len(table.chip.heard)
    replies = sent(table, [request.encode()])
    check_untouched(table, heard)
    refusal = table.guard.refusals[-1]
    assert refusal == Guard().decide(header(request))
    problem = verdict(table)
    assert problem.code == "guard-stopped"
    assert str(problem) == f"the guard stopped {refusal}"
    assert (replies[0].code, replies[0].long) == (request.code, request.long)


FORBIDDEN = [*OUTSIDE, *NEVER.values(), *WRITES.values(), *NEVER_EVEN_OPEN.values()]
ALLOWED = [request for name, request in ALWAYS.items() if name not in ("baud", "reboot", "crc")]


@settings(
    derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.sampled_from(FORBIDDEN), min_size=1, max_size=3),
    st.sampled_from([b"", b"\x01", b"\x01\xe0", b"\xff\x01\xe0\xfc", b"reboot\r\n", ALLOWED[0].encode()]),
    st.lists(st.integers(1, 40), max_size=4),
)
def test_stopped_however_it_is_split_and_joined(
    table: Table, requests: list[Request], before: bytes, cuts: list[int]
) -> None:
    """What stands before it may swallow its beginning: then it is no frame to the chip either."""
    heard, stopped = len(table.chip.heard), len(table.guard.refusals)
    table.tap._scanner.reset()  # what the last example left half said
    raw = before + b"".join(request.encode() for request in requests)
    pieces, at = [], 0
    for cut in cuts:
        pieces, at = [*pieces, raw[at : at + cut]], at + cut
    with contextlib.suppress(AssertionError):  # a cut-off frame may take the question for its rest
        sent(table, [*filter(None, pieces), *([raw[at:]] if raw[at:] else [])])
    check_untouched(table, heard)
    assert len(table.guard.refusals) - stopped == len(requests)


def test_the_answer_never_comes_into_another_reply() -> None:
    """A tool that asks on while a sector comes in: it hears all of the sector first."""
    with a_table(speed=4) as table:
        table.linked()
        table.port.write(Request(0x09, bytes(4), long=True).encode())
        assert until(lambda: table.port.in_waiting > 100)
        table.port.write(WRITES["erase 4k"].encode() + NEVER["erase all"].encode())
        parser, found = ReplyParser(), []
        assert until(lambda: found.extend(parser.feed(table.port.read(0x1000))) or len(found) == 3)
    assert [reply.code for reply in found] == [0x09, 0x0F, 0x0A]
    assert found[0].payload == bytes(4) + NOISE[:0x1000]
    assert (found[0].status, found[1].status) == (0, 6)
    assert parser.skipped == 0
    read, erase, _ = table.tap.commands[-3:]
    assert (read.answered, read.reply_size) == (True, 0x1000 + 15)
    assert not erase.answered


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.sampled_from(FORBIDDEN))
def test_the_answer_to_what_was_stopped_is_a_reply_of_its_kind(request: Request) -> None:
    (reply,) = ReplyParser().feed(answer(header(request)))
    assert (reply.code, reply.long) == (request.code, request.long)
    if request.long:
        assert reply.status in (6, 7)
        assert (reply.status == 7) == (reply.code not in {*range(0x06, 0x10)})
    else:
        assert reply.payload[0] in (6, 7)


# -- an unmodified tool --------------------------------------------------------------------------------------
# No release of ltchiptool or bk7231tools has a command that writes an efuse, erases all or sets a one-time bit. Their
# library writes registers and status registers; and a status register whose one-time bits are set is written back as
# it is, without its protection bits.


@pytest.fixture
def tool(table: Table):
    """bk7231tools' own client at the tap, of the release that is installed for tests."""
    serial_module = pytest.importorskip("bk7231tools.serial")
    table.tap._scanner.reset()
    client = serial_module.BK7231Serial(port=table.tap.path, baudrate=115200, link_timeout=2.0, cmnd_timeout=1.0)
    try:
        client.connect()
        yield client
    finally:
        client.close()


def test_an_efuse_write_of_a_tool_is_stopped(table: Table, tool) -> None:
    heard = len(table.chip.heard)
    with pytest.raises(Exception):  # noqa: B017 - it cannot read a refusal of a register write
        tool.register_write(0x800074, 0xFF0003 | 9 << 8)
    check_untouched(table, heard)
    assert str(verdict(table)) == (
        "the guard stopped write-reg at 0x800074: an efuse write never passes: it cannot be undone"
    )


def test_one_time_bits_of_a_tool_are_stopped(table: Table, tool) -> None:
    heard = len(table.chip.heard)
    table.guard.allow_writes([(0, 0x200000)])
    try:
        with pytest.raises(RuntimeError, match="Writing Status Register failed"):
            tool.flash_write_sr(0x0800, 2)
    finally:
        table.guard.forbid_writes()
    check_untouched(table, heard)
    assert str(verdict(table)) == "the guard stopped write-sr: sets one-time lock bits of the flash"


def test_a_write_of_a_tool_before_the_backup_is_stopped(table: Table, tool) -> None:
    heard = len(table.chip.heard)
    packets = pytest.importorskip("bk7231tools.serial.base.packets")
    with pytest.raises(ValueError, match="Non-zero status code"):
        tool.command(packets.BkFlashWrite4KCmnd(0x12000, bytes(0x1000)))
    check_untouched(table, heard)  # it adds the flash's size to an address
    assert str(verdict(table)) == "the guard stopped write-4k at 0x212000: comes before this board's backup is safe"
