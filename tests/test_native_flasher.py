"""The native flasher against a simulated ROM: what it does to the flash, and how it says what went wrong."""

from __future__ import annotations

import itertools
import random
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from chip_on_wire import EFUSE, ChipOnWire, DirectLink

from rig.chip.frames import Long
from rig.errors import Aborted, BenchBlocked, UnitFailed, UsageProblem
from rig.flashers.differential import changed_sectors, cuts
from rig.flashers.native import NativeFlasher
from rig.sim import firmware
from rig.sim.flash import SIZE, NorFlash

SECTOR, BLOCK = 0x1000, 0x10000
NOISE = random.Random(11).randbytes(SIZE)


@dataclass
class Table:
    chip: ChipOnWire
    link: DirectLink
    flasher: NativeFlasher

    def codes(self) -> list[int]:
        """The long commands that the chip heard, in order."""
        heard, found, at = bytes(self.chip.heard), [], 0
        while (at := heard.find(b"\x01\xe0\xfc\xff\xf4", at)) >= 0:
            found.append(heard[at + 7])
            at += 7 + int.from_bytes(heard[at + 5 : at + 7], "little")
        return found

    def shorts(self, code: int) -> int:
        """How often the chip heard a short command of 8 bytes' payload."""
        return bytes(self.chip.heard).count(bytes((0x01, 0xE0, 0xFC, 0x09, code)))

    def crcs(self) -> list[tuple[int, int]]:
        """(start, length) of each CRC the chip was asked for."""
        heard, found, at = bytes(self.chip.heard), [], 0
        while (at := heard.find(b"\x01\xe0\xfc\x09\x10", at)) >= 0:
            start, end = struct.unpack_from("<II", heard, at + 5)
            found.append((start, end - start + 1))
            at += 13
        return found

    def twist_long(self, code: int, change: bytes | None, times: int = 1) -> None:
        """The next `times` replies to a long command are lost (None) or get another status byte."""
        left = [times]

        def twist(reply: bytes) -> bytes:
            if reply[2] != 0xFF or reply[9] != code or not left[0]:
                return reply
            left[0] -= 1
            return b"" if change is None else reply[:10] + change + reply[11:]

        self.chip.twist = twist


@contextmanager
def a_table(content: bytes = NOISE, *, sr: int = 0, worst_baud: int = 4_000_000) -> Iterator[Table]:
    with ChipOnWire(NorFlash(content, sr=sr), worst_baud=worst_baud) as chip, chip.waited_for():
        flasher = NativeFlasher()
        try:
            yield Table(chip, DirectLink(chip), flasher)
        finally:
            flasher.close()


@pytest.fixture
def table() -> Iterator[Table]:
    with a_table() as table:
        yield table


def test_who_is_there() -> None:
    with a_table(firmware.factory_dump(77)) as table:
        found = table.flasher.identify(table.link)
        assert (found.chip, found.chip_id, found.flash_id) == ("BK7231N", 0x7231C, b"\xeb\x60\x15")
        assert (found.flash_size, found.efuse) == (SIZE, EFUSE)
        assert found.mac == firmware.mac(77).hex(":")
        table.chip.flash.overwrite(0x1D0000, b"\xff" * SECTOR)
        assert table.flasher.identify(table.link).mac == EFUSE[24:30].hex(":")
        assert table.link.prepared == 1


def test_an_identity_that_was_misread_is_asked_for_again(table: Table) -> None:
    """A backup is found again by it; a register comes without a check."""
    reads, registers = itertools.count(), itertools.count()

    def twist(reply: bytes) -> bytes:
        optr = reply[2] != 0xFF and reply[6] == 3 and reply[7:11] == (0x800078).to_bytes(4, "little")
        if optr and next(registers) == 16:  # first byte of the UID
            return reply[:11] + bytes((reply[11] ^ 4,)) + reply[12:]
        if reply[2] == 0xFF and reply[9] == Long.READ_4K and next(reads) == 0:
            return reply[:0x30] + bytes((reply[0x30] ^ 4,)) + reply[0x31:]
        return reply

    table.chip.flash.overwrite(0x1D0000, firmware.factory_dump(77)[0x1D0000:0x1D1000])
    table.chip.twist = twist
    found = table.flasher.identify(table.link)
    assert found.efuse == EFUSE
    assert found.mac == firmware.mac(77).hex(":")
    table.chip.twist = lambda reply: (
        reply[:11] + bytes((next(registers) & 0xFF,)) + reply[12:] if reply[2] != 0xFF and reply[6] == 3 else reply
    )
    with pytest.raises(UnitFailed, match="reads differently each time") as caught:
        table.flasher.identify(table.link)
    assert caught.value.code == "unreadable"


