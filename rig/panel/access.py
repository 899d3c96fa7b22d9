"""Who may use the page. Without a token: this machine only. With one: whoever logs in with it.

The token never leaves the server: a session is a time and a keyed hash of it, in a cookie that other sites' requests
do not carry. It outlives a restart of the page, not a change of the token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from rig.errors import UsageProblem
from rig.files import why_unreadable

SESSION_S = 12 * 3600  # a shift
SHORTEST_TOKEN = 16
_TRIES, _TRIES_S = 10, 60.0
_ADDRESSES = 1000  # whose wrong tokens are remembered


def read_token(path: Path) -> str:
    """The token in a file. UsageProblem for one that others may read, or that is short enough to be guessed."""
    try:
        token = path.read_text().strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeError) as problem:
        raise UsageProblem(f"the token file {path} cannot be read: {why_unreadable(problem)}") from None
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
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def needs_login(self) -> bool:
        return self._token is not None

    def too_many_tries(self, who: str) -> bool:
        """Whether so many wrong tokens came from this address within a minute that none is looked at for a while.

        By address: else anyone who can reach the page keeps the people of the line out of it.
        """
        with self._lock:
            tries = self._wrong.get(_neighbours(who)) or deque()
            return len(tries) == _TRIES and time.monotonic() - tries[0] < _TRIES_S

    def right_token(self, given: str, who: str) -> bool:
        """In constant time, whatever is given."""
        if self._token is None:
            return False
        right = hmac.compare_digest(_digest(given), _digest(self._token))
        if not right:
            with self._lock:
                tries = self._wrong.pop(_neighbours(who), None) or deque(maxlen=_TRIES)
                tries.append(time.monotonic())
                self._wrong[_neighbours(who)] = tries
                if len(self._wrong) > _ADDRESSES:
                    self._wrong.popitem(last=False)
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

        A page of another site can send requests to this machine; it can set neither Origin nor Host, and a browser
        says whose it is. A link on it may lead here; its pictures, scripts and event sources may not be of this page.
        """
        site = headers.get("sec-fetch-site", "same-origin")
        host = headers.get("host", "")
        if not self.needs_login and not is_loopback(_name(host)):
            return f"This page is for this machine only: open it as localhost, not as {host[:100]!r}."
        if method in ("GET", "HEAD"):
            foreign = site not in ("same-origin", "none") and headers.get("sec-fetch-mode") != "navigate"
            return "This was not asked for by the page itself." if foreign else None
        own = f"{'https' if self.secure else 'http'}://{host}"
        if headers.get("origin", "") != own or site != "same-origin":
            return "This was not sent by the page itself."
        return None

    def _signed(self, until: int) -> str:
        key = _digest(self._token or "")
        return f"{until}.{hmac.new(key, f'rig-panel {until}'.encode(), hashlib.sha256).hexdigest()}"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _neighbours(address: str) -> str:
    """An address as it is counted: of IPv6 the network, since a machine has as many addresses there as it likes."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address) or found.ipv4_mapped:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
