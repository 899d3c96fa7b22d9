"""A little ARM assembler and image builder: programs for the executing model that need no firmware file."""

from __future__ import annotations

import struct

from rig.image import beken
from rig.sim.flash import NorFlash
from rig.sim.soc import Load, Soc
from rig.sim.tuyamcu import TuyaMcu

MS = 1_000_000
KEY: beken.Key = (0x510FB093, 0xA3CBEADC, 0x5993A17E, 0xC7ADEB03)
MAC = bytes.fromhex("c8478c123456")
EFUSE = struct.pack("<4I", *KEY) + bytes(8) + MAC + bytes(2)
TAG = b"BK7231\0\0"

MAIN = 0x120  # the tag is at code address 0x100
UNDEFINED, SWI, PREFETCH, DATA, IRQ = 0x04, 0x08, 0x0C, 0x10, 0x18

UART1, UART2 = 0x00802100, 0x00802200
TX1_PIN, TX2_PIN = 0x0080282C, 0x00802800
WATCHDOG, RETENTION = 0x00802900, 0x00800150
FLASH = 0x00803000
CONFIG_115200 = 3 | 3 << 3 | 225 << 8
BYTE_NS = 10 * 226 * 1_000_000_000 // 26_000_000

ALWAYS, EQUAL, NOT_EQUAL = 0xE, 0x0, 0x1


