"""Faults on request: the catalogue, what each does to bytes, ports and contacts, and the ways to ask for one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import serial
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import until

from rig.errors import UsageProblem
from rig.sim import faults
from rig.sim.bench import SimBench
from rig.sim.disturbance import Damaged, Disturbances, Driver
from rig.sim.faults import Request, parse
from rig.sim.hands import hand
from rig.sim.psu.faults import FAULTS
from rig.sim.spec import SimOptions, check_options
from rig.sim.wire import Wire
from tests.test_board import LINK, LINKED, Table

ROOT = Path(__file__).parent.parent


# -- asking --------------------------------------------------------------------------------------------------


def test_a_fault_is_asked_for_in_one_word() -> None:
    assert parse("A:dead") == Request("A", "dead", {"below": 0.0})
    late = parse("B2:late:ms=40,after=1e5")
    assert (late.slot, late.options) == ("B2", {"ms": 40.0, "after": 100_000.0})
    assert parse("A:open-pin").options == {"pin": "3v3", "after": 0.0}  # defaults are filled in
    assert parse("C:supply-hung:seconds=2,keeps=true").options == {"seconds": 2, "keeps": True}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dead", "SLOT:NAME"),
        ("A:", "SLOT:NAME"),
        ("A:ded", "no fault 'ded'; there are dead, short,"),
        ("A:hung", "supply-hung"),
        ("A:supply-hang", "no fault 'supply-hang'"),
        ("A:late:40", "option=value, not '40'"),
        ("A:late:s=40", "no option 's'; there are: ms, after"),
        ("A:late:ms=soon", "as ms a number from 0 to 60000, not 'soon'"),
        ("A:late:ms=-1", "a number from 0 to 60000"),
        ("A:flip:rate=NaN", "a number from 0 to 1"),
        ("A:open-pin:pin=p8", "one of 3v3, gnd, rx1, tx1, not 'p8'"),
        ("A:tx2-open:after=3", "no option 'after'; there are: none"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse(text)
    assert says in str(caught.value)


def test_the_catalogue_is_whole() -> None:
    """Every fault says what it is on a table, every one of a board can be had, every one of a supply is listed."""
    assert set(faults.SUPPLY_FAULTS) == set(FAULTS)
    entries = faults.catalogue()
    assert all(entry["does"] and entry["stands_for"] for entry in entries)
    assert "rx1-driver (board): another output fights" in faults.described()
    for entry in entries:
        parse(f"A:{entry['name']}")
    with closing(Wire()) as one, closing(Wire()) as two:
        table = Disturbances(one, two, Table().board.rail, speed=1, seed=0)
        for name in faults.BOARD_FAULTS:
            table.begin(name, {}, 0.0)
        assert all(state["begun"] for state in table.listed().values())
        table.heal()
        assert (table.listed(), one.disturbances, two.disturbances) == ({}, [], [])
        assert one.plugged


# -- bytes ---------------------------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20), st.sampled_from([0.0, 0.01, 0.3, 1.0]), st.booleans())
def test_damage_does_not_depend_on_how_bytes_are_cut(pieces: list[bytes], rate: float, lost: bool) -> None:
    whole = b"".join(pieces)
    cut = Damaged(rate, "host", 7, lost=lost)
    got = b"".join(cut.to_host(piece) for piece in pieces)
    assert got == Damaged(rate, "host", 7, lost=lost).to_host(whole)
    if rate in (0.0, 1.0):
        assert len(got) == (0 if lost and rate else len(whole))
    if not lost:
        changed = [(a ^ b).bit_count() for a, b in zip(whole, got, strict=True)]
        assert set(changed) <= {0, 1}
        assert sum(changed) == (rate * len(whole) if rate in (0.0, 1.0) else sum(changed))
    assert cut.to_chip(whole) == whole  # the other way nothing happens


@pytest.mark.parametrize("rate", [1e-4, 1e-2])
def test_damage_comes_at_its_rate(rate: float) -> None:
    size = 2_000_000
    left = len(Damaged(rate, "both", 3, lost=True).to_chip(bytes(size)))
    assert size - left == pytest.approx(rate * size, rel=0.2)


def test_another_driver_only_ever_lifts_bits() -> None:
    data = bytes(range(256)) * 20
    assert Driver(1.0, 0, 1).to_chip(data) == b""
    assert Driver(0.0, 0, 1).to_chip(data) == data
    lifted = Driver(0.2, 0, 1).to_chip(bytes(5000))
    assert len(lifted) == pytest.approx(4000, rel=0.1)  # a lifted start bit is no byte
    assert sum(byte.bit_count() for byte in lifted) == pytest.approx(0.2 * 8 * len(lifted), rel=0.1)
    assert set(Driver(0.5, 0, 1).to_chip(b"\xff" * 100)) == {0xFF}


# -- a board -------------------------------------------------------------------------------------------------


@pytest.fixture
def table() -> Iterator[Table]:
    with closing(Table()) as table:
        yield table


def linked(table: Table) -> bytes:
    """What a link check right after power-on brings."""
    table.supply(True).run(0.02)
    table.say(LINK)
    table.run(0.05)
    return table.hears(len(LINKED))


def test_a_dead_board_draws_the_roms_current_and_says_nothing(table: Table) -> None:
    table.ask(op="fault", name="dead")
    assert linked(table) == b""
    table.run(0.5)  # past the window
    assert (table.phase, table.status["resets"]) == ("rom", 1)
    assert table.ask(op="sense")["amps"] == pytest.approx(0.03, abs=0.005)
    table.supply(False).run(0.5)
    table.board.faults.board_changed()
    assert linked(table) == LINKED  # the next board is another one


def test_a_board_that_dies_while_it_runs(table: Table) -> None:
    table.supply(True).run(1.0)
    assert table.phase == "running"
    table.ask(op="fault", name="dead")
    assert table.run(0.5).phase == "rom"


def test_a_short_holds_the_supply_in_its_limit(table: Table) -> None:
    table.ask(op="fault", name="short", options={"ohms": 0.2})
    assert linked(table) == b""
    reading = table.ask(op="sense")
    assert (reading["amps"], reading["mode"]) == (0.5, "cc")
    assert reading["volts"] == pytest.approx(0.1)
    table.supply(False)
    assert table.ask(op="sense")["mode"] == "off"


@pytest.mark.parametrize("pin", ["3v3", "gnd"])
def test_an_open_needle_feeds_nothing(pin: str, table: Table) -> None:
    table.ask(op="fault", name="open-pin", options={"pin": pin})
    assert linked(table) == b""
    reading = table.ask(op="sense")
    assert (reading["volts"], reading["amps"], reading["mode"]) == (pytest.approx(3.3), 0.0, "cv")
    table.ask(op="pull")
    table.ask(op="heal", name="open-pin")
    assert table.run(0.05).phase == "off"  # the board is still out of its jig
    table.ask(op="insert")
    assert table.run(0.05).phase == "rom"


@pytest.mark.parametrize(("name", "options"), [("open-pin", {"pin": "rx1"}), ("rx1-driver", {"kind": "touch"})])
def test_a_board_that_cannot_hear_runs_its_firmware(name: str, options: dict[str, str], table: Table) -> None:
    table.ask(op="fault", name=name, options=options)
    assert linked(table) == b""
    assert table.run(0.5).phase == "running"


def test_a_board_that_cannot_be_heard_is_linked(table: Table) -> None:
    table.ask(op="fault", name="open-pin", options={"pin": "tx1"})
    assert linked(table) == b""
    assert table.status["linked"]


def test_an_mcu_talks_into_the_line(table: Table) -> None:
    table.ask(op="fault", name="rx1-driver", options={"kind": "tuyamcu", "wins": 0.0, "period": 0.01})
    before = table.board.uart1.carried
    table.supply(True).run(0.1)
    heard: list[bytes] = []
    table.board.rom.receive = lambda data, at: heard.append(data)  # type: ignore[method-assign]
    table.run(0.1)
    assert sum(map(len, heard)) > 50  # its frames at 9600 baud, as noise
    assert table.board.uart1.carried == before  # nobody's at the port


def test_an_open_log_wire(table: Table) -> None:
    table.ask(op="fault", name="tx2-open")
    table.supply(True).run(1.0)
    assert (table.phase, table.log) == ("running", [])
    table.ask(op="heal", name="tx2-open")
    assert table.run(1.0).log != []


def test_late_and_doubled_replies(table: Table) -> None:
    table.ask(op="fault", name="late", options={"ms": 60})
    table.ask(op="fault", name="doubled")
    table.supply(True).run(0.02)
    table.say(LINK)
    assert table.run(0.05).hears(1) == b""
    assert table.run(0.05).hears(2 * len(LINKED)) == 2 * LINKED
    table.ask(op="heal")
    table.say(LINK)
    assert table.run(0.01).hears(len(LINKED)) == LINKED


def test_a_fault_waits_for_its_bytes(table: Table) -> None:
    table.ask(op="fault", name="open-pin", options={"pin": "rx1", "after": len(LINK) + len(LINKED)})
    assert linked(table) == LINKED
    table.say(LINK)
    assert table.run(0.05).hears(1) == b""
    assert table.ask(op="faults")["active"]["open-pin rx1"]["begun"]


def test_a_port_that_is_unplugged_hangs_up_and_comes_back_by_its_name(tmp_path: Path) -> None:
    link = tmp_path / "port"
    with closing(Wire()) as wire, closing(Wire()) as other:
        wire.link = link
        link.symlink_to(wire.path)
        table = Disturbances(wire, other, Table().board.rail, speed=1, seed=0)
        with closing(serial.Serial(str(link), 115200, timeout=0.2)) as host:
            table.begin("unplug", {"back": 5}, 100.0)
            assert not link.is_symlink()
            with pytest.raises(serial.SerialException):
                host.read(1)
            with pytest.raises(OSError):
                host.write(b"x")
            wire.deliver(b"lost", 115200)  # to nobody
            wire.pull(100.0)
        assert table.next_event() == 105.0
        table.step(105.0)
        with closing(serial.Serial(str(link), 115200, timeout=1)) as host:
            wire.deliver(b"again", 115200)
            assert host.read(5) == b"again"
        assert table.next_event() == float("inf")


# -- a bench -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench() -> Iterator[SimBench]:
    asked = (parse("B:tx2-open"), parse("A:supply-split:gap=0.01"))
    with SimBench(SimOptions(boards=2, speed=50, seed=3, faults=asked, boards_per_supply=1)) as bench:
        yield bench


def test_faults_there_from_the_start(bench: SimBench) -> None:
    assert list(bench.hand({"op": "faults", "slot": "B"})["active"]) == ["tx2-open"]
    assert bench.hand({"op": "faults", "slot": "A"})["active"] == {}
    assert [list(supply.faults) for supply in bench.supplies] == [["split"], []]


def test_the_control_socket_takes_and_heals_them(bench: SimBench) -> None:
    control = bench.folder / "control"
    port = Path(bench.ports["A"]["uart1"])
    assert hand(control, "A", "fault", name="unplug") == {"ok": True}
    assert until(lambda: not os.path.lexists(port))
    assert hand(control, "A", "heal", name="unplug") == {"ok": True}
    assert until(port.exists)
    assert hand(control, "B", "supply-fault", name="hung", options={"seconds": 60}) == {"ok": True}
    assert list(bench.supplies[1].faults) == ["hung"]
    assert hand(control, "B", "supply-heal") == {"ok": True}
    assert not bench.supplies[1].faults
    for name, says in (("dea", "no fault 'dea'"), ("supply-hung", "ok")):
        assert says in str(hand(control, "B", "fault", name=name))
    hand(control, "B", "supply-heal", name="hung")
    assert "no option" in hand(control, "B", "supply-fault", name="hung", options={"x": 1})["error"]
    dead = hand(control, "A", "fault", name="dead")
    assert dead == {"ok": True}
    assert hand(control, "A", "change") == {"ok": True}
    assert hand(control, "A", "faults")["active"] == {}


def test_a_person_asks_by_command(bench: SimBench) -> None:
    def hands(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rig.sim.hands", str(bench.folder / "control"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert hands("fault", "A", "late", "ms=30").returncode == 0
    listed = hands("faults", "A")
    assert '"ms": 30' in listed.stdout
    wrong = hands("fault", "A", "late", "ms")
    assert (wrong.returncode, wrong.stderr) == (2, "a fault's option is option=value, not 'ms'\n")
    hand(bench.folder / "control", "A", "heal")


def test_a_bench_that_cannot_have_them() -> None:
    for options, says in (
        (SimOptions(boards=1, faults=(parse("B:dead"),)), "no slot B; there are A"),
        (SimOptions(boards_per_supply=4), "--boards-per-supply takes 1 to 3, not 4"),
    ):
        with pytest.raises(UsageProblem, match=says):
            check_options(options)
