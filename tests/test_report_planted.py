"""A batch with three causes planted on the simulated bench, and a report that has to name them; and the needle that
wears, as a board in this process has it."""

from __future__ import annotations

import html
import random
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reports import write_report
from reports.findings import Finding, findings
from reports.load import load
from rig.image import beken, flashmap
from rig.sim import firmware
from rig.sim.constants import load_constants
from rig.sim.firmware import rbl
from rig.sim.power import Rail, SetPoint
from tests.image_files import code_at, demo
from tests.line_faults import KINDS
from tests.sim_process import SimProcess, rig
from tests.test_board import BOOT, Table
from tests.test_line_acceptance import check, converted

pytest.importorskip("unicorn")


@pytest.fixture
def table() -> Iterator[Table]:
    with closing(Table(constants={"core": {"mishaps_per_second": 0.0}})) as table:  # nothing but the needle's drop
        yield table


def worn(table: Table, **options: float) -> Table:
    table.ask(op="fault", name="worn-needle", options=options)
    return table


def another_board(table: Table) -> Table:
    table.supply(False).run(0.5)
    table.board.change(firmware.demo_image(), firmware.efuse(5))
    return table


def test_a_worn_needle_drops_volts_that_the_supply_does_not_see(table: Table) -> None:
    worn(table, ohms=5.0).supply(True).run(0.24)
    assert table.phase == "rom"
    assert table.board.rail.volts == pytest.approx(3.3 - 0.030 * (5.0 + 0.102), abs=0.001)
    reading = table.ask(op="sense")
    assert (reading["volts"], reading["amps"], reading["mode"]) == (pytest.approx(3.3, abs=0.001), 0.03, "cv")


@pytest.mark.parametrize(("ohms", "holds"), [(5.2, True), (5.8, False)])
def test_it_costs_the_board_its_power_once_it_transmits(ohms: float, holds: bool, table: Table) -> None:
    """304 mA, of which a chip below its knee draws less, pull its rail below 1.8 V from 5.4 ohms of needle on."""
    worn(table, ohms=ohms).supply(True).run(1.2)
    starts = table.log.count(firmware.DEMO_BANNER)
    assert (starts == 1) if holds else (starts > 1)
    assert set(BOOT) <= set(table.log)


def test_it_wears_with_each_board(table: Table) -> None:
    worn(table, ohms=1.0, per_board=0.5)
    needle = [table.board.rail.contact_ohms]
    needle += [another_board(table).board.rail.contact_ohms for _ in range(3)]
    assert needle == [1.0, 1.5, 2.0, 2.5]
    table.ask(op="heal", name="worn-needle")
    assert table.board.rail.contact_ohms == 0.0


def test_each_touch_differs_by_chance_and_the_same_by_one_seed() -> None:
    def touches(seed: int) -> list[float]:
        with closing(Table(seed=seed)) as table:
            worn(table, ohms=2.0, spread=1.0)
            found = []
            for _ in range(12):
                table.board.faults.board_changed()
                found.append(table.board.rail.contact_ohms)
            return found

    one = touches(3)
    assert one == touches(3) != touches(4)
    assert all(1.0 <= each <= 3.0 for each in one)
    assert max(one) - min(one) > 1.0


def test_the_rail_with_a_needle_is_as_a_longer_cable() -> None:
    """Against the same resistance where it was always modelled: in the cable."""
    draw = random.Random(5)
    cable = load_constants({"rail": {"cable_ohms": 3.1}})
    one, other = Rail(cable), Rail(load_constants({"rail": {"cable_ohms": 0.1}}))
    other.contact_ohms = 3.0
    now = 0.0
    for rail in (one, other):
        rail.set_point = SetPoint(True, 3.3, 0.5)
    for _ in range(200):
        now += draw.uniform(0.0001, 0.02)
        assert one.advance(now) == other.advance(now)
        assert other.volts == pytest.approx(one.volts)
        load = draw.choice([0.0, 0.03, 0.06, 0.27, 0.304])
        one.load = other.load = load


@pytest.mark.soak
def test_a_unit_behind_a_worn_needle_ends_as_the_catalogue_of_faults_says(tmp_path: Path) -> None:
    kinds = [kind for kind in KINDS if kind.name == "worn-needle"]
    check(converted(tmp_path, kinds, units=2, slots=2, seed=1, speed=15), 2)


# -- a batch on the simulated bench ------------------------------------------------------------------------------

