"""Pages of what is hardly there: numbers without spread or beyond all sense, and batches that are a study alone."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from reports.console import summary_lines
from reports.distributions import groups_svg, histogram_svg
from reports.numbers import MemoryNumbers
from reports.page.measured import levelled
from reports.page.whole import Pages
from reports.settled import settled
from reports.summary import summary
from reports.svg import Axis, across
from reports.tables import Name, Records, records_of

VOLTS = Name("identify", "identify", "rail_volts", "V")
JUST_ABOVE = float(np.nextafter(3.3, 4))


def records(values: Any, *, slots: str = "AB", **columns: Any) -> Records:
    n = len(values)
    volts = {"order": np.arange(n), "value": values, "minimum": 3.0, "maximum": 3.6}
    numbers = MemoryNumbers.of_names({VOLTS: volts})
    told = {"unit": [f"SN{at}" for at in range(n)], "slot": [slots[at % len(slots)] for at in range(n)]}
    return records_of(told | columns, numbers=numbers)


class _Words(HTMLParser):
    """The text of a page, scripts and styles left out, and where its links within it lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self._hidden = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("script", "style")
        for key, value in attrs:
            if key == "id":
                self.ids.add(str(value))
            elif key == "href" and str(value).startswith("#"):
                self.links.add(str(value)[1:])

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def page_of(found: Records) -> str:
    """The words of the batch page, after a look at what must hold of every page."""
    page = _Words(Pages(found, Path()).batch())
    words = re.sub(r"\s+", " ", " ".join(page.words))
    assert not re.search(r"\b(nan|inf|NaT|None)\b", words)
    assert page.links <= page.ids
    json.dumps(summary(found), allow_nan=False)
    return words


ODD = {
    "constant": [3.3] * 40,
    "rounding": [3.3, JUST_ABOVE] * 20,
    "one off by rounding": [3.3] * 39 + [JUST_ABOVE],
    "rounding, one far off": [3.3, JUST_ABOVE] * 20 + [3.1],
    "two values": [3.2, 3.4] * 20,
    "one": [3.3],
    "missing": [np.nan] * 40,
    "infinite": [3.3, np.inf, 3.31, -np.inf] * 10,
    "huge": [1.7e308, -1.7e308] * 20,
    "as good as nothing": [5e-324, 0.0] * 20,
}


@pytest.mark.parametrize("kind", ODD)
def test_numbers_that_hardly_are_any_have_a_page(kind: str) -> None:
    words = page_of(records(ODD[kind]))
    alike = "All 40 values are 3.3: there is no spread" in words
    assert alike == (kind in ("constant", "rounding", "one off by rounding"))
    if kind == "infinite":  # could not be measured, so: missing
        assert "rail_volts V 20 3.3 3.305 3.31 3 to 3.6 0 0 20" in words


def test_a_page_of_marginal_units_alone() -> None:
    words = page_of(records(np.linspace(3.2, 3.4, 40), outcome=["marginal"] * 40))
    assert "All 40 boards are good." in words
    assert "40 good boards are inside a warning band (marginal)" in words


@pytest.mark.parametrize(("values", "wanted"), [
    ([3.3, JUST_ABOVE, np.nan], [3.3, 3.3, np.nan]), ([1.0, np.inf, -1e200], [1.0, np.nan, np.nan]),
    ([1e-310, np.nan], [0.0, np.nan]), ([], []), ([3.3, 3.3 + 1e-9], [3.3, 3.3 + 1e-9]),
])  # fmt: skip
def test_numbers_as_statistics_can_take_them(values: list[float], wanted: list[float]) -> None:
    np.testing.assert_array_equal(settled(np.array(values)), np.array(wanted))


def test_pictures_of_values_that_only_rounding_tells_apart() -> None:
    values = np.array([3.3, JUST_ABOVE] * 30)
    for svg in (histogram_svg(values, unit="V"), groups_svg([("A", 30, 3.3, 0.0), ("B", 30, JUST_ABOVE, 0.0)])):
        ET.fromstring(svg)
    drawn = ET.fromstring(histogram_svg(values)).iter("title")
    assert sum(int(str(title.text).rsplit(": ", 1)[1]) for title in drawn) == 60


@pytest.mark.parametrize(("ends", "told"), [
    ((0, 400_000), ["0", "100k", "200k", "300k", "400k"]),
    ((-1e9, 1e9), ["-1000M", "-500M", "0", "500M", "1000M"]),
    ((0, 0.06), ["0", "0.02", "0.04", "0.06"]),
])  # fmt: skip
def test_ticks_are_short_enough_for_their_place(ends: tuple[float, float], told: list[str]) -> None:
    assert [each for _, each in Axis.over(*ends, 0, 100).ticks()] == told


