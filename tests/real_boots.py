"""Real images on the executing model: where they are, how they are changed, how they are judged."""

from __future__ import annotations

import struct
from pathlib import Path

from rig.image import beken
from rig.image.firmware import load_profiles
from rig.sim.flash import SIZE, NorFlash
from rig.sim.tuyamcu import TuyaMcu
from rig.uart.bootlog import LogLine
from rig.uart.verdict import Verdict, judge
from tests.image_files import FIRMWARE_DIR
from tests.soc_programs import MS, Bench

OBK = "OpenBK7231N_QIO_1.18.300.bin"
OBK_T = "OpenBK7231T_QIO_1.18.300.bin"
TUYA = "tywb_4ch_rf_switch_CB3S_1.2.1.bin"
APP, APP_END = 0x11000, 0x12A000
CALIBRATION = 0x1D0000
EFUSE = struct.pack("<4I", *beken.TUYA_KEY) + bytes(16)  # no MAC

PROFILES = load_profiles()


def image(name: str) -> bytearray:
    """A file of the folder as a whole flash."""
    data = (Path(FIRMWARE_DIR or "") / name).read_bytes()
    return bytearray(data.ljust(SIZE, b"\xff"))


def openbeken_on_tuya() -> bytearray:
    """The factory dump after a conversion: OpenBeken's app, all else the board's own."""
    data = image(TUYA)
    data[APP:APP_END] = image(OBK)[APP:APP_END]
    return data


def change_code(data: bytearray, address: int, bits: int) -> None:
    """Flip `bits` of one code byte and put its block's CRC right."""
    start = address // 32 * 34
    data[start + address % 32] ^= bits
    data[start + 32 : start + 34] = beken.crc16(bytes(data[start : start + 32])).to_bytes(2, "big")


def boot(
    data: bytes | bytearray | NorFlash,
    ms: float,
    *,
    efuse: bytes = EFUSE,
    seed: int = 0,
    mcu: TuyaMcu | None = None,
    by_task: bool = False,
) -> Bench:
    """A chip `ms` after power came."""
    flash = data if isinstance(data, NorFlash) else bytes(data)
    return Bench(flash, efuse=efuse, seed=seed, mcu=mcu, by_task=by_task).run_through_resets(ms)


def verdict(bench: Bench) -> Verdict:
    """The rig's verdict on all the board has printed."""
    text = bench.text()
    return judge([LogLine(at * MS, line.rstrip()) for at, line in enumerate(text.split("\n"))], PROFILES)