BATCH = """
[batch]
name = "{name}"
product = "ds-121"
plan = "convert"
image = "{image}"

[serials]
source = "pattern"
pattern = "{name}{{:03d}}"
count = {units}

[quarantine]
blocked_in_a_row = 1000
"""
_BRANCH_TO_ITSELF = 0xEAFFFFFE


def program() -> bytearray:
    """The demo app's program, decrypted."""
    return bytearray(code_at(demo(), flashmap.APP, flashmap.APP_LOGICAL))


def image_of(code: bytes) -> bytes:
    """The demo image with that program in it, and every checksum right."""
    stored = beken.frame(beken.crypt(bytes(code), flashmap.APP_LOGICAL, beken.TUYA_KEY))
    app = rbl.partition("app", firmware.DEMO_VERSION, stored, len(demo()) - flashmap.APP)
    return demo()[: flashmap.APP] + app


def hanging() -> bytes:
    """An image whose program stops for good where it would print that it is up: its watchdog resets it, again and
    again. One word of it differs from the demo image's."""
    code = program()
    text = flashmap.APP_LOGICAL + code.index(b"boot complete\n")
    pool = code.index(struct.pack("<I", text))  # the word that the text's address is loaded from
    words = struct.unpack_from(f"<{pool // 4}I", code)
    (load,) = (4 * at for at, word in enumerate(words) if word == 0xE59F0000 | (pool - 4 * at - 8 & 0xFFF))
    struct.pack_into("<I", code, load, _BRANCH_TO_ITSELF)
    return image_of(code)


def harmless() -> bytes:
    """Another image that is as good."""
    return image_of(program().replace(b"radio ready", b"radio READY"))


def batch(folder: Path, bench: Path, name: str, image: bytes, units: int) -> None:
    """One run of `units` boards onto that image."""
    (folder / f"{name}.bin").write_bytes(image)
    (folder / f"{name}.toml").write_text(BATCH.format(name=name, image=f"{name}.bin", units=units))
    done = rig("convert", "--no-report", "--bench", bench, "--batch", f"{name}.toml", "--backup", "full", cwd=folder,
               timeout=1200)  # fmt: skip
    assert done.returncode in (0, 1, 3), done.stdout + done.stderr  # none, some failed, some blocked


def reported(folder: Path, *, worn: str | None, slow: str | None, bad: bool, units: tuple[int, int]) -> list[Finding]:
    """Two runs over four slots, first onto an image that may be `bad`, then onto a good one; what is found."""
    with SimProcess(folder, "--boards", "4", "--boards-per-supply", "1", "--speed", "15") as bench:
        if worn is not None:
            bench.hand("fault", worn, name="worn-needle", options={"ohms": 1.4, "per_board": 0.4, "spread": 0.3})
        if slow is not None:
            bench.hand("fault", slow, name="late", options={"ms": 16})  # an FTDI's default latency timer
        batch(folder, bench.bench_file, "new", hanging() if bad else harmless(), units[0])
        batch(folder, bench.bench_file, "old", demo(), units[1])
    return findings(load([folder / "runs"]))


def test_the_hanging_image_is_a_good_one_by_every_check(tmp_path: Path) -> None:
    (tmp_path / "new.bin").write_bytes(hanging())
    done = rig("inspect", "new.bin", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "none found" in done.stdout
    assert "Refused" not in done.stdout


THREE = {("drift", "C"), ("slot", "B"), ("image", "new.bin")}


@pytest.mark.soak
def test_the_first_screen_names_all_three(tmp_path: Path) -> None:
    """The needle's resistance passes 5.4 ohms halfway through the second run. Nothing that is measured today tells of
    it before: what is found is that slot C's boards lose their power, and more and more of them. The whole bench may
    be found slower over the batch, as the machine that simulates it may have been."""
    found = reported(tmp_path, worn="C", slow="B", bad=True, units=(16, 56))
    assert {(each.what, each.who) for each in found if each.who != "bench"} == THREE, found
    page = write_report([tmp_path / "runs"], tmp_path / "report").read_text()
    first = html.unescape(page.partition('id="findings"')[2].partition("</section>")[0])
    assert all(each.sentence in first for each in found if each.who != "bench"), first


@pytest.mark.soak
def test_the_report_of_a_bench_where_nothing_is_wrong(tmp_path: Path) -> None:
    found = reported(tmp_path, worn=None, slow=None, bad=False, units=(16, 32))
    assert [each for each in found if each.who != "bench"] == []
