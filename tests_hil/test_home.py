"""One unit as its user will meet it: in a network, at a broker, by what it says there. The wire writes nothing.

After a conversion, or alone (`rig run home`). The network is the station's own. On a simulated bench, whose boards
have no radio, the steps over the network are left out, and the record says so.
"""

from __future__ import annotations

import pytest

from fixtures.home import AtHome
from rig.errors import UnitFailed
from rig.home.config import Home
from rig.home.mqtt import Broker
from rig.line import steps
from rig.line.boot import weak_supply
from rig.line.clearance import require_clearance
from rig.line.home import NO_RADIO
from rig.line.place import Place
from rig.line.record import UnitRecord
from rig.line.target import Target


def _met(at_home: AtHome | None) -> AtHome:
    if at_home is None:
        pytest.skip(NO_RADIO)
    return at_home


@pytest.mark.step("broker", limit=60)
def test_the_broker_is_there(broker: Broker | None, home: Home, record: UnitRecord) -> None:
    """Before the board has power: what it says when it comes up is said once."""
    if broker is None:
        pytest.skip(NO_RADIO)
    record.measure("home_broker", f"{home.broker.host}:{home.broker.port}")


@pytest.mark.step("supply-off", limit=120)
def test_the_rail_is_discharged(place: Place) -> None:
    steps.discharge(place)


@pytest.mark.step("identify", limit=400)
def test_the_board_says_what_it_is(place: Place) -> None:
    steps.identify(place)


@pytest.mark.step("cleared", limit=200)
def test_its_firmware_may_run(place: Place, request: pytest.FixtureRequest) -> None:
    require_clearance(place, lambda: request.getfixturevalue("image"))


@pytest.mark.step("boot", limit=600)
def test_the_board_boots(place: Place, at_home: AtHome | None, written: Target | None) -> None:
    """One that comes up in safe mode is held until its boot is complete, and gets another one."""
    identity = None if written is None else written.plan.identity
    expected = (None, None) if identity is None else (identity.firmware, identity.version)
    if at_home is not None:
        at_home.check.begin()
    try:
        seen = steps.prove_boot(place, *expected)
    except UnitFailed as problem:
        if problem.code != "safe-mode":
            raise
        place.record.note(f"{problem}: it was held until its boot completed, and is started again", warning=True)
        if at_home is not None:
            at_home.check.begin()
        seen = steps.prove_boot(place, *expected)
    if at_home is not None and seen is not None:
        at_home.check.powered(seen.power_on_ns)


@pytest.mark.step("join", limit=900)
def test_it_joins_and_its_page_answers(at_home: AtHome | None, record: UnitRecord) -> None:
    joined = _met(at_home).check.join()
    record.measure("home_join_time", joined.seconds, "s", high="home-no-join")
    record.measure("home_address", joined.address)
    record.measure("home_found_by", joined.found_by)


@pytest.mark.step("page", limit=900)
def test_its_page_says_what_was_written(at_home: AtHome | None, record: UnitRecord) -> None:
    """Safe mode is left first."""
    page = _met(at_home).check.look()
    record.measure("home_version", page.version)
    record.measure("home_reset_cause", page.cause_said)
    if page.rssi is not None:
        record.measure("home_rssi", page.rssi, "dBm", low="home-no-join")


@pytest.mark.step("announced", limit=300)
def test_it_announces_itself(at_home: AtHome | None, record: UnitRecord) -> None:
    check = _met(at_home).check
    unasked = check.announced()
    record.measure("home_discovery", "by itself" if unasked else "when asked")
    record.measure("home_entities", len(check.entities))


@pytest.mark.step("relays", limit=1200)
def test_its_relays_follow(at_home: AtHome | None, record: UnitRecord) -> None:
    """By what it reports over MQTT and what its page says."""
    followed = _met(at_home).check.relays()
    record.measure("home_relays", len(followed))
    for one in followed:
        record.measure(f"home_relay_{one.channel}_time", one.seconds, "s", like="home_relay_time", high="home-relay")
    if followed:
        record.note("relays: their states are what the unit reports; no contact was measured")
    else:
        record.note("it announces no relay, so none was switched: has its provisioning pins?", warning=True)


@pytest.mark.step("named", limit=1800)
def test_it_has_its_name(at_home: AtHome | None, record: UnitRecord) -> None:
    here = _met(at_home)
    page = here.check.named(here.name)
    record.measure("home_name", page.name)


@pytest.mark.step("left", last=True, limit=60)
def test_its_rail_stood_meanwhile(place: Place, at_home: AtHome | None) -> None:
    """Its radio was on all the while. Then the output goes off."""
    place.link.check()
    if sag := weak_supply(place.power):
        raise sag
    place.record.measure("home_met", at_home is not None)
