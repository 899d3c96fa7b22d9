"""The check of a switch at home, against a stand-in that speaks as OpenBeken does and a real broker: it passes a
sound one and names every planted fault."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("paho.mqtt")

from rig.codes import CODES
from rig.errors import BenchBlocked, Coded, UnitFailed
from rig.home.check import Expected, HomeCheck
from rig.home.config import Home, HomeBroker
from rig.home.http import Web
from rig.home.mqtt import Broker
from rig.sim.switch import FAULTS, Switch
from tests.home_network import BrokerProcess, needs_broker
from tests.waiting import wait_until

pytestmark = needs_broker


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("broker"))
    try:
        yield broker
    finally:
        broker.stop()


Scenario = Callable[[BrokerProcess], None]
SCENARIOS: dict[str, Scenario] = {}


def at_once(scenario: Scenario) -> Scenario:
    """What mostly waits: all of these run at the same time, each with a switch of its own, and each is a test."""
    SCENARIOS[scenario.__name__] = scenario
    return scenario


@pytest.fixture(scope="module")
def played(network: BrokerProcess) -> Iterator[dict[str, Future[None]]]:
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(SCENARIOS)) as pool:
        patch.setattr("rig.home.check._SAVED_S", 0.1)  # the stand-in saves at once
        # what has to come may come late on a busy machine, and is not waited for longer than it takes
        patch.setattr("rig.home.check._OWN_AP_S", 1.0)
        patch.setattr("rig.home.check._UNASKED_S", 1.0)
        patch.setattr("rig.home.check.Web", partial(Web, timeout_s=30.0))
        patch.setattr("rig.home.mqtt._CONNECT_S", 60.0)
        played = {name: pool.submit(scenario, network) for name, scenario in SCENARIOS.items()}
        wait(played.values())
        yield played


def expected(switch: Switch, **more: Any) -> Expected:
    digits = switch.mac.replace(":", "").upper()[-8:]
    client, name = f"obk{digits}", f"OpenBK7231N_{digits}"
    values: dict[str, Any] = {"client": client, "short_name": client, "long_name": name, "version": "1.18.300"}
    return Expected(**(values | {"mac": switch.mac} | more))


@contextmanager
def checking(
    network: BrokerProcess, switch: Switch, *, home: Home | None = None, **more: Any
) -> Iterator[tuple[HomeCheck, list[str]]]:
    """The check, with the switch powered right after it began; and its notes."""
    notes: list[str] = []
    with Broker(home or network.home(switch)) as broker:
        check = HomeCheck(home or network.home(switch), broker, expected(switch, **more), note=notes.append)
        check.begin()
        with switch:
            yield check, notes


def through(check: HomeCheck) -> None:
    """All of it, in the order of the plan."""
    check.join()
    check.look()
    check.announced()
    check.relays()
    check.named()


@at_once
def a_sound_switch_passes(network: BrokerProcess) -> None:
    switch = network.switch("c8:47:8c:01:59:10")
    with checking(network, switch, home=network.home(switch, relays=(1, 2), discovery="itself")) as (check, notes):
        joined = check.join()
        assert joined.address == switch.web[0]
        page = check.look()
        assert (page.version, page.cause_said, page.rssi) == ("1.18.300", "power-on", -48)
        assert check.announced(), "it did so by itself"
        assert [entity.channel for entity in check.entities] == [1, 2]
        began = time.monotonic()
        followed = check.relays()
        assert [one.channel for one in followed] == [1, 2]
        assert all(0 < one.seconds < time.monotonic() - began for one in followed)
        assert switch.channels == {1: 0, 2: 0}, "they are left as they were"
        assert check.named().name == "OpenBK7231N_8C015910"
    assert notes == []


@at_once
def a_switch_that_announces_itself_only_when_asked(network: BrokerProcess) -> None:
    switch = network.switch("c8:47:8c:01:59:11", announces=False)
    with checking(network, switch, home=network.home(switch, relays=(1, 2))) as (check, _):
        check.join()
        assert not check.announced()
        assert len(check.relays()) == 2
    home = network.home(switch, discovery="itself", answer=1.0)
    with checking(network, switch, home=home) as (check, _):
        check.join()
        with pytest.raises(UnitFailed, match="by itself") as caught:  # what the broker kept of before counts nothing
            check.announced()
    assert caught.value.code == "home-no-discovery"


PLANTED = {
    "never-joins": ("home-no-join", "not seen in the network"),
    "canned": ("home-no-page", "which proves nothing: reset cause and counters in it are constants"),
    "watchdog": ("home-reset-cause", "watchdog"),
    "stuck-safe-mode": ("home-safe-mode", "did not end it"),
    "no-broker": ("home-no-mqtt", "by its page: disconnected"),
    "no-discovery": ("home-no-discovery", "though it was asked to"),
    "broken-discovery": ("home-no-discovery", "it has no cmd_t"),
    "wrong-name": ("home-wrong-name", "_old', and should be 'obk8C0159"),
    "wrong-page-name": ("home-wrong-name", "its page is called 'OpenBK7231N_00000000'"),
    "stuck-relay": ("home-relay", "relay 2 was switched on over MQTT, and it reports '0'"),
    "wrong-version": ("home-version", "says version 1.17.203, 1.18.300 was written"),
    "own-access-point": ("home-no-join", "opened its own access point instead"),
}


NEVER = {  # what is waited for to no end, and only that
    "never-joins": {"join": 1.0},
    "canned": {"join": 1.0},
    "own-access-point": {"join": 1.0},
    "no-broker": {"answer": 1.5},
    "no-discovery": {"answer": 1.5},
    "stuck-relay": {"answer": 3.0},
}


def up(switch: Switch) -> None:
    wait_until(lambda: switch._server is not None, 60, "its page")


def a_planted_fault_is_named(network: BrokerProcess, fault: str) -> None:
    code, words = PLANTED[fault]
    number = 0x60 + [*PLANTED].index(fault)
    switch = network.switch(f"c8:47:8c:01:59:{number:02x}", fault=fault)
    more: dict[str, Any] = {"relays": (1, 2)} | NEVER.get(fault, {})
    if fault in ("stuck-safe-mode", "own-access-point"):
        more["own_ap"] = switch.web[0]
    if fault in ("canned", "no-broker"):
        more["leases"] = leases(network, switch)
    with checking(network, switch, home=network.home(switch, **more)) as (check, _):
        if fault in ("canned", "own-access-point"):
            up(switch)
        with pytest.raises(UnitFailed) as caught:
            through(check)
    assert caught.value.code == code, caught.value
    assert words in str(caught.value)
    assert CODES[code].blames == "board"


for _fault in PLANTED:
    SCENARIOS[_fault] = partial(a_planted_fault_is_named, fault=_fault)


def leases(network: BrokerProcess, switch: Switch) -> Path:
    """As dnsmasq keeps them: an old one of this MAC, somebody else's, and its own."""
    path = network.secret.parent / f"{switch.web[0]}.leases"
    mac = switch.mac
    rows = [("1", mac, "10.255.255.1"), ("2", "00:11:22:33:44:55", "127.0.0.1"), ("3", mac.upper(), switch.web[0])]
    path.write_text("".join(f"{when} {mac} {address} * *\n" for when, mac, address in rows))
    return path


