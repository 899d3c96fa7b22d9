"""Failure codes: every fail and blocked has exactly one, with its cause and what to do.

docs/failure-codes.md is this table; a test holds the two together.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Code:
    """One failure code. `blames` says whether the bench (blocked) or the board (fail) is at fault."""

    name: str
    blames: Literal["bench", "board"]
    cause: str
    action: str


_TABLE = [
    Code("no-current", "bench", "The output is on but the slot draws no current: no board in it, or no contact.",
         "Seat the board, check the 3V3 and GND needles, then run the unit again."),
    Code("contact", "bench", "Bytes came on a line that is silent while a board waits in its ROM.",
         "Read in the sentence which line. Seat the board, check the ground and that line's needle, and that the "
         "port is wired to this slot and to no other."),
    Code("short", "board", "The board draws more than its ROM ever does, or pulls the output into current limit.",
         "Take the board out and look for solder bridges or a dead chip; measure 3V3 to GND."),
    Code("weak-supply", "bench", "The 3.3 V rail sagged while the board worked: the source cannot feed it.",
         "Raise the current limit (500 mA or more), shorten the leads, check the contacts."),
    Code("rail-stuck", "bench", "With the output off the rail stayed above 0.3 V: something else feeds the board.",
         "Look for back-power through UART pins or a second source; a bleed resistor helps a slow rail."),
    Code("supply-lost", "bench", "The supply stopped answering, or its output went off by itself.",
         "Check its cable, address, tripped protections and front panel, then `rig bench check`."),
    Code("supply-refused", "bench", "The supply did not accept or did not read back a setting, or gave other "
         "volts than it was set to.",
         "Read in the sentence which. Run `rig bench check`; compare the dialect with the instrument's manual."),
    Code("port-lost", "bench", "A serial port went away while it was in use.",
         "Check the USB cable and hub; name ports by /dev/serial/by-path."),
    Code("no-link", "board", "The board draws a sane ROM current but never answers a link check.",
         "Check TX and RX (crossed, seated), that nothing else drives RX1, then suspect the chip."),
    Code("link-lost", "bench", "The board stopped answering in the middle of a transfer.",
         "Check the contacts and the supply; a lower baud in bench.toml may help."),
    Code("wrong-board", "bench", "The board in the slot is another one, by its own UID, than the unit had before, or "
         "than the one whose backup is to be restored.",
         "Put the board in that the sentence names; one whose module was changed gets a rework on record. To give "
         "another board a dump, use `rig recover --image`, which keeps its identity."),
    Code("no-backup", "bench", "The firmware of this board was to be started, and nothing could bring the board "
         "back: it has no backup on record and does not hold the image.",
         "Convert it first, which backs it up; of a board that holds another image name that with --image."),
    Code("image-refused", "board", "The image fits the product and not this very board: its key, or what its flash "
         "lacks.",
         "Read the sentence: it names the rule and what to use instead, mostly `rig recover` with a full image."),
    Code("provision-missing", "board", "What the provisioning takes from the board is not there: its MAC, or pins in "
         "Tuya's storage.",
         "Give pins and names in the provisioning file, or see whether the board's first backup has them."),
    Code("wrong-chip", "board", "The chip is not the one this product has.",
         "Look at the module's marking; pick the matching product and image."),
    Code("unreadable", "board", "The flash reads as zeros, without an id, or with an unstable CRC.",
         "Check the supply and P24 strapping; the flash may be dead. It is not written without a backup."),
    Code("backup-mismatch", "board", "What was read does not agree with the chip's own CRC.",
         "Run the unit again at a lower baud; if it stays, the flash is unstable."),
    Code("flash-protected", "board", "The flash stayed write-protected.",
         "Note the flash id and status register and report them; the part may be unknown."),
    Code("erase-failed", "board", "An erase was accepted but the flash is not blank.",
         "Check the supply under load; the flash may be worn or protected."),
    Code("verify-failed", "board", "What is in flash differs from what was to be there.",
         "Run the unit again; if it repeats at the same offset the flash is bad. If it agreed until the power-cycle, "
         "the rail sagged while it was written, or the flash is worn."),
    Code("log-silent", "board", "Nothing came out of the log port after power-on.",
         "Check the TX2 wire first, then the bootloader: convert it with a full image (QIO), which goes to 0x0."),
    Code("bootloader-only", "board", "The bootloader spoke and the application never did.",
         "The application is missing or damaged: write it again."),
    Code("boot-loop", "board", "The board resets again and again with a healthy supply.",
         "Look at the reset cause in the log; write a known-good image."),
    Code("wrong-firmware", "board", "Another firmware or version than the one written came up.",
         "Compare the log with the image's name; check that the right file was given."),
    Code("not-complete", "board", "The firmware started but never reached its own boot-complete marker.",
         "Read the last lines of the log; run the unit again with more time."),
    Code("safe-mode", "board", "The firmware came up in its safe mode: boots before it were cut short or crashed.",
         "Run the unit again: a boot that completes ends it. If it stays, read the log for crashes."),
    Code("provision-refused", "board", "The firmware came up without the configuration that was written for it.",
         "Read in the log what it says of its configuration, and compare its version with the provisioning file."),
    Code("calibration-lost", "board", "The firmware finds no radio calibration in flash, or no MAC of its own.",
         "`rig recover` brings it back from the board's first backup; if that has none, it came without one."),
    Code("current-high", "board", "The steady current is outside the product's limits.",
         "Look for a load on a relay or LED pin, or a damaged board."),
    Code("flasher-failed", "board", "The flashing tool ended without having done its work.",
         "Read the tool's output in the unit's folder; try the native flasher."),
    Code("suite-failed", "board", "A test of a suite of your own found something else than it should be.",
         "Read the assertion in the sentence, and the rest on the unit's page."),
    Code("home-no-join", "board", "The unit was not seen in the station's network after its boot.",
         "Read in boot.log whether it joined. Compare the network's name and password in its provisioning with the "
         "access point's, and look whether other units join; else suspect its antenna or its calibration."),
    Code("home-no-page", "board", "The unit is in the network and its page /index does not answer, or is not "
         "OpenBeken's.",
         "Open the address of the sentence in a browser. If other units answer, convert it again; a page with a "
         "password needs it in the provisioning."),
    Code("home-version", "board", "The unit's page says another version than was written.",
         "Compare with the image's name; a unit that updated itself over the air has another image in its flash."),
    Code("home-reset-cause", "board", "The unit was switched on, and its page says that it was reset since: by its "
         "watchdog or by a crash.",
         "Read boot.log up to the reset, and look at the rail in power.csv when its radio starts."),
    Code("home-safe-mode", "board", "The unit is in safe mode, and a boot that completed did not end it.",
         "Read boot.log for what crashes in its first seconds: a start-up command or a driver of the provisioning."),
    Code("home-no-mqtt", "board", "The unit is in the network and never came to the broker.",
         "Compare broker, user and password in its provisioning with the broker's, whose log names refused clients."),
    Code("home-no-discovery", "board", "Home Assistant would not find the unit, or could not use what it announces.",
         "Set the flag automatic-hass-discovery in the provisioning, and its pins: without relays nothing is "
         "announced."),
    Code("home-relay", "board", "A relay's reported state does not follow what it was told over MQTT.",
         "Compare the pins of the provisioning with the board. The contact itself is measured by nothing here."),
    Code("home-wrong-name", "board", "The unit has another name than it should, at the broker or on its page.",
         "Compare the names of the provisioning with the sentence; two units with one name throw each other out."),
    Code("broker-lost", "bench", "The MQTT broker cannot be reached, does not take the rig, or went away meanwhile.",
         "Look whether it runs (systemctl status mosquitto), and compare host, port, user and password in "
         "[home.broker]."),
    Code("access-point-down", "bench", "The network interface of the station's access point is missing or down.",
         "Look at hostapd (systemctl status hostapd) and at the Wi-Fi adaptor, then run the unit again."),
    Code("guard-stopped", "bench", "A flasher asked for something the rig never lets through, or too early.",
         "Read which command in the unit's wire trace; do not use this tool for this operation."),
    Code("calibration-due", "bench", "The supply's calibration date in bench.toml has passed.",
         "Have it calibrated and correct cal_due, or go on with --waive-calibration REASON; the waiver is recorded."),
    Code("step-timeout", "bench", "A step took far longer than it ever should, so the unit's process was ended.",
         "Read in the sentence which step, and the end of pytest.log in the unit's folder; if it repeats in one "
         "slot, look at its ports and its supply."),
    Code("disk-full", "bench", "No room is left on a disk that the record of the unit is written to.",
         "Make room there (the sentence says where; rig records purge --older), then go on with --resume."),
    Code("crashed", "bench", "The unit's own process died.",
         "Read the end of its log; the unit is blocked, and unverified if it was being written."),
    Code("half-written", "board", "The rig died while this board was being written.",
         "Run this unit again before any other: its content is not known."),
]  # fmt: skip

CODES: dict[str, Code] = {code.name: code for code in _TABLE}


def as_markdown() -> str:
    """The table as docs/failure-codes.md has it: `python -m rig.codes > docs/failure-codes.md`."""
    lines = [
        "# Failure codes",
        "",
        "Every `fail` and every `blocked` carries exactly one of these codes. Those that blame the bench end in",
        "`blocked` and say nothing about the board: they never count against the yield. Those that blame the board",
        "end in `fail`, `half-written` in `unverified`.",
        "",
    ]
    for blames, title in (("bench", "The bench is to blame: blocked"), ("board", "The board is to blame: fail")):
        lines += [f"## {title}", "", "| code | cause | what to do |", "|---|---|---|"]
        lines += [f"| `{code.name}` | {code.cause} | {code.action} |" for code in _TABLE if code.blames == blames]
        lines.append("")
    lines.append("This page is generated from `rig/codes.py`: `python -m rig.codes > docs/failure-codes.md`.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
