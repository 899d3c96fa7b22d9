"""Writes down what passes a flash line, command by command, as it passes: see `rig.uart.trace` for what is kept."""

from __future__ import annotations

import time

from rig.chip.client import GARBLED
from rig.chip.frames import Header, Long, ReplyParser
from rig.uart.trace import Command, Section

_LINK = "link-check"
_MOST_UNASKED = 0x1000  # bytes kept; more is a running firmware's chatter


class Recorder:
    """The list of commands, and which of them is under way. The tap's thread tells it; others only read."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.sections: list[Section] = []
        self._current: Command | None = None  # what late bytes belong to: not a pulse of the reset lines
        self._asked: Header | None = None  # the same command's frame
        self._replies = ReplyParser()
        self.unasked = bytearray()  # what came since the last command had its answer
        self._strays = 0  # bytes that are no whole reply: of what was unasked earlier, and between replies

    def section(self, title: str) -> None:
        """What comes from here on belongs to `title`."""
        self.sections.append(Section(len(self.commands), title))

    def begins(self, header: Header, baud: int, refused: str | None) -> Command:
        """A frame's first bytes are there. Link checks come by the hundred: only the last of a row is kept."""
        now = time.monotonic_ns()
        bulk = header.long and header.code in (Long.WRITE_4K, Long.WRITE_256)  # its head is what is written
        command = Command(header.name, header.address, now, now, size=header.size, refused=refused, baud=baud)
        command.head = None if bulk else header.head.hex() or None
        if refused is None:  # the chip does not hear of one that is stopped: what comes answers the one before
            self._current, self._asked = command, header
            self._replies.clear()
            self._strays += stray_bytes(self.unasked)
            self.unasked.clear()
        begun = self.sections[-1].index if self.sections else 0
        last = self.commands[-1] if len(self.commands) > begun else None
        if last is not None and command.name == last.name == _LINK:
            command.sent, command.first_ns = last.sent + 1, last.starts_ns
            command.waited_ns = last.waited_ns + (0 if last.answered else now - last.begun_ns)
            self.commands[-1] = command
        else:
            self.commands.append(command)
        return command

    @property
    def strays(self) -> int:
        """Bytes so far that nobody asked for and that are no reply of a ROM: noise, or a firmware's chatter."""
        return self._strays + stray_bytes(self.unasked)

    @property
    def midway(self) -> bool:
        """A reply has begun and is not whole yet."""
        return self._current is not None and self._current.reply_size > 0 and not self._current.answered

    def sent(self) -> None:
        """The frame's last byte has passed."""
        if self._current is not None:
            self._current.sent_ns = time.monotonic_ns()

    @property
    def replied(self) -> int:
        """Bytes that have come since the last command began, as far as they count as its reply."""
        return self._current.reply_size if self._current is not None else 0

    def reply(self, data: bytes, baud: int) -> bool:
        """What comes until a whole reply of its own is the answer; what comes after that is somebody's chatter.

        True when it says that the chip gave up on a frame that did not come whole.
        """
        command, asked = self._current, self._asked
        if command is None or asked is None or command.answered:
            self.unasked += data
            del self.unasked[:-_MOST_UNASKED]
            return False
        now = time.monotonic_ns()
        command.reply_ns = command.reply_ns or now
        command.reply_end_ns = now
        command.reply_size += len(data)
        command.reply_baud = baud
        code = 1 if command.name == _LINK else asked.code  # it alone is answered with another code
        skipped = self._replies.skipped
        replies = self._replies.feed(data)
        if command.name != _LINK:  # which is asked by the hundred, of boards that are not there yet
            self._strays += self._replies.skipped - skipped
        for reply in replies:
            if reply.long == asked.long and reply.code == code:
                command.answered, command.status = True, reply.status
        return command.answered and command.status in GARBLED

    def pulse(self, name: str, begun_ns: int) -> None:
        """A pulse of the flasher's reset lines, over now."""
        self.commands.append(Command(name, None, begun_ns, time.monotonic_ns()))


def stray_bytes(unasked: bytes | bytearray) -> int:
    """How many of these bytes belong to no whole reply: of queued link checks the ROM answers every one."""
    return len(unasked) - sum(len(reply.encode()) for reply in ReplyParser().feed(bytes(unasked)))
