"""What goes to labgrid and what comes back: exporter files, places as benches, and where a run takes place."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.bench.bench import read_bench
from rig.bench.config import load_bench
from rig.errors import Exit, UsageProblem
from rig.flashers.environment import Environment
from rig.labgrid import lent, place, tenure
from rig.labgrid.exporter import exporter_yaml, groups
from rig.labgrid.spec import PlaceSpec, parse
from rig.records import events
from tests.sim_process import ROOT, environment, rig_inside
from tests.station_bench import StationBench, fake_units
from tests.waiting import wait_until

SPEC = PlaceSpec("bench0", "10.0.0.1:20408")
HOST = "127.0.0.1"
GOOD = """
[bench]
name = "bench 1"
profiles = "mine"
allowed_images = "allowed.txt"
[supply.psu1]
resource = "TCPIP::192.168.1.50::5555::SOCKET"
dialect = "rigol-dp800"
serial = "DP8C1234"
cal_due = 2027-05-01
amps = 1.5
[supply.psu2]
resource = "TCPIP0::192.168.1.51::inst0::INSTR"
[slot.A]
supply = "psu1"
channel = 1
flash_port = "/dev/serial/by-path/a-port0"
log_port = "/dev/serial/by-path/a-port1"
product = "ds-121"
change = ["./feeder", "next"]
[slot.B]
supply = "psu2"
channel = 2
flash_port = "/dev/ttyUSB2"
log_port = "rfc2217://192.168.1.9:2001?ign_set_control"
baud = 115200
product = "ds-121"
ovp = "none"
[records]
url = "sqlite:///runs/rig.db"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    path = tmp_path / "bench.toml"
    path.write_text(GOOD)
    path.chmod(0o644)
    return path


def exported(file: Path, *, exporter: str = "exporter1", host: str = HOST) -> list[dict[str, Any]]:
    """What labgrid makes of an exporter's file, in the words of `holder.py`. Source: seen with labgrid 26.0."""
    found = []
    for group, members in groups(load_bench(file)).items():
        for name, params in members.items():
            params = {key: host if value == "{{ hostname }}" else value for key, value in params.items()}
            cls, extra = params.pop("cls"), {"proxy": host, "proxy_required": False}
            if cls == "RawSerialPort":
                extra["path"] = params["port"]
                cls, params = "NetworkSerialPort", {"host": host, "port": 40001, "speed": 115200}
            found.append(
                {"exporter": exporter, "group": group, "name": name, "cls": cls, "avail": True, "params": params}
                | {"extra": extra}
            )
    return found


def lend(resources: list[dict[str, Any]]) -> str:
    return place.bench_toml(SPEC, place.slots_of(SPEC, resources))


def refused(resources: list[dict[str, Any]]) -> str:
    with pytest.raises(UsageProblem) as caught:
        lend(resources)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of(resources: list[dict[str, Any]], name: str, group: str = "bench-1-A") -> dict[str, Any]:
    return next(one for one in resources if one["name"] == name and one["group"] == group)


# -- there and back ------------------------------------------------------------------------------------------


def test_a_bench_comes_back_as_it_was(file: Path, tmp_path: Path) -> None:
    own = read_bench(file)
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "lent.toml"
    path.write_text(lend(exported(file)))
    lent_bench = read_bench(path)
    for name, slot in own.slots.items():
        mine = lent_bench.slots[name]
        assert mine.supply == slot.supply
        assert mine.table.model_copy(update={"change": None}) == slot.table.model_copy(update={"change": None})
    assert lent_bench.slots["A"].table.change == [str(file.parent / "feeder"), "next"]
    assert lent_bench.profiles("") == [file.parent / "mine"]
    assert lent_bench.config.bench.allowed_images == file.parent / "allowed.txt"
    assert lent_bench.config.records.url == f"sqlite:///{file.parent}/runs/rig.db"


@settings(derandomize=True, max_examples=60, deadline=None)
@given(name=st.text(min_size=1, max_size=20), serial=st.text(max_size=12), channel=st.integers(1, 9))
def test_any_name_comes_back(tmp_path_factory: pytest.TempPathFactory, name: str, serial: str, channel: int) -> None:
    path = tmp_path_factory.mktemp("b") / "bench.toml"

    def quoted(text: str) -> str:
        return json.dumps(text).replace("\x7f", "\\u007f")

    with contextlib.suppress(UnicodeEncodeError):
        path.write_text(
            f'[bench]\nname = {quoted(name)}\n[supply.p]\nresource = "TCPIP::1.2.3.4::1::SOCKET"\n'
            f'serial = {quoted(serial)}\n[slot.A]\nsupply = "p"\nchannel = {channel}\nproduct = "ds-121"\n'
            'flash_port = "/dev/ttyUSB0"\n'
        )
        try:
            own = read_bench(path)
        except UsageProblem:
            return  # lone surrogates are no TOML
        again = path.with_name("again.toml")
        again.write_text(lend(exported(path)))
        assert read_bench(again).config.model_dump() == own.config.model_dump()


