"""Opening a serial port: one sentence when it cannot be."""

from __future__ import annotations

import errno

import serial

from rig.errors import BenchBlocked

_WRITE_S = 2.0  # the longest write, a sector at 115200 baud, takes 0.4 s: after this the adaptor hangs


def open_port(path: str, baud: int, *, timeout: float = 0.0) -> serial.Serial:
    """Open `path` (a device or a pyserial URL) exclusively at `baud`, 8N1, read timeout in seconds.

    A write that the adaptor does not take within two seconds raises serial.SerialTimeoutException. `rfc2217://` ports
    are only ever read, and know no such limit (pyserial 3.5: NotImplementedError).

    Raises BenchBlocked("port-lost") that says whether the port is missing, in use, or not allowed.
    """
    write_s = None if path.lower().startswith("rfc2217://") else _WRITE_S
    try:
        port = serial.serial_for_url(path, baudrate=baud, timeout=timeout, write_timeout=write_s, do_not_open=True)
        port.exclusive = True
        port.open()
    except (serial.SerialException, OSError, ValueError) as problem:
        raise BenchBlocked("port-lost", _sentence(path, problem)) from None
    return port


def _sentence(path: str, problem: Exception) -> str:
    code = getattr(problem, "errno", None)
    text = str(problem)
    if code == errno.ENOENT or "No such file" in text:
        return f"there is no port {path}: plug the adaptor in, or correct bench.toml (`rig bench list` shows ports)"
    if code in (errno.EAGAIN, errno.EBUSY) or "exclusively lock" in text:
        return f"the port {path} is in use by another program: close it"
    if code == errno.EACCES:
        return f"the port {path} may not be opened by this user: add them to the group dialout"
    if "option 'control'" in text:  # RFC 2217's
        silent = f"{path}{'&' if '?' in path else '?'}ign_set_control"
        return f"the far end of {path} does not answer for modem lines, and a log needs none: name {silent}"
    return f"the port {path} cannot be opened: {text}"
