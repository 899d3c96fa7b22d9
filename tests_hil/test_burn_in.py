"""One unit, booted again and again (--reboots), its log and its current looked at each time. Nothing is written.

A board that has no backup on record and does not hold the image is refused while it waits in its ROM. Each boot is a
step of its own, so the one that fails is named, and the rest is skipped. The last step sums up.
"""

from __future__ import annotations

import pytest

from rig.line import steps
from rig.line.clearance import require_clearance
from rig.line.place import Place
from rig.line.reboots import Reboots


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", range(1, metafunc.config.getoption("--reboots") + 1))


@pytest.fixture(scope="module")
def boots() -> Reboots:
    return Reboots()


@pytest.mark.step("supply-off", limit=120)
def test_the_rail_is_discharged(place: Place) -> None:
    steps.discharge(place)


@pytest.mark.step("identify", limit=400)
def test_the_board_says_what_it_is(place: Place) -> None:
    steps.identify(place)


@pytest.mark.step("cleared", limit=200)
def test_its_firmware_may_run(place: Place, request: pytest.FixtureRequest) -> None:
    """It has a backup, or holds the image: what runs from here on could be brought back."""
    require_clearance(place, lambda: request.getfixturevalue("image"))


@pytest.mark.step("boot", limit=600)
def test_it_boots_again(place: Place, boots: Reboots, number: int, pytestconfig: pytest.Config) -> None:
    """As the same firmware each time, and with a sane current."""
    place.progress("boot", number, pytestconfig.getoption("--reboots"))
    boots.run(place, number)


@pytest.mark.step("burn-in", last=True, limit=120)
def test_all_boots_together(place: Place, boots: Reboots) -> None:
    boots.sum_up(place)
