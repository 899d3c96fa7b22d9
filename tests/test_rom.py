"""The simulated mask ROM: what it answers to each command, byte for byte, and what it does to the flash."""

from __future__ import annotations

import random
import zlib

import pytest

from rig.sim.flash import SIZE, NorFlash
from rig.sim.rom import ChipTimes, Rom

SECTOR = 0x1000
LINK = "01E0FC0100"


class Chip:
    """A ROM whose time is the test's. `ask` gives the bytes of one request and returns all that was sent."""

    def __init__(self, flash: NorFlash | None = None, efuse: bytes = bytes(32)) -> None:
        self.flash = flash or NorFlash()
        self.efuse = bytearray(efuse)
        self.sent: list[tuple[float, bytes, int]] = []
        self.resets: list[float] = []
        self.loads: list[tuple[str, float]] = []
        self.now = 100.0
        self.rom = Rom(
            self.flash,
            self.efuse,
            send=lambda at, data, baud: self.sent.append((at, data, baud)),
            on_reset=self.resets.append,
            on_load=lambda name, until: self.loads.append((name, until)),
        )

    def ask(self, request: str | bytes, *, wait: float = 1.0) -> str:
        """The replies' hex, after the chip had `wait` seconds to finish."""
        self.sent.clear()
        self.rom.receive(bytes.fromhex(request) if isinstance(request, str) else request, self.now)
        self.now += wait
        self.rom.tick(self.now)
        return b"".join(data for _, data, _ in self.sent).hex().upper()


def erase(size: int, address: int) -> bytes:
    return bytes.fromhex("01E0FCFFF406000F") + bytes((size,)) + address.to_bytes(4, "little")


def write_4k(address: int, data: bytes) -> bytes:
    return bytes.fromhex("01E0FCFFF4051007") + address.to_bytes(4, "little") + data


def read_4k(address: int) -> bytes:
    return bytes.fromhex("01E0FCFFF4050009") + address.to_bytes(4, "little")


def crc(start: int, end: int) -> bytes:
    return bytes.fromhex("01E0FC0910") + start.to_bytes(4, "little") + end.to_bytes(4, "little")


@pytest.fixture
def noise() -> bytes:
    return random.Random(5).randbytes(SIZE)


@pytest.fixture
def chip() -> Chip:
    return Chip()


@pytest.mark.parametrize(
    ("request_hex", "reply_hex"),
    [
        (LINK, "040E0501E0FC0100"),
        ("01E0FC050300008000", "040E0C01E0FC03000080001C230700"),
        ("01E0FC09017400800001000000", "040E0C01E0FC017400800001000000"),
        ("01E0FCFFF405000E9F000000", "040EFF01E0FCF406000E0000EB6015"),
        ("01E0FCFFF402000C05", "040EFF01E0FCF404000C000500"),
        ("01E0FCFFF404000D010000", "040EFF01E0FCF405000D00010000"),
        ("01E0FCFFF403000D0100", "040EFF01E0FCF404000D000100"),
        ("01E0FCFFF406000F2000102100", "040EFF01E0FCF407000F002000102100"),
        ("01E0FCFFF406000FD800000200", "040EFF01E0FCF407000F00D800000200"),
        ("01E0FCFFF405000B00100000", "040EFF01E0FCF406000B0000100000"),
        ("01E0FC02AA55", "040E0501E0FCAA55"),
        ("01E0FCFFF402001F00", "040EFF01E0FCF402001F07"),  # unknown long
        ("01E0FC0142", "040E0501E0FC4207"),  # unknown short
        ("01E0FC0111", "040E0501E0FC1107"),  # boot version: the N has none
        ("01E0FC020E00", "040E0501E0FC0E00"),  # not the reboot byte: echoed
        ("01E0FCFFF401000A", ""),  # erase-all is refused without an answer
        ("01E0FCFFF406000F7700000000", "040EFF01E0FCF407000F067700000000"),  # no such erase size
        ("01E0FC00", ""),
    ],
)
def test_answers(chip: Chip, request_hex: str, reply_hex: str) -> None:
    assert chip.ask(request_hex) == reply_hex


def test_crc_has_an_inclusive_end_no_final_xor_and_takes_its_time(noise: bytes) -> None:
    chip = Chip(NorFlash(noise))
    assert chip.ask(crc(0, 0x100)) == "040E0801E0FC10" + (zlib.crc32(noise[:257]) ^ 0xFFFFFFFF).to_bytes(4, "little").hex().upper()  # fmt: skip  # noqa: E501
    chip.ask(crc(0, SIZE - 1), wait=5)
    assert chip.sent[0][0] - (chip.now - 5) == pytest.approx(SIZE / 438_000)
    blank = Chip()
    assert blank.ask(crc(0x211000, 0x211FFF)) == "040E0801E0FC10F598AB0E"


