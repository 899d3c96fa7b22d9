"""What would this file print? Run a flash image and show its log (UART2).

python -m rig.sim.soc OpenBK7231N_QIO_1.18.300.bin --seconds 8
"""

from __future__ import annotations

import argparse
import struct
import sys
from pathlib import Path

from rig.errors import RigError, UsageProblem
from rig.image.beken import TUYA_KEY, ZERO_KEY
from rig.sim.flash import SIZE, NorFlash
from rig.sim.soc.clock import MS, SECOND
from rig.sim.soc.soc import Soc

_KEYS = {"tuya": TUYA_KEY, "none": ZERO_KEY}
_RESETS = 5


class _Log:
    """Writes one port's bytes to stdout, each line behind its guest time if wanted."""

    def __init__(self, port: int, stamps: bool) -> None:
        self._port = port
        self._stamps = stamps
        self._line = bytearray()

    def byte(self, port: int, byte: int, ns: int) -> None:
        if port != self._port or byte == 0x0D:
            return
        if byte != 0x0A:
            self._line.append(byte)
        else:
            self.end_line(ns)

    def end_line(self, ns: int) -> None:
        stamp = f"{ns / MS:10.1f} ms  " if self._stamps else ""
        sys.stdout.write(f"{stamp}{self._line.decode('utf-8', 'backslashreplace')}\n")
        self._line.clear()

    def note(self, text: str, ns: int) -> None:
        if self._line:
            self.end_line(ns)
        sys.stdout.flush()
        sys.stderr.write(f"[{ns / MS:.1f} ms: {text}]\n")


def _read(name: str) -> bytes:
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise UsageProblem(f"{name}: {error.strerror or error}") from None
    if len(data) > SIZE:
        raise UsageProblem(f"{name} is {len(data)} bytes; the flash of a CB3S holds {SIZE}.")
    return data


def show(image: bytes, efuse: bytes, seconds: float, log: _Log) -> None:
    """Run `image` from flash address 0 for `seconds` of guest time, through a few watchdog resets."""
    soc = Soc(
        NorFlash(image),
        efuse,
        on_uart=log.byte,
        on_reset=lambda cause, ns: log.note(f"reset by the {cause}", ns),
    )
    soc.power_on()
    end = int(seconds * SECOND)
    resets = 0
    while soc.now_ns < end:
        if not soc.start():
            log.note("the ROM finds no BK7231 tag at flash 0x110: it does not start this and waits for a flasher", 0)
            return
        soc.run(end)
        if soc.now_ns < end and soc.is_dead:
            fault = soc.last_fault
            how = f"{fault.kind} at {fault.pc:#x} again and again" if fault else "it stands still with interrupts off"
            log.note(f"dead: {how}, and no watchdog to end it", soc.now_ns)
            return
        resets += 1
        if resets > _RESETS and not soc.running:
            log.note("it goes on like that", soc.now_ns)
            return
    log.note("end", soc.now_ns)


def main(arguments: list[str] | None = None) -> int:
    what = "Show what a flash image prints on UART2."
    parser = argparse.ArgumentParser(prog="python -m rig.sim.soc", description=what)
    parser.add_argument("file", help="what is in flash from address 0")
    parser.add_argument("--seconds", type=float, default=8.0, help="guest time to run (default 8)")
    parser.add_argument("--key", choices=sorted(_KEYS), default="tuya", help="code key in the chip's efuse")
    parser.add_argument("--port", type=int, choices=(1, 2), default=2, help="which UART to show (2 is the log)")
    parser.add_argument("--stamps", action="store_true", help="put guest milliseconds before each line")
    options = parser.parse_args(arguments)
    try:
        efuse = struct.pack("<4I", *_KEYS[options.key]) + bytes(16)
        show(_read(options.file), efuse, options.seconds, _Log(options.port, options.stamps))
    except RigError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
