"""Leasing a supply channel: the one way in for everything above the supplies.

with lease("TCPIP::192.168.1.50::5555::SOCKET", 1, max_volts=3.6) as channel:
    channel.configure(Setting(3.3, 0.5, ovp=3.7), max_volts=3.6)
    channel.on()
    print(channel.measure())
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import rig
from rig.errors import BenchBlocked
from rig.supply import runtime, wire
from rig.supply.channel import Instrument, Limits, Reading, Setting, SupplyChannel, Trip, checked_maximum
from rig.supply.means import Commanded, Means

ANSWER_S = 30.0  # the longest that one request may take: an instrument that is reconnected, other clients first
LONGEST_LOG = 1 << 20


def lease(
    resource: str,
    channel: int,
    *,
    max_volts: float,
    dialect: str | None = None,
    serial: str | None = None,
    holder: str = "",
    dialect_dirs: Sequence[Path] = (),
    timeout_s: float = 10,
) -> LeasedChannel:
    """Lease one channel of the instrument at a VISA `resource`; nobody else has it until the lease is closed.

    `max_volts` is the hard maximum of everything sent during the lease. `serial` refuses another instrument.
    `holder` is told to whoever asks for the same channel. Closing the lease, or this process's end, switches the
    output off. Raises UsageProblem (in use, wrong serial number, unknown instrument, dialect or channel) and
    BenchBlocked("supply-lost").
    """
    request = _request(resource, channel, max_volts, dialect, serial, holder, probing=False)
    return _connect(request, dialect_dirs, timeout_s)


def check(
    resource: str,
    channel: int,
    *,
    dialect: str | None = None,
    serial: str | None = None,
    dialect_dirs: Sequence[Path] = (),
    timeout_s: float = 10,
) -> tuple[Instrument, dict[str, Any]]:
    """Walk the dialect on a channel whose output is off, for `rig bench check`; leaves the instrument as it was.

    Returns who it is, and `rig.supply.probe.Probe` as a dict. Raises as `lease`, and BenchBlocked("supply-refused")
    if the output is on.
    """
    request = _request(resource, channel, 1.0, dialect, serial, "rig bench check", probing=True)
    with _connect(request, dialect_dirs, timeout_s) as leased:
        return leased.instrument, leased._ask("probe")["probe"]


class Standby:
    """Keeps the services of channels that were leased running until it is closed, for whoever leases them next: a
    service ends a second after its last lease, and its start, its guardian's included, is half a second of the CPU.

    Thread-safe. Leases nothing, and keeps nothing on: what a lease's end switches off is off. When this process ends,
    so does the standing by.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: dict[int, socket.socket] = {}  # by the service's pid

    def keep(self, channel: LeasedChannel) -> None:
        """From now on, while the channel is still leased. A service that is not there any more is no harm."""
        with self._guard:
            if channel.service_pid not in self._held:
                with contextlib.suppress(OSError):
                    sock = runtime.connect(Path(channel.service_address), 2)
                    if sock is not None:
                        self._held[channel.service_pid] = sock

    def close(self) -> None:
        with self._guard:
            for sock in self._held.values():
                sock.close()
            self._held.clear()


class LeasedChannel(SupplyChannel):
    """A channel held by this process, and a context manager. Thread-safe: a thread may measure while another
    switches; requests are served in the order in which they were made."""

    def __init__(
        self,
        instrument: Instrument,
        limits: Limits,
        service_pid: int,
        guardian_pid: int,
        link: wire.Lines,
        *,
        together: bool = False,
    ) -> None:
        self.instrument = instrument
        self.limits = limits
        self.together = together  # the instrument's outputs have one switch: nobody else may hang on another
        self.service_pid = service_pid
        self.service_address = str(link.sock.getpeername())
        self.guardian_pid = guardian_pid
        self.off_confirmed: bool | None = None  # after closing: whether the output was read back off
        self._link = link
        self._turn = _Turns()
        self._closed = False

    def configure(self, setting: Setting, *, max_volts: float) -> Setting:
        return Setting(**self._ask("configure", setting=asdict(setting), max_volts=max_volts)["value"])

    def on(self) -> int:
        return int(self._ask("on")["value"])

    def off(self) -> bool:
        try:
            return self._ask("off")["value"] is True
        except BenchBlocked:
            return False

    def measure(self) -> Reading:
        return Reading(**self._ask("measure")["value"])

    def tripped(self) -> Trip | None:
        trip: Trip | None = self._ask("tripped")["value"]
        return trip

    def set_volts(self, volts: float, *, verify: bool = True) -> int:
        return int(self._ask("set_volts", volts=volts, verify=verify)["value"])

    def set_current_limit(self, amps: float, *, verify: bool = True) -> int:
        return int(self._ask("set_current_limit", amps=amps, verify=verify)["value"])

    @property
    def means(self) -> tuple[Means, ...]:
        return self.limits.means

    def arm(self, commanded: Commanded) -> None:
        self._ask("arm", commanded=commanded.plain())

    def fire(self) -> int:
        return int(self._ask("fire")["value"])

    def playing(self) -> bool:
        return self._ask("playing")["value"] is True

    def disarm(self) -> None:
        self._ask("disarm")

    def close(self) -> bool:
        """Switch off and give the channel back; whether it was read back off. Never raises for a lost supply."""
        if not self._closed:
            try:
                self.off_confirmed = self._ask("release")["off"] is True
            except BenchBlocked:
                self.off_confirmed = False
            self._closed = True
            self._link.close()
        return self.off_confirmed is True

    def __enter__(self) -> LeasedChannel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, op: str, **more: Any) -> dict[str, Any]:
        with self._turn:
            if self._closed:
                raise BenchBlocked("supply-lost", f"The lease of {self.instrument.model} is over.")
            try:
                reply = self._link.ask({"op": op, **more})
            except (wire.Gone, TimeoutError) as bad:
                self._link.close()  # an answer that comes later must not meet another question
                raise BenchBlocked(
                    "supply-lost", f"The service of {self.instrument.model} {self.instrument.serial} is gone ({bad})."
                ) from bad
        return _unwrapped(reply)


