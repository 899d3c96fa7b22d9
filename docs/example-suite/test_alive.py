"""A suite of your own, as an example: does the firmware stay alive, and does it draw what it should?

    rig run docs/example-suite --units 1
    pytest -p fixtures.plugins docs/example-suite --task suite --bench sim

Each test is a step on record, in the order they stand here; once one fails the rest is skipped. A mark gives a step a
name of its own and a limit in seconds. `place` is the board in its slot with all that works on it; what a test
measures is judged by the product's limits of that name. Nothing is written: only the fixture `write` opens the guard,
and it takes a backup first.
"""

from __future__ import annotations

import pytest

from rig.line import steps
from rig.line.place import Place


@pytest.mark.step("contact", limit=120)
def test_the_board_is_there(place: Place) -> None:
    steps.discharge(place)
    steps.identify(place)


def test_boot(place: Place) -> None:
    """Whatever it runs: without `listed=False` only what the product is to run would do."""
    steps.prove_boot(place, listed=False)


def test_signs_of_life(place: Place) -> None:
    """The demo firmwares of the simulated bench say "alive" again and again."""
    assert place.boot_log is not None, "this suite needs a log port"
    since = place.link.power_on_ns
    line = place.boot_log.wait_for(r"^alive 3\b", 30 / place.bench.speed + 3, since_ns=since)
    assert line is not None, "it never said that it is alive for the third time"
    place.record.measure("alive_after", (line.mono_ns - since) / 1e9, "s")


def test_current(place: Place) -> None:
    steps.require_steady(place)
