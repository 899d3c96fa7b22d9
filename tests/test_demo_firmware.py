"""Our own firmware for the simulated bench: what the images are, and what they do when the model executes them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from rig.image import beken
from rig.sim import firmware
from rig.sim.firmware import build, rbl
from rig.sim.flash import NorFlash

soc = pytest.importorskip("rig.sim.soc", reason="the executing model needs unicorn (extra: sim)")

MS = 1_000_000
SERIAL = 0x00BEEF


class Board:
    """A chip with a flash, started again whenever its watchdog resets it."""

    def __init__(self, image: bytes | NorFlash, serial: int = SERIAL) -> None:
        self.flash = image if isinstance(image, NorFlash) else NorFlash(image)
        self.sent: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self.line_ms: list[tuple[float, str]] = []  # UART2's lines and when they ended
        self.loads: list[tuple[float, str]] = []
        self.resets = 0
        self._line = bytearray()
        self.soc = soc.Soc(
            self.flash,
            firmware.efuse(serial),
            seed=1,
            on_uart=self._on_uart,
            on_load=lambda load, ns: self.loads.append((ns / MS, str(load))),
            on_reset=self._on_reset,
        )
        self.soc.power_on()
        self.started = self.soc.start()

    def run(self, ms: int) -> Board:
        """Lets `ms` milliseconds of guest time pass."""
        end = self.soc.now_ns + ms * MS
        while self.soc.now_ns < end:
            before = self.resets
            self.soc.run(min(end, self.soc.now_ns + 5 * MS))
            if self.resets > before:
                self.soc.start()
        return self

    @property
    def lines(self) -> list[str]:
        return [line for _, line in self.line_ms]

    def at(self, line: str) -> float:
        """When this line came, ms."""
        return next(ms for ms, text in self.line_ms if text == line)

    def _on_reset(self, _cause: str, _ns: int) -> None:
        self.resets += 1

    def _on_uart(self, port: int, byte: int, ns: int) -> None:
        self.sent[port].append(byte)
        if port != 2 or byte == ord("\r"):
            return
        if byte != ord("\n"):
            self._line.append(byte)
        elif self._line:
            self.line_ms.append((ns / MS, self._line.decode("ascii")))
            self._line.clear()


BOOT = ["rig-boot 1", "ST:00000000", "J 0x10000"]
CHIP = ["reset cause 0 power-on", "chip id 0007231c device 20521010", "flash id eb6015"]


def patched(image: bytes, app_file: str, old: bytes, new: bytes) -> bytes:
    """`image` with the code bytes `old` of its app replaced, encrypted and framed as they must be."""
    stored = (firmware.IMAGES / app_file).read_bytes()
    code = beken.crypt(beken.unframe(stored)[0], 0x10000, beken.TUYA_KEY)
    assert code.count(old) == 1
    again = beken.frame(beken.crypt(code.replace(old, new), 0x10000, beken.TUYA_KEY))
    assert len(again) == len(stored)
    return image.replace(stored, again)


# --- what it says ---------------------------------------------------------------------------------------------


def test_demo_boots_and_says_who_it_is() -> None:
    board = Board(firmware.demo_image()).run(3500)
    banner = "rig-demo BK7231N, version 1.0.0"
    life = ["radio start", "radio ready", "alive 1", "alive 2", "boot complete", "alive 3"]
    assert board.lines == [*BOOT, banner, *CHIP, "mac none: no TLV", *life]
    assert banner == firmware.DEMO_BANNER
    assert board.resets == 0
    assert not board.sent[1]


def test_times_of_the_demo() -> None:
    board = Board(firmware.demo_image()).run(6100)  # past the watchdog's 5 s
    assert board.resets == 0
    assert 100 < board.at("radio ready") - board.at("radio start") < 130
    assert board.at("alive 6") - board.at("alive 5") == pytest.approx(1000, abs=11)
    assert 1990 < board.at("boot complete") < 2050


def test_calibration_draws_its_current_without_a_gap() -> None:
    loads = Board(firmware.demo_image()).run(400).loads
    start = next(at for at, (_, load) in enumerate(loads) if load == "rf_cal")
    assert loads[start + 1][0] - loads[start][0] > 110
    assert "rf_tx" in [load for _, load in loads[start + 1 :]]


def test_it_idles_between_ticks() -> None:
    board = Board(firmware.demo_image()).run(900)
    last = [load for _, load in board.loads if load != "rf_tx"][-1]
    assert last == "idle"


def test_factory_firmware_counts_its_boots_in_flash() -> None:
    dump = firmware.factory_dump(SERIAL)
    assert firmware.boots(dump) == 0
    flash = NorFlash(dump)
    for boot in (1, 2, 3):
        board = Board(flash).run(300)
        assert board.lines[:4] == [*BOOT, firmware.FACTORY_BANNER]
        assert f"boots {boot}" in board.lines
        assert firmware.boots(flash.data) == boot
        assert not board.sent[1]
    changed = {at >> 12 for at in range(len(dump)) if dump[at] != flash.data[at]}
    assert changed == {firmware.BOOT_COUNT_AT >> 12}
    assert not flash.erases


def test_boot_count_erases_its_sector_when_full() -> None:
    flash = NorFlash(firmware.factory_dump(SERIAL))
    for record in range(128):
        put_record(flash, record, record + 1)
    assert "boots 129" in Board(flash).run(300).lines
    assert flash.erases == {firmware.BOOT_COUNT_AT >> 12: 1}
    assert "boots 130" in Board(flash).run(300).lines


def test_boot_count_passes_over_a_torn_record() -> None:
    flash = NorFlash(firmware.factory_dump(SERIAL))
    put_record(flash, 0, 41)
    flash.program(firmware.BOOT_COUNT_AT + 32, b"RIGB" + struct.pack("<I", 42))  # the power went here
    assert firmware.boots(flash.data) == 41
    assert "boots 42" in Board(flash).run(300).lines


def put_record(flash: NorFlash, record: int, count: int) -> None:
    flash.program(firmware.BOOT_COUNT_AT + 32 * record, struct.pack("<4sII", b"RIGB", count, count ^ 0xFFFFFFFF))


@pytest.mark.parametrize("before", [0x0000, 0x0200, 0x027C, 0x4000])
def test_factory_firmware_lifts_protection_and_leaves_the_die_protected(before: int) -> None:
    flash = NorFlash(firmware.factory_dump(SERIAL))
    flash.sr = before
    assert "boots 1" in Board(flash).run(300).lines
    assert flash.sr == (before & 0x0200) | 0x007C  # quad enable stays


def test_demo_leaves_flash_alone() -> None:
    flash = NorFlash(firmware.demo_image())
    before = bytes(flash.data)
    Board(flash).run(1100)
    assert bytes(flash.data) == before
    assert flash.sr == 0


def test_mac_from_the_calibration_sector() -> None:
    assert "mac 02:52:49:00:be:ef" in Board(firmware.factory_dump(SERIAL)).run(50).lines


def test_calibration_sector_without_a_mac() -> None:
    dump = bytearray(firmware.factory_dump(SERIAL))
    dump[0x1D001C] ^= 1
    assert "mac none: TLV without MAC" in Board(bytes(dump)).run(50).lines


# --- what it does when something is wrong ----------------------------------------------------------------------


def test_erased_app_is_a_visible_reset_loop() -> None:
    image = bytearray(firmware.demo_image())
    image[0x11000:] = b"\xff" * (len(image) - 0x11000)
    board = Board(bytes(image)).run(100)
    again = ["rig-boot 1", "ST:0001AD12", "J 0x10000", "[ARM ANOMALY][2]"]
    assert board.lines[:8] == [*BOOT, "[ARM ANOMALY][2]", *again]
    assert board.resets >= 3


def test_one_damaged_block_of_the_app_is_enough() -> None:
    image = bytearray(firmware.demo_image())
    image[0x11000 + 0x45] ^= 0x10
    assert "[ARM ANOMALY][2]" in Board(bytes(image)).run(50).lines


def test_a_wild_read_is_a_data_abort() -> None:
    code = struct.pack("<2I", 0xE3A0120F, 0xE5910000)  # mov r1, #0xF0000000; ldr r0, [r1]
    image = patched(firmware.demo_image(), "demo.bin", struct.pack("<2I", 0xE10F0000, 0xE3C00080), code)
    board = Board(image).run(100)
    assert "[ARM ANOMALY][4]" in board.lines
    assert "reset cause 8 data abort" in board.lines


def test_reset_cause_after_a_crash_is_said_once() -> None:
    flash = NorFlash(firmware.demo_image())
    good = flash.read(0x11000, 34)
    flash.program(0x11000, bytes(34))
    board = Board(flash).run(12)
    assert board.lines[-1] == "[ARM ANOMALY][2]"
    flash.erase(0x11000, 0x1000)
    flash.program(0x11000, firmware.demo_image()[0x11000:0x12000])
    assert flash.read(0x11000, 34) == good
    board.run(60)
    assert board.lines[4:9] == [
        "rig-boot 1",
        "ST:0001AD12",
        "J 0x10000",
        firmware.DEMO_BANNER,
        "reset cause 6 undefined instruction",
    ]
    board.soc.reset("watchdog")
    board.soc.start()
    assert "reset cause 2 watchdog" in board.run(60).lines


def test_watchdog_ends_a_hang() -> None:
    enter = struct.pack("<2I", 0xE8BD0003, 0xE24EE004)  # first words of the app's interrupt entry
    hang = struct.pack("<2I", 0xEAFFFFFE, 0xE24EE004)  # branch to itself, interrupts off
    board = Board(patched(firmware.demo_image(), "demo.bin", enter, hang)).run(5200)
    assert board.resets == 1
    assert "alive 1" not in board.lines
    assert board.lines.count(firmware.DEMO_BANNER) == 2
    assert "reset cause 2 watchdog" in board.lines
    assert board.at("reset cause 2 watchdog") > 5000


def test_pin_reset_looks_like_power_on() -> None:
    board = Board(firmware.demo_image()).run(300)
    board.soc.reset("cen")
    board.soc.start()
    board.run(300)
    assert board.lines.count("reset cause 0 power-on") == 2
    assert board.lines.count("radio ready") == 2  # RAM was kept: the app has to clear its own


def test_without_the_tag_the_rom_stays_in_download_mode() -> None:
    image = bytearray(firmware.demo_image())
    image[0x110] ^= 1
    assert Board(firmware.demo_image()).started
    assert not Board(bytes(image)).started


def test_our_bootloader_boots_openbeken() -> None:
    path = Path(os.environ.get("RIG_FIRMWARE_DIR", "/nonexistent")) / "OpenBK7231N_QIO_1.18.300.bin"
    if not path.is_file():
        pytest.skip(f"RIG_FIRMWARE_DIR names no folder with {path.name}")
    dump = bytearray(firmware.factory_dump(SERIAL))
    dump[0x11000 : firmware.QIO_SIZE] = path.read_bytes()[0x11000:]
    board = Board(bytes(dump)).run(8000)
    assert board.lines[:4] == [*BOOT, "bk_misc_init_start_type 0 0"]
    assert any("Boot complete time reached" in line for line in board.lines)
    assert "read txpwr tab from flash success" in board.lines  # it takes our calibration sector
    assert not any("No TLV" in line or line.startswith("NO TX") for line in board.lines)


# --- what the files are ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [firmware.demo_image(), firmware.factory_dump(1)], ids=["demo", "factory"])
def test_layout_of_the_images(image: bytes) -> None:
    code, valid = beken.unframe(image)
    plain = beken.crypt(code, 0, beken.TUYA_KEY)
    assert image[0x110:0x118] == b"BK7231\0\0"
    assert plain[0x10000:0x10008].hex() == "0e0000ea14f09fe5"  # what tools know an app by
    assert plain[0x10100:0x10108] == b"BK7231\0\0"
    assert plain[0x40:0x4B] == b"rig-boot 1\0"
    assert plain[:4] != plain[0x10000:0x10004]
    for at, start, name in ((0x10F9A, 0, b"bootloader"), (0x129F0A, 0x10000, b"app")):
        check_trailer(code, beken.flash_to_logical(at), start, name)
        assert valid[start // 32]
        assert valid[beken.flash_to_logical(at) // 32]


def check_trailer(code: bytes, at: int, start: int, name: bytes) -> None:
    header = code[at : at + 96]
    assert header[:4] == b"RBL\0"
    assert header[12:28].rstrip(b"\0") == name
    assert struct.unpack_from("<I", header, 92)[0] == zlib.crc32(header[:92])
    crc, _, size, packed = struct.unpack_from("<4I", header, 76)
    padding = packed - size
    assert 1 <= padding <= 16
    assert packed % 16 == 0
    assert crc == zlib.crc32(code[start : start + size] + bytes((padding,)) * padding)
    assert set(code[start + size : at]) == {0xFF}


def test_trailer_hash_is_fnv1a() -> None:
    (value,) = struct.unpack_from("<I", rbl.trailer("x", "1", b"foobar"), 80)
    assert value == 0xBF9CF968  # the published test vector


def test_sizes() -> None:
    assert len(firmware.demo_image()) == firmware.QIO_SIZE == 0x129F70
    assert len(firmware.factory_dump(0)) == 0x200000
    assert sum(path.stat().st_size for path in firmware.IMAGES.iterdir()) < 32 * 1024


def test_units_differ_and_are_the_same_every_time() -> None:
    one, two = firmware.factory_dump(1), firmware.factory_dump(2)
    assert one == firmware.factory_dump(1)
    differing = {at & -0x1000 for at in range(0, len(one), 16) if one[at : at + 16] != two[at : at + 16]}
    assert differing == {0x1D0000, 0x1ED000, 0x1EF000, 0x1F0000, 0x1F1000}
    assert firmware.efuse(1)[16:30] != firmware.efuse(2)[16:30]
    uids = {firmware.efuse(serial)[16:24] for serial in range(1000)}
    assert len(uids) == 1000


def test_mac_of_a_unit() -> None:
    dump, efuse = firmware.factory_dump(0x123456), firmware.efuse(0x123456)
    mac = bytes.fromhex("025249123456")
    assert dump[0x1D0000:0x1D0004] == b"TLV\0"
    assert struct.unpack_from("<I", dump, 0x1D0004)[0] == 0x1F6
    assert dump[0x1D001C:0x1D0024] == bytes.fromhex("0211111106000000")
    assert dump[0x1D0024:0x1D002A] == efuse[24:30] == mac
    assert len(efuse) == 32
    assert efuse[31] == 0
    assert beken.key_from_efuse(efuse) == beken.TUYA_KEY


@pytest.mark.parametrize("serial", [-1, 0x1000000])
def test_serial_must_fit_the_mac(serial: int) -> None:
    with pytest.raises(ValueError, match=f"not {serial}"):
        firmware.factory_dump(serial)


# --- how they are made -----------------------------------------------------------------------------------------


def test_committed_images_are_what_the_source_builds(tmp_path: Path) -> None:
    try:
        version = build.compiler_version()
    except build.UsageProblem as problem:
        pytest.skip(str(problem))
    made_by = (firmware.IMAGES / build.COMPILER).read_text().strip()
    if version != made_by:
        pytest.skip(f"the committed images were made by {made_by}, here is {version}")
    build.build(tmp_path)
    names = sorted(path.name for path in firmware.IMAGES.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (firmware.IMAGES / name).read_bytes(), name


def test_without_a_compiler_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rig.sim.firmware.build"],
        env={"PATH": "/nonexistent", "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "arm-none-eabi-gcc is not installed (Debian: apt install gcc-arm-none-eabi)\n"


def test_an_image_without_its_tag_is_not_stored() -> None:
    with pytest.raises(build.RigError, match="no tag"):
        build.store(bytes(0x200), build.BUILDS[0])
