"""The boot log: a thread that reads a board's log port from before power-on, and stamps what it reads.

Open it while the board is still off, `mark("power-on")` just before the output goes on, then wait for what the
firmware prints. Times are this machine's monotonic nanoseconds. A chunk is stamped when it is read; a byte in it
arrived earlier, by one byte time for each byte behind it, but never before the read or the mark that came before.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import serial

from rig.errors import BenchBlocked
from rig.files import write_durably

from .port import open_port

BAUD = 115200  # UART2 of every BK7231 firmware seen, bootloader included
BITS_PER_BYTE = 10  # 8N1: a start bit, eight, a stop bit
POWER_ON = "power-on"
_IDLE_S = 0.1  # how long a read waits for a first byte, so how long closing may take
_CHUNK = 4096


@dataclass(frozen=True)
class LogLine:
    """A line, without its end. `mono_ns`: when its first byte came in; `read_ns`: when that byte was read, a little
    later. Bytes that are no text are \\x escapes."""

    mono_ns: int
    text: str
    read_ns: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Mark:
    """Something the rig did, for the time line: `power-on` is time zero of a saved log."""

    mono_ns: int
    name: str


Wanted = str | re.Pattern[str] | Callable[[LogLine], bool]


class LineSplitter:
    """Bytes in, stamped lines out. Knows no port and no clock: `feed` says when the chunk was read."""

    def __init__(self, baud: int = BAUD) -> None:
        self._byte_ns = BITS_PER_BYTE * 1e9 / baud
        self._earliest = 0
        self._text = bytearray()
        self._begun_ns = self._read_ns = 0

    def feed(self, chunk: bytes, read_ns: int) -> list[LogLine]:
        """The lines that `chunk`, read at `read_ns`, completes."""
        lines, at = [], 0
        while at < len(chunk):
            if not self._text:
                behind = len(chunk) - 1 - at
                self._begun_ns = min(read_ns, max(self._earliest, read_ns - round(behind * self._byte_ns)))
                self._read_ns = read_ns
            end = chunk.find(b"\n", at)
            if end < 0:
                self._text += chunk[at:]
                break
            self._text += chunk[at:end]
            lines.append(self._line())
            self._text.clear()
            at = end + 1
        self._earliest = max(self._earliest, read_ns)
        return lines

    def not_before(self, mono_ns: int) -> None:
        """What was read at `mono_ns` or later, or will be, came no earlier than that."""
        self._earliest = max(self._earliest, mono_ns)
        if self._read_ns >= mono_ns:
            self._begun_ns = max(self._begun_ns, mono_ns)

    @property
    def partial(self) -> LogLine | None:
        """The line that has begun and not ended; None between lines."""
        return self._line() if self._text else None

    def _line(self) -> LogLine:
        return LogLine(self._begun_ns, visible(bytes(self._text)), self._read_ns)


def visible(raw: bytes) -> str:
    """A line's bytes as text: UTF-8 where it is, \\x escapes for the rest and for control bytes but the tab."""
    text = raw.strip(b"\r").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() or char == "\t" else _escape(char) for char in text)