def test_the_exporters_file(file: Path) -> None:
    text = exporter_yaml(load_bench(file))
    rows = text.splitlines()
    assert not [row for row in rows if row.lstrip().startswith("#") and not row.startswith("##")]  # its template's
    flash = rows.index("  flash:")
    assert rows[flash + 1] == '    cls: "RigFlashPort"'  # no port of labgrid's own: ser2net would serve it to anybody
    assert text.count("RawSerialPort") == 1  # of slot B the log is on the network already
    assert '    host: "192.168.1.9"\n    port: 2001\n    protocol: "rfc2217"' in text
    assert '    host: "{{ hostname }}"' in text
    assert "feeder" not in text
    file.write_text(GOOD.replace('name = "bench 1"', 'name = "{{ 7 * 6 }}"'))
    with pytest.raises(UsageProblem, match="would be a template in an exporter's file"):
        exporter_yaml(load_bench(file))
    file.write_text(GOOD.replace("/dev/serial/by-path/a-port1", str(file)))
    with pytest.raises(UsageProblem, match="is no device under /dev"):
        exporter_yaml(load_bench(file))
    file.write_text(GOOD.replace("rfc2217://192.168.1.9:2001?ign_set_control", "spy:///dev/ttyUSB3"))
    with pytest.raises(UsageProblem, match="labgrid knows devices, rfc2217:// and socket://"):
        exporter_yaml(load_bench(file))


def test_a_log_on_another_machine_comes_over_the_network(file: Path) -> None:
    resources = exported(file)
    of(resources, "log")["exporter"] = "exporter2"
    resources.append(of(resources, "log") | {"group": "bench-1-A"})
    log = place._log(SPEC, place.PlaceSlot("g", {}, of(resources, "flash"), of(resources, "log"), {}))
    assert log == {"log_port": f"rfc2217://{HOST}:40001?ign_set_control"}
    of(resources, "log")["extra"]["proxy_required"] = True
    with pytest.raises(UsageProblem, match="behind an isolated exporter"):
        place._log(SPEC, place.PlaceSlot("g", {}, of(resources, "flash"), of(resources, "log"), {}))


# -- what is refused -----------------------------------------------------------------------------------------


def test_what_is_no_bench_of_a_rig(file: Path) -> None:
    resources = exported(file)
    assert "holds no slot of a rig" in refused([one for one in resources if one["cls"] != "RigSlot"])
    assert "has a slot and no resource 'flash'" in refused([one for one in resources if one["name"] != "flash"])
    assert "no resource 'supply'" in refused([one for one in resources if one["name"] != "supply"])
    of(resources, "flash")["avail"] = False
    assert "bench-1-A/flash is away" in refused(resources)


def test_slots_on_two_machines_are_no_bench(file: Path) -> None:
    resources = exported(file)
    of(resources, "slot", "bench-1-B")["params"]["host"] = "other"
    assert "slots on several machines (127.0.0.1, other)" in refused(resources)


def test_an_exporters_file_that_is_older_than_the_bench(file: Path) -> None:
    resources = exported(file)
    for old, new, key in (
        ("channel = 1", "channel = 3", "channel"),
        ("a-port0", "a-port7", "flash_port"),
        ("a-port1", "a-port8", "log_port"),
        ("DP8C1234", "DP8C9999", "serial"),
        ("192.168.1.50", "192.168.1.77", "resource"),
    ):
        file.write_text(GOOD.replace(old, new))
        assert f"{key} of slot A is " in refused(resources)
    file.write_text(GOOD.replace("[slot.A]", "[slot.C]"))
    assert "has slot A, which is not in" in refused(resources)
    file.unlink()
    assert "cannot be read (No such file or directory)" in refused(resources)


def test_commands_come_from_a_file_that_nobody_else_can_write(file: Path) -> None:
    file.chmod(0o666)
    assert "must be yours or root's and writable by nobody else" in refused(exported(file))
    resources = exported(file)
    for one in resources:
        if one["cls"] == "RigSlot":
            del one["params"]["bench_file"]
            one["params"] |= {"change": '["/bin/evil"]', "profiles": "/tmp", "image": "/tmp/x"}
    assert not re.search("evil|profiles|image", lend(resources))