def test_addresses_wrap_at_the_flash_s_size_and_are_echoed_as_they_came(noise: bytes) -> None:
    chip = Chip(NorFlash(noise))
    assert chip.ask(read_4k(0x211000)) == "040EFF01E0FCF406100900" + "00102100" + noise[0x11000:0x12000].hex().upper()
    assert chip.ask(erase(0x20, 0x211000)) == "040EFF01E0FCF407000F002000102100"
    assert chip.flash.read(0x11000, SECTOR) == b"\xff" * SECTOR
    assert chip.flash.read(0x12000, SECTOR) == noise[0x12000:0x13000]
    assert chip.ask(write_4k(0x211000, noise[:SECTOR])) == "040EFF01E0FCF40600070000102100"
    assert chip.flash.read(0x11000, SECTOR) == noise[:SECTOR]
    across = noise[SIZE - 16 :] + noise[:16]
    reply = (zlib.crc32(across) ^ 0xFFFFFFFF).to_bytes(4, "little").hex().upper()
    assert chip.ask(crc(SIZE - 16, SIZE + 15)) == "040E0801E0FC10" + reply


def test_the_jedec_reply_counts_six_bytes(chip: Chip) -> None:
    reply = bytes.fromhex(chip.ask("01E0FCFFF405000E9F000000"))
    assert int.from_bytes(reply[7:9], "little") == 6
    assert reply[9 + 2 :] == b"\x00\xeb\x60\x15"


def test_set_baud_is_answered_after_its_delay_at_the_new_speed(chip: Chip) -> None:
    assert chip.ask("01E0FC060F00100E0014") == ""
    assert chip.rom.baud_change == (921600, 20)
    assert chip.rom.baud == 115200
    chip.rom.finish_baud_change(chip.now)
    assert chip.sent == [(chip.now, bytes.fromhex("040E0901E0FC0F00100E0014"), 921600)]
    assert chip.ask(LINK) == "040E0501E0FC0100"
    assert chip.sent[0][2] == 921600
    chip.rom.reset()
    chip.ask(LINK)
    assert chip.sent[0][2] == 115200


@pytest.mark.parametrize("frame", ["01E0FC020EA5", "01E0FC05705345414E"])
def test_reboot_and_reset_restart_the_chip_without_an_answer(chip: Chip, frame: str) -> None:
    assert chip.ask(frame) == ""
    assert chip.resets == [100.0]


def test_protected_flash_answers_well_and_does_not_change(noise: bytes) -> None:
    chip = Chip(NorFlash(noise, sr=0x407C & ~0x4000))
    assert chip.ask("01E0FCFFF402000C05").endswith("057C")
    assert chip.ask(erase(0x20, 0)) == "040EFF01E0FCF407000F002000000000"
    assert chip.ask(write_4k(0, bytes(SECTOR))) == "040EFF01E0FCF40600070000000000"
    assert chip.ask("01E0FCFFF405010600000000" + "00" * 256).startswith("040EFF01E0FCF407000600")
    assert bytes(chip.flash.data) == noise
    chip.ask("01E0FCFFF404000D010000")
    chip.ask(erase(0x20, 0))
    assert chip.flash.read(0, SECTOR) == b"\xff" * SECTOR


def test_programming_only_clears_bits(chip: Chip) -> None:
    chip.ask(write_4k(0, b"\xf0" * SECTOR))
    chip.ask(write_4k(0, b"\x3c" * SECTOR))
    assert chip.flash.read(0, SECTOR) == b"\x30" * SECTOR


def test_each_page_is_programmed_when_it_has_arrived(chip: Chip) -> None:
    frame = write_4k(0, b"\x00" * SECTOR)
    at = chip.now
    chip.rom.receive(frame[: 12 + 0x100], at)
    chip.rom.tick(at + ChipTimes().page / 2)
    assert chip.flash.read(0, 1) == b"\xff"
    chip.rom.tick(at + ChipTimes().page)
    assert chip.flash.read(0, 0x101) == bytes(0x100) + b"\xff"
    chip.rom.receive(frame[12 + 0x100 : 12 + 0x3FF], at + 0.01)
    chip.rom.tick(at + 0.011)
    assert chip.flash.read(0x2FF, 2) == b"\x00\xff"
    chip.rom.receive(frame[12 + 0x3FF :], at + 0.02)
    chip.rom.tick(at + 0.021)
    assert chip.flash.read(0, SECTOR) == bytes(SECTOR)
    assert [data.hex() for _, data, _ in chip.sent] == ["040eff01e0fcf40600070000000000"]
    assert chip.sent[0][0] == pytest.approx(at + 0.02 + ChipTimes().page)
    assert {name for name, _ in chip.loads} == {"program"}


def test_write_256_counts_in_one_byte(chip: Chip) -> None:
    reply = chip.ask("01E0FCFFF4050106001E2100" + "00" * 256)
    assert reply == "040EFF01E0FCF407000600001E210000"
    reply = chip.ask("01E0FCFFF4150006001E2100" + "AA" * 16)
    assert reply == "040EFF01E0FCF407000600001E210010"
    assert chip.flash.read(0x11E00, 256) == bytes(256)


