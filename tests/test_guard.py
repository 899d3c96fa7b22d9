"""The guard: every command of the protocol, and what the guard lets through of it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.chip.frames import Header, Request, RequestScanner
from rig.uart.guard import Guard, Refusal

EFUSE_CTRL = 0x00800074
MB2 = 0x200000
OPEN = [(0x11000, 0x20000), (0x1D0000, 0x1000)]  # up to 0x31000


def header(request: Request) -> Header:
    found: list[Header] = []
    RequestScanner(lambda header: bool(found.append(header)) or True).feed(request.encode())
    return found[0]


def short(code: int, payload: bytes = b"") -> Request:
    return Request(code, payload)


def long(code: int, payload: bytes = b"") -> Request:
    return Request(code, payload, long=True)


def at(address: int, rest: bytes = b"") -> bytes:
    return struct.pack("<I", address) + rest


def write_reg(address: int, value: int) -> Request:
    return short(0x01, struct.pack("<II", address, value))


def erase(size: int, address: int) -> Request:
    return long(0x0F, bytes((size,)) + at(address))


def rule(request: Request, ranges: list[tuple[int, int]] | None = None) -> str | None:
    guard = Guard()
    if ranges is not None:
        guard.allow_writes(ranges)
    refusal = guard.decide(header(request))
    assert guard.refusals == ([refusal] if refusal else [])
    return refusal.rule if refusal else None


ALWAYS = {
    "link check": short(0x00),
    "baud": short(0x0F, struct.pack("<IB", 921600, 20)),
    "reboot": short(0x0E, b"\xa5"),
    "crc": short(0x10, struct.pack("<II", 0, MB2 - 1)),
    "boot version": short(0x11),
    "read register": short(0x03, at(0x800000)),
    "read 4k": long(0x09, at(0x211000)),
    "read 4k, wrapped twice": long(0x09, at(2 * MB2 + 0x11000)),
    "read 256": long(0x08, at(0, b"\xff")),
    "read status register": long(0x0C, b"\x05"),
    "read second status register": long(0x0C, b"\x35"),
    "read third status register": long(0x0C, b"\x15"),
    "jedec id": long(0x0E, b"\x9f\0\0\0"),
    "start an efuse read": write_reg(EFUSE_CTRL, 7 << 8 | 1),
}

NEVER = {
    "efuse write": write_reg(EFUSE_CTRL, 0xA8 << 16 | 7 << 8 | 3),
    "efuse direction bit alone": write_reg(EFUSE_CTRL, 2),
    "efuse data register": write_reg(0x00800078, 0),
    "watchdog register": write_reg(0x00802900, 0x5A0001),
    "a register beside the efuse's": write_reg(EFUSE_CTRL + 1, 1),
    "write register, a byte short": short(0x01, struct.pack("<II", EFUSE_CTRL, 1)[:7]),
    "write register, a byte long": short(0x01, struct.pack("<II", EFUSE_CTRL, 1) + b"\x02"),
    "write register as a long frame": long(0x01, struct.pack("<II", EFUSE_CTRL, 3)),
    "erase all": long(0x0A, b"\x05"),
    "write enable in a status register's read": long(0x0C, b"\x06"),
    "chip erase in a status register's read": long(0x0C, b"\xc7"),
    "read status register, no opcode": long(0x0C),
    "spi write enable": long(0x0E, b"\x06\0\0\0"),
    "spi chip erase": long(0x0E, b"\xc7\0\0\0"),
    "spi write status": long(0x0E, b"\x01\0\0\0"),
    "jedec id and more": long(0x0E, b"\x9f\0\0\0\0"),
    "jedec id, other filler": long(0x0E, b"\x9f\0\0\x01"),
    "reset": short(0x70, b"SEAN"),
    "stay in rom": short(0xAA, b"\x55"),
    "old reset": short(0xFE, b"\x95\x27\x95\x27"),
    "reboot, another byte": short(0x0E, b"\x00"),
    "reboot, no byte": short(0x0E),
    "read 4k where no flash is": long(0x09, at(0x1000000)),
    "read 256 where no flash is": long(0x08, at(0xFC0000, b"\xff")),
    "crc from where no flash is": short(0x10, struct.pack("<II", 0xFFFCE001, 0x0B0005F4)),
    "crc to where no flash is": short(0x10, struct.pack("<II", 0, 0xFC0000)),
    "read 4k at a frame's beginning": long(0x09, at(0x00FCE001)),
    "write at a frame's beginning": long(0x07, at(0x00FCE001, bytes(4096))),
    "erase at a frame's beginning": erase(0x20, 0x00FCE001),
    "register whose address begins a frame": short(0x03, at(0x09FCE001)),
    "baud that begins a frame": short(0x0F, bytes.fromhex("01e0fc0100")),
    "efuse read whose value begins a frame": write_reg(EFUSE_CTRL, 0x09FCE001),
    "boot loader link": short(0x02),
    "unknown short": short(0x42),
    "unknown long": long(0x10, at(0)),
    "erase as a short frame's code": short(0x0B, at(0x11000)),
}

WRITES = {
    "erase 4k": erase(0x20, 0x12000),
    "erase 64k": erase(0xD8, 0x20000),
    "erase 32k": erase(0x52, 0x18000),
    "erase-4k": long(0x0B, at(0x11000)),
    "first sector": long(0x07, at(0x11000, bytes(4096))),
    "last sector": long(0x07, at(0x30000, bytes(4096))),
    "a sector of the second range": long(0x07, at(0x1D0000, bytes(4096))),
    "write 256": long(0x06, at(0x30F00, bytes(256))),
    "write 8 at the end": long(0x06, at(0x30FF8, bytes(8))),
    "wrapped address": long(0x07, at(MB2 + 0x11000, bytes(4096))),
    "wrapped erase": erase(0x20, MB2 + 0x30000),
    "unprotect": long(0x0D, b"\x01\0\0"),
    "unprotect, one byte": long(0x0D, b"\x01\0"),
    "protect": long(0x0D, b"\x01\x1c\0"),
    "quad enable": long(0x0D, b"\x01\0\x02"),
}

NEVER_EVEN_OPEN = {
    "sector before": long(0x07, at(0x10000, bytes(4096))),
    "sector after": long(0x07, at(0x31000, bytes(4096))),
    "half outside": long(0x07, at(0x30800, bytes(4096))),
    "bootloader": erase(0x20, 0),
    "64k that begins before": erase(0xD8, 0x10000),
    "64k that ends after": erase(0xD8, 0x30000),
    "64k at an odd address that covers more": erase(0xD8, 0x2F000 + 0x1000),
    "64k over the calibration's neighbours": erase(0xD8, 0x1D0000),
    "32k that ends after": erase(0x52, 0x30000),
    "erase of no size": erase(0x33, 0x12000),
    "wrapped outside": long(0x07, at(MB2 + 0x31000, bytes(4096))),
    "write 256 over the end": long(0x06, at(0x30F80, bytes(256))),
    "write 256 without data": long(0x06, at(0x12000)),
    "write 256 with 257": long(0x06, at(0x12000, bytes(257))),
    "a short sector": long(0x07, at(0x12000, bytes(4095))),
    "a long sector": long(0x07, at(0x12000, bytes(4097))),
    "lock bit": long(0x0D, b"\x01\0\x08"),
    "status register locked for good": long(0x0D, b"\x01\0\x01"),
    "second status register alone": long(0x0D, b"\x31\x02"),
    "status register, three bytes": long(0x0D, b"\x01\0\0\0"),
    "wrap over the end of the die": long(0x07, at(MB2 - 0x800, bytes(4096))),
}


@pytest.mark.parametrize("name", ALWAYS)
def test_passes_always(name: str) -> None:
    assert rule(ALWAYS[name]) is None
    assert rule(ALWAYS[name], OPEN) is None


@pytest.mark.parametrize("name", NEVER)
def test_passes_never(name: str) -> None:
    assert rule(NEVER[name])
    assert rule(NEVER[name], [(0, MB2)])


@pytest.mark.parametrize("name", WRITES)
def test_passes_with_a_backup_inside_the_plan(name: str) -> None:
    refused = rule(WRITES[name])
    assert refused == "comes before this board's backup is safe"
    assert rule(WRITES[name], OPEN) is None


@pytest.mark.parametrize("name", NEVER_EVEN_OPEN)
def test_passes_not_even_with_a_backup(name: str) -> None:
    assert rule(NEVER_EVEN_OPEN[name])
    assert rule(NEVER_EVEN_OPEN[name], OPEN)


def test_the_plan_is_widened_to_whole_sectors_and_joined() -> None:
    byte = [(0x11800, 1)]
    assert rule(erase(0x20, 0x11000), byte) is None
    assert rule(erase(0x20, 0x12000), byte)
    pieces = [(0x18000, 0x8000), (0x10000, 0x8000)]
    assert rule(erase(0xD8, 0x10000), pieces) is None
    gap = [(0x10000, 0x7000), (0x18000, 0x8000)]
    assert rule(erase(0xD8, 0x10000), gap)


def test_it_can_be_closed_again() -> None:
    guard = Guard()
    assert not guard.writes_allowed
    guard.allow_writes(OPEN)
    assert guard.writes_allowed
    assert guard.decide(header(WRITES["erase 4k"])) is None
    guard.forbid_writes()
    assert not guard.writes_allowed
    refusal = guard.decide(header(WRITES["erase 4k"]))
    assert refusal == Refusal("erase", 0x12000, "comes before this board's backup is safe")
    assert str(refusal) == "erase at 0x12000: comes before this board's backup is safe"
    assert guard.refusals == [refusal]


def test_once_one_was_stopped_nothing_that_changes_the_flash_passes() -> None:
    """bk7231tools takes no notice of the status of an erase, and programs on."""
    guard = Guard()
    guard.allow_writes(OPEN)
    stopped = guard.decide(header(NEVER["efuse write"])) or guard.refusals[-1]
    changes = [request for request in WRITES.values() if rule(request, OPEN) is None]
    assert len(changes) >= 4
    for request in changes:
        refusal = guard.decide(header(request))
        assert refusal is not None
        assert refusal.rule == "comes after a command that was stopped"
    assert not guard.writes_allowed
    assert guard.decide(header(ALWAYS["crc"])) is None
    assert guard.refusals == [stopped]  # what began it is what the run ends with
    guard.allow_writes(OPEN)
    assert guard.writes_allowed
    assert all(guard.decide(header(request)) is None for request in changes)


def test_another_flash_size_wraps_elsewhere() -> None:
    guard = Guard(flash_size=0x400000)
    guard.allow_writes([(0, 0x1000)])
    assert guard.rule(header(erase(0x20, MB2)))
    assert guard.decide(header(erase(0x20, 2 * MB2))) is None


requests = st.one_of(
    st.builds(Request, st.integers(0, 255), st.binary(max_size=20)),
    st.builds(Request, st.integers(0, 255), st.binary(max_size=20), st.just(True)),
    st.builds(
        lambda code, address, size: long(code, at(address, bytes(size))),
        st.sampled_from([6, 7, 0x0B]),
        st.integers(0, 2 * MB2),
        st.sampled_from([0, 1, 8, 256, 4096]),
    ),
    st.builds(erase, st.sampled_from([0x20, 0x52, 0xD8]), st.integers(0, 2 * MB2)),
    st.builds(write_reg, st.sampled_from([EFUSE_CTRL, 0x800078, 0]), st.integers(0, 0xFFFFFFFF)),
    st.builds(lambda payload: long(0x0D, payload), st.binary(min_size=1, max_size=4)),
    st.builds(lambda payload: long(0x0E, payload), st.binary(max_size=6)),
    st.builds(lambda opcode: long(0x0C, bytes((opcode,))), st.integers(0, 255)),
)


def harmless(request: Request, ranges: list[tuple[int, int]]) -> bool:
    """What may pass, said once more in other words than the guard's."""
    raw = request.encode()
    hidden = raw.find(b"\x01\xe0\xfc", 3)
    if hidden >= 0 and not (request.long and request.code in (6, 7) and hidden >= 12):
        return False
    if not request.long:
        if request.code == 1:
            return raw.startswith(b"\x01\xe0\xfc\x09\x01\x74\x00\x80\x00") and len(raw) == 13 and not raw[9] & 2
        sizes = {0: 5, 3: 9, 0x0E: 6, 0x0F: 10, 0x10: 13, 0x11: 5}
        if request.code == 0x10 and any(
            word >= 0xFC0000 for word in struct.unpack("<II", raw[5:13].ljust(8, b"\xff"))
        ):
            return False
        return len(raw) == sizes.get(request.code) and (request.code != 0x0E or raw[5] == 0xA5)
    if request.code == 0x0C:
        return len(raw) == 9 and raw[8] in (0x05, 0x35, 0x15)
    if request.code in (0x08, 0x09):
        return len(raw) == {0x08: 13, 0x09: 12}[request.code] and raw[10:12] < b"\xfc\0"
    if request.code == 0x0E:
        return raw[8:] == b"\x9f\0\0\0"
    if request.code == 0x0D:
        locks = raw[10] & 0x39 if len(raw) == 11 else 0
        return bool(ranges) and len(raw) in (10, 11) and raw[8] == 1 and not locks
    touched = touches(request)
    planned = {sector for start, length in ranges for sector in range(start >> 12, (start + length + 4095) >> 12)}
    return touched is not None and touched <= planned


