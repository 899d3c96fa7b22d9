"""Who may use the page. Without a token: this machine only. With one: whoever logs in with it.

The token never leaves the server: a session is a time and a keyed hash of it, in a cookie that other sites' requests
do not carry. It outlives a restart of the page, not a change of the token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from rig.errors import UsageProblem

SESSION_S = 12 * 3600  # a shift
SHORTEST_TOKEN = 16
_TRIES, _TRIES_S = 10, 60.0


def read_token(path: Path) -> str:
    """The token in a file. UsageProblem for one that others may read, or that is short enough to be guessed."""
    try:
        token = path.read_text().strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeError) as problem:
        raise UsageProblem(f"the token file {path} cannot be read: {problem}") from None
    if mode & 0o077:
        raise UsageProblem(f"the token file {path} may be read by others: chmod 600 {path}")
    if len(token) < SHORTEST_TOKEN:
        raise UsageProblem(f"the token in {path} has {len(token)} characters, it takes at least {SHORTEST_TOKEN}")
    return token


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own, reached by nobody else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Access:
    """The door. `secure`: the page is served with TLS."""

    def __init__(self, token: str | None, *, secure: bool) -> None:
        self._token = token
        self.secure = secure
        self.cookie = "__Host-rig-panel" if secure else "rig-panel"
        self._wrong: deque[float] = deque(maxlen=_TRIES)

    @property
    def needs_login(self) -> bool:
        return self._token is not None

    def too_many_tries(self) -> bool:
        """Whether so many wrong tokens came within a minute that none is looked at for a while."""
        return len(self._wrong) == _TRIES and time.monotonic() - self._wrong[0] < _TRIES_S

    def right_token(self, given: str) -> bool:
        """In constant time, whatever is given."""
        if self._token is None:
            return False
        right = hmac.compare_digest(_digest(given), _digest(self._token))
        if not right:
            self._wrong.append(time.monotonic())
        return right

    def new_session(self) -> str:
        """What the cookie holds after a login."""
        return self._signed(int(time.time()) + SESSION_S)

    def admits(self, session: str | None) -> bool:
        """Whether a request with this cookie may go on."""
        if self._token is None:
            return True
        until = (session or "").partition(".")[0]
        if not (until.isascii() and until.isdigit() and len(until) < 16):
            return False
        right = hmac.compare_digest((session or "").encode(errors="replace"), self._signed(int(until)).encode())
        return right and int(until) > time.time()

    def refuses(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Why a request is not looked at: from another site, or to a name that is not ours. None: it may pass.

        A page of another site can send requests to this machine; it can set neither Origin nor Host.
        """
        host = headers.get("host", "")
        if not self.needs_login and not is_loopback(_name(host)):
            return f"This page is for this machine only: open it as localhost, not as {host[:100]!r}."
        if method in ("GET", "HEAD"):
            return None
        own = f"{'https' if self.secure else 'http'}://{host}"
        if headers.get("origin", "") != own or headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "This was not sent by the page itself."
        return None

    def _signed(self, until: int) -> str:
        key = _digest(self._token or "")
        return f"{until}.{hmac.new(key, f'rig-panel {until}'.encode(), hashlib.sha256).hexdigest()}"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
