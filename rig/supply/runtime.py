"""Where supply services meet: a private folder with a lock, a socket and a name file for each instrument.

<instrument>.sock   the service's socket; <instrument> comes from the serial number
<instrument>.lock   held (flock) by the service, and by its guardian until the outputs are off
<resource>.lock     held likewise: one process at a time opens a resource
<resource>.name     the instrument behind a resource, as far as known: a hint, checked by the service
<resource>.log      what the service and its guardian have to say

Whoever uses another folder (another user, or the same without the environment) meets none of these, only a name that
is the whole machine's: `MachineLock`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import pwd
import re
import socket
import stat
import struct
import time
from pathlib import Path

from rig.errors import UsageProblem

_LONGEST_SOCKET = 107  # sun_path of Linux, less its NUL


def folder() -> Path:
    """$RIG_RUNTIME_DIR, else $XDG_RUNTIME_DIR/rig, else /tmp/rig-<uid>; made if missing.

    Raises UsageProblem if it is not ours alone: whoever can write there can switch our supplies.
    """
    if os.environ.get("RIG_RUNTIME_DIR"):
        path = Path(os.environ["RIG_RUNTIME_DIR"]).absolute()
    elif os.environ.get("XDG_RUNTIME_DIR"):
        path = Path(os.environ["XDG_RUNTIME_DIR"]).absolute() / "rig"
    else:
        path = Path("/tmp") / f"rig-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as bad:
        raise UsageProblem(
            f"The runtime folder {path} cannot be made ({bad.strerror}); set RIG_RUNTIME_DIR."
        ) from bad
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise UsageProblem(
            f"The runtime folder {path} must be a directory of your own with mode 0700; "
            "repair or remove it, or set RIG_RUNTIME_DIR."
        )
    if len(os.fsencode(path)) + 64 > _LONGEST_SOCKET:
        raise UsageProblem(f"The runtime folder's path {path} is too long for a socket; set RIG_RUNTIME_DIR.")
    return path


def _key(kind: str, text: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[-32:].strip("-")
    return f"{kind}-{slug}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def resource_key(resource: str) -> str:
    """One name for one resource: upper case, and a host by its address, whatever name it was given."""
    parts = resource.strip().split("::")
    if len(parts) > 2 and parts[0].upper().startswith("TCPIP"):
        if parts[0].upper() == "TCPIP":
            parts[0] = "TCPIP0"
        try:
            parts[1] = socket.gethostbyname(parts[1])
        except OSError:
            parts[1] = parts[1].lower()
        return _key("at", "::".join(part.upper() for part in parts))
    return _key("at", resource.strip())


def instrument_key(serial: str, resource: str) -> str:
    """One name for one instrument: its serial number, or its resource where the serial number says nothing."""
    return _key("psu", serial.upper()) if serial.strip("0 -") else f"psu-{resource_key(resource)}"


class Lock:
    """A file lock that goes with its descriptor: a child that inherits it keeps it held."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = self._open()

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_hold(self) -> bool:
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self._is_current():
                return True
            self.close()  # its last holder removed the file: what we have locked nobody else looks at
            self.fd = self._open()

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Only by its holder, and only if no child of it holds on: gives the lock back and removes the file."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class MachineLock:
    """A name that one process of this machine has at a time, whoever's it is and whichever folder it uses: two
    programs on one instrument would switch each other's boards off, or set each other's channels.

    Goes with its descriptor, as `Lock` does.
    """

    def __init__(self, key: str) -> None:
        self._address = f"\0rig-{key}"  # an abstract one: no file, no folder that both would have to know
        self._sock: socket.socket | None = None

    @property
    def fd(self) -> int:
        return self._sock.fileno() if self._sock is not None else -1

    def try_hold(self) -> bool:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(self._address)
            sock.listen(64)  # so that `holder` can be asked for
        except OSError as taken:
            sock.close()
            if taken.errno == errno.EADDRINUSE:
                return False
            raise
        self._sock = sock
        return True

    def holder(self) -> str:
        """Who has it, for a person."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            try:
                asking.connect(self._address)
                raw = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            except OSError:
                return "another process"
        pid, uid, _ = struct.unpack("3i", raw)
        return f"pid {pid} of user {_user(uid)}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def prune(path: Path, days: float = 7) -> None:
    """Remove logs that nobody will ask for any more (simulated supplies are on another port every time)."""
    for log in path.glob("at-*.log"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - log.stat().st_mtime > days * 86400:
                log.unlink()


def connect(path: Path, timeout_s: float) -> socket.socket | None:
    """A connection to a service's socket, or None if nobody is behind it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        sock.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError, TimeoutError):
        sock.close()
        return None
    except BaseException:
        sock.close()
        raise
    return sock


def resource_behind(path: Path) -> str | None:
    """What a name file says, or None."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