def test_a_read_is_what_is_there(table: Table) -> None:
    seen: list[tuple[str, int, int]] = []
    result = table.flasher.read(table.link, 0xFFF5, 0x10123, lambda *what: seen.append(what))
    assert result.ok
    assert result.data == NOISE[0xFFF5 : 0xFFF5 + 0x10123]
    assert (result.size, result.retries) == (0x10123, ())
    assert seen[-1] == ("read", 0x10123, 0x10123)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert bytes(table.chip.flash.data) == NOISE


def test_what_stands_beside_an_unaligned_piece_stays(table: Table) -> None:
    piece = random.Random(12).randbytes(0x2345)
    seen: list[tuple[str, int, int]] = []
    result = table.flasher.write(table.link, [(0x11777, piece)], lambda *what: seen.append(what))
    assert result.ok
    assert bytes(table.chip.flash.data) == NOISE[:0x11777] + piece + NOISE[0x11777 + len(piece) :]
    assert set(table.chip.flash.erases) == {0x11, 0x12, 0x13}
    assert seen[-1] == ("write", len(piece), len(piece))
    assert table.flasher.verify(table.link, [(0x11777, piece)]).ok


def test_two_pieces_in_one_sector_both_stand(table: Table) -> None:
    assert table.flasher.write(table.link, [(0x5010, b"first"), (0x5020, b"second")]).ok
    assert table.chip.flash.read(0x5010, 5) == b"first"
    assert table.chip.flash.read(0x5020, 6) == b"second"
    assert table.chip.flash.read(0x5026, 0xFDA) == NOISE[0x5026:0x6000]


def test_a_neighbour_that_was_misread_is_not_written_back(table: Table) -> None:
    table.flasher.identify(table.link)
    spoil = [9]

    def twist(reply: bytes) -> bytes:
        if reply[2] != 0xFF or reply[9] != Long.READ_4K or not spoil[0]:
            return reply
        spoil[0] -= 1
        return reply[:20] + bytes((reply[20] ^ 1,)) + reply[21:]

    table.chip.twist = twist
    with pytest.raises(UnitFailed) as caught:
        table.flasher.write(table.link, [(0x5800, b"x" * 0x800)])
    assert caught.value.code == "backup-mismatch"
    assert bytes(table.chip.flash.data) == NOISE