def touches(request: Request) -> set[int] | None:
    """The sectors a write or erase changes; None for what is neither, or has no such size."""
    raw = request.encode()
    if request.code == 0x0F and len(raw) == 13 and raw[8] in (0x20, 0x52, 0xD8):
        size = {0x20: 1, 0x52: 8, 0xD8: 16}[raw[8]]
        first = (int.from_bytes(raw[9:13], "little") % MB2 >> 12) // size * size
        return set(range(first, first + size))
    address = int.from_bytes(raw[8:12], "little") % MB2
    if request.code == 0x0B and len(raw) == 12:
        return {address >> 12}
    if (request.code == 7 and len(raw) == 4108) or (request.code == 6 and 13 <= len(raw) <= 268):
        return set(range(address >> 12, ((address + len(raw) - 13) >> 12) + 1))
    return None


plans = st.lists(st.tuples(st.integers(0, MB2 - 0x10000), st.integers(1, 0x10000)), max_size=4)


@settings(derandomize=True, deadline=None, max_examples=600)
@given(requests, plans)
def test_nothing_passes_that_is_not_on_the_list(request: Request, ranges: list[tuple[int, int]]) -> None:
    guard = Guard()
    if ranges:
        guard.allow_writes(ranges)
    if guard.decide(header(request)) is None:
        assert harmless(request, ranges)


