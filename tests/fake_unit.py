"""A unit's process as the station sees one, without a board: what it says and how it ends is told by a file.

RIG_FAKE_UNITS names a JSON file {"SN1": ["fail verify-failed", "pass"], ...}, a word an attempt, else `pass`:

    pass            all is well                 fail CODE, blocked CODE     it is not
    draws AMPS      all is well, and steady_current was measured
    held            passes once the file <unit>.go is beside the JSON file
    writing         write-begun, then as held
    hang            a step of 0.2 s that does not end; `deaf`: nor hears SIGTERM. It dies once <unit>.go is there
    frozen          the same, and no thread of it runs: SIGSTOP; `still`: in a step without a limit
    die             kill -9 in a step           die-writing                 between write-begun and write-ended
    silent          ends without a word       pass-and-die      kill -9 right after it said that it passed
    cut CODE        blocked CODE between write-begun and write-ended

Raw JSON and no rig modules: it starts in a few hundredths of a second.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path


def option(name, default=None):
    for place, word in enumerate(sys.argv):
        if word == name:
            return sys.argv[place + 1]
        if word.startswith(name + "="):
            return word.partition("=")[2]
    return default


UNIT, SLOT, ATTEMPT = option("--unit"), option("--slot"), int(option("--attempt"))
SAID = []
WHO = {"unit": UNIT, "slot": SLOT, "attempt": ATTEMPT}


class Station:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(option("--station"))
        self.answers = self.socket.makefile("rb")
        self.count = 0
        self.socket.sendall(json.dumps({"unit": UNIT}).encode() + b"\n")

    def emit(self, kind, **fields):
        self.count += 1
        now = {"utc": datetime.now(UTC).isoformat(), "mono_ns": time.monotonic_ns()}
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        event = {"kind": kind, **now, "boot_id": boot, **WHO, **fields}
        self.socket.sendall(json.dumps({"n": self.count, "event": event}).encode() + b"\n")
        if not json.loads(self.answers.readline() or "{}").get("n"):
            os._exit(1)


class Stopped(Exception):
    pass


def watch_owner():
    owner = socket.socket(fileno=int(option("--owner-fd")))
    while said := owner.recv(1024):
        SAID.append(said.decode())
    Path(go_file()).with_suffix(".off").touch()  # what a unit does first: its output off
    with contextlib.suppress(OSError):
        owner.send(b"ending\n")
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(20)
    os._exit(1)


def until(condition):
    never = threading.Event()
    while not condition():
        never.wait(0.01)


def go_file():
    return os.path.join(os.path.dirname(os.environ["RIG_FAKE_UNITS"]), UNIT + ".go")


def behaviour():
    words = json.loads(Path(os.environ["RIG_FAKE_UNITS"]).read_text()).get(UNIT, [])
    return words[ATTEMPT - 1] if len(words) >= ATTEMPT else "pass"


def stop(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the station's own, then that of `watch_owner`
    raise Stopped


def write_begun(station):
    station.emit("write-begun", image_sha256="0" * 64, ranges=[[0, 4096]])


def step(station, word, go):
    limit = 0.2 if word in ("hang", "deaf", "frozen") else None
    station.emit("phase-started", phase="work", limit_s=limit)
    if word in ("die", "die-writing"):
        if word == "die-writing":
            write_begun(station)
        os.kill(os.getpid(), signal.SIGKILL)
    if word in ("frozen", "still"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if word in ("hang", "deaf"):
        until(lambda: os.path.exists(go))
        os._exit(1)
    if word in ("writing", "cut"):
        write_begun(station)
    if word in ("held", "writing"):
        until(lambda: os.path.exists(go))
    if word == "writing":
        station.emit("write-ended", verified=True)
    if word.startswith("draws "):
        station.emit("measured", phase="work", name="steady_current", value=float(word.split()[1]), unit_of="A")
    station.emit("phase-ended", phase="work", outcome="pass", duration_s=0.1)


def main():
    threading.Thread(target=watch_owner, daemon=True).start()
    word, go = behaviour(), go_file()
    if word == "silent":
        return 0
    signal.signal(signal.SIGTERM, signal.SIG_IGN if word == "deaf" else stop)
    station = Station()
    role, task, operator = option("--role", "unit"), option("--task"), option("--operator")
    station.emit("unit-started", task=task, role=role, operator=operator)
    identity = os.environ.get("RIG_FAKE_IDENTITY", "uid-" + UNIT)
    end = {"outcome": "pass", "supply_off_confirmed": True, "mac": "c8:47:8c:00:00:18", "identity": identity}
    try:
        kind, _, code = word.partition(" ")
        step(station, word if kind == "draws" else kind, go)
        if kind in ("fail", "blocked", "cut"):
            end |= {"outcome": "blocked" if kind == "cut" else kind, "code": code, "sentence": "as it was told"}
    except Stopped:
        end |= {"outcome": "aborted", "sentence": "stopped"}
        if SAID:  # by no person
            end |= {"outcome": "blocked", "code": "step-timeout", "sentence": "".join(SAID)}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    station.emit("unit-ended", duration_s=0.1, **end)
    if word == "pass-and-die":
        os.kill(os.getpid(), signal.SIGKILL)
    Path(option("--run-dir"), "units", UNIT, str(ATTEMPT), "unit.html").write_text("page")
    return 0 if end["outcome"] == "pass" else 1


if __name__ == "__main__":
    sys.exit(main())
