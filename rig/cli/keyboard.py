"""Lines typed or scanned at the terminal while something else is drawn on it."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from typing import IO, Any

_RUB_OUT = ("\x7f", "\b")
_CLEAR = "\x15"  # Ctrl-U
_ESCAPE = "\x1b"


def descriptor(stream: IO[str] | None) -> int | None:
    """Where to read lines from; None where nobody can type: no stream, or a job in the background, which the terminal
    would stop for reading."""
    try:
        fd = stream.fileno() if stream is not None else -1
        if fd < 0:
            return None
        if os.isatty(fd):
            with contextlib.suppress(OSError):  # a terminal, but not ours to be stopped by
                return fd if os.tcgetpgrp(fd) == os.getpgrp() else None
        return fd
    except (OSError, ValueError):
        return None


class Keyboard:
    """Reads `fd` in a thread of its own until closed: `on_line` is called with each line, `on_end` once none can come
    any more. `hidden`: a terminal does not echo what is typed, `text` is what of a line is there by now. Closing
    leaves the terminal as it was."""

    def __init__(
        self, fd: int, on_line: Callable[[str], None], on_end: Callable[[], None], *, hidden: bool = False
    ) -> None:
        self._fd = fd
        self._on_line = on_line
        self._on_end = on_end
        self.text = ""
        self._escaped = False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._before = _hidden(fd) if hidden and os.isatty(fd) else None
        self._wake_r, self._wake_w = os.pipe()
        self._thread = threading.Thread(target=self._run, name="keyboard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.write(self._wake_w, b".")
        if threading.current_thread() is not self._thread:
            self._thread.join()
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        os.close(self._wake_r)
        os.close(self._wake_w)

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._fd, self._wake_r], [], [])
            if self._wake_r in ready:
                return
            try:
                data = os.read(self._fd, 4096)
            except OSError:  # the terminal was closed
                data = b""
            if not data:
                self._on_end()
                return
            for line in self._lines(self._decoder.decode(data)):
                self._on_line(line)

    def _lines(self, typed: str) -> Iterator[str]:
        for key in typed:
            if self._escaped:  # an arrow, a function key: to its final letter
                self._escaped = not (key.isalpha() or key == "~")
            elif key == _ESCAPE:
                self._escaped = True
            elif key in "\r\n":
                line, self.text = self.text, ""
                yield line
            elif key in _RUB_OUT:
                self.text = self.text[:-1]
            elif key == _CLEAR:
                self.text = ""
            elif key.isprintable():
                self.text += key


def _hidden(fd: int) -> list[Any] | None:
    """No echo, keys one by one; Ctrl-C stays what it is. What it was before, None if it is no terminal after all."""
    try:
        before: list[Any] = termios.tcgetattr(fd)
        tty.setcbreak(fd, termios.TCSADRAIN)
    except termios.error:
        return None
    return before