def _escape(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


class BootLog:
    """The log of one board while it is open. Made by `BootLog.open`; a context manager that closes it.

    Methods may be called from any thread. What they show is not scrubbed: it can hold Wi-Fi passwords, so pass
    it through `rig.scrub` before anybody sees it.
    """

    def __init__(
        self, port: serial.Serial, name: str, path: Path | None, baud: int, live: Path | None = None
    ) -> None:
        self.name = name
        self._port = port
        self._path = path
        self._live = _private(live)
        self._splitter = LineSplitter(baud)
        self._raw = bytearray()
        self._lines: list[LogLine] = []
        self._marks: list[Mark] = []
        self._opened_ns = time.monotonic_ns()
        self._lost: str | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name=f"boot log {name}", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, port_url: str, path: Path | None = None, *, baud: int = BAUD, live: Path | None = None) -> Self:
        """Open the port (exclusively) and read from now on. With `path` the log is saved there on close; to `live`
        each line goes as it comes, for whoever watches: private, not synced, given up when the disk refuses.

        Raises BenchBlocked("port-lost") if the port is missing, in use or not allowed.
        """
        return cls(open_port(port_url, baud, timeout=_IDLE_S), port_url, path, baud, live)

    def mark(self, name: str, mono_ns: int | None = None) -> int:
        """Note that `name` happened now, or at `mono_ns`; returns its monotonic nanoseconds.

        What was read after it counts as printed after it.
        """
        with self._changed:
            mark = Mark(time.monotonic_ns() if mono_ns is None else mono_ns, name)
            self._marks.append(mark)
            self._splitter.not_before(mark.mono_ns)
            for at in range(len(self._lines) - 1, -1, -1):
                line = self._lines[at]
                if line.read_ns < mark.mono_ns:
                    break
                if line.mono_ns < mark.mono_ns:
                    self._lines[at] = replace(line, mono_ns=mark.mono_ns)
            return mark.mono_ns

    @property
    def lines(self) -> list[LogLine]:
        """Every line so far, oldest first; one that has not ended yet comes last."""
        with self._changed:
            partial = self._splitter.partial
            return [*self._lines, partial] if partial else list(self._lines)

    def lines_since(self, mono_ns: int) -> list[LogLine]:
        """The lines that began at `mono_ns` or later: those of the last power-on, from its mark."""
        return [line for line in self.lines if line.mono_ns >= mono_ns]

    @property
    def marks(self) -> list[Mark]:
        with self._changed:
            return list(self._marks)

    @property
    def raw(self) -> bytes:
        """Every byte as it came in."""
        with self._changed:
            return bytes(self._raw)

    def wait_for(self, wanted: Wanted, timeout_s: float, *, since_ns: int = 0) -> LogLine | None:
        """The first line, of those already there or to come, that `wanted` fits; None after `timeout_s` seconds.

        `wanted` is a regular expression (searched for) or a function of the line. Only ended lines are looked at,
        since half a line may fit by accident; when time is up the unfinished one too. Lines that began before
        `since_ns` do not count. Raises BenchBlocked("port-lost") if the port went away and no line fits.
        """
        fits = _test(wanted)
        deadline = time.monotonic() + timeout_s
        looked_at = 0
        with self._changed:
            while True:
                for line in self._lines[looked_at:]:
                    if line.mono_ns >= since_ns and fits(line):
                        return line
                looked_at = len(self._lines)
                left = deadline - time.monotonic()
                if left <= 0 or self._lost or self._closing:
                    break
                self._changed.wait(left)
            partial = self._splitter.partial
            if partial and partial.mono_ns >= since_ns and fits(partial):
                return partial
        self.check()
        return None

    def check(self) -> None:
        """Raises BenchBlocked("port-lost") if the port went away while it was being read."""
        if self._lost:
            raise BenchBlocked("port-lost", f"the log port {self.name} went away: {self._lost}")

    def text(self) -> str:
        """The log as it is saved: `[seconds] line`, seconds since the first power-on mark (or since opening)."""
        with self._changed:
            zero = next((mark.mono_ns for mark in self._marks if mark.name == POWER_ON), self._opened_ns)
            marks = [(mark.mono_ns, f"--- {mark.name} ---") for mark in self._marks]
        rows = sorted(marks + [(line.mono_ns, line.text) for line in self.lines], key=lambda row: row[0])
        return "".join(f"[{(mono_ns - zero) / 1e9:10.3f}] {text}\n" for mono_ns, text in rows)

    def save(self, path: Path) -> None:
        """Write `text()` to `path`, readable by its owner only, and durably. Raises OSError."""
        write_durably(path, self.text(), private=True)

    def close(self) -> None:
        """Stop reading, give the port back, save if a path was given. Does nothing the second time."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self._port.close()
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.close()
        if self._path is not None:
            self.save(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        while not self._closing:
            try:
                chunk = self._port.read(1)  # waits for a first byte
                if chunk:
                    chunk += self._port.read(min(self._port.in_waiting, _CHUNK))
            except (serial.SerialException, OSError) as problem:
                with self._changed:
                    self._lost = str(problem)
                    self._changed.notify_all()
                return
            if chunk:
                self._take(chunk, time.monotonic_ns())

    def _take(self, chunk: bytes, read_ns: int) -> None:
        with self._changed:
            self._raw += chunk
            lines = self._splitter.feed(chunk, read_ns)
            self._lines += lines
            self._changed.notify_all()
        self._show("".join(f"{line.text}\n" for line in lines))

    def _show(self, text: str) -> None:
        if self._live is None or not text:
            return
        try:
            self._live.write(text)
        except OSError:
            with contextlib.suppress(OSError):  # closing writes what is left, and fails alike
                self._live.close()
            self._live = None


def _private(path: Path | None) -> IO[str] | None:
    """`path` open for lines, readable by its owner only; None where there is none, or the disk refuses."""
    if path is None:
        return None
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError:
        return None
    return os.fdopen(fd, "w", buffering=1, encoding="utf-8")


def _test(wanted: Wanted) -> Callable[[LogLine], bool]:
    if callable(wanted):
        return wanted
    pattern = re.compile(wanted)
    return lambda line: pattern.search(line.text) is not None