def test_every_fault_of_the_stand_in_is_looked_for() -> None:
    assert set(FAULTS) == {*PLANTED, "safe-mode", "forgets-name"}


@at_once
def safe_mode_is_recognised_and_left(network: BrokerProcess) -> None:
    switch = network.switch("c8:47:8c:01:59:13", fault="safe-mode")
    home = network.home(switch, own_ap=switch.web[0], relays=(1, 2))
    with checking(network, switch, home=home) as (check, notes):
        assert check.join().found_by == "its own access point"
        page = check.look()
        assert not page.safe_mode
        assert page.cause_said == "restart"
        assert check.joined is not None
        assert check.joined.found_by == "mqtt"
        check.announced()
        check.relays()
    assert [note[:27] for note in notes] == ["it came up in safe mode: it", "it left safe mode"]


@at_once
def safe_mode_is_left_by_power_where_there_is_a_supply(network: BrokerProcess) -> None:
    switch = network.switch("c8:47:8c:01:59:14", fault="safe-mode")
    home = network.home(switch, own_ap=switch.web[0])
    with Broker(home) as broker:
        check = HomeCheck(home, broker, expected(switch), restart=lambda: switch.power(True))
        with switch:
            check.join()
            assert check.look().cause_said == "power-on"


@at_once
def a_name_is_set_and_kept(network: BrokerProcess) -> None:
    switch = network.switch("c8:47:8c:01:59:15")
    with checking(network, switch) as (check, _):
        check.join()
        assert check.named("Hall light").name == "Hall light"
        assert switch.long_name == "Hall light"
    with checking(network, network.switch("c8:47:8c:01:59:16", fault="forgets-name")) as (check, _):
        check.join()
        with pytest.raises(UnitFailed, match="its page is called 'OpenBK7231N_8C015916'") as caught:
            check.named("Hall light")
    assert caught.value.code == "home-wrong-name"


