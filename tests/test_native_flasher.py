"""The native flasher against a simulated ROM: what it does to the flash, and how it says what went wrong."""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from chip_on_wire import EFUSE, ChipOnWire, DirectLink

from rig.chip.frames import Long
from rig.errors import Aborted, BenchBlocked, UnitFailed
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
    with ChipOnWire(NorFlash(content, sr=sr), worst_baud=worst_baud) as chip:
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
        assert found.identity == "uid-" + EFUSE[16:24].hex()
        table.chip.flash.overwrite(0x1D0000, b"\xff" * SECTOR)
        assert table.flasher.identify(table.link).mac == EFUSE[24:30].hex(":")
        assert table.link.prepared == 1


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
    spoil = [3]

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
    assert result.said == "the flash differs at 0x32800"
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
    table.twist_long(command, b"\x06")
    with pytest.raises(UnitFailed, match="refused") as caught:
        table.flasher.write(table.link, [(0x7001, NOISE[:100])])
    assert caught.value.code == code


def test_content_that_twice_disagrees_with_the_crc_is_no_backup(table: Table) -> None:
    table.chip.twist = lambda reply: reply[:-1] + bytes((reply[-1] ^ 1,)) if reply[6] == 0x10 else reply
    with pytest.raises(UnitFailed, match="0x1000 twice") as caught:
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


def test_a_board_that_cannot_go_fast_is_linked_again_at_the_rom_s_speed() -> None:
    with a_table(worst_baud=500_000) as table:
        result = table.flasher.read(table.link, 0, SECTOR)
        assert result.data == NOISE[:SECTOR]
        assert result.retries == ("921600 baud failed, staying at 115200",)
        assert table.link.prepared == 2
        assert table.chip.rom.baud == 115200


def test_a_silent_board_never_links(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.flashers.native._WINDOW_S", 0.1)
    table.chip.twist = lambda reply: b""
    with pytest.raises(UnitFailed, match="never answered") as caught:
        table.flasher.identify(table.link)
    assert caught.value.code == "no-link"
    table.chip.twist = lambda reply: reply
    assert table.flasher.identify(table.link).chip == "BK7231N"


def test_a_board_that_missed_its_rom_runs_for_a_second_and_no_longer(table: Table) -> None:
    table.chip.twist = lambda reply: b""
    began = time.monotonic()
    with pytest.raises(UnitFailed, match=r"for [12]\.\d s after power-on"):
        table.flasher.identify(table.link)
    assert time.monotonic() - began < 2.5
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
    monkeypatch.setattr("rig.flashers.native._WINDOW_S", 0.2)
    monkeypatch.setattr("rig.flashers.native._POWER_TIMEOUT_S", 2.0)
    on = threading.Timer(1.0, DirectLink.prepare, [table.link])

    def prepare() -> None:
        table.link.off()
        on.start()

    table.link.prepare = prepare  # type: ignore[method-assign]
    assert table.flasher.identify(table.link).chip == "BK7231N"
    on.join()
    table.flasher.close()
    table.link.prepare = table.link.off  # type: ignore[method-assign,assignment]
    monkeypatch.setattr("rig.flashers.native._POWER_TIMEOUT_S", 0.2)
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