def test_whole_blocks_are_erased_at_once_and_never_beyond_the_range(table: Table) -> None:
    start, length = 0xF000, 0x22000
    piece = random.Random(13).randbytes(length)
    assert table.flasher.write(table.link, [(start, piece)]).ok
    assert set(table.chip.flash.erases) == set(range(start // SECTOR, (start + length) // SECTOR))
    assert set(table.chip.flash.erases.values()) == {1}
    assert bytes(table.chip.flash.data) == NOISE[:start] + piece + NOISE[start + length :]
    assert table.codes().count(Long.ERASE) == 1 + 2 + 1
    assert Long.ERASE_ALL not in table.codes()


def test_blank_sectors_are_erased_and_not_written(table: Table) -> None:
    piece = b"\xff" * SECTOR + b"\x00" * SECTOR + b"\xff" * 3 * SECTOR
    assert table.flasher.write(table.link, [(0x40000, piece)]).ok
    assert table.chip.flash.read(0x40000, len(piece)) == piece
    assert table.codes().count(Long.WRITE_4K) == 1


def test_verify_names_the_first_sector_that_differs(table: Table) -> None:
    pieces = [(0x1000, NOISE[0x1000:0x4000]), (0x20800, NOISE[0x20800:0x60000])]
    assert table.flasher.verify(table.link, pieces).ok
    table.chip.flash.overwrite(0x33333, bytes((NOISE[0x33333] ^ 0x10,)))
    table.chip.flash.overwrite(0x55555, bytes((NOISE[0x55555] ^ 0x10,)))
    result = table.flasher.verify(table.link, pieces)
    assert not result.ok
    assert result.said == "the flash differs at 0x33000"
    assert table.codes() == []


def test_erase_is_checked(table: Table) -> None:
    result = table.flasher.erase(table.link, 0x3000, 0x2000)
    assert result.ok
    assert set(table.chip.flash.erases) == {3, 4}
    with pytest.raises(ValueError, match="whole sectors"):
        table.flasher.erase(table.link, 0x3001, 0x1000)
    table.flasher.write(table.link, [(0x3000, NOISE[:SECTOR])])
    table.chip.flash.erase = lambda addr, size, done: True  # type: ignore[method-assign]  # an erase without effect
    result = table.flasher.erase(table.link, 0x3000, 0x1000)
    assert not result.ok
    assert "not blank" in result.said


def test_the_chip_s_crc(table: Table) -> None:
    assert table.flasher.crc(table.link, 17, 1000) == zlib.crc32(NOISE[17:1017])


def test_protection_is_taken_off_once_and_the_other_bits_stay() -> None:
    with a_table(sr=0x4204) as table:
        assert table.flasher.write(table.link, [(0, bytes(SECTOR))]).ok
        assert table.chip.flash.sr == 0x0200
        assert table.chip.flash.read(0, SECTOR) == bytes(SECTOR)
        assert table.flasher.write(table.link, [(0x1000, bytes(SECTOR))]).ok
        assert table.codes().count(Long.WRITE_SR) == 1


def test_protection_that_stays_fails_before_anything_is_erased() -> None:
    with a_table(sr=0x001C) as table:
        table.chip.rom._write_sr = lambda payload, at: bool(  # type: ignore[method-assign]
            table.chip.rom._reply_long(at, 0x0D, 0, payload) or True
        )
        with pytest.raises(UnitFailed, match="0x001c") as caught:
            table.flasher.write(table.link, [(0, bytes(SECTOR))])
        assert caught.value.code == "flash-protected"
        assert table.chip.flash.erases == {}
        assert Long.ERASE not in table.codes()


def test_an_unknown_flash_is_not_written(table: Table) -> None:
    table.chip.flash.jedec_id = bytes(3)
    with pytest.raises(UnitFailed, match="000000") as caught:
        table.flasher.write(table.link, [(0, bytes(SECTOR))])
    assert caught.value.code == "unreadable"
    assert table.flasher.identify(table.link).flash_size is None
    assert bytes(table.chip.flash.data) == NOISE


def test_a_lost_reply_is_repeated_and_told_of_its_own_operation_only(table: Table) -> None:
    table.twist_long(Long.WRITE_4K, None)
    result = table.flasher.write(table.link, [(0x7000, NOISE[:SECTOR])])
    assert result.ok
    assert result.retries == ("write-4k repeated: no reply",)
    assert table.chip.flash.read(0x7000, SECTOR) == NOISE[:SECTOR]
    assert table.flasher.verify(table.link, [(0x7000, NOISE[:SECTOR])]).retries == ()
    assert table.flasher.retries == ["write-4k repeated: no reply"]


@pytest.mark.parametrize(("command", "code"), [(Long.ERASE, "flasher-failed"), (Long.READ_4K, "unreadable")])
def test_a_status_is_a_failure_of_the_board(table: Table, command: Long, code: str) -> None:
    table.twist_long(command, b"\x06", times=2)
    with pytest.raises(UnitFailed, match="refused") as caught:
        table.flasher.write(table.link, [(0x7001, NOISE[:100])])
    assert caught.value.code == code


def test_content_that_never_agrees_with_the_crc_is_no_backup(table: Table) -> None:
    table.chip.twist = lambda reply: reply[:-1] + bytes((reply[-1] ^ 1,)) if reply[6] == 0x10 else reply
    with pytest.raises(UnitFailed, match="0x1000 4 times") as caught:
        table.flasher.read(table.link, 0x1000, 0x1000)
    assert caught.value.code == "backup-mismatch"


def test_content_that_once_disagrees_is_read_again(table: Table) -> None:
    left = [1]

    def twist(reply: bytes) -> bytes:
        if reply[6] == 0x10 and left[0]:
            left[0] = 0
            return reply[:-1] + bytes((reply[-1] ^ 1,))
        return reply

    table.chip.twist = twist
    result = table.flasher.read(table.link, 0x1000, 0x1000)
    assert result.data == NOISE[0x1000:0x2000]
    assert result.retries == ("read of 0x1000: CRC differs (attempt 1)",)


def test_a_silent_board_never_links(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.flashers.session._WINDOW_S", 0.1)
    table.chip.twist = lambda reply: b""
    with pytest.raises(UnitFailed, match="never answered") as caught:
        table.flasher.identify(table.link)
    assert caught.value.code == "no-link"
    table.chip.twist = lambda reply: reply
    assert table.flasher.identify(table.link).chip == "BK7231N"


def test_a_board_that_missed_its_rom_runs_for_a_second_and_no_longer(table: Table) -> None:
    table.chip.twist = lambda reply: b""
    looks: list[float] = []  # seconds after power-on

    def check() -> None:
        if table.link.power_on_ns:
            looks.append(time.monotonic() - table.link.power_on_ns / 1e9)

    table.link.check = check  # type: ignore[method-assign]
    with pytest.raises(UnitFailed, match=r"for [1-9]\d*\.\d s after power-on"):
        table.flasher.identify(table.link)
    assert len(looks) > 1
    assert max(looks[:-1]) <= 1.0  # the first look that came later was the last one, whenever it came
    assert not table.chip.powered


@pytest.mark.parametrize("problem", [BenchBlocked("port-lost", "gone"), KeyboardInterrupt()])
def test_what_ends_the_link_checks_switches_off_too(table: Table, problem: BaseException) -> None:
    table.chip.twist = lambda reply: b""
    checks = iter([None])  # the first, before anything is done

    def check() -> None:
        if next(checks, problem) is problem:
            raise problem

    table.link.check = check  # type: ignore[method-assign]
    with pytest.raises(type(problem)):
        table.flasher.identify(table.link)
    assert not table.chip.powered


def test_a_slow_supply_has_its_time_and_one_that_never_switches_on_is_told(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rig.flashers.session._WINDOW_S", 0.2)
    monkeypatch.setattr("rig.flashers.session._POWER_TIMEOUT_S", 60.0)
    asked: list[float] = []

    def prepare() -> None:
        table.link.off()
        asked.append(time.monotonic())

    def check() -> None:
        if asked and not table.chip.powered and time.monotonic() > asked[0] + 0.5:
            DirectLink.prepare(table.link)

    table.link.prepare = prepare  # type: ignore[method-assign]
    table.link.check = check  # type: ignore[method-assign]
    assert table.flasher.identify(table.link).chip == "BK7231N"
    table.flasher.close()
    del table.link.check  # type: ignore[method-assign]
    table.link.prepare = table.link.off  # type: ignore[method-assign,assignment]
    monkeypatch.setattr("rig.flashers.session._POWER_TIMEOUT_S", 0.2)
    with pytest.raises(BenchBlocked, match="stayed off") as caught:
        table.flasher.identify(table.link)
    assert caught.value.code == "supply-lost"


def test_a_board_that_falls_silent_blames_the_bench(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.chip.client._RETRIES", 0)
    table.flasher.identify(table.link)
    table.chip.switch(False)
    with pytest.raises(BenchBlocked) as caught:
        table.flasher.erase(table.link, 0, SECTOR)
    assert caught.value.code == "link-lost"
    assert table.flasher.identify(table.link).chip == "BK7231N"  # linked anew
    assert table.link.prepared == 2


def test_what_went_wrong_underneath_is_told_first(table: Table) -> None:
    table.flasher.identify(table.link)
    table.link.problem = BenchBlocked("guard-stopped", "the guard stopped it")
    with pytest.raises(BenchBlocked, match="the guard stopped it"):
        table.flasher.read(table.link, 0, SECTOR)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Aborted("stopped")])
def test_who_stops_it_is_not_taken_for_a_fault(table: Table, stop: BaseException) -> None:
    def progress(what: str, done: int, total: int) -> None:
        table.link.problem = BenchBlocked("port-lost", "gone")
        raise stop

    with pytest.raises(type(stop)):
        table.flasher.read(table.link, 0, SECTOR, progress)


def test_a_port_that_is_not_there(table: Table) -> None:
    table.flasher.close()
    link = DirectLink(table.chip)
    link.__class__ = type("Elsewhere", (DirectLink,), {"path": "/dev/pts/nowhere"})
    with pytest.raises(BenchBlocked) as caught:
        table.flasher.identify(link)
    assert caught.value.code == "port-lost"


# -- what is written, verified and put right ---------------------------------------------------------------------


def test_a_write_asks_for_one_crc_a_range_and_none_a_sector(table: Table) -> None:
    pieces = [(0x1F000, bytes(0x12000)), (0x40000, bytes(0x3000)), (0x43000, b"\x01" * SECTOR)]
    table.flasher.identify(table.link)
    crcs = table.shorts(0x10)
    result = table.flasher.write(table.link, pieces)
    assert result.ok
    assert result.verified
    assert table.shorts(0x10) == crcs + 2  # pieces that follow one another are one range
    assert table.codes().count(Long.ERASE) == 1 + 1 + 1 + 4
    for offset, data in pieces:
        assert table.chip.flash.read(offset, len(data)) == data


def test_where_pieces_overlap_the_later_one_counts(table: Table) -> None:
    assert table.flasher.write(table.link, [(0x5000, b"a" * 0x1800), (0x5FF0, b"b" * 0x20)]).ok
    wanted = NOISE[:0x5000] + b"a" * 0xFF0 + b"b" * 0x20 + b"a" * 0x7F0 + NOISE[0x6800:]
    assert bytes(table.chip.flash.data) == wanted


def test_nothing_is_written_beyond_the_flash(table: Table) -> None:
    for offset, size in ((SIZE - 0x10, 0x11), (-1, 2), (SIZE, 1)):
        with pytest.raises(UsageProblem, match="not inside the flash"):
            table.flasher.write(table.link, [(0, b"x"), (offset, bytes(size))])
    assert bytes(table.chip.flash.data) == NOISE
    assert table.flasher.write(table.link, [(SIZE - 0x10, bytes(0x10))]).ok
    assert bytes(table.chip.flash.data) == NOISE[:-0x10] + bytes(0x10)


def test_a_sector_that_holds_others_bytes_is_away_for_one_sector_only(table: Table) -> None:
    """A whole block is wanted, but its last bytes are somebody else's: they are not erased with the block."""
    assert table.flasher.write(table.link, [(0x20000, bytes(0xFFFF))]).ok
    codes = table.codes()
    assert codes[-3:] == [Long.WRITE_4K, Long.ERASE, Long.WRITE_4K]
    assert table.chip.flash.data[0x2FFFF] == NOISE[0x2FFFF]


def test_a_sector_that_came_out_wrong_is_written_again(table: Table) -> None:
    program = table.chip.flash.program
    faults = iter([0x33400, 0x41200])
    wrong = [next(faults)]

    def weak(addr: int, data: bytes, *, done: float = 1.0) -> bool:
        if addr == wrong[0]:
            wrong[0] = next(faults, -1)
            data = bytes((data[0] | 1,)) + data[1:]  # a bit that did not take
        return program(addr, data, done=done)

    table.chip.flash.program = weak  # type: ignore[method-assign]
    piece = bytes(0x30000)
    result = table.flasher.write(table.link, [(0x20000, piece)])
    assert result.ok
    assert result.retries == tuple(f"sector 0x{at:x} written again: its CRC differs" for at in (0x33000, 0x41000))
    assert bytes(table.chip.flash.data) == NOISE[:0x20000] + piece + NOISE[0x50000:]


def test_cells_that_read_now_one_way_and_now_another_are_told(table: Table) -> None:
    """The CRC of the whole differs and those of its parts agree: once is the line's doing, again and again is not."""
    times = [1]

    def twist(reply: bytes) -> bytes:
        if reply[6] != 0x10 or table.crcs()[-1] != (0x20000, 0x3000) or not times[0]:
            return reply
        times[0] -= 1
        return reply[:-1] + bytes((reply[-1] ^ 1,))

    table.chip.twist = twist
    piece = [(0x20000, NOISE[0x20000:0x23000])]
    result = table.flasher.verify(table.link, piece)
    assert (result.ok, result.retries) == (
        True, ("the CRC from 0x20000 differed, and its parts agreed: asked for again",)
    )  # fmt: skip
    times[0] = 99
    result = table.flasher.verify(table.link, piece)
    assert (result.ok, result.verified) == (False, False)
    assert result.said == "the flash differs at 0x20000"


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("at", ["erase", "program"])
def test_a_neighbour_whose_sector_is_lost_half_way_is_told(
    table: Table, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes are in the backup only, and the next write would take what stands there for them."""
    table.flasher.identify(table.link)
    monkeypatch.setattr("rig.chip.client._RETRIES", 0)

    def gone(*_: object, **__: object) -> bool:
        table.chip.powered = False
        return True

    setattr(table.chip.flash, at, gone)
    with pytest.raises(BenchBlocked, match=r"0x5000 may be erased.*backup only") as caught:
        table.flasher.write(table.link, [(0x5010, b"few")])
    assert caught.value.code == "link-lost"
    table.chip.switch(True)
    delattr(table.chip.flash, at)
    table.chip.flash.program = gone  # type: ignore[method-assign]
    with pytest.raises(BenchBlocked) as caught:
        table.flasher.write(table.link, [(0x5000, bytes(SECTOR))])
    assert "backup only" not in str(caught.value)  # nobody else's bytes were there


def test_a_flash_that_takes_nothing_is_found_out_at_once(table: Table) -> None:
    table.flasher.identify(table.link)
    table.chip.flash.erase = lambda addr, size, done: True  # type: ignore[method-assign]  # an erase without effect
    result = table.flasher.write(table.link, [(0x20000, b"\xff" * 0x20000)])
    assert not result.ok
    assert not result.verified
    assert result.said.startswith("the flash differs at 0x20000")
    assert sum("written again" in line for line in result.retries) == 4
    assert bytes(table.chip.flash.data) == NOISE


def test_a_crc_that_was_damaged_on_its_way_costs_no_rewriting(table: Table) -> None:
    left = [1]

    def twist(reply: bytes) -> bytes:
        if reply[6] == 0x10 and left[0]:
            left[0] = 0
            return reply[:-1] + bytes((reply[-1] ^ 1,))
        return reply

    table.chip.twist = twist
    assert table.flasher.write(table.link, [(0x20000, bytes(0x3000))]).ok
    assert table.codes().count(Long.WRITE_4K) == 3


# -- differential ------------------------------------------------------------------------------------------------


def test_an_identical_image_is_not_touched(table: Table) -> None:
    table.flasher.identify(table.link)
    before, asked = len(table.chip.heard), len(table.crcs())
    seen: list[tuple[str, int, int]] = []
    result = table.flasher.update(table.link, [(0x11000, NOISE[0x11000:0x80123])], lambda *what: seen.append(what))
    assert (result.ok, result.verified, result.size, result.retries) == (True, True, 0, ())
    assert table.chip.flash.erases == {}
    assert set(table.codes()) <= {Long.SPI_OP, Long.READ_4K}
    assert seen[-1] == ("compare", 0x6F123, 0x6F123)
    crcs = table.crcs()[asked:]
    assert sum(length for _, length in crcs) == 0x6F123  # one pass
    assert len(table.chip.heard) - before == 13 * len(crcs) + 12  # and the flash id


def test_only_what_differs_is_touched(table: Table) -> None:
    new = bytearray(NOISE[0x10000:0x90000])
    new[0x23456] ^= 1
    new[0x40000:0x50000] = random.Random(5).randbytes(0x10000)
    new[0x7FFFF] ^= 0x80
    result = table.flasher.update(table.link, [(0x10000, bytes(new))])
    assert result.ok
    assert result.size == (1 + 16 + 1) * SECTOR
    assert "18 of 128 sectors" in result.said
    assert sorted(table.chip.flash.erases) == [0x33, *range(0x50, 0x60), 0x8F]
    assert set(table.chip.flash.erases.values()) == {1}
    assert table.codes().count(Long.ERASE) == 3  # the whole block at once
    assert bytes(table.chip.flash.data) == NOISE[:0x10000] + new + NOISE[0x90000:]


def test_an_update_of_a_few_bytes_keeps_their_neighbours(table: Table) -> None:
    assert table.flasher.update(table.link, [(0x5010, b"first"), (0x9FFE, b"last")]).ok
    wanted = bytearray(NOISE)
    wanted[0x5010:0x5015] = b"first"
    wanted[0x9FFE:0xA002] = b"last"
    assert bytes(table.chip.flash.data) == wanted
    assert sorted(table.chip.flash.erases) == [5, 9, 10]


def forged(block: bytes, other: bytes, at: int) -> bytes:
    """`other` with the four bytes at `at` chosen so that its CRC-32 is that of `block`.

    CRC-32 is linear: what each of the 32 bits does to it is found by flipping it, and the system is solved.
    """
    made = bytearray(other)
    made[at : at + 4] = bytes(4)
    start = zlib.crc32(made)
    rows = []
    for bit in range(32):
        made[at + bit // 8] ^= 1 << bit % 8
        rows.append((zlib.crc32(made) ^ start, 1 << bit))
        made[at + bit // 8] ^= 1 << bit % 8
    wanted, chosen = zlib.crc32(block) ^ start, 0
    for column in range(32):
        pivot = next(row for row in rows if row[0] >> column & 1)
        rows = [(a ^ pivot[0], b ^ pivot[1]) if a >> column & 1 else (a, b) for a, b in rows if (a, b) != pivot]
        if wanted >> column & 1:
            wanted, chosen = wanted ^ pivot[0], chosen ^ pivot[1]
    made[at : at + 4] = chosen.to_bytes(4, "little")
    return bytes(made)


@pytest.mark.parametrize("at", [0, 0x7000, 0xFFFC])
def test_a_block_that_was_made_to_have_the_same_crc_is_not_skipped(table: Table, at: int) -> None:
    """One CRC of the block, or of any range around it, says that the wrong content is the right one."""
    block = NOISE[0x30000:0x40000]
    other = bytearray(block)
    other[0x3000:0x3100] = bytes(0x100)
    other[0xC000:0xC100] = bytes(0x100)
    made = forged(block, bytes(other), at)
    assert zlib.crc32(made) == zlib.crc32(block)
    assert made != block
    around = NOISE[0x2F000:0x30000], NOISE[0x40000:0x42000]
    assert zlib.crc32(around[0] + made + around[1]) == zlib.crc32(around[0] + block + around[1])
    table.chip.flash.overwrite(0x30000, made)
    assert table.flasher.crc(table.link, 0x30000, 0x10000) == zlib.crc32(block)
    result = table.flasher.update(table.link, [(0x30000, block)])
    assert result.ok
    assert bytes(table.chip.flash.data) == NOISE
    assert set(table.chip.flash.erases) == {0x30 + sector // SECTOR for sector in (0x3000, 0xC000, at)}


def test_a_sector_that_was_made_to_have_the_same_crc_is_not_skipped_beside_a_difference() -> None:
    """Where a part differs, its sectors are cut again where the parts were cut: what was seen there is not lost."""
    block = NOISE[:BLOCK]
    for seed in range(30):
        inner = cuts(0, BLOCK, random.Random(seed))[1]
        point = inner[0]  # first inner cut: the forgery lies around it
        sector = point // SECTOR * SECTOR
        if not 8 < point - sector < SECTOR - 8:
            continue
        other = bytearray(block)
        other[point - 5] ^= 1
        flash = forged(block, bytes(other), point + 1)
        assert zlib.crc32(flash[sector : sector + SECTOR]) == zlib.crc32(block[sector : sector + SECTOR])

        def agrees(start: int, data: bytes, flash: bytes = flash) -> bool:
            return zlib.crc32(flash[start : start + len(data)]) == zlib.crc32(data)

        assert changed_sectors(agrees, [(0, block)], draw=random.Random(seed)) == [sector]


def test_the_cuts_of_a_block_are_drawn_anew_and_leave_nothing_out() -> None:
    draw = random.Random(3)
    for start, length in [(0, BLOCK), (0x11000, 0xF000), (0x12345, 0x4321), (0x500, 2), (0x500, 1), (0x500, 5)]:
        seen = set()
        for _ in range(20):
            parts = cuts(start, start + length, draw)
            assert parts[0][0] == start
            assert parts[-1][1] == start + length
            assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
            assert all(low < high for low, high in parts)
            assert len(parts) >= min(2, length) or length < 4
            seen.add(parts[0][1])
        assert length < 0x1000 or len(seen) > 10


# -- what went astray ---------------------------------------------------------------------------------------------


def stray_erase(table: Table, victim: int) -> None:
    """The next erase hits `victim` instead, as one whose address was damaged on its way."""
    erase = table.chip.rom._erase
    left = [1]

    def damaged(payload: bytes, at: float) -> bool:
        if left[0]:
            left[0] = 0
            payload = payload[:1] + victim.to_bytes(4, "little")
        return erase(payload, at)

    table.chip.rom._erase = damaged  # type: ignore[method-assign]


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.chip.client._REPLY_S", 0.15)
    monkeypatch.setattr("rig.chip.client._ERASE_S", {0x1000: 0.1, 0x8000: 0.1, 0x10000: 0.1})


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("known", [True, False])
def test_a_command_that_hit_a_neighbour_is_told(table: Table, known: bool) -> None:
    table.flasher.identify(table.link)
    if known:
        table.flasher.know(0, NOISE)
    stray_erase(table, 0x85000)
    with pytest.raises(UnitFailed, match="0x85000") as caught:
        table.flasher.write(table.link, [(0x5000, bytes(SECTOR))])
    assert caught.value.code == "verify-failed"
    assert ("beside" if known else "not known") in str(caught.value)
    assert table.chip.flash.read(0x85000, SECTOR) == b"\xff" * SECTOR


@pytest.mark.usefixtures("short_waits")
def test_an_erase_that_hit_a_neighbour_and_was_not_answered_is_told(table: Table) -> None:
    assert table.flasher.read(table.link, 0x80000, 0x10000).ok
    stray_erase(table, 0x85000)
    table.twist_long(Long.ERASE, None)
    with pytest.raises(UnitFailed, match="0x85000, beside what was to be written, has changed") as caught:
        table.flasher.write(table.link, [(0x5000, bytes(SECTOR))])
    assert caught.value.code == "verify-failed"


@pytest.mark.usefixtures("short_waits")
def test_an_echo_that_was_damaged_is_let_pass_where_the_rest_is_known_to_stand(table: Table) -> None:
    assert table.flasher.read(table.link, 0x80000, 0x10000).ok
    wrong = iter([True])

    def twist(reply: bytes) -> bytes:
        if reply[2] != 0xFF or reply[9] != Long.ERASE or not next(wrong, False):
            return reply
        return reply[:12] + (0x85000).to_bytes(4, "little") + reply[16:]

    table.chip.twist = twist
    assert table.flasher.write(table.link, [(0x5000, bytes(SECTOR))]).ok
    assert bytes(table.chip.flash.data) == NOISE[:0x5000] + bytes(SECTOR) + NOISE[0x6000:]


@pytest.mark.usefixtures("short_waits")
def test_a_read_that_came_to_be_an_erase_is_told(table: Table) -> None:
    """09 and 0B differ by one bit, and their frames by nothing else."""
    rom, left = table.chip.rom, [1]
    table.flasher.identify(table.link)
    read = rom._read_4k

    def damaged(payload: bytes, at: float) -> bool:
        if left[0]:
            left[0] = 0
            return rom._erase_4k(payload, at)
        return read(payload, at)

    rom._read_4k = damaged  # type: ignore[method-assign]
    with pytest.raises(UnitFailed, match="erase-4k at 0x7000") as caught:
        table.flasher.read(table.link, 0x7000, SECTOR)
    assert caught.value.code == "verify-failed"
    assert table.chip.flash.read(0x7000, SECTOR) == b"\xff" * SECTOR


# -- protection ---------------------------------------------------------------------------------------------------


def test_a_status_register_that_was_misread_is_not_written(table: Table) -> None:
    """What would be written is derived from it: a wrong bit would stay for good."""
    table.chip.flash.sr = 0x0200
    reads = itertools.count()

    def twist(reply: bytes) -> bytes:  # bits 7:0, the first time and the second
        if reply[2] != 0xFF or reply[9] != Long.READ_SR or next(reads) not in (0, 2):
            return reply
        return reply[:-1] + b"\x7c"

    table.chip.twist = twist
    assert table.flasher.write(table.link, [(0, bytes(SECTOR))]).ok
    assert table.chip.flash.sr == 0x0200
    assert Long.WRITE_SR not in table.codes()


def test_a_status_register_that_came_out_otherwise_is_put_right() -> None:
    """What was written comes without a check: the bits beside those of the protection are settings of the part."""
    with a_table(sr=0x0204) as table:
        write, left = table.chip.rom._write_sr, [1]

        def damaged(payload: bytes, at: float) -> bool:
            if left[0]:
                left[0] -= 1
                payload = payload[:1] + b"\x80\x00"  # QE cleared, SRP0 set
            return write(payload, at)

        table.chip.rom._write_sr = damaged  # type: ignore[method-assign]
        assert table.flasher.write(table.link, [(0, bytes(SECTOR))]).ok
        assert table.chip.flash.sr == 0x0200
        table.chip.flash.sr, left[0] = 0x0204, 99
        with pytest.raises(UnitFailed, match="was to be 0x0200 and stays at 0x0080") as caught:
            table.flasher.write(table.link, [(0, bytes(SECTOR))])
        assert caught.value.code == "flasher-failed"