def test_bytes_that_come_while_a_command_runs_are_lost(chip: Chip) -> None:
    chip.ask(erase(0xD8, 0), wait=0)
    done = chip.sent[0][0]
    assert done == pytest.approx(100.0 + ChipTimes().erase_64k)
    chip.sent.clear()
    chip.rom.receive(bytes.fromhex(LINK), done - 0.001)
    assert chip.sent == []
    chip.rom.receive(bytes.fromhex(LINK), done)
    assert len(chip.sent) == 1


def test_a_frame_may_come_in_pieces_after_noise(chip: Chip) -> None:
    for byte in bytes.fromhex("FF01E0010101E0FC0100"):
        chip.rom.receive(bytes((byte,)), chip.now)
        chip.now += 0.01
    assert [data.hex() for _, data, _ in chip.sent] == ["040e0501e0fc0100"]
    assert chip.rom.linked


def test_a_frame_that_stops_early_is_given_up_with_status_5(chip: Chip) -> None:
    assert chip.rom.gives_up_at == float("inf")
    chip.rom.receive(write_4k(0, bytes(SECTOR))[:400], 100.0)
    assert 100.0 < chip.rom.gives_up_at < 100.5
    chip.rom.tick(chip.rom.gives_up_at)
    assert chip.sent == []
    chip.rom.tick(chip.rom.gives_up_at + 0.001)
    assert [data.hex() for _, data, _ in chip.sent] == ["040eff01e0fcf402000705"]
    assert chip.ask(LINK) == "040E0501E0FC0100"
    assert chip.flash.read(0x100, 1) == b"\xff"  # of the second page not all had come
    assert chip.ask("01E0FC0503000080", wait=0.05) == ""
    chip.now += 1.0
    assert chip.ask(LINK) == "040E0801E0FC0305000080" + "040E0501E0FC0100"


def test_efuse_bytes_are_read_one_by_one_and_written_for_good() -> None:
    chip = Chip(efuse=bytes(range(32)))

    def read(index: int) -> str:
        chip.ask("01E0FC090174008000" + (index << 8 | 1).to_bytes(4, "little").hex())
        assert chip.ask("01E0FC050374008000")[-8:] == (index << 8).to_bytes(4, "little").hex().upper()
        return chip.ask("01E0FC050378008000")[-8:]

    assert read(7) == "07010000"
    assert read(31) == "1F010000"
    chip.ask("01E0FC090174008000" + (0xA8 << 16 | 7 << 8 | 3).to_bytes(4, "little").hex())
    assert read(7) == "AF010000"
    assert chip.efuse[7] == 0x07 | 0xA8


def test_power_lost_in_an_erase_leaves_a_mixed_block(noise: bytes) -> None:
    chip = Chip(NorFlash(noise))
    changed: list[tuple[int, int]] = []
    chip.flash.on_change.append(lambda start, end: changed.append((start, end)))
    chip.ask(erase(0x20, 0x5000), wait=0.01)
    changed.clear()
    chip.rom.power_lost(chip.now)
    block = chip.flash.read(0x5000, SECTOR)
    assert block not in (b"\xff" * SECTOR, noise[0x5000:0x6000])
    assert all(new & old == old for new, old in zip(block, noise[0x5000:0x6000], strict=True))
    assert chip.flash.read(0x6000, SECTOR) == noise[0x6000:0x7000]
    assert changed == [(0x5000, 0x6000)]


def test_power_lost_later_does_not_bring_an_erased_block_back(noise: bytes) -> None:
    chip = Chip(NorFlash(noise))
    chip.ask(erase(0x20, 0x5000))
    chip.ask(write_4k(0x5000, b"\x12" * SECTOR))
    chip.ask(crc(0, SIZE - 1), wait=1)
    assert chip.now < chip.rom.busy_until
    chip.rom.power_lost(chip.now)
    assert chip.flash.read(0x5000, SECTOR) == b"\x12" * SECTOR


def test_a_protected_block_is_not_mixed(noise: bytes) -> None:
    chip = Chip(NorFlash(noise, sr=0x1C))
    chip.ask(erase(0x20, 0x5000), wait=0.01)
    chip.rom.power_lost(chip.now)
    assert bytes(chip.flash.data) == noise


def test_a_locked_status_register_stays_and_protects(noise: bytes) -> None:
    """As with SRP set and WP low: the reply is the same, nothing changed."""
    chip = Chip(NorFlash(noise, sr=0x7C))
    chip.flash.sr_locked = True
    assert chip.ask("01E0FCFFF404000D010000").endswith("0D00010000")
    assert chip.ask("01E0FCFFF402000C05").endswith("0C00057C")
    chip.ask(erase(0x20, 0x5000), wait=0.1)
    assert bytes(chip.flash.data) == noise
    chip.flash.sr_locked = False
    chip.ask("01E0FCFFF404000D010000")
    assert chip.ask("01E0FCFFF402000C05").endswith("0C000500")


def test_speed_divides_what_the_chip_takes() -> None:
    times = ChipTimes().scaled(10)
    assert times.erase_4k == pytest.approx(0.0025)
    assert times.crc_bytes_per_s == pytest.approx(4_380_000)