def test_ticks_do_not_touch_each_other() -> None:
    axis = Axis.over(3.29984, 3.29994, 8, 452, wanted=12)
    texts = re.findall(r'<text x="([\d.]+)"[^>]*>([\d.]+)<', "".join(across(axis, 0, 10)))
    assert len(texts) > 2
    places = [float(x) for x, _ in texts]
    assert min(np.diff(places)) > 6 * max(len(told) for _, told in texts)


def test_a_slot_that_reads_higher_is_no_pattern_in_time() -> None:
    draw = np.random.default_rng(4).normal(0, 0.01, 200)
    slots = np.repeat([0, 1], 100)  # one slot's boards first, then the other's
    moved, several = levelled(3.3 + draw + 0.1 * slots, slots)
    assert several
    assert abs(moved[:100].mean() - moved[100:].mean()) < 1e-12
    assert moved.mean() == pytest.approx(3.35, abs=0.002)
    assert moved.std() == pytest.approx(0.01, rel=0.1)
    words = page_of(records(3.3 + draw + 0.1 * slots, slot=np.array(["A", "B"])[slots]))
    hits = int(re.search(r"rail_volts identify 200(?: \d+){4} (\d+)", words)[1])  # type: ignore[index]
    assert hits < 10  # 2 by chance; unlevelled it is all of them
    alone, several = levelled(draw, np.zeros(200, dtype=int))
    assert alone is draw
    assert not several


# -- gage studies ------------------------------------------------------------------------------------------------


def study(*, also: int = 0) -> Records:
    """Five units in two slots, twice each, slot B 0.05 V high; `also` boards of a usual batch beside it."""
    draw = np.random.default_rng(7)
    cells = [(unit, slot) for unit in range(5) for slot in "AB" for _ in range(2)]
    values = [3.2 + 0.03 * unit + 0.05 * (slot == "B") + draw.normal(0, 0.002) for unit, slot in cells]
    units = [f"G{unit}" for unit, _ in cells] + [f"SN{at}" for at in range(also)]
    values += [3.3 + each for each in draw.normal(0, 0.01, also)]
    n = len(units)
    constant = Name("identify", "identify", "strays", "B")
    order = {"order": np.arange(n)}
    numbers = MemoryNumbers.of_names(
        {VOLTS: order | {"value": values, "minimum": 3.0, "maximum": 3.6}, constant: order | {"value": [0.0] * n}}
    )
    of_study = np.arange(n) < len(cells)
    return records_of(
        {"unit": units, "slot": [slot for _, slot in cells] + ["A", "B"] * (also // 2), "study": of_study,
         "counted": ~of_study, "run": np.where(of_study, "study-run", "batch-run")},
        numbers=numbers,
    )  # fmt: skip


def test_a_study_has_its_section_and_is_in_no_rate() -> None:
    found = study()
    words = page_of(found)
    assert "A gage study: 20 measurements. It judges the bench and no board." in words
    assert summary_lines(found)[0].endswith("A gage study: 20 measurements. It judges the bench and no board.")
    assert "no unit was started" not in words
    assert "Nothing stands out" not in words
    section = words.partition("How much of what is measured is the bench itself")[2].partition("Steps")[0]
    assert "over units, slots and trials of run study-run" in section
    assert re.search(r"Gage R&R is [\d.]+ % of the study variation \(5 units, 2 slots, 2 trials\)", section)
    assert re.search(r"Slot B measures \+0\.02\d* V against the mean of all slots", section)
    assert "Repeatability (EV)" in section
    assert re.search(r"A -0\.02\d+ -0\.0\d+ to -0\.0\d+ B \+0\.02", section)
    assert "strays : No Gage R&R: all values are the same" in section.replace("strays:", "strays :")


def test_a_batch_beside_a_study_is_judged_without_it_and_its_indices_are_unsafe() -> None:
    words = page_of(study(also=40))
    assert "All 40 boards are good. 20 measurements of a gage study are apart." in words
    assert "First-pass yield 100 % 40 of 40" in words
    assert "The 20 measurements of the gage study are in no rate." in words
    assert re.search(r"unsafe: \d+ % of the spread of rail_volts is the bench's own", words)
    assert "identify rail_volts V 40 " in words
