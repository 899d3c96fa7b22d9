"""What a supply may do to a board behind our back: hang while it is on, bring another output with it, keep a trip to
itself, couple its outputs, never stop complaining."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from supply_fake import ACME, FakeSupply, write_acme
from waiting import until

from rig.bench.bench import open_bench
from rig.bench.slot import lease_slot, sharing
from rig.cli.batch import prepare
from rig.cli.bench import _check_slot
from rig.errors import BenchBlocked, UsageProblem
from rig.line.job import Job, Stage
from rig.sim.psu import PsuServer, ResistiveLoad
from rig.supply import dialect, driver, guardian
from rig.supply.channel import Setting
from rig.supply.client import lease
from rig.supply.dialect import Transport
from rig.supply.driver import VisaChannel
from rig.supply.instrument import ERROR_QUEUE_DEPTH, Supply
from rig.supply.probe import probe
from rig.supply.visa import Link

BARE = Setting(3.3, 0.5, None)
SETTING = Setting(3.3, 0.5, 3.7)


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "OFF_PATIENCE_S", 0.1)


@contextmanager
def simulated(name: str, outputs: int = 1, folder: Path | None = None) -> Iterator[tuple[PsuServer, Supply]]:
    """A simulated supply and ours on it, with a time-out that tests can wait for and no pause."""
    with PsuServer(name, [ResistiveLoad(10.0) for _ in range(outputs)], serial="S1") as psu:
        supply = Supply.open(psu.resource, folders=[folder] if folder else [])
        supply.link.transport = supply.dialect.transport.model_copy(update={"gap_s": 0.0, "timeout_s": 0.15})
        yield psu, supply
        supply.close()


def powered(supply: Supply, number: int, setting: Setting = SETTING) -> VisaChannel:
    channel = VisaChannel(supply, number, max_volts=5)
    channel.configure(setting, max_volts=5)
    channel.on()
    return channel


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(BenchBlocked) as told:
        act()
    return str(told.value)


# A supply that hangs while its output is on


def test_a_supply_that_hangs_while_on_goes_off_when_it_wakes() -> None:
    with simulated("keysight-e36312a", 2) as (psu, supply):
        one, two = powered(supply, 1), powered(supply, 2)
        psu.fault("hung", keeps=True)
        assert re.search(r"gave no answer to 'MEAS:VOLT\? \(@1\).*' \(timeout\)", refused(one.measure))
        assert one.off() is False
        psu.clear_faults()
        assert until(lambda: not psu.outputs[0].on and not psu.outputs[1].on), psu.received[-12:]
        assert one.off()
        assert set(supply.link.farewells) == {2}, "only what was read back off is forgotten"
        assert two.off()
        assert supply.link.farewells == {}


def test_one_answer_that_comes_too_late_costs_no_other_board_its_power() -> None:
    with simulated("keysight-e36312a", 2) as (psu, supply):
        one, two = powered(supply, 1), powered(supply, 2)
        psu.fault("late", seconds=0.2, times=1)
        assert re.search(r"gave no answer to 'MEAS:VOLT\? \(@1\).*' \(timeout\)", refused(one.measure))
        assert two.measure().volts == pytest.approx(3.3, abs=0.01)
        assert psu.outputs[0].on
        assert psu.outputs[1].on
        assert not any("OUTP OFF" in line for _, line in psu.received[-6:])
        assert set(supply.link.farewells) == {1, 2}


def test_a_supply_that_hangs_while_it_is_waited_for_goes_off_when_it_wakes() -> None:
    """The output does not read back on at once, and is asked again."""
    with simulated("keysight-e36312a") as (psu, supply):
        channel = VisaChannel(supply, 1, max_volts=5)
        channel.configure(SETTING, max_volts=5)
        asked: list[bool] = []

        def not_yet() -> bool:
            asked.append(VisaChannel._is_on(channel))
            if len(asked) == 1:
                psu.fault("hung", keeps=True)
            return False

        channel._is_on = not_yet  # type: ignore[method-assign]
        assert "could not be confirmed" in refused(channel.on)
        assert asked == [True]
        psu.clear_faults()
        assert until(lambda: not psu.outputs[0].on), psu.received[-12:]


def test_the_guardian_leaves_no_channel_for_anothers_sake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "RESCUE_S", 0.1)
    with PsuServer("keysight-n6705c", [], serial="S1") as psu:
        psu.instrument.modules = ("N6762A", "", "N6762A", "")  # type: ignore[attr-defined]
        for output in psu.outputs:
            output.switch(True)
        how = {"resource": psu.resource, "dialect": "keysight-n6700", "serial": "S1", "folders": []}
        assert guardian.rescue(how, {1, 2, 3}) is False
        assert [output.on for output in psu.outputs[:3]] == [False, True, False]


def test_the_guardian_tells_all_of_them_off_before_it_waits_for_any() -> None:
    with PsuServer("rigol-dp832", [], serial="S1") as psu:
        for output in psu.outputs:
            output.switch(True)
        psu.fault("error-queue-full", code=-222, stuck=True)
        how = {"resource": psu.resource, "dialect": "rigol-dp800", "serial": "S1", "folders": []}
        assert guardian.rescue(how, {1, 2, 3})
        sent = [line for _, line in psu.received]
        assert sent[:4] == ["*IDN?", ":OUTP CH1,OFF", ":OUTP CH2,OFF", ":OUTP CH3,OFF"]
        assert not any(output.on for output in psu.outputs)


# Outputs that switch together


def test_outputs_that_go_on_with_ours_are_at_0_v() -> None:
    with simulated("keysight-e3631a", 3) as (psu, supply):
        supply.link.write("INST:NSEL 2;:VOLT 25", "INST:NSEL 3;:VOLT -25")
        channel = VisaChannel(supply, 1, max_volts=5)
        channel.configure(BARE, max_volts=5)
        assert [output.volts for output in psu.outputs] == [3.3, 0, 0]
        psu.outputs[2].program(volts=-12.0)
        assert "together with output 3, which somebody set to -12.0 V" in refused(channel.on)
        assert not any(output.on for output in psu.outputs)
        channel.configure(BARE, max_volts=5)
        channel.on()
        assert [output.rail.sense()[0] for output in psu.outputs] == [pytest.approx(3.3, abs=0.01), 0, 0]
        assert channel.off()


def test_outputs_that_stay_set_keep_ours_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated("keysight-e3631a", 3) as (psu, supply):
        supply.link.write("INST:NSEL 2;:VOLT 25")
        channel = VisaChannel(supply, 1, max_volts=5)
        program = psu.outputs[1].program
        monkeypatch.setattr(psu.outputs[1], "program", lambda *rest, **more: program(24.0))
        said = refused(lambda: channel.configure(BARE, max_volts=5))
        assert "together with output 2, which could not be set to 0 V and reads 24.0 V" in said


TOGETHER = """
[bench]
name = "t"
[supply.one]
resource = "{one}"
[supply.two]
resource = "{two}"
[slot.A]
supply = "one"
channel = 1
flash_port = "/dev/A"
product = "ds-121"
ovp = "none"
[slot.B]
supply = "two"
channel = 2
flash_port = "/dev/B"
product = "ds-121"
ovp = "none"
"""


@pytest.fixture
def runtime_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rig-safety-"))
    monkeypatch.setenv("RIG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_a_bench_with_two_slots_on_one_switch_is_refused(runtime_folder: Path, tmp_path: Path) -> None:
    """Under whatever name the two slots know the instrument, and before anything was switched."""
    with PsuServer("keysight-e3631a", [ResistiveLoad(33.0)], serial="0", max_clients=1) as psu:
        other_name = psu.resource.replace("TCPIP::127.0.0.1", "tcpip0::localhost")
        (tmp_path / "bench.toml").write_text(TOGETHER.format(one=psu.resource, two=other_name))
        with open_bench(str(tmp_path / "bench.toml")) as bench:
            slot = bench.slot("A")
            with lease(psu.resource, 1, max_volts=3.6) as leased:
                assert leased.together
                service = leased.service_pid
            job = Job(units=("1",), stages=(Stage("convert", Path("x"), ""),), flasher="native")
            for refuse in (
                lambda: lease_slot(slot, "the test"),
                lambda: prepare(bench, [slot], job),
            ):
                with pytest.raises(UsageProblem, match=r"slot A: .*E3631A.* one slot .* to slot B too") as told:
                    refuse()
                assert told.value.exit_code == 2
            result = _check_slot(bench, slot)
        assert (result["exit_code"], "to slot B too" in result["verdict"]) == (2, True)
        assert not any(line.startswith("OUTP ON") for _, line in psu.received)
        os.kill(service, signal.SIGTERM)  # else it lingers for a second
        assert until(lambda: not list(runtime_folder.glob("psu-*"))), "it and its guardian have ended"


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        ({"resource": "TCPIP::10.0.0.2::5025::SOCKET"}, False),
        ({"resource": "tcpip0::10.0.0.1::5025::socket"}, True),
        ({"resource": "GPIB::5::INSTR", "serial": "my1"}, True),
        ({"resource": "GPIB::5::INSTR", "serial": "MY2"}, False),
    ],
)
def test_one_instrument_under_two_names_is_one(tmp_path: Path, other: dict[str, str], shared: bool) -> None:
    text = TOGETHER.format(one='TCPIP::10.0.0.1::5025::SOCKET"\nserial = "MY1', two=other["resource"])
    if "serial" in other:
        text = text.replace(f'"{other["resource"]}"', f'"{other["resource"]}"\nserial = "{other["serial"]}"')
    (tmp_path / "bench.toml").write_text(text)
    with open_bench(str(tmp_path / "bench.toml")) as bench:
        assert sharing(bench.slot("A")) == (["B"] if shared else [])


# Coupled outputs


@pytest.mark.parametrize(
    ("name", "couple"),
    [
        ("siglent-spd3303x", lambda psu: setattr(psu.instrument, "status_always", 12)),  # series
        ("siglent-spd3303x", lambda psu: setattr(psu.instrument, "status_always", 8)),  # parallel
        ("keysight-e3631a", lambda psu: setattr(psu.instrument, "_tracking", True)),
    ],
)
def test_coupled_outputs_are_refused(name: str, couple: Callable[[PsuServer], None]) -> None:
    with simulated(name, 2) as (psu, supply):
        channel = VisaChannel(supply, 1, max_volts=5)
        channel.configure(BARE, max_volts=5)
        couple(psu)
        assert "is coupled with another output" in refused(channel.on)
        assert "is coupled with another output" in refused(lambda: channel.configure(BARE, max_volts=5))
        assert not any(output.on for output in psu.outputs)
        found = probe(supply, 1)
        assert (found.good, "queries.independent" in found.verdict) == (False, True)


# What it tells of trips and errors


def test_a_trip_that_was_told_to_somebody_else_does_not_lock_the_slot_out() -> None:
    with simulated("tti-pl303p") as (psu, supply):
        powered(supply, 1)
        supply.link.write("OVP1 3.0")
        assert until(lambda: psu.outputs[0].tripped == "ovp")
        assert VisaChannel(supply, 1, max_volts=5).tripped() == "ovp"  # read, and so no longer told
        supply.close()
        again = Supply.open(psu.resource)  # the next service
        channel = VisaChannel(again, 1, max_volts=5)
        assert channel.tripped() is None
        channel.configure(SETTING, max_volts=5)
        channel.on()
        assert channel.measure().mode == "cv"
        assert channel.off()
        again.close()


def test_an_error_queue_that_never_empties_of_what_means_nothing_is_left_alone() -> None:
    with simulated("siglent-spd3303x", 2) as (psu, supply):
        psu.fault("error-queue-full", code=-103, stuck=True)
        before = len(psu.received)
        assert supply.errors() == []
        assert len(psu.received) - before == ERROR_QUEUE_DEPTH


def test_a_garbled_first_answer_of_a_latched_register_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated("tti-pl303p") as (_, supply):
        channel = VisaChannel(supply, 1, max_volts=5)
        ask, garbled = supply.link.query, iter(["0,"])
        monkeypatch.setattr(supply.link, "query", lambda *line: next(garbled, None) or ask(*line))
        said = refused(channel.tripped)
        assert "answered 'LSR1?' in a way that dialect aimtti-pl-p cannot read" in said


def test_a_garbled_module_is_a_sentence_and_its_channel_is_chosen_first(tmp_path: Path) -> None:
    whole, _, _ = ACME.partition("[[model]]")
    reply = '{ kind = "text", field = 1 }'
    query = f'module = {{ before = "PICK {{channel}}", send = "W?", reply = {reply}, source = "test" }}'
    module = '[[module]]\nnames = ["M1"]\nvolts_max = 5\namps_max = 1\nvolts_step = 0.01\namps_step = 0.01\n'
    text = whole.replace("[queries]\n", f"[queries]\n{query}\n")
    folder = write_acme(tmp_path, f'{text}[[model]]\nname = "P2"\nslots = 2\n{module}source = "test"\n')
    with FakeSupply() as fake:
        fake.twist = lambda line: {"W?": "A,M1", "PICK 2": None}.get(line, FakeSupply.GO_ON)
        supply = Supply.open(fake.resource, folders=[folder])
        assert supply.limits(2).volts_max == 5
        assert fake.received[-2:] == ["PICK 2", "W?"]
        fake.twist = lambda line: {"W?": "overload", "PICK 2": None}.get(line, FakeSupply.GO_ON)
        assert "answered 'W?' in a way that dialect acme cannot read" in refused(lambda: supply.limits(2))
        supply.close()


def test_a_command_that_the_instrument_does_not_know_is_found_by_the_check(tmp_path: Path) -> None:
    """Where what is asked for errors tells of wrong values only."""
    shipped = dialect.SHIPPED.joinpath("aimtti-pl-p.toml").read_text()
    (tmp_path / "aimtti-pl-p.toml").write_text(shipped.replace('"V{channel} {value', '"VOLTS{channel} {value'))
    with simulated("tti-pl303p", folder=tmp_path) as (_, supply):
        supply.link.write("FROBNICATE")  # before the check: not the dialect's fault
        found = probe(supply, 1)
        assert [row.entry for row in found.rows if row.problem] == ["commands.volts"]
        assert "commands.volts" in found.verdict
        assert not found.good


# The line


def test_a_named_dialects_opening_comes_before_the_first_question(tmp_path: Path) -> None:
    """A serial instrument in local mode need not answer."""
    folder = write_acme(tmp_path)
    with FakeSupply() as fake:
        remote: list[str] = []

        def local(line: str) -> object:
            remote.extend([line] if line == "REMOTE" else [])
            return FakeSupply.GO_ON if remote else None

        fake.twist = local
        supply = Supply.open(fake.resource, dialect="acme", folders=[folder])
        assert fake.received[:2] == ["REMOTE", "*IDN?"]
        remote.clear()  # somebody pressed Local
        supply.link.close()
        assert supply.link.query("E?") == "0  No Error"
        assert fake.received.count("REMOTE") == 2
        supply.close()


def test_a_serial_line_gets_its_stop_bits() -> None:
    master, slave = os.openpty()
    try:
        for stop_bits, flag in ((2, termios.CSTOPB), (1, 0)):
            link = Link(f"ASRL{os.ttyname(slave)}::INSTR", Transport(baud=9600, stop_bits=stop_bits))
            link._session = link._visa_open()
            link._prepare()
            assert termios.tcgetattr(slave)[2] & termios.CSTOPB == flag
            link.close()
    finally:
        os.close(slave)
        os.close(master)


def test_remote_locks_the_panel_where_one_selection_serves_all() -> None:
    with simulated("rs-hmp4040", 4) as (psu, _):
        sent = [line for _, line in psu.received]
        assert "SYST:REM" in sent
        assert "SYST:MIX" not in sent


# Dialect files


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"OUT 1"', '"OUT {value}"', r"commands\.output_on has no \{value\}"),
        ('"CLEAR"], source = "test" }\nocp_on', '"C {value}"], source = "test" }\nocp_on', r"ovp_clear has no "),
        ('"REMOTE"', '"REMOTE {channel}"', r"commands\.opening is for the whole instrument and has no \{channel\}"),
        ('"E?"', '"E{name}?"', r"queries\.error is for the whole instrument"),
        (
            "[[model]]",
            '[queries.master]\nsend = "G{channel}?"\nreply = { kind = "word", words = { 1 = true, 0 = false } }\n'
            'source = "test"\n[[model]]',
            r"queries\.master is for the whole instrument",
        ),
    ],
)
def test_a_field_that_nothing_fills_is_refused(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert ACME.count(before) == 1
    folder = write_acme(tmp_path, ACME.replace(before, after))
    with pytest.raises(UsageProblem, match=said):
        dialect.load("acme", [folder])


def test_every_mainframe_that_is_recognised_is_known() -> None:
    n6700 = dialect.load("keysight-n6700")
    for number in "0125":
        for letter in "ABC":
            found = n6700.recognise(f"Agilent Technologies,N670{number}{letter},MY1,C.00")
            assert found is not None
            assert n6700.channel(found.model, 4, "N6762A").volts_max == 51
