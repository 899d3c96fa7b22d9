"""The supply service: one small process an instrument, which alone holds its VISA session and leases its channels.

Started on demand by `client.lease`, ended by its last lease. A client that goes away, however, loses its leases
and their outputs go off at once. Everything runs in one thread, one request after the other: that is what a VISA
session needs, and hang-ups and switch-offs are always served first; only the edges of a waveform that an instrument
cannot play by itself are written by a thread of their own, at their times.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rig.errors import BenchBlocked, RigError, UsageProblem
from rig.supply import runtime, wire
from rig.supply.channel import Setting
from rig.supply.driver import VisaChannel
from rig.supply.guardian import Guardian
from rig.supply.instrument import Supply
from rig.supply.means import Commanded
from rig.supply.probe import probe

log = logging.getLogger("rig.supply.service")

FIRST_LEASE_S = 5.0  # a service that nobody leases from after its start ends
LINGER_S = 1.0  # between the last lease and the end: the next unit's lease is then quick
LOCK_PATIENCE_S = 25.0  # a guardian may be switching off the instrument that we want
TICK_S = 0.5
KEPT_S = 0.01  # between two looks whether the line is free for questions again

_OFF = (b'{"op":"off"', b'{"op":"release"')
_NO_QUESTIONS = (*_OFF, b'{"op":"disarm"', b'{"op":"playing"')


class Client:
    """One connection: who is behind it, what it has leased."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.pid, self.uid, _ = struct.unpack("3i", raw)
        self.buffer = b""
        self.channel: VisaChannel | None = None
        self.holder = ""
        self.had_lease = False
        self.probing = False  # leased to look at, never to switch
        # A child that inherited the socket keeps it open after the client died: watch the process as well.
        try:
            self.pidfd = os.pidfd_open(self.pid) if self.pid > 0 else -1
        except OSError:
            self.pidfd = -1

    def close(self) -> None:
        self.sock.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)


