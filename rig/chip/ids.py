"""Chip ids, flash ids and registers of the BK7231 family, each with where it was read."""

from __future__ import annotations

from dataclasses import dataclass

SCTRL_CHIP_ID = 0x00800000
SCTRL_EFUSE_CTRL = 0x00800074  # 0 start, 1 direction (1 = write), 12:8 byte address, 23:16 data
SCTRL_EFUSE_OPTR = 0x00800078  # 7:0 data, 8 valid

# Register SCTRL_CHIP_ID. Source: bk7231tools 2.1.2 enums; the T never answers, it has no ReadReg.
CHIPS = {
    0x7231: "BK7231Q",
    0x7231A: "BK7231T",
    0x7231C: "BK7231N",
    0x7238: "BK7238",
    0x7252: "BK7252",
}


@dataclass(frozen=True)
class FlashPart:
    """A serial NOR part: its name, size in bytes and how many status-register bytes it takes (1 or 2)."""

    name: str
    size: int
    sr_bytes: int


# 2 MiB parts of BK7231N modules by JEDEC id. Source: bk7231tools 2.1.2's table of status-register sizes; names
# from the Beken SDK's flash list.
FLASH_PARTS = {
    bytes.fromhex("0b4015"): FlashPart("XT25F16B", 0x200000, 2),
    bytes.fromhex("1c7015"): FlashPart("EN25QH16B", 0x200000, 1),
    bytes.fromhex("854215"): FlashPart("P25Q16", 0x200000, 1),
    bytes.fromhex("852015"): FlashPart("P25Q16", 0x200000, 2),
    bytes.fromhex("c22315"): FlashPart("MX25V1635F", 0x200000, 2),
    bytes.fromhex("c84015"): FlashPart("GD25Q16C", 0x200000, 2),
    bytes.fromhex("c86515"): FlashPart("GD25WQ16E", 0x200000, 2),
    bytes.fromhex("eb6015"): FlashPart("TH25Q16HB", 0x200000, 2),
}

PROTECT_MASK = 0x407C  # BP0-BP4 and CMP over a 16-bit status register. Source: bk7231tools 2.1.x


def chip_name(chip_id: int) -> str:
    return CHIPS.get(chip_id, f"unknown chip 0x{chip_id:x}")
