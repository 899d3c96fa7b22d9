"""The link doctor: each verdict on a simulated bench with the fault that causes it. One board for all."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from rig.bench.bench import Slot, read_bench
from rig.bench.slot import OpenSlot, use_slot
from rig.codes import CODES
from rig.errors import BenchBlocked, UnitFailed
from rig.line import doctor
from rig.line.doctor import Finding, diagnose_link
from rig.line.trial import Trial
from rig.supply.client import lease
from rig.uart.bootlog import BootLog
from tests.sim_process import SimProcess

pytest.importorskip("unicorn", reason="simulated boards need the extra `sim`")
SPEED = 20.0
FAST_S, UNHURRIED_S = doctor._LEAST_PATIENCE_S, 20.0


@dataclass
class Patient:
    bench: SimProcess
    slot: Slot
    used: OpenSlot

    def examine(self, *, log: bool = True, may_boot: bool = False) -> Finding:
        """A diagnosis; whatever it comes to, the board is off afterwards."""
        product = self.slot.product
        if log:
            assert self.slot.table.log_port is not None
            with BootLog.open(self.slot.table.log_port) as boot_log:
                found = diagnose_link(
                    self.used.link, self.used.power, boot_log, product, speed=SPEED, may_boot=may_boot
                )
        else:
            found = diagnose_link(self.used.link, self.used.power, None, product, speed=SPEED)
        assert not self.bench.status()["on"]
        return found


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    """Another output of its supply is leased all the while, so that the service need not start anew each time."""
    with SimProcess(tmp_path_factory.mktemp("doctor"), "--speed", f"{SPEED:g}") as bench:
        supply = read_bench(bench.bench_file).slot("A").supply
        with lease(supply.resource, 3, max_volts=1, dialect=supply.dialect, serial=supply.serial):
            yield bench


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a board may be late; an examination ends as soon as it knows, but where all stays silent."""
    monkeypatch.setattr(doctor, "_LEAST_PATIENCE_S", UNHURRIED_S)


@contextmanager
def in_use(bench: SimProcess, current_limit: float | None = None) -> Iterator[Patient]:
    slot = read_bench(bench.bench_file).slot("A")
    with use_slot(slot, current_limit=current_limit, holder="test") as used:
        yield Patient(bench, slot, used)


# -- with the slot taken anew: before the one that all others share -----------------------------------------


def test_a_port_that_is_gone_is_the_bench_s(bench: SimProcess) -> None:
    with in_use(bench) as patient:
        bench.hand("fault", name="unplug", options={"port": "flash"})
        try:
            found = patient.examine()
        finally:
            bench.hand("heal")
    assert (found.kind, found.code) == ("bench", "port-lost")
    assert found.next == (CODES["port-lost"].action,)


def test_a_current_limit_below_what_a_rom_draws(bench: SimProcess) -> None:
    with in_use(bench, current_limit=0.02) as patient:
        found = patient.examine()
    assert (found.kind, found.code) == ("limited", "weak-supply"), found.lines()
    assert "limits the board to 0.02 A" in found.sentence
    assert found.measurements["regulates"] == "cc"
    assert "the product's is 0.5 A" in found.next[0]


# -- the same slot for all -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(bench: SimProcess) -> Iterator[Patient]:
    with in_use(bench) as patient:
        yield patient


@pytest.fixture
def patient(shared: Patient) -> Iterator[Patient]:
    """Healthy again afterwards."""
    yield shared
    shared.bench.hand("heal")
    shared.bench.hand("insert")


