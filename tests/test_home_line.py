"""The check at home as a plan of the line: on a simulated bench, whose boards have no radio, with a stand-in switch
and a real broker; and left out, with its reason, where nothing stands in."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("paho.mqtt")
pytest.importorskip("unicorn")

from rig.records import events
from rig.records.events import Event, Outcome
from rig.records.journal import read_journal
from rig.sim.switch import Switch
from tests.home_network import PACE, PASSWORD, USER, BrokerProcess, free_port, needs_broker
from tests.sim_process import ROOT, SimProcess, rig
from tests.test_convert import FIRMWARE, OPENBEKEN, needs_firmware
from tests.test_plans import CHANGES, Over, Table, demo

pytestmark = needs_broker
OVER_THE_NETWORK = ["join", "page", "announced", "relays", "named"]


def home_file(folder: Path, broker: BrokerProcess, port: int, *, stand_in: bool) -> Path:
    path = folder / f"home-{'met' if stand_in else 'alone'}.toml"
    path.write_text(
        f'[home]\njoin = 20.0\nanswer = 10.0\nhttp_port = {port}\nown_ap = "127.0.0.1"\nrelays = [1, 2]\n'
        f"stand_in = {str(stand_in).lower()}\n"
        f'[home.broker]\nhost = "127.0.0.1"\nport = {broker.port}\nuser = "{USER}"\n'
        f'password = {{ file = "{broker.secret}" }}\n'
    )
    return path


class StandIns:
    """Stands in for boards at the broker: reads a run's journal, and is switched on as its board is. Each unit at
    home has an address of its own, and a fault where one is planted."""

    def __init__(self, folder: Path, broker: BrokerProcess, port: int, faults: dict[str, str] | None = None) -> None:
        self._folder, self._broker, self._port, self._faults = folder, broker, port, faults or {}
        self._switches: dict[str, Switch] = {}
        self._seen: set[tuple[str, int]] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> StandIns:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        for switch in self._switches.values():
            switch.power(False)

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            for journal in self._folder.glob("**/journal.jsonl"):
                self._follow(read_journal(journal)[0])

    def _follow(self, found: list[Event]) -> None:
        at_home = {
            (one.unit, one.attempt) for one in found if isinstance(one, events.UnitStarted) and one.task == "home"
        }
        macs = {one.unit: str(one.value) for one in found if isinstance(one, events.Measured) and one.name == "mac"}
        for one in found:
            if not isinstance(one, events.PhaseStarted) or one.phase != "boot":
                continue
            who = (one.unit, one.attempt)
            if who in at_home and who not in self._seen and one.unit in macs:
                self._seen.add(who)
                self._power(one.unit, macs[one.unit])

    def _power(self, unit: str, mac: str) -> None:
        host = f"127.0.1.{len(self._switches) + 1}"
        switch = self._switches.setdefault(
            unit,
            Switch(
                ("127.0.0.1", self._broker.port), mac, (host, self._port), user=USER, password=PASSWORD, pace=PACE,
                fault=self._faults.get(unit),
            ),
        )  # fmt: skip
        switch.power(True)


@contextmanager
def network(folder: Path) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(folder)
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Over]]:
    """Slot A is met, nothing stands in for slot B's."""
    folder = tmp_path_factory.mktemp("home")
    port = free_port()
    with SimProcess(folder, "--boards", "2", "--speed", "50") as bench, network(folder) as broker:
        for slot in "AB":
            for offset, content in demo(bench).pieces:
                bench.poke(offset, content, slot)
        at_work, plan = Table(bench, folder), ROOT / "tests_hil" / "test_home.py"
        met = home_file(folder, broker, port, stand_in=True)
        try:
            with StandIns(folder / "A", broker, port):
                at_work.start("A", plan, "home", "--home", str(met))
                alone = home_file(folder, broker, port, stand_in=False)
                at_work.start("B", plan, "home", "--home", str(alone))
                yield {slot: at_work.over(slot) for slot in "AB"}
        finally:
            for process, _ in at_work.processes.values():
                if process.poll() is None:
                    process.kill()
                    process.communicate()


def leaks(folder: Path) -> str:
    return subprocess.run(["grep", "-rl", PASSWORD, str(folder)], capture_output=True, text=True, check=False).stdout


