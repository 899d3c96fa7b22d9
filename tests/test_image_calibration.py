"""The radio calibration sector: read to its end, judged, given another MAC; bounded on any bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import UsageProblem
from rig.image.contents.calibration import MADE_UP_MAC, generated_mac, parse_mac, read_calibration, with_mac
from rig.sim import firmware
from tests.image_files import FIRMWARE_DIR, patched, real_images

AT = {"N": 0x1D0000, "T": 0x1E0000}
SECTOR = firmware.factory_dump(7)[AT["N"] : AT["N"] + 0x1000]
MAC_AT = 0x24
END = 0x1FE  # of what is in use


def tlv(*groups: bytes) -> bytes:
    body = b"".join(groups)
    return (b"TLV\0" + struct.pack("<I", len(body)) + body).ljust(0x1000, b"\xff")


def group(tag: int, *entries: bytes, size: int | None = None) -> bytes:
    body = b"".join(entries)
    return struct.pack("<II", tag, len(body) if size is None else size) + body


def entry(tag: int, data: bytes, size: int | None = None) -> bytes:
    return struct.pack("<II", tag, len(data) if size is None else size) + data


MAC = entry(0x11111102, bytes.fromhex("c8478c0159f7"))
POWER = group(0x22222200, entry(0x22222202, bytes(14)))


def test_a_calibration_is_read_to_its_end() -> None:
    found = read_calibration(SECTOR)
    assert found is not None
    assert found.mac == "02:52:49:00:00:07"
    assert found.problems == ()
    assert found.sound
    assert found.measured
    assert found.size == END
    assert len(found.entries) == 29
    assert SECTOR[END:].strip(b"\xff") == b""
    mac = next(item for item in found.entries if item.name == "MAC")
    assert mac.offset == MAC_AT
    assert mac.data == SECTOR[MAC_AT : MAC_AT + 6]


@real_images
@pytest.mark.parametrize(
    ("name", "chip", "mac"),
    [
        ("tywb_4ch_rf_switch_CB3S_1.2.1.bin", "N", "c8:47:8c:01:59:f7"),
        ("smartled_8044_1gang_CBU_virgin.bin", "N", "10:5a:17:f3:d6:37"),
        ("ds101jl_4gang_switch_WB3S_1.1.5.bin", "T", "a0:92:08:75:81:04"),
    ],
)
def test_factory_boards(name: str, chip: str, mac: str) -> None:
    data = (Path(FIRMWARE_DIR or "") / name).read_bytes()
    found = read_calibration(data[AT[chip] : AT[chip] + 0x1000])
    assert found is not None
    assert (found.mac, found.problems, found.sound, len(found.entries)) == (mac, (), True, 29)


@pytest.mark.parametrize(
    ("sector", "problem"),
    [
        (SECTOR[:4], "ends within its header"),
        (SECTOR[:0x100], "names 502 bytes, and 248 are there"),
        (patched(SECTOR, 4, b"\xff\xff\xff\xff"), "names 4,294,967,295 bytes"),
        (patched(SECTOR, 9, b"\0"), "at 0x8 of it stands no group"),
        (patched(SECTOR, 0x6F, b"\x08"), "its group 'transmit power' names 2,232 bytes, and 396 are left"),
        (patched(SECTOR, 0x2E, b"\x80"), "its entry 'temperature code' names 128 bytes"),
        (patched(SECTOR, 0x2B, b"\0"), "stands no entry of its group 'board'"),
        (patched(SECTOR, MAC_AT, b"\xff" * 6), "its MAC ff:ff:ff:ff:ff:ff is no device's"),
        (patched(SECTOR, MAC_AT, bytes(6)), "is no device's"),
        (patched(SECTOR, MAC_AT, b"\x01"), "its group bit is set"),
        (tlv(group(0x11111100, entry(0x11111101, b"abcd"))), "it has no MAC"),
        (tlv(group(0x11111100, entry(0x11111102, b"abcd"))), "its MAC has 4 bytes"),
        (tlv(), "it has no MAC"),
    ],
)  # fmt: skip
def test_damage_is_named(sector: bytes, problem: str) -> None:
    found = read_calibration(sector)
    assert found is not None
    assert problem in "; ".join(found.problems)
    assert not found.sound


def test_the_length_of_every_header_is_checked() -> None:
    """One that is too long by half a sector, anywhere a length stands, does not go unnoticed."""
    found = read_calibration(SECTOR)
    assert found is not None
    lengths = [4, 0xC] + [item.offset - 4 for item in found.entries]
    for at in lengths:
        hurt = read_calibration(patched(SECTOR, at + 1, b"\x08"))
        assert hurt is not None
        assert hurt.problems, hex(at)


@pytest.mark.parametrize("sector", [b"", b"TLV", b"\xff" * 0x1000, bytes(0x1000), b"CFG\0" + SECTOR[4:]])
def test_what_is_no_calibration(sector: bytes) -> None:
    assert read_calibration(sector) is None


def test_what_firmware_made_up_is_told_from_what_the_factory_measured() -> None:
    made_up = tlv(group(0x11111100, entry(0x11111102, bytes.fromhex("c8478c000000"))))
    found = read_calibration(made_up)
    assert found is not None
    assert (found.mac, found.made_up, found.sound, found.measured) == (MADE_UP_MAC, True, False, False)
    short = read_calibration(tlv(group(0x11111100, MAC)))
    assert short is not None
    assert (short.made_up, short.sound, short.measured) == (False, True, False)
    whole = read_calibration(tlv(group(0x11111100, MAC), POWER))
    assert whole is not None
    assert (whole.sound, whole.measured) == (True, True)


def test_another_mac_changes_six_bytes() -> None:
    new = with_mac(SECTOR, "C8-47-8C-01-59-F7")
    assert [at for at in range(len(SECTOR)) if new[at] != SECTOR[at]] == list(range(MAC_AT, MAC_AT + 6))
    found = read_calibration(new)
    assert found is not None
    assert (found.mac, found.problems) == ("c8:47:8c:01:59:f7", ())


@pytest.mark.parametrize("sector", [b"\xff" * 0x1000, tlv(), tlv(group(0x11111100, entry(0x11111102, b"abcd")))])
def test_no_mac_goes_where_none_was(sector: bytes) -> None:
    with pytest.raises(UsageProblem, match="no entry for a MAC"):
        with_mac(sector, "c8:47:8c:01:59:f7")


@pytest.mark.parametrize("text", ["C8:47:8C:01:59:F7", "c8-47-8c-01-59-f7", " c8478c0159f7\n"])
def test_macs_are_read_as_people_write_them(text: str) -> None:
    assert parse_mac(text) == "c8:47:8c:01:59:f7"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no MAC"),
        ("c8:47:8c:01:59", "is no MAC"),
        ("c8:47:8c:01:59:f7:00", "is no MAC"),
        ("c8:47-8c:01:59:f7", "is no MAC"),
        ("c8:47:8c:01:59:fg", "is no MAC"),
        ("٣٣:47:8c:01:59:f7", "is no MAC"),
        ("00:00:00:00:00:00", "the same"),
        ("ff:ff:ff:ff:ff:ff", "the same"),
        ("01:00:5e:00:00:01", "group bit"),
    ],
)
def test_what_is_no_mac_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UsageProblem, match=why):
        parse_mac(text)


def test_generated_macs_are_locally_administered_and_of_one_device() -> None:
    macs = {generated_mac() for _ in range(200)}
    assert len(macs) == 200
    for mac in macs:
        assert int(mac[:2], 16) & 3 == 2
        assert parse_mac(mac) == mac


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.binary(max_size=600), st.lists(st.tuples(st.integers(0, END), st.integers(0, 255)), max_size=6))
def test_any_bytes_are_read_without_an_error(tail: bytes, changes: list[tuple[int, int]]) -> None:
    hurt = bytearray(SECTOR)
    for at, value in changes:
        hurt[at] = value
    for sector in (b"TLV\0" + tail, tail, bytes(hurt), bytes(hurt)[: len(tail)]):
        found = read_calibration(sector)
        if found is None:
            continue
        assert found.size <= len(sector)
        for item in found.entries:
            assert sector[item.offset : item.offset + len(item.data)] == item.data
            assert item.offset + len(item.data) <= found.size
        if found.mac:
            assert read_calibration(with_mac(sector, "c8:47:8c:01:59:f7")) is not None