class Asm:
    """Code growing from `base`; every method appends. r0 and r1 are scratch."""

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.code = bytearray()

    @property
    def here(self) -> int:
        return self.base + len(self.code)

    def words(self, *words: int) -> Asm:
        self.code += struct.pack(f"<{len(words)}I", *words)
        return self

    def org(self, address: int) -> Asm:
        self.code += bytes(address - self.here)
        return self

    def branch(self, target: int, condition: int = ALWAYS) -> Asm:
        return self.words(condition << 28 | 0x0A000000 | (target - self.here - 8) // 4 & 0xFFFFFF)

    def load(self, register: int, value: int) -> Asm:
        """ldr register, =value"""
        return self.words(0xE59F0000 | register << 12, 0xEA000000, value & 0xFFFFFFFF)

    def store(self, address: int, value: int) -> Asm:
        return self.load(0, address).load(1, value).words(0xE5801000)

    def read(self, address: int) -> Asm:
        """r1 = the word at `address`"""
        return self.load(0, address).words(0xE5901000)

    def send_word(self) -> Asm:
        """The four bytes of r1, lowest first, to UART2."""
        self.load(0, UART2 + 0xC)
        for _ in range(4):
            self.words(0xE5801000, 0xE1A01421)  # str r1, [r0]; mov r1, r1, lsr #8
        return self

    def say(self, text: str, port: int = UART2) -> Asm:
        for byte in text.encode():
            self.store(port + 0xC, byte)
        return self

    def uart(self) -> Asm:
        """Both pins and both ports ready at 115,200 8N1."""
        for address, value in ((TX1_PIN, 0x78), (TX2_PIN, 0x78)):
            self.store(address, value)
        for port in (UART1, UART2):
            self.store(port, CONFIG_115200).store(port + 4, 0x3040)
        return self

    def watchdog(self, ms: int) -> Asm:
        return self.store(WATCHDOG, 0x5A0000 | ms).store(WATCHDOG, 0xA50000 | ms)

    def stack(self, mode: int, top: int) -> Asm:
        """sp of `mode` (with interrupts masked), then back to SVC."""
        self.words(0xE321F000 | 0xC0 | mode).load(13, top)
        return self.words(0xE321F000 | 0xD3)

    def irqs_on(self) -> Asm:
        return self.words(0xE321F053)  # msr cpsr_c, SVC with I clear

    def rest(self) -> Asm:
        """b ."""
        return self.branch(self.here)


def program(main: Asm, handlers: dict[int, Asm] | None = None) -> bytes:
    """Code: vectors that lead to `handlers` (each assembled at its own base) or in a circle, then `main` at MAIN."""
    vectors = Asm().branch(MAIN)
    for vector in range(4, 0x20, 4):
        handler = (handlers or {}).get(vector)
        vectors.branch(handler.base if handler else vectors.here)
    code = bytearray(vectors.org(0x100).words(0, 0).org(MAIN).code)
    for part in (main, *(handlers or {}).values()):
        end = part.base + len(part.code)
        code.extend(bytes(max(0, end - len(code))))
        code[part.base : end] = part.code
    return bytes(code)


def image(code: bytes, key: beken.Key = KEY) -> bytes:
    """What goes into flash from address 0: encrypted, but for the tag, and framed."""
    padded = code + bytes(-len(code) % 32)
    stored = bytearray(beken.crypt(padded, 0, key))
    stored[0x100:0x108] = TAG
    return beken.frame(bytes(stored))


class Bench:
    """A chip with everything it reported. `mcu` hangs on its UART1; `by_task`: note which task sent each byte."""

    def __init__(
        self,
        flash: bytes | NorFlash,
        *,
        efuse: bytes = EFUSE,
        seed: int = 0,
        mcu: TuyaMcu | None = None,
        by_task: bool = False,
    ) -> None:
        self.mcu = mcu
        self._by_task = by_task
        self.tasks: list[str | None] = []  # of each byte in `sent`
        self.flash = flash if isinstance(flash, NorFlash) else NorFlash(flash)
        self.sent: list[tuple[int, int, int]] = []
        self.loads: list[tuple[Load, int]] = []
        self.resets: list[tuple[str, int]] = []
        self.soc = Soc(
            self.flash,
            efuse,
            seed=seed,
            on_uart=self._sent,
            on_load=lambda load, ns: self.loads.append((load, ns)),
            on_reset=lambda cause, ns: self.resets.append((cause, ns)),
        )
        self.soc.power_on()

    def _sent(self, port: int, byte: int, ns: int) -> None:
        self.sent.append((port, byte, ns))
        if self._by_task:
            self.tasks.append(self.soc.task)
        if self.mcu and port == 1:
            self.mcu.receive(bytes([byte]), ns)

    def _run_until(self, end: int) -> None:
        if self.mcu is None:
            self.soc.run(end)
            return
        while self.soc.now_ns < end:
            self.soc.run(min(end, self.mcu.due, self.soc.now_ns + 2 * MS))
            answered = self.mcu.take(self.soc.now_ns)
            if answered:
                self.soc.uart_receive(1, answered)
            if not self.soc.running:
                return

    def run(self, ms: float) -> Bench:
        """Start it and let `ms` of guest time pass, stopping where it stops."""
        self.soc.start()
        self._run_until(self.soc.now_ns + int(ms * MS))
        return self

    def run_through_resets(self, ms: float) -> Bench:
        """Let `ms` of guest time pass; the ROM takes no time here."""
        end = self.soc.now_ns + int(ms * MS)
        self.soc.start()
        while self.soc.now_ns < end:
            self._run_until(end)
            if not self.soc.running:
                if self.soc.is_dead:
                    break
                self.soc.start()
        return self

    def text(self, port: int = 2) -> str:
        return bytes(byte for p, byte, _ in self.sent if p == port).decode("latin-1").replace("\r", "")

    def texts_by_task(self, after: str, before: str) -> list[str]:
        """What each task printed on the log between two texts."""
        log = [(chr(byte), task) for (port, byte, _), task in zip(self.sent, self.tasks, strict=True) if port == 2]
        log = [(char, task) for char, task in log if char != "\r"]
        text = "".join(char for char, _ in log)
        begin = text.index(after) + len(after)
        texts: dict[str | None, str] = {}
        for char, task in log[begin : text.index(before, begin)]:
            texts[task] = texts.get(task, "") + char
        return list(texts.values())

    def lines(self, port: int = 2) -> list[str]:
        return [line.rstrip() for line in self.text(port).split("\n")]