def test_a_supply_at_another_machines_connectors(file: Path) -> None:
    resources = exported(file)
    supply = of(resources, "supply")
    supply["exporter"] = "exporter2"
    slot = place.PlaceSlot("g", {}, of(resources, "flash"), None, supply)
    assert place.resource_of(slot) == "TCPIP::192.168.1.50::5555::SOCKET"
    for kind, url in (("TCPIP", "127.0.0.1::5025::SOCKET"), ("ASRL/dev/ttyUSB0", ""), ("USB0", "1::2::SN")):
        supply["params"] = {"type": kind, "url": url}
        with pytest.raises(UsageProblem, match="connected to another machine"):
            place.resource_of(slot)


def test_a_flash_port_on_the_network_is_refused(file: Path) -> None:
    for url in ("rfc2217://10.0.0.9:2001", "socket://10.0.0.9:2001"):
        file.write_text(GOOD.replace("/dev/ttyUSB2", url))
        with pytest.raises(UsageProblem, match="boards are flashed on the machine that has the port") as caught:
            load_bench(file)
        assert url in str(caught.value)


@pytest.mark.parametrize(
    ("text", "environ", "found"),
    [
        ("labgrid:b0", None, ("b0", "127.0.0.1:20408")),
        ("labgrid:b0", "lab.example:1", ("b0", "lab.example:1")),
        ("labgrid:rack/b@0@10.0.0.1", "x:1", ("rack/b@0", "10.0.0.1:20408")),
        ("labgrid:b0@[::1]:7", None, ("b0", "[::1]:7")),
        ("labgrid:", None, None),
        ("labgrid:b0@", None, None),
        ("labgrid:@h:1", None, None),
        ("labgrid:b0@h:0", None, None),
        ("labgrid:b0@-oProxyCommand=x y", None, None),
    ],
)
def test_what_a_place_is_called(
    text: str, environ: str | None, found: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LG_COORDINATOR", raising=False)
    if environ:
        monkeypatch.setenv("LG_COORDINATOR", environ)
    if found is None:
        with pytest.raises(UsageProblem):
            parse(text)
        return
    assert parse(text) == PlaceSpec(*found)
    assert parse(str(parse(text))) == parse(text)


# -- on the machine that has the port ------------------------------------------------------------------------


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ssh that writes down what it was told and ends with 7."""
    path = tmp_path / "bin" / "ssh"
    path.parent.mkdir()
    said = tmp_path / "ssh.txt"
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {said}\nexit 7\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return said


def fake_place(monkeypatch: pytest.MonkeyPatch, resources: list[dict[str, Any]]) -> None:
    @contextlib.contextmanager
    def held(spec: PlaceSpec, say: object) -> Iterator[Any]:
        yield SimpleNamespace(look=lambda: resources, acquire=lambda: pytest.fail("acquired from elsewhere"))

    monkeypatch.setattr(lent, "held", held)


def test_the_command_runs_on_the_machine_that_has_the_port(
    file: Path, ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_place(monkeypatch, exported(file, host="192.0.2.7"))
    monkeypatch.setattr(sys, "stdin", Path(os.devnull).open())  # noqa: SIM115 - pytest's own is no file
    done = rig_inside(
        "convert", "--serial", "SN 1; rm", "--bench", "labgrid:bench0@10.0.0.1", "--out", "r", cwd=tmp_path
    )
    assert done.returncode == 7  # what the command over there ended with
    *options, command = ssh.read_text().splitlines()
    assert options[-2:] == ["--", "192.0.2.7"]
    assert command == (
        "env RIG_OWNED_BY_STDIN=1 rig convert --serial 'SN 1; rm' --bench labgrid:bench0@10.0.0.1:20408 --out r"
    )
    assert not (tmp_path / "r").exists()
    program = ssh.parent / "bin" / "ssh"
    program.write_text(program.read_text().replace("exit 7", "exit 255"))
    done = rig_inside("convert", "--bench", "labgrid:bench0@10.0.0.1", cwd=tmp_path)
    assert done.returncode == 3
    assert "ssh could not reach 192.0.2.7, or lost it" in done.stderr
    done = rig_inside("convert", "--bench=labgrid:bench0@127.0.0.1:5", cwd=tmp_path)
    assert done.returncode == 2
    assert "from where the coordinator is not at 127.0.0.1:5" in done.stderr


def test_what_is_here() -> None:
    assert place.is_here("127.0.0.1")
    assert place.is_here("localhost")
    assert not place.is_here("192.0.2.7")
    assert not place.is_here("no such machine.invalid")


def test_a_command_from_over_there_ends_with_its_connection() -> None:
    script = (
        "import threading, rig.labgrid.elsewhere as e\n"
        "e.stop_with_input(threading.Event()); print('up', flush=True); threading.Event().wait(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        env=environment() | {"RIG_OWNED_BY_STDIN": "1"},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdin.close()
    assert process.wait(30) == -15
    process.stdout.close()


# -- a holder that does as it is told ------------------------------------------------------------------------

FAKE = """#!/bin/sh
turn=$(cat {folder}/turn 2>/dev/null || echo 0); echo $((turn + 1)) > {folder}/turn
echo '{{"event": "found", "resources": [], "acquired": null}}'
read word
echo $$ > {folder}/pid
echo '{{"event": "acquired", "resources": [], "ours": true}}'
{then}
"""


@contextlib.contextmanager
def holding(folder: Path, then: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], list[str]]]:
    """A place held by a stand-in for the holder, whose last lines are `then`: what was noted, what ended it."""
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text(FAKE.format(folder=folder, then=then))
    python.chmod(0o755)
    monkeypatch.setattr(tenure, "environment", lambda say: Environment(folder, {}))
    notes: list[str] = []
    ends: list[str] = []
    with tenure.held(SPEC, notes.append) as found:
        found.look()
        found.listen(notes.append, ends.append)
        found.acquire()
        yield notes, ends


def test_a_holder_that_dies_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    then = f"[ $turn = 0 ] && exit 1\ntouch {tmp_path}/second\nread word"
    with holding(tmp_path, then, monkeypatch) as (notes, ends):
        wait_until((tmp_path / "second").exists, 30, "the second holder")
        with pytest.raises(UsageProblem, match="in use by another run of yours"), tenure.held(SPEC, notes.append):
            pass
        pid = int((tmp_path / "pid").read_text())
        assert os.getsid(pid) == pid  # a Ctrl-C in the terminal does not give the place back before its board is off
        assert notes == ["the process that holds the place died; another one takes over"]
    assert ends == []
    assert (tmp_path / "turn").read_text() == "2\n"


def test_nothing_more_is_begun_where_somebody_else_has_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = 'echo \'{"event": "lost"}\'; echo \'{"event": "taken", "by": "pc/ann"}\'\nread word'
    with holding(tmp_path, then, monkeypatch) as (notes, ends):
        wait_until(lambda: ends, 30, "the end")
        assert ends == ["place bench0 was acquired by pc/ann while the coordinator was away"]
        assert notes == [f"the labgrid coordinator at {SPEC.coordinator} went away; boards at work go on"]


def test_nothing_more_is_begun_where_no_coordinator_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "KEEP_TRYING_S", 0.2)
    with holding(tmp_path, 'echo \'{"event": "lost"}\'\nread word', monkeypatch) as (_, ends):
        wait_until(lambda: ends, 30, "the end")
        assert ends == ["no labgrid coordinator for 0.2 s"]


def test_it_may_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenure, "KEEP_TRYING_S", 0.3)
    lost, back = '{"event": "lost"}', '{"event": "back"}'
    then = f"printf '%s\\n' '{lost}' '{back}'\nread word"  # in one piece: no time passes between
    with holding(tmp_path, then, monkeypatch) as (notes, ends):
        wait_until(lambda: len(notes) == 2, 30, "both")
        assert "is held again" in notes[1]
        with pytest.raises(AssertionError):
            wait_until(lambda: ends, 0.7, "no end")


def test_a_batch_whose_bench_is_taken_ends_with_what_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_units(monkeypatch)
    bench = StationBench(tmp_path)
    bench.behave(**{"1": ["held"]})
    with bench.start(bench.job("1", "2", "3")) as run:
        bench.wait(events.PhaseStarted)
        run.station.note("the coordinator went away")
        run.station.finish("nothing more is begun: pc/ann has it")
        bench.go("1")
        assert run.end() is Exit.BLOCKED
    assert [(unit, outcome) for unit, _, outcome, _ in bench.outcomes()] == [("1", "pass")]
    notes = [note.text for note in bench.of(events.Noted, level="warning")]
    assert notes[:2] == ["the coordinator went away", "nothing more is begun: pc/ann has it"]
