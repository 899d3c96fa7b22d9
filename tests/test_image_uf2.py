"""UF2 files: their own block lists, tags and partitions, whole, cut and damaged. All are made here but one."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import FIRMWARE_DIR, demo, patched, real_images

from rig.image import flashmap
from rig.image.identify import identify
from rig.image.identity import Kind
from rig.image.kinds.uf2 import MAGIC, read_uf2

N_FAMILY, T_FAMILY = 0x7B3EF230, 0x675A40B0
FIRMWARE, VERSION, BOARD, LT_VERSION = 0x00DE43, 0x9FC7BC, 0xCA25C8, 0x59563D
FORMAT_2, PART_INFO, TABLE, OLD_FLASHER, OLD_DEVICE = 0x6C8492, 0xC0EE0C, 0x8288ED, 0x805946, 0xA1E4D7

Tags = list[tuple[int, bytes]]
Block = tuple[int, bytes, Tags]
# As LibreTiny's packer writes them: indexes of the six ways of writing, then the names they count.
TO_APP = bytes.fromhex("000100") + b"app\0"
TO_DOWNLOAD = bytes.fromhex("100000") + b"download\0"


def tag(number: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return bytes((size,)) + number.to_bytes(3, "little") + value + bytes(-size % 4)


def uf2(blocks: list[Block], family: int = N_FAMILY, flags: int = 0x2000) -> bytes:
    out = []
    for number, (address, content, tags) in enumerate(blocks):
        head = struct.pack("<6I", flags | (0x8000 if tags else 0), address, len(content), number, len(blocks), family)
        room = content + b"".join(tag(*each) for each in tags)
        out.append((MAGIC + head + room).ljust(508, b"\0") + bytes.fromhex("306fb10a"))
    return b"".join(out)


def libretiny(app: bytes, header: bytes, update: bytes, *, table: bytes = b"") -> bytes:
    """A file as LibreTiny makes them: tags first, the app and its closing header for a flasher, an OTA for itself."""
    first: Tags = [(FIRMWARE, b"esphome"), (VERSION, b"2025.10.3"), (BOARD, b"cb3s"), (LT_VERSION, b"1.9.1")]
    first += [(FORMAT_2, b"\x02"), *([(TABLE, table)] if table else [])]
    blocks: list[Block] = [(0, b"", first)]
    for start, content, where in ((0, app, TO_APP), (0x118F0A, header, TO_APP), (0, update, TO_DOWNLOAD)):
        for at in range(0, len(content), 256):
            blocks.append((start + at, content[at : at + 256], [] if at else [(PART_INFO, where)]))
    return uf2(blocks)


APP = demo()[flashmap.APP : flashmap.APP + 5 * 256 + 60]
HEADER, UPDATE = b"h" * 102, b"RBL\0" + b"u" * 700


def test_libretinys_file_goes_where_its_partitions_are() -> None:
    found = read_uf2(libretiny(APP, HEADER, UPDATE))
    assert (found.family, found.chip, found.problems) == (N_FAMILY, "BK7231N", ())
    assert found.tags == {"FIRMWARE": "esphome", "VERSION": "2025.10.3", "BOARD": "cb3s", "LT_VERSION": "1.9.1"}
    assert [(piece.flash_offset, piece.content, piece.partition) for piece in found.pieces] == [
        (0x11000, APP, "app"), (0x129F0A, HEADER, "app"),
    ]  # fmt: skip
    # The device's own update is not for a flasher: raw, it would be an OTA package in the middle of the flash.
    assert [(piece.flash_offset, piece.content) for piece in found.update] == [(0x12A000, UPDATE)]
    assert b"".join(content for _, content in found.blocks) == APP + HEADER
    assert found.pieces[0].source_offset == 512


def test_pieces_tell_where_they_are_in_the_file() -> None:
    data = libretiny(APP, HEADER, UPDATE)
    for piece in read_uf2(data).pieces:
        assert data[piece.source_offset + 32 :].startswith(piece.content[:256])


def test_a_partition_table_of_its_own_comes_first() -> None:
    entry = struct.pack("<I16s16sII4x", 0x45503130, b"app", b"flash0", 0x22000, 0x1000)
    found = read_uf2(libretiny(APP, b"", b"", table=entry))
    assert [piece.flash_offset for piece in found.pieces] == [0x22000]


def test_libretinys_first_format() -> None:
    blocks: list[Block] = [
        (0, b"a" * 256, [(OLD_FLASHER, b"app"), (OLD_DEVICE, b"")]), (256, b"b" * 256, []),
        (0, b"c" * 256, [(OLD_FLASHER, b""), (OLD_DEVICE, b"download")]),
    ]  # fmt: skip
    found = read_uf2(uf2(blocks))
    assert [(piece.flash_offset, len(piece.content)) for piece in found.pieces] == [(0x11000, 512)]
    assert [piece.flash_offset for piece in found.update] == [0x12A000]


def test_without_tags_addresses_are_flash_offsets() -> None:
    found = read_uf2(uf2([(0x11000, b"a" * 256, []), (0x11100, b"b" * 256, []), (0x20000, b"c" * 256, [])], T_FAMILY))
    assert (found.chip, found.problems, found.count) == ("BK7231T", (), 3)
    assert [(piece.flash_offset, len(piece.content), piece.source_offset) for piece in found.pieces] == [
        (0x11000, 512, 0), (0x20000, 256, 1024),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda data: data[:-512], "it has 10 of 11 blocks"),
        (lambda data: data[:-100], "its last block, at 0x1400, has 412 of 512 bytes"),
        (lambda data: data[:512] + data[1024:], "not in order"),
        (lambda data: data + data[-512:], "not in order"),
        (lambda data: patched(data, 1024, b"X"), "0x400 is no UF2 block"),
        (lambda data: patched(data, 1020, b"X"), "0x200 is no UF2 block"),
        (lambda data: patched(data, 512 + 16, struct.pack("<I", 477)), "claims 477 bytes"),
        (lambda data: patched(data, 512 + 28, struct.pack("<I", T_FAMILY)), "different chip families"),
        (lambda data: data.replace(b"app\0", b"zzz\0"), "partition 'zzz' and does not say where"),
        (lambda data: patched(data, 1024 + 12, struct.pack("<I", 0)), "two of its blocks are for flash 0x11000"),
        (lambda data: patched(data, 8, struct.pack("<I", 0x1000)), "holds files"),
        (lambda data: data[:300], "no whole block"),
    ],
)
def test_what_is_wrong_is_said(make, says: str) -> None:
    data = libretiny(APP, HEADER, UPDATE)
    assert len(data) == 11 * 512
    found = read_uf2(make(data))
    assert any(says in problem for problem in found.problems), found.problems
    assert identify(make(data)).problems == found.problems


def test_an_unknown_family_and_none() -> None:
    content: list[Block] = [(0, b"a" * 256, [])]
    assert (read_uf2(uf2(content, 0x11223344)).family, read_uf2(uf2(content, 0x11223344)).chip) == (0x11223344, None)
    assert read_uf2(uf2(content, flags=0)).family is None


def test_identify_tells_chip_firmware_and_places() -> None:
    found = identify(libretiny(APP, HEADER, UPDATE))
    assert (found.kind, found.chip, found.firmware, found.version) == (Kind.UF2, "BK7231N", "esphome", "2025.10.3")
    assert found.uf2 is not None
    told = {item.about: item.value for item in found.statements}
    assert told["board"] == "cb3s"
    assert told["sdk"] == "LibreTiny 1.9.1"
    places = [item.value for item in found.statements if item.about == "inside"]
    assert places == ["for flash 0x11000-0x1153C (app)", "for flash 0x129F0A-0x129F70 (app)"]


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFFFFFF),
            st.binary(max_size=256),
            st.lists(
                st.tuples(
                    st.sampled_from(
                        [FIRMWARE, VERSION, BOARD, FORMAT_2, PART_INFO, TABLE, OLD_FLASHER, OLD_DEVICE, 7]
                    ),
                    st.binary(max_size=40),
                ),
                max_size=4,
            ),
        ),
        max_size=6,
    ),
    st.lists(st.tuples(st.integers(0, 3071), st.binary(min_size=1, max_size=8)), max_size=4),
    st.integers(0, 3072),
)
def test_any_file_is_read_to_its_end_and_no_further(
    blocks: list[Block], patches: list[tuple[int, bytes]], length: int
) -> None:
    data = uf2(blocks)
    for at, new in patches:
        data = patched(data, min(at, len(data)), new)
    data = data[:length]
    found = read_uf2(data)
    assert sum(len(content) for _, content in found.blocks) <= len(data)
    assert all(content and content in data for _, content in found.blocks)
    assert found.count <= len(data) // 512
    if data[:8] == MAGIC:
        assert identify(data).kind is Kind.UF2


@real_images
def test_a_real_sized_file() -> None:
    data = (Path(str(FIRMWARE_DIR)) / "OpenBK7231N_1.18.219_synthetic.uf2").read_bytes()
    found = read_uf2(data)
    assert (found.chip, found.count, found.problems) == ("BK7231N", 1978, ())
    assert [(piece.flash_offset, len(piece.content)) for piece in found.pieces] == [(0x12A000, 506_368)]
    # It was made from this OTA package, and filled up to a whole block.
    rbl = (Path(str(FIRMWARE_DIR)) / "OpenBK7231N_1.18.219_from_ug.rbl").read_bytes()
    assert found.pieces[0].content[: len(rbl)] == rbl
