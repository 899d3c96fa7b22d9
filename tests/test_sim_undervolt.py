"""A core below the volts it is made for: how often it goes wrong, what follows, and that nothing else has changed."""

from __future__ import annotations

import math
from contextlib import closing

import pytest
from test_board import LINK, LINKED, Table

from rig.sim import firmware
from rig.sim.constants import load_constants
from rig.sim.flash import SECTOR
from rig.sim.power import Rail, SetPoint
from rig.sim.undervolt import Undervolted

pytest.importorskip("unicorn")
CALIBRATION = 0x1D0000
RATE = 20.0
SURE = {"mishaps_per_second": 1e4}


def share(volts: float, seconds: float, trials: int = 2000, load: float = 0.06) -> float:
    """In what share of sags to `volts` for `seconds` the core of a steady load goes wrong."""
    constants = load_constants({"core": {"mishaps_per_second": RATE}})
    rail = Rail(constants)
    rail.set_point = SetPoint(True, 3.3, 0.5)
    core = Undervolted(rail, constants.core, constants.rail.reset_falling_volts, seed=3)
    rail.advance(0.1)
    rail.load = load
    rail.advance(0.2)
    hit, now = 0, 0.2
    for _ in range(trials):
        core.executes(False)
        core.executes(True)
        rail.sag(volts, seconds)
        found = None
        for step in range(1, 5):
            rail.advance(now + seconds * step / 2)
            found = core.lived() or found
        now += seconds * 2
        hit += found is not None
    return hit / trials


@pytest.mark.parametrize(("volts", "seconds"), [(2.3, 0.1), (2.1, 0.05), (1.9, 0.02)])
def test_mishaps_come_as_often_as_depth_and_time_say(volts: float, seconds: float) -> None:
    core = load_constants().core
    depth = (core.works_volts - volts + 0.06 * 0.1) / (core.works_volts - 1.8)  # the leads' drop besides
    expected = 1 - math.exp(-RATE * depth * seconds)
    spread = 4 * math.sqrt(expected * (1 - expected) / 2000) + 0.01
    assert share(volts, seconds) == pytest.approx(expected, abs=spread)


def test_none_at_the_volts_it_is_made_for() -> None:
    assert share(2.45, 1.0, trials=200) == 0


def running(table: Table) -> Table:
    table.supply(True).run(1.0)
    assert table.phase == "running"
    return table


def test_switching_off_has_no_mishaps_however_slowly_it_falls() -> None:
    with closing(Table(firmware.demo_image(), constants={"core": SURE})) as table:
        for _ in range(4):
            running(table).supply(False).run(1.0)
            assert table.phase == "off"
        assert table.status["mishaps"] == 0


def test_the_rom_works_down_to_its_reset_level() -> None:
    with closing(Table(firmware.demo_image(), constants={"core": SURE})) as table:
        table.supply(True).run(0.05)
        table.ask(op="sag", volts=1.85, seconds=10)
        table.run(0.05)
        table.say(LINK)
        table.run(0.01)
        assert table.hears(8) == LINKED


def test_a_core_that_hangs_is_silent_until_its_power_is_cycled() -> None:
    with closing(Table(firmware.demo_image(), constants={"core": SURE | {"hang_share": 1.0}})) as table:
        running(table).ask(op="sag", volts=2.0, seconds=0.02)
        table.run(0.1)
        before = table.log
        table.run(12.0)  # past its watchdog
        assert table.log == before
        assert (table.phase, table.status["resets"], table.status["mishaps"]) == ("running", 1, 1)
        table.supply(False).run(1.0)
        table.supply(True).run(3.0)
        assert "boot complete" in table.log[len(before) :]


def test_a_derailed_core_ends_in_its_handlers_and_comes_back() -> None:
    for seed in range(3):
        own = {"core": SURE | {"hang_share": 0.0}}
        with closing(Table(firmware.demo_image(), constants=own, seed=seed)) as table:
            running(table).ask(op="sag", volts=2.2, seconds=0.005)
            table.run(3.5)
            assert table.status["mishaps"] >= 1
            assert table.status["resets"] == 2
            assert "[ARM ANOMALY][2]" in table.log  # most of flash and RAM is no code
            assert "reset cause 6 undefined instruction" in table.log
            assert table.log[-1].startswith(("alive", "boot complete"))


def test_a_stray_erase_takes_a_sector_once_the_die_has_its_volts() -> None:
    own = {"core": SURE | {"hang_share": 0.0, "stray_share": 1.0, "stray_start": CALIBRATION,
                           "stray_end": CALIBRATION + SECTOR}}  # fmt: skip
    with closing(Table(firmware.factory_dump(1)[:CALIBRATION] + b"\0" * SECTOR, constants=own)) as table:
        running(table)
        table.board.flash.sr = 0  # the factory's firmware protects it
        table.ask(op="sag", volts=2.2, seconds=0.05)
        table.run(0.04)
        assert table.status["mishaps"] > 0
        assert table.board.flash.read(CALIBRATION, 4) == b"\0" * 4
        table.run(0.04)
        assert table.board.flash.read(CALIBRATION, SECTOR) == b"\xff" * SECTOR


def test_the_same_seed_has_the_same_mishaps() -> None:
    seen = []
    for seed in (1, 1, 2):
        own = {"core": {"mishaps_per_second": 5.0}}
        with closing(Table(firmware.demo_image(), constants=own, seed=seed)) as table:
            running(table)
            count = []
            for _ in range(12):
                table.ask(op="sag", volts=2.0, seconds=0.05)
                count.append(table.run(0.1).status["mishaps"])
            seen.append(count)
    assert seen[0] == seen[1] != seen[2]


def test_a_chip_that_a_brown_out_kills_outlives_being_switched_off() -> None:
    with closing(Table(firmware.demo_image())) as table:
        table.ask(op="fault", name="dead", options={"below": 2.5})
        for _ in range(2):
            running(table).supply(False).run(1.0)
        running(table).ask(op="sag", volts=2.7, seconds=0.02)
        table.run(0.1)
        assert table.phase == "running"
        table.ask(op="sag", volts=2.3, seconds=0.002)
        table.run(0.1)
        assert table.phase == "rom"
        table.say(LINK)
        table.run(0.1)
        assert table.hears(8) == b""