def test_a_unit_is_met_and_all_is_on_record(over: dict[str, Over]) -> None:
    seen = over["A"]
    assert seen.ended.outcome is Outcome.PASS, seen.said
    assert (seen.started.task, seen.code) == ("home", 0)
    assert list(seen.phases) == ["broker", "supply-off", "identify", "cleared", "boot", *OVER_THE_NETWORK, "left"]
    assert set(seen.phases.values()) == {Outcome.PASS}
    measured = seen.measured
    assert measured["cleared_by"] == "image"
    assert (measured["home_found_by"], measured["home_address"]) == ("mqtt", "127.0.1.1")
    assert (measured["home_version"], measured["home_reset_cause"]) == ("1.18.300", "power-on")
    assert (measured["home_relays"], measured["home_discovery"], measured["home_met"]) == (2, "by itself", True)
    assert str(measured["home_name"]).startswith("OpenBK7231N_")
    notes = [event.text for event in seen.found if isinstance(event, events.Noted)]
    assert "relays: their states are what the unit reports; no contact was measured" in notes
    assert not seen.commands & CHANGES
    assert seen.before[:0x1D0000] == seen.after[:0x1D0000]


def test_without_a_radio_it_is_left_out_and_says_so(over: dict[str, Over]) -> None:
    seen = over["B"]
    assert (seen.code, seen.ended.outcome) == (0, Outcome.PASS), seen.said
    assert {step: seen.phases[step] for step in OVER_THE_NETWORK} == dict.fromkeys(OVER_THE_NETWORK)
    assert seen.phases["boot"] is Outcome.PASS
    assert seen.measured["home_met"] is False
    (note,) = [event for event in seen.found if isinstance(event, events.Noted)]
    assert note.level == "warning"
    assert "a simulated bench has no radio" in note.text


def test_no_password_is_in_any_record(over: dict[str, Over]) -> None:
    for slot in "AB":
        assert leaks(over[slot].run.path.parent) == ""


@pytest.mark.soak
@needs_firmware
def test_openbeken_takes_the_network_that_home_tells_it(tmp_path: Path) -> None:
    """A unit without a provisioning of its own; the firmware itself runs on the executing chip, without a radio."""
    secret = tmp_path / "wifi.secret"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o600)
    with network(tmp_path) as broker:
        home = home_file(tmp_path, broker, 80, stand_in=False)
        home.write_text(
            f'{home.read_text()}\n[home.wifi]\nssid = "rig-station"\npassword = {{ file = "{secret}" }}\n'
        )
        image = Path(FIRMWARE or "") / OPENBEKEN
        done = rig("convert", "--bench", "sim:1@20", "--image", image, "--home", home, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    (journal,) = (tmp_path / "runs").glob("*/journal.jsonl")
    assert [one.outcome for one in read_journal(journal)[0] if isinstance(one, events.UnitEnded)] == [
        Outcome.PASS
    ] * 2
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    logs = {path.read_bytes() for path in files if path.name == "boot.log"}
    assert any(b"Using SSID [rig-station]" in log for log in logs)
    hidden = [path for path in files if path.read_bytes() not in logs]
    for secret_text in (b"correct horse battery", PASSWORD.encode()):
        assert [path for path in hidden if secret_text in path.read_bytes()] == []


@pytest.mark.soak
def test_a_batch_is_converted_and_met_and_each_fault_is_its_units_own(tmp_path: Path) -> None:
    """From factory firmware: both stages of each unit, three of four at fault at home."""
    faults = {"2": "wrong-name", "3": "stuck-relay", "4": "watchdog"}
    port = free_port()
    with (
        SimProcess(tmp_path, "--boards", "2", "--speed", "20") as bench,
        network(tmp_path) as broker,
        StandIns(tmp_path / "runs", broker, port, faults),
    ):
        home = home_file(tmp_path, broker, port, stand_in=True)
        words = ("--bench", bench.bench_file, "--units", "4", "--home", home)
        done = rig("convert", *words, cwd=tmp_path, reports=True)
    assert done.returncode == 1, done.stderr
    (journal,) = (tmp_path / "runs").glob("*/journal.jsonl")
    found = read_journal(journal)[0]
    ended = {(one.unit, one.attempt): one for one in found if isinstance(one, events.UnitEnded)}
    assert {who: one.outcome for who, one in ended.items() if who[1] == 1} == dict.fromkeys(
        [(unit, 1) for unit in "1234"], Outcome.PASS
    )
    assert {unit: ended[unit, 2].code for unit in "1234"} == {
        "1": None, "2": "home-wrong-name", "3": "home-relay", "4": "home-reset-cause",
    }  # fmt: skip
    assert leaks(tmp_path / "runs") == ""
