"""The flash map: to scale, fits any width, marks where the damage is; nothing of a file gets out of its text."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rig.image.flashmap import FLASH_SIZE
from rig.image.health.diagnosis import Damage, Diagnosis, State, diagnose
from rig.image.health.picture import LETTERS, map_svg, map_text, shares
from tests.image_files import demo, dump, patched

BAD = 0x11044  # a block of the app
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def hurt() -> Diagnosis:
    """A dump with a damaged block of code and no calibration."""
    return diagnose(patched(patched(dump(), BAD + 1, b"\x5a\xa5"), 0x1D0000, b"\xff" * 0x1000))


@pytest.fixture(scope="module")
def image() -> Diagnosis:
    return diagnose(demo())


def shown(diagnosis: Diagnosis, width: int, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, color_system="truecolor" if colour else None)
    console.print(map_text(diagnosis, width))
    return out.getvalue()


@pytest.mark.parametrize("width", [24, 40, 50, 72, 80, 110, 300])
def test_the_terminal_map_fits_its_width_and_shows_every_region(hurt: Diagnosis, width: int) -> None:
    lines = shown(hurt, width).splitlines()
    assert max(map(len, lines)) == width
    bar, rows = lines[1], lines[3:]
    assert len(bar) == width
    assert [row[1] for row in rows] == [LETTERS[item.state] for item in hurt.regions]
    assert [row.split()[1].rstrip("…") for row in rows] == [item.region.name[: width - 5] for item in hurt.regions]
    assert all(LETTERS[item.state] in bar for item in hurt.regions)


def test_the_terminal_bar_is_to_scale_and_its_marks_stand_under_the_damage(hurt: Diagnosis) -> None:
    width = 128
    _, bar, marks, *_ = shown(hurt, width).splitlines()
    assert bar.count("X") + len(" app ") == pytest.approx(width * 0x119000 / FLASH_SIZE, abs=2)
    assert [found.start() for found in re.finditer(r"\^", marks)] == pytest.approx(
        [width * BAD / FLASH_SIZE, width * 0x1D0000 / FLASH_SIZE], abs=2
    )
    assert bar[marks.index("^")] == "X"
    assert bar[marks.rindex("^")] == "E"


@pytest.mark.parametrize("at", [0x0, 0x40000, 0x90000, 0x129F0A, 0x1C0000, 0x1FFFFF])
def test_a_mark_stands_where_the_damage_is(image: Diagnosis, at: int) -> None:
    told = replace(image, damages=(Damage("block-crc", at, 1, "here"),))
    marks = shown(told, 128).splitlines()[2]
    assert marks.count("^") == 1
    assert marks.index("^") == pytest.approx(128 * at / FLASH_SIZE, abs=2)


def test_without_damage_there_are_no_marks(image: Diagnosis) -> None:
    assert "^" not in shown(image, 80)
    assert 'class="mark"' not in map_svg(image)


def test_state_is_told_by_colour_and_by_letter(hurt: Diagnosis) -> None:
    plain, coloured = shown(hurt, 80), shown(hurt, 80, colour=True)
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    styles = set(re.findall(r"\x1b\[([\d;]+)m [GXED0F-] ", coloured))
    assert len(styles) == len({item.state for item in hurt.regions})
    assert len(set(LETTERS.values())) == len(State)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=12), st.integers(12, 400))
def test_shares_add_up_and_none_vanishes(sizes: list[int], width: int) -> None:
    given_out = shares(sizes, width)
    assert sum(given_out) == width
    assert min(given_out) >= 1
    for size, share in zip(sizes, given_out, strict=True):
        assert share <= size / sum(sizes) * width + 1 or share == 1


def test_the_svg_is_to_scale_and_names_what_it_shows(hurt: Diagnosis) -> None:
    root = ET.fromstring(map_svg(hurt, "dump.bin"))
    bars = [item for item in root.iter(f"{SVG}rect") if item.get("x") == "118"]
    height = max(float(item.get("y", 0)) + float(item.get("height", 0)) for item in bars) - float(bars[0].get("y", 0))
    app = next(item for item in bars if item.get("class") == "hurt")
    assert float(app.get("height", 0)) == pytest.approx(height * 0x119000 / FLASH_SIZE, abs=1)
    texts = ["".join(item.itertext()) for item in root.iter(f"{SVG}text")]
    for item in hurt.regions:
        assert item.region.name in texts
        assert any(f"0x{item.region.start:06X}–0x{item.region.end:06X}" in text for text in texts)
    for damage in hurt.damages:
        assert damage.name in texts
        assert f"0x{damage.offset:06X}" in texts
        assert damage.sentence in texts
    assert sum(item.get("class") == "mark" for item in root.iter(f"{SVG}path")) == 2


def test_the_svg_is_told_in_words_and_leans_on_nothing_outside(hurt: Diagnosis) -> None:
    drawn = map_svg(hurt, "dump.bin")
    root = ET.fromstring(drawn)
    assert root.get("role") == "img"
    labels = {item.get("id"): item.text or "" for item in root if item.get("id")}
    assert root.get("aria-labelledby", "").split() == list(labels)
    assert labels["fm-title"] == "Flash map of dump.bin"
    assert hurt.on_a_board in labels["fm-desc"]
    assert all(f"{one.name} at 0x{one.offset:X}" in labels["fm-desc"] for one in hurt.damages)
    assert "<script" not in drawn
    assert re.findall(r"(?:href|src|url\(|@import|https?:)[^\s]*", drawn) == ['http://www.w3.org/2000/svg"']
    assert "prefers-color-scheme: dark" in drawn
    assert "@media screen" in drawn  # prints as on white paper


def test_in_a_page_it_leaves_out_what_the_page_has(hurt: Diagnosis) -> None:
    part = map_svg(hurt, "dump.bin", alone=False)
    assert part.startswith("<svg ")
    ET.fromstring(part)
    assert part.count(hurt.damages[0].sentence) == 0
    assert part.count("dump.bin") == 1  # its title, for those who do not see it
    assert part.count('class="mark"') == 2


NASTY = st.text(st.characters(), max_size=40) | st.sampled_from(
    ['<script>alert(1)</script>', '"><text>', "]]>", "&amp;", "\x1b[31m", "a\nb", "\x00", "\ufffe", "\u202e",
     "x" * 500]
)  # fmt: skip


@settings(derandomize=True, max_examples=100, deadline=None)
@given(NASTY, NASTY, NASTY, NASTY)
def test_nothing_out_of_a_file_is_markup(name: str, what: str, sentence: str, said: str) -> None:
    plain = diagnose(b"")
    regions = tuple(replace(item, state=State.DATA, what=what) for item in plain.regions)
    told = replace(plain, regions=regions, damages=(Damage("no-tag", 0x110, 8, sentence),), on_a_board=said)
    parsed = ET.fromstring(map_svg(told, name))
    tags = {item.tag.removeprefix(SVG) for item in parsed.iter()}
    assert tags <= {"svg", "title", "desc", "style", "rect", "path", "text", "g"}
    assert len(list(parsed.iter(f"{SVG}g"))) == len(regions) + 1
    lines = shown(told, 80).splitlines()
    assert len(lines) == len(regions) + 3
    assert all(char.isprintable() for line in lines for char in line)


def test_hundreds_of_damages_stay_a_picture(image: Diagnosis) -> None:
    many = tuple(Damage("block-crc", 0x11000 + at * 0x44, 34, f"number {at}") for at in range(500))
    drawn = map_svg(replace(image, damages=many))
    ET.fromstring(drawn)
    assert "number 39" in drawn
    assert "number 40" not in drawn
    assert "and 460 more" in drawn