class _Turns:
    """A lock that serves its waiters in order: a thread that measures without pause starves nobody."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._busy = False

    def __enter__(self) -> None:
        with self._guard:
            if not self._busy:
                self._busy = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        try:
            mine.acquire()  # until it is handed on to us
        except BaseException:  # Ctrl-C while waiting: leave the queue, or hand on what came in this moment
            with self._guard:
                handed_over = mine not in self._waiting
                if not handed_over:
                    self._waiting.remove(mine)
            if handed_over:
                self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._busy = False


def _request(
    resource: str, channel: int, max_volts: float, dialect: str | None, serial: str | None, holder: str, probing: bool
) -> dict[str, Any]:
    return {
        "op": "lease", "protocol": wire.PROTOCOL, "resource": resource, "name": runtime.resource_key(resource),
        "channel": channel, "max_volts": checked_maximum(max_volts), "dialect": dialect, "serial": serial,
        "holder": holder, "probing": probing,
    }  # fmt: skip


def _connect(request: dict[str, Any], dialect_dirs: Sequence[Path], timeout_s: float) -> LeasedChannel:
    deadline = time.monotonic() + timeout_s
    folder = runtime.folder()
    keys = [runtime.resource_behind(folder / f"{request['name']}.name")]
    if request["serial"]:
        keys.append(runtime.instrument_key(request["serial"], request["resource"]))
    while True:
        for key in dict.fromkeys(key for key in keys if key):
            found = _try_lease(folder / f"{key}.sock", request, deadline)
            if found is not None:
                return found
        if time.monotonic() >= deadline:
            raise BenchBlocked(
                "supply-lost", f"No supply service for {request['resource']} came up in {timeout_s:g} s."
            )
        keys = [_start(request, dialect_dirs, folder, deadline)]


def _try_lease(path: Path, request: dict[str, Any], deadline: float) -> LeasedChannel | None:
    """A lease from the service behind `path`; None if there is none, it is ending, or it is another's."""
    sock = runtime.connect(path, 2)
    if sock is None:
        return None
    sock.settimeout(max(0.1, deadline - time.monotonic()))
    link = wire.Lines(sock)
    try:
        reply = _unwrapped(link.ask(request))
        if reply.get("elsewhere"):
            link.close()
            return None
    except wire.Gone:
        link.close()
        return None
    except TimeoutError as bad:
        link.close()
        raise BenchBlocked("supply-lost", f"The service of {request['resource']} does not answer.") from bad
    except BaseException:
        link.close()
        raise
    sock.settimeout(ANSWER_S)
    found = reply["limits"]
    means = tuple(Means(**each) for each in found["means"])
    limits = Limits(**{**found, "capabilities": tuple(found["capabilities"]), "means": means})
    return LeasedChannel(
        Instrument(**reply["instrument"]), limits, reply["service"], reply["guardian"], link,
        together=reply["together"],
    )  # fmt: skip


def _start(request: dict[str, Any], dialect_dirs: Sequence[Path], folder: Path, deadline: float) -> str:
    """Start a service, which may find another already there; returns the key of the one to go to."""
    command = [sys.executable, "-m", "rig.supply.service", "--resource", request["resource"]]
    for option in ("dialect", "serial"):
        if request[option]:
            command += [f"--{option}", request[option]]
    for path in dialect_dirs:
        command += ["--dialects", str(Path(path).absolute())]
    home = str(Path(rig.__file__).resolve().parents[1])
    paths = [home, *(os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "RIG_RUNTIME_DIR": str(folder),
        "PYDANTIC_DISABLE_PLUGINS": "__all__",  # looking for them in all that is installed takes 20 ms of every start
    }  # fmt: skip
    log_path = folder / f"{request['name']}.log"
    mode = "ab" if not log_path.exists() or log_path.stat().st_size < LONGEST_LOG else "wb"
    reading, writing = os.pipe()
    try:
        with open(log_path, mode) as log:
            process = subprocess.Popen(
                [*command, "--report-fd", str(writing)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(writing,), start_new_session=True,
                cwd="/", env=environment,
            )  # fmt: skip
        threading.Thread(target=process.wait, name="reap the supply service", daemon=True).start()
        os.close(writing)
        writing = -1
        said = _read_line(reading, deadline)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    if not said:
        raise BenchBlocked(
            "supply-lost", f"The supply service for {request['resource']} did not come up; see {log_path}."
        )
    return str(_unwrapped(json.loads(said))["go"])


def _read_line(fd: int, deadline: float) -> bytes:
    """What was reported until the line ended, the pipe closed or time was up."""
    said = b""
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        more = os.read(fd, 65536) if ready else b""
        if not more:
            break
        said += more
    return said


def _unwrapped(reply: dict[str, Any]) -> dict[str, Any]:
    if "error" in reply:
        raise wire.decode_error(reply["error"])
    if "bug" in reply:
        raise RuntimeError(f"The supply service failed: {reply['bug']}; its log tells more.")
    return reply