@at_once
def a_page_with_a_password(network: BrokerProcess) -> None:
    switch = network.switch("c8:47:8c:01:59:17", web_password="page-Passw0rd")
    home = network.home(switch, leases=leases(network, switch))
    with Broker(home) as broker, switch:
        HomeCheck(home, broker, expected(switch), password="page-Passw0rd").join()
    home = home.model_copy(update={"join": 1.0})
    with Broker(home) as broker, switch:
        up(switch)
        check = HomeCheck(home, broker, expected(switch), password="another-one")
        with pytest.raises(UnitFailed, match="asks for a password") as caught:
            check.join()
    assert caught.value.code == "home-no-page"
    assert "another-one" not in str(caught.value)


@at_once
def another_board_at_the_same_address_is_not_this_one(network: BrokerProcess) -> None:
    """A stale lease: who answers there has another MAC."""
    other = network.switch("c8:47:8c:aa:bb:cc")
    own = network.switch("c8:47:8c:01:59:18")
    path = network.secret.parent / "stale.leases"
    path.write_text(f"1 {own.mac} {other.web[0]} * *\n")
    home = network.home(other, leases=path, join=0.6)
    with Broker(home) as broker, other:
        up(other)
        check = HomeCheck(home, broker, expected(own))
        with pytest.raises(UnitFailed) as caught:
            check.join()
    assert caught.value.code == "home-no-join"


@at_once
def relays_that_must_be_there(network: BrokerProcess) -> None:
    switch = network.switch("c8:47:8c:01:59:19", relays=(1,))
    with checking(network, switch, home=network.home(switch, relays=(1, 2), answer=2.0)) as (check, _):
        check.join()
        check.announced()
        with pytest.raises(UnitFailed, match="does not announce its relay 2") as caught:
            check.relays()
    assert caught.value.code == "home-no-discovery"


def blocked(act: Callable[[], Any]) -> str:
    with pytest.raises(BenchBlocked) as caught:
        act()
    assert CODES[caught.value.code].blames == "bench"
    return f"{caught.value.code}: {caught.value}"


@at_once
def a_broker_that_is_not_there_or_does_not_take_the_rig(network: BrokerProcess) -> None:
    nowhere = Home(broker=HomeBroker(host="127.0.0.1", port=1))
    assert "broker-lost: the broker at 127.0.0.1:1 cannot be reached" in blocked(lambda: Broker(nowhere).__enter__())
    stranger = Home(broker=HomeBroker(host="127.0.0.1", port=network.port))
    assert "does not take the rig: Not authorized" in blocked(lambda: Broker(stranger).__enter__())


@at_once
def a_broker_that_goes_away_meanwhile_blames_no_unit(network: BrokerProcess) -> None:
    folder = network.secret.parent / "another"
    folder.mkdir()
    own = BrokerProcess(folder)
    try:
        switch = own.switch(fault="no-discovery")
        home = own.home(switch, answer=30.0)
        with Broker(home) as broker, switch:
            check = HomeCheck(home, broker, expected(switch))
            check.join()
            found: list[Coded] = []

            def announced() -> None:
                try:
                    check.announced()
                except Coded as problem:
                    found.append(problem)

            thread = threading.Thread(target=announced)
            thread.start()
            own.stop()
            wait_until(lambda: not thread.is_alive(), 60, "the check")
        assert found[0].code == "broker-lost"
    finally:
        own.stop()


@pytest.mark.parametrize("name", SCENARIOS)
def test_at_home(played: dict[str, Future[None]], name: str) -> None:
    played[name].result()


def test_an_access_point_that_is_down(network: BrokerProcess) -> None:
    switch = network.switch("c8:47:8c:01:59:1a")
    home = network.home(switch, interface="rig-none")
    with Broker(home) as broker:
        check = HomeCheck(home, broker, expected(switch))
        assert "access-point-down: there is no network interface rig-none" in blocked(check.begin)


def test_no_secret_is_said_anywhere(network: BrokerProcess) -> None:
    home = network.home()
    assert network.secret.read_text().strip() in home.secrets()
    assert network.secret.read_text().strip() not in json.dumps(home.model_dump(mode="json")) + repr(home)
