"""Modem lines for a port that has none: loaded by the Python of an outside tool, which stays as it was released.

Flashing tools reset a board by RTS and DTR. A pseudo-terminal refuses those requests (ENOTTY), and a tool that
pulls its lines dies of it. With this folder first on PYTHONPATH the refusal is no error: the lines are kept here,
and each change is told to the Unix socket (abstract, "@NAME") in the variable RIG_MODEM_LINES; the tool goes on when
the answer comes, so that what the change causes has happened by then. All of pyserial's releases make these
requests through `fcntl.ioctl`. Standard library only; nothing happens without the variable.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios

_PATIENCE_S = 20.0  # a supply switches off and discharges a board in less
_DTR, _RTS = 0x002, 0x004  # Source: Linux, asm-generic/termios.h


def _tell(address: str, lines: int) -> None:
    """One change; who does not answer is no reason for a tool to fail."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE_S)
        connection.connect("\0" + address[1:])
        connection.sendall(b"rts=%d dtr=%d\n" % (bool(lines & _RTS), bool(lines & _DTR)))
        connection.recv(1)


def _install(address: str) -> None:
    kernel = fcntl.ioctl
    kept: dict[str, int] = {}  # terminal -> its lines
    changes = {
        termios.TIOCMBIS: lambda old, bits: old | bits,
        termios.TIOCMBIC: lambda old, bits: old & ~bits,
        termios.TIOCMSET: lambda old, bits: bits,
    }

    def ioctl(fd, request, arg=0, mutate_flag=True):  # type: ignore[no-untyped-def]
        try:
            return kernel(fd, request, arg, mutate_flag)
        except OSError as problem:
            number = fd if isinstance(fd, int) else fd.fileno()
            if problem.errno != errno.ENOTTY or not os.isatty(number):
                raise
            if request != termios.TIOCMGET and request not in changes:
                raise
        name = os.ttyname(number)
        old = kept.get(name, 0)
        if request == termios.TIOCMGET:
            return struct.pack("I", old)
        kept[name] = changes[request](old, struct.unpack("I", bytes(arg))[0])
        if kept[name] != old:
            _tell(address, kept[name])
        return arg if isinstance(arg, bytes) else 0

    fcntl.ioctl = ioctl


if os.environ.get("RIG_MODEM_LINES", "").startswith("@"):
    _install(os.environ["RIG_MODEM_LINES"])