# fields as an address, a baud or a register might hold, biased to the bytes of a frame's beginning
word = st.lists(st.sampled_from(b"\x00\x01\xe0\xfc\x09\x0b\xff"), min_size=4, max_size=4).map(bytes)
near = st.one_of(
    st.builds(lambda a, b: short(0x10, a + b), word, word),
    st.builds(lambda a: short(0x03, a), word),
    st.builds(lambda a: short(0x01, at(EFUSE_CTRL) + a), word),
    st.builds(lambda a, b: short(0x0F, a + b[:1]), word, word),
    st.builds(lambda a: long(0x09, a), word),
    st.builds(lambda a, b: long(0x08, a + b[:1]), word, word),
    st.builds(lambda a: long(0x0B, a), word),
    st.builds(lambda a: long(0x0F, b"\x20" + a), word),
    st.builds(lambda a, b: long(0x0D, b"\x01" + a[:1] + b[:1]), word, word),
    st.builds(lambda a, b: long(0x07, a + b[2:] + bytes(4094)), word, word),
    st.just(short(0x00)),
)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(near, near)
def test_no_frame_hides_in_what_passes(first: Request, second: Request) -> None:
    """Wherever a chip that lost bytes takes up again, it finds only frames that the guard has seen."""
    guard = Guard()
    guard.allow_writes([(0, MB2)])
    passed = [request.encode() for request in (first, second) if guard.decide(header(request)) is None]
    wire, starts, found = b"".join(passed), {0, len(passed[0]) if passed else 0}, -1
    while (found := wire.find(b"\x01\xe0\xfc", found + 1)) >= 0:
        assert found in starts


@settings(derandomize=True, deadline=None, max_examples=300)
@given(requests, plans)
def test_what_is_planned_is_not_stopped(request: Request, ranges: list[tuple[int, int]]) -> None:
    if harmless(request, ranges) and not (request.long and request.code in (6, 7, 0x0B)):
        guard = Guard()
        guard.allow_writes(ranges)
        assert guard.decide(header(request)) is None