class Service:
    """The leases of one instrument."""

    def __init__(self, supply: Supply, guardian: Guardian, names: set[str], folder: Path, listener: socket.socket):
        self.supply = supply
        self.guardian = guardian
        self.names = names  # the resources that this instrument is known to go by
        self.folder = folder
        self.listener = listener
        self.clients: list[Client] = []
        self.unsafe: dict[int, VisaChannel] = {}  # no longer leased, and not read back off
        self.ends_at = time.monotonic() + FIRST_LEASE_S
        self.asked_to_end = False
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Serve until the last lease is over, or until SIGTERM, SIGINT or SIGHUP."""
        wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        self._selector.register(wake, selectors.EVENT_READ)
        self._selector.register(self.listener, selectors.EVENT_READ, self._accept)
        try:
            while not self.asked_to_end and (self.clients or time.monotonic() < self.ends_at):
                self._round()
        finally:
            for client in list(self.clients):
                self._drop(client, "the service ends")

    def _end(self, number: int, _: object) -> None:
        log.info("%s: switching off and ending", signal.Signals(number).name)
        self.asked_to_end = True

    def _round(self) -> None:
        waiting = any(b"\n" in client.buffer for client in self.clients)
        events = self._selector.select(0 if self._asked() else KEPT_S if waiting else TICK_S)
        if self.guardian.look():
            log.error("the guardian had died; started another (pid %d)", self.guardian.pid)
        gone = [key.data for key, _ in events if isinstance(key.data, Client) and not self._receive(key.data, key.fd)]
        for client in dict.fromkeys(gone):
            self._drop(client, "its client went away")
        for key, _ in events:
            if key.data == self._accept:
                self._accept()
        for number, channel in list(self.unsafe.items()):
            self._make_safe(number, channel)
        for client in self._asked():
            if client in self.clients and not self.asked_to_end:
                self._serve(client)

    def _asked(self) -> list[Client]:
        """Whom to serve now, the urgent first. While a waveform's edges leave the instrument no time for questions,
        these wait here and not for the line: a client that goes away must be noticed."""
        asked = [client for client in self.clients if b"\n" in client.buffer]
        if any(client.channel is not None and client.channel.keeps_line for client in self.clients):
            asked = [client for client in asked if client.buffer.startswith(_NO_QUESTIONS)]
        return sorted(asked, key=_urgency)

    def _accept(self) -> None:
        sock, _ = self.listener.accept()
        client = Client(sock)
        if client.uid != os.getuid():
            client.close()
            return
        sock.settimeout(1)
        self.clients.append(client)
        self._selector.register(sock, selectors.EVENT_READ, client)
        if client.pidfd >= 0:
            self._selector.register(client.pidfd, selectors.EVENT_READ, client)

    def _receive(self, client: Client, fd: int) -> bool:
        """Take in what it sent. False: it is gone."""
        if fd == client.pidfd:
            return False
        try:
            more = client.sock.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        client.buffer += more
        return bool(more) and len(client.buffer) < wire.LONGEST_LINE

    def _drop(self, client: Client, why: str) -> None:
        """End a connection and its lease; the output goes off."""
        self._selector.unregister(client.sock)
        if client.pidfd >= 0:
            self._selector.unregister(client.pidfd)
        client.close()
        self.clients.remove(client)
        if client.channel is not None:
            log.info("channel %d of pid %d (%s): %s", client.channel.number, client.pid, client.holder, why)
            self._release(client)
        if not self.clients and client.had_lease:  # else it was only looking whether we are here
            self.ends_at = time.monotonic() + LINGER_S

    def _release(self, client: Client) -> bool | None:
        """End a lease: whether the output was read back off; None for a lease that never switches."""
        channel, client.channel = client.channel, None
        if channel is None or client.probing:
            return None
        off = self._make_safe(channel.number, channel)
        if off:
            with contextlib.suppress(BenchBlocked):  # what is armed; whoever configures it next forgets it anyway
                channel.disarm()
        return off

    def _make_safe(self, number: int, channel: VisaChannel) -> bool:
        try:
            off = channel.off()
        except Exception:  # whatever it is: the other channels wait to be switched off too, and this one is on
            log.exception("channel %d", number)
            off = False
        if off:
            self.guardian.tell_off(number)
            self.unsafe.pop(number, None)
            return True
        log.error("channel %d could not be switched off", number)
        self.guardian.tell_on(number)  # it may never have been told: somebody else left it on
        self.unsafe[number] = channel
        return False

    def _serve(self, client: Client) -> None:
        raw, _, client.buffer = client.buffer.partition(b"\n")
        number = None
        try:
            request = json.loads(raw)
            number = request.get("id")
            reply = self._answer(client, request)
        except RigError as error:
            reply = {"error": wire.encode_error(error)}
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as bad:  # nonsense, or a bug of ours: off, and told in full
            log.exception("request %r", raw[:200])
            released = self._release(client)
            reply = {"bug": f"{type(bad).__name__}: {bad}", "off": released}
        try:
            client.sock.sendall(wire.line({**reply, "id": number}))
        except OSError:
            if client in self.clients:
                self._drop(client, "its client takes no answer")

    def _answer(self, client: Client, request: dict[str, Any]) -> dict[str, Any]:
        op = request["op"]
        if op == "lease":
            return self._lease(client, request)
        if op == "name":
            return self._name(request)
        if op == "release":
            return {"off": self._release(client)}
        if client.channel is None:
            raise UsageProblem("This connection has no lease of a supply channel.")
        if client.probing:
            if op != "probe":
                raise UsageProblem("This lease is for looking only.")
            return {"probe": asdict(probe(self.supply, client.channel.number))}
        return self._operate(client.channel, op, request)

    def _operate(self, channel: VisaChannel, op: str, request: dict[str, Any]) -> dict[str, Any]:
        def switch_on() -> int:
            self.guardian.tell_on(channel.number)
            return channel.on()

        def switch_off() -> bool:
            off = channel.off()
            if off:
                self.guardian.tell_off(channel.number)
            return off

        verify = bool(request.get("verify", True))
        does: dict[str, Callable[[], Any]] = {
            "configure": lambda: asdict(
                channel.configure(Setting(**request["setting"]), max_volts=float(request["max_volts"]))
            ),
            "on": switch_on,
            "off": switch_off,
            "measure": lambda: asdict(channel.measure()),
            "tripped": channel.tripped,
            "set_volts": lambda: channel.set_volts(float(request["volts"]), verify=verify),
            "set_current_limit": lambda: channel.set_current_limit(float(request["amps"]), verify=verify),
            "arm": lambda: channel.arm(Commanded.of(request["commanded"])),
            "fire": channel.fire,
            "playing": channel.playing,
            "disarm": channel.disarm,
        }
        return {"value": does[op]()}

    def _lease(self, client: Client, request: dict[str, Any]) -> dict[str, Any]:
        mine = self.supply.instrument
        if request["protocol"] != wire.PROTOCOL:
            raise UsageProblem(f"The supply service (pid {os.getpid()}) is of another version of rig; end its users.")
        wanted = request["serial"]
        if wanted and wanted.upper() != mine.serial.upper():
            if request["name"] not in self.names:
                return {"elsewhere": True}
            raise UsageProblem(
                f"The instrument at {request['resource']} is {mine.model} with serial number {mine.serial}, "
                f"not {wanted}: correct bench.toml or the cabling."
            )
        if not wanted and request["name"] not in self.names:
            return {"elsewhere": True}
        if request["dialect"] and request["dialect"] != mine.dialect:
            raise UsageProblem(
                f"{mine.model} {mine.serial} is in use with dialect {mine.dialect}, not {request['dialect']}."
            )
        number = int(request["channel"])
        together = self.supply.dialect.outputs == "together"
        for other in self.clients:
            if other.channel is not None and (together or other.channel.number == number):
                why = f"The outputs of the {mine.model} switch on and off together, so one is leased at a time. "
                raise UsageProblem(
                    (why if together else "")
                    + f"Channel {other.channel.number} of {mine.model} {mine.serial} is in use by pid {other.pid}"
                    + (f" ({other.holder})." if other.holder else ".")
                )
        if not self._is_there():
            return {"elsewhere": True}
        client.probing = bool(request["probing"])
        client.channel = VisaChannel(self.supply, number, max_volts=float(request["max_volts"]))
        client.holder = str(request["holder"])
        client.had_lease = True
        if not client.probing:
            if together:
                self.unsafe.clear()  # else the switching off of an old lease would go on, and hit this one
            self.unsafe.pop(number, None)  # its new user's now: configuring begins with switching off
        limits = asdict(client.channel.limits)
        return {
            "instrument": asdict(mine), "limits": limits, "together": together, "service": os.getpid(),
            "guardian": self.guardian.pid,
        }  # fmt: skip

    def _is_there(self) -> bool:
        """Between two leases it may have been switched off and on, and then another session is needed, or been
        replaced: then this service ends, and whoever asked starts another one."""
        if any(other.channel is not None for other in self.clients) or not self.supply.link.hung_up():
            return True
        try:
            self.supply.link.open()
        except BenchBlocked as lost:
            log.info("ending: %s", lost)
            self.asked_to_end = True
            return False
        log.info("%s had hung up; opened it again", self.supply.link.resource)
        return True

    def _name(self, request: dict[str, Any]) -> dict[str, Any]:
        """Another process found this instrument behind another resource."""
        if request["idn"] != self.supply.instrument.idn:
            raise UsageProblem(
                f"Two instruments have the serial number {self.supply.instrument.serial}: {request['idn']!r} and "
                f"{self.supply.instrument.idn!r}. They cannot be told apart."
            )
        self.names.add(request["name"])
        (self.folder / f"{request['name']}.name").write_text(request["key"], encoding="ascii")
        return {}


def _urgency(client: Client) -> bool:
    return not client.buffer.startswith(_OFF)


def _redirect(folder: Path, key: str, name: str, idn: str | None) -> bool:
    """Whether a service for `key` runs; one that does learns that it is also `name` (if we know `idn`)."""
    sock = runtime.connect(folder / f"{key}.sock", 5)
    if sock is None:
        return False
    link = wire.Lines(sock)
    try:
        if idn is None:
            return True
        reply = link.ask({"op": "name", "name": name, "key": key, "idn": idn})
    except (wire.Gone, TimeoutError):
        return False
    finally:
        link.close()
    if "error" in reply:
        raise wire.decode_error(reply["error"])
    return True


def _hold(lock: runtime.Lock, key: Callable[[], str | None], folder: Path, name: str, idn: str | None) -> str | None:
    """Take a lock, waiting for a predecessor that is ending. Not None: a service has it, and its key is this."""
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while not lock.try_hold():
        other = key()
        if other is not None and _redirect(folder, other, name, idn):
            return other
        if time.monotonic() > deadline:
            raise BenchBlocked("supply-lost", "Another process of rig holds this supply and does not answer.")
        time.sleep(0.02)
    return None


def _alone_on_this_machine(resource: str, name: str) -> runtime.MachineLock:
    """UsageProblem where a rig with another runtime folder has this instrument; those of ours have gone by now. One
    that is ending is waited for."""
    lock = runtime.MachineLock(name)
    deadline = time.monotonic() + LINGER_S + 1
    while not lock.try_hold():
        if time.monotonic() > deadline:
            raise UsageProblem(
                f"The supply at {resource} is in use by another rig on this machine ({lock.holder()}), whose runtime "
                "folder is another one: give both the same RIG_RUNTIME_DIR, as the same user, or wait for it."
            )
        time.sleep(0.05)
    return lock


def _serve(args: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> None:
    folder = runtime.folder()
    name = runtime.resource_key(args.resource)
    name_file = folder / f"{name}.name"
    at_lock = runtime.Lock(folder / f"{name}.lock")
    other = _hold(at_lock, lambda: runtime.resource_behind(name_file), folder, name, None)
    if other is not None:
        report({"go": other})
        return
    machine_lock = _alone_on_this_machine(args.resource, name)
    folders = [Path(path) for path in args.dialects]
    supply = Supply.open(args.resource, dialect=args.dialect, serial=args.serial, folders=folders, patience_s=1.0)
    try:
        key = runtime.instrument_key(supply.instrument.serial, args.resource)
        psu_lock = runtime.Lock(folder / f"{key}.lock")
        other = _hold(psu_lock, lambda: key, folder, name, supply.instrument.idn)
        if other is not None:
            report({"go": other})
            return
        how = {
            "resource": args.resource,
            "dialect": supply.instrument.dialect,
            "serial": supply.instrument.serial,
            "folders": args.dialects,
        }
        runtime.prune(folder)
        guardian = Guardian(how, (at_lock.fd, psu_lock.fd, machine_lock.fd))
        if _lease_out(supply, guardian, name, key, folder, report):
            psu_lock.remove()
            at_lock.remove()
    finally:
        supply.close()


def _lease_out(
    supply: Supply, guardian: Guardian, name: str, key: str, folder: Path, report: Callable[[dict[str, Any]], None]
) -> bool:
    """Serve until the end; whether it ended with nothing left on and the guardian gone."""
    path = folder / f"{key}.sock"
    path.unlink(missing_ok=True)  # ours to remove: we hold its lock
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(16)
        listener.setblocking(False)
        (folder / f"{name}.name").write_text(key, encoding="ascii")
        service = Service(supply, guardian, {name}, folder, listener)
        log.info("serving %s at %s", supply.instrument.idn, supply.link.resource)
        report({"go": key})
        try:
            service.run()
        finally:
            path.unlink(missing_ok=True)
            for known in service.names:
                (folder / f"{known}.name").unlink(missing_ok=True)
            supply.close()  # before the guardian tries, and before our locks go
            gone = guardian.dismiss()
            log.info("ended")
    return gone


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rig.supply.service", description="Started by rig; not for people.")
    parser.add_argument("--resource", required=True)
    parser.add_argument("--dialect")
    parser.add_argument("--serial")
    parser.add_argument("--dialects", action="append", default=[], help="folder of a user's dialects")
    parser.add_argument("--report-fd", type=int, required=True)
    args = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s service %(process)d %(levelname)s: %(message)s"
    )

    def report(message: dict[str, Any]) -> None:
        try:
            os.write(args.report_fd, wire.line(message))
        except OSError:
            log.info("whoever started this service did not wait for it")
        os.close(args.report_fd)

    os.set_inheritable(args.report_fd, False)
    try:
        _serve(args, report)
    except RigError as error:
        log.error("%s", error)
        report({"error": wire.encode_error(error)})
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