FAULTS: dict[str, tuple[tuple[str, dict[str, object]], str, str, str]] = {
    # fault, kind, code, what the sentence tells
    "no contact": (("open-pin", {"pin": "3v3"}), "no-current", "no-current", "no board in it, no contact"),
    "short": (("short", {}), "short", "short", "into its limit of 0.5 A, the rail stands at 0.25 V"),
    "noise on TX1": (("flip", {"rate": 0.3, "to": "host"}), "noise", "no-link", "bytes that came are no answer"),
    "no RX1": (("open-pin", {"pin": "rx1"}), "booted", "no-link", "the chip runs: its log port spoke"),
    "RX1 driven": (("rx1-driver", {"kind": "touch"}), "booted", "no-link", "its ROM heard no link check"),
    "dead": (("dead", {}), "silent", "no-link", "the log port is silent"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name: str, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    (fault, options), kind, code, says = FAULTS[name]
    if kind == "silent":
        monkeypatch.setattr(doctor, "_LEAST_PATIENCE_S", FAST_S)
    patient.bench.hand("fault", name=fault, options=options)
    found = patient.examine()
    assert (found.kind, found.code) == (kind, code), found.lines()
    assert says in found.sentence
    assert found.next
    problem = found.problem
    assert isinstance(problem, BenchBlocked if CODES[code].blames == "bench" else UnitFailed)
    assert (problem.code, str(problem)) == (code, found.sentence)
    check_measurements(found)


def check_measurements(found: Finding) -> None:
    """The figures that decided it are there, and fit it."""
    measured = found.measurements
    assert measured["volts_off"] < 0.3
    assert measured["link_checks"] > 20
    decided: dict[str, Callable[[], bool]] = {
        "no-current": lambda: measured["amps"] < 0.005,
        "short": lambda: measured["regulates"] == "cc" and measured["amps"] > 0.4,
        "noise": lambda: measured["other_bytes"] >= 4 and len(str(measured["bytes"])) > 8,
        "booted": lambda: measured["log_lines"] >= 1 and measured["other_bytes"] == 0,
        "silent": lambda: 0.02 < measured["amps"] < 0.04 and measured["log_lines"] == 0,
    }
    assert decided[found.kind](), measured


def test_a_request_that_is_damaged_is_told_from_an_answer_that_is(patient: Patient) -> None:
    patient.bench.hand("fault", name="lose", options={"rate": 0.25, "to": "chip"})
    found = patient.examine()
    assert (found.kind, found.code) == ("noise", "no-link"), found.lines()
    assert "what reaches its RX1 is damaged" in found.sentence
    assert "driver on RX1" in found.next[0]


def test_a_chip_that_hears_and_is_not_heard(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_PATIENCE_S", FAST_S)
    second_look = doctor._second_look

    def unhurried(trial: Trial, boot_log: BootLog, found: Finding) -> Finding:
        trial.patience_s = UNHURRIED_S
        return second_look(trial, boot_log, found)

    monkeypatch.setattr(doctor, "_second_look", unhurried)
    patient.bench.hand("fault", name="open-pin", options={"pin": "tx1"})
    found = patient.examine(may_boot=True)
    assert (found.kind, found.code) == ("mute", "no-link")
    assert "TX1" in found.next[0]
    assert found.measurements["log_lines_without_link_checks"] >= 1


def test_a_board_that_is_well_links_and_without_a_log_port_that_is_said(patient: Patient) -> None:
    found = patient.examine(log=False)
    assert (found.kind, found.code, found.problem) == ("linked", None, None)
    assert found.measurements["log_lines"] == "no log port"
    assert found.lines()[1].startswith("Measured: volts_off 0")


def test_an_output_that_somebody_switches_off(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the supply's front panel, while the board is asked."""
    patient.bench.hand("fault", name="dead")
    on = patient.used.power.channel.on

    def briefly() -> int:
        moment = on()
        patient.used.power.channel.off()
        return moment

    monkeypatch.setattr(patient.used.power.channel, "on", briefly)
    found = patient.examine()
    assert (found.kind, found.code) == ("output-off", "supply-lost")
    assert "by itself" in found.sentence


def test_an_output_that_is_not_read_back_off_is_what_is_told(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = patient.used.link.off
    monkeypatch.setattr(patient.used.link, "off", lambda: off() and False)
    found = patient.examine(log=False)
    assert (found.kind, found.code) == ("bench", "supply-lost")
    assert "could not be read back off" in found.sentence
    assert "by hand" in found.next[0]


def test_the_board_is_off_whoever_stops_the_examination(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        assert patient.used.link.power_on_ns
        raise KeyboardInterrupt

    monkeypatch.setattr(patient.used.power, "reading", stop)
    with pytest.raises(KeyboardInterrupt):
        patient.examine(log=False)
    assert not patient.bench.status()["on"]


def test_the_pages_of_the_docs_name_every_kind() -> None:
    named = {line.split("`")[1] for line in (doctor.__doc__ or "").splitlines() if line.startswith("| `")}
    assert {*typing.get_args(doctor.Kind)} - {"bench"} == named
