"""A product whose supply settings cite a study: checked, cited, and a unit near its threshold is marginal."""

from __future__ import annotations

import contextlib
import json
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from test_bench_power import Channel, powered
from waiting import until

from rig.bench.bench import read_bench
from rig.bench.product import BOOT_PEAK, Product, load_product
from rig.cli import app
from rig.errors import UsageProblem
from rig.line import spc, steps
from rig.records import events
from rig.records.events import Outcome
from rig.records.journal import read_journal
from rig.records.run import latest
from tests.patched_tools import know
from tests.sim_process import SimProcess, rig

OWN = (Path(__file__).parent.parent / "rig" / "products" / "ds-121.toml").read_text(encoding="utf-8")
STUDY = """
[supply.study]
run = "20261123-090000-ab12"
date = 2026-11-23
volts_min = 3.0
amps_min = {amps}
sentence = "3.3 V, at least {amps} A limit (36 of 36 conversions in a row)."
"""


BENCH = """
[bench]
name = "table"
profiles = "."
[supply.main]
resource = "TCPIP::127.0.0.1::9::SOCKET"
dialect = "rigol-dp800"
[slot.A]
supply = "main"
channel = 1
flash_port = "/dev/null"
product = "ds-121"
"""


def product(tmp_path: Path, more: str, simulated: bool = False) -> Product:
    (tmp_path / "ds-121.toml").write_text(OWN + more, encoding="utf-8")
    return load_product("ds-121", [tmp_path], simulated=simulated)


# -- the profile ----------------------------------------------------------------------------------------------------


def test_the_study_bounds_what_a_boot_may_draw(tmp_path: Path) -> None:
    limits = product(tmp_path, STUDY.format(amps=0.4)).limits[BOOT_PEAK]
    assert limits.marginal_maximum == pytest.approx(0.36)
    assert limits.source == "study 20261123-090000-ab12 of 2026-11-23"
    assert [limits.judge(amps) for amps in (0.2, 0.36, 0.361, 0.6)] == [
        Outcome.PASS, Outcome.PASS, Outcome.MARGINAL, Outcome.MARGINAL
    ]  # fmt: skip


def test_its_margin_and_the_products_own_limits_count(tmp_path: Path) -> None:
    wide = product(tmp_path, STUDY.format(amps=0.4) + "margin = 0.25\nsimulated = true\n", simulated=True)
    assert wide.limits[BOOT_PEAK].marginal_maximum == pytest.approx(0.3)
    assert "on a simulated bench" in wide.limits[BOOT_PEAK].source
    own = product(tmp_path, STUDY.format(amps=0.4) + f'[limits.{BOOT_PEAK}]\nunit = "A"\nmarginal_maximum = 0.2\n')
    assert own.limits[BOOT_PEAK].marginal_maximum == 0.2


def test_a_study_of_simulated_boards_bounds_no_real_ones(tmp_path: Path) -> None:
    cited = STUDY.format(amps=0.4) + "simulated = true\n"
    assert BOOT_PEAK not in product(tmp_path, cited).limits
    own = cited + f'[limits.{BOOT_PEAK}]\nunit = "A"\nmarginal_maximum = 0.2\n'
    assert product(tmp_path, own).limits[BOOT_PEAK].marginal_maximum == 0.2
    assert BOOT_PEAK in product(tmp_path, STUDY.format(amps=0.4), simulated=True).limits
    (tmp_path / "bench.toml").write_text(BENCH)
    (tmp_path / "products").mkdir()
    (tmp_path / "products" / "ds-121.toml").write_text(OWN + cited, encoding="utf-8")
    assert BOOT_PEAK not in read_bench(tmp_path / "bench.toml").slots["A"].product.limits
    (tmp_path / "bench.toml").write_text(BENCH.replace("[bench]", "[bench]\nsimulated_speed = 1.0"))
    assert BOOT_PEAK in read_bench(tmp_path / "bench.toml").slots["A"].product.limits


def test_without_a_study_a_boot_is_measured_and_not_judged() -> None:
    shipped = load_product("ds-121")
    assert shipped.supply.cited is None
    assert BOOT_PEAK not in shipped.limits
    assert {BOOT_PEAK, "boot_mean_current"} <= set(spc.MEASURED)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("amps_min = 0.4", "amps_min = 0.6"), "current_limit is 0.5, less than the 0.6 that its own study found"),
        (("volts_min = 3.0", "volts_min = 3.4"), "volts is 3.3, less than the 3.4 that its own study found"),
        (("amps_min", "amp_min"), "did you mean 'amps_min'"),
        (("date = 2026-11-23", 'date = "yesterday"'), "a date, such as 2027-05-01"),
        (("volts_min = 3.0\n", ""), "volts_min"),
    ],
)
def test_a_study_that_is_not_right_is_one_sentence(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = STUDY.format(amps=0.4).replace(*change)
    with pytest.raises(UsageProblem) as problem:
        product(tmp_path, text)
    assert said in str(problem.value)
    assert "\n" not in str(problem.value)


def test_inspect_says_how_a_product_is_fed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(b"\xff" * 64)

    def inspected(*words: str) -> str:
        with contextlib.suppress(typer.Exit):
            app(["inspect", str(file), *words], standalone_mode=False)
        return capsys.readouterr().out

    plain = inspected("--product", "ds-121")
    assert "Supply of ds-121: 3.3 V with a limit of 0.5 A; no study is cited for it" in " ".join(plain.split())
    studied = product(tmp_path, STUDY.format(amps=0.4))
    monkeypatch.setattr("rig.bench.product.load_product", lambda name: studied)
    told = " ".join(inspected("--product", "ds-121").split())
    assert "by study 20261123-090000-ab12 of 2026-11-23: 3.3 V, at least 0.4 A limit" in told
    assert json.loads(inspected("--product", "ds-121", "--json"))["supply"]["study"]["amps_min"] == 0.4
    assert "supply" not in json.loads(inspected("--json"))


# -- what a boot draws ----------------------------------------------------------------------------------------------


def test_the_peak_is_the_highest_reading_since_switching_on() -> None:
    channel = Channel()
    with powered(channel) as power:
        assert power.drawn() is None
        channel.amps = 0.9  # capacitors
        began = time.monotonic()
        power.on()
        assert until(lambda: power.drawn(0.0))
        with channel.lock:  # no reading is under way
            channel.amps = 0.1
        settle_s = time.monotonic() - began
        settled = power.drawn(0.0)
        assert settled is not None
        assert settled.peak == 0.9
        assert until(lambda: (drawn := power.drawn(settle_s)) is not None and drawn.n >= 2)
        channel.amps = 0.25
        assert until(lambda: (drawn := power.drawn(settle_s)) is not None and drawn.peak == 0.25)
        found = power.drawn(settle_s)
        assert found is not None
        assert 0.1 < found.mean < 0.25  # without the capacitors
        power.on()
        again = until(lambda: power.drawn(0.0))
        assert again.peak == again.mean == 0.25  # of this switching on alone


class Record:
    def __init__(self, product: Product) -> None:
        self.product, self.measured, self.notes = product, {}, []  # type: ignore[var-annotated]

    def measure(self, name: str, value: float, unit: str = "") -> None:
        self.measured[name] = (value, unit)

    def note(self, text: str) -> None:
        self.notes.append(text)


def booted(made: Product, drawn: Any) -> Record:
    record = Record(made)
    told: Any = SimpleNamespace(
        power=SimpleNamespace(drawn=lambda settle_s: drawn), bench=SimpleNamespace(speed=10.0), record=record,
        slot=SimpleNamespace(product=made),
    )  # fmt: skip
    steps.measure_drawn(told)
    return record


def test_a_boot_too_short_for_the_meter_is_not_measured_and_a_study_hears_of_it(tmp_path: Path) -> None:
    drawn = SimpleNamespace(peak=0.3, mean=0.1, n=4)
    assert booted(load_product("ds-121"), drawn).measured == {
        BOOT_PEAK: (0.3, "A"), "boot_mean_current": (0.1, "A")
    }  # fmt: skip
    assert booted(load_product("ds-121"), None).notes == []
    silent = booted(product(tmp_path, STUDY.format(amps=0.4)), None)
    assert silent.measured == {}
    assert "not measured" in silent.notes[0]


# -- on the line ----------------------------------------------------------------------------------------------------


def test_a_unit_near_the_threshold_is_marginal_and_the_study_is_cited(tmp_path: Path) -> None:
    """The bench's check names the study, the run's journal too; a boot that draws nearly what was enough is marginal,
    and its report says by which study."""
    pytest.importorskip("unicorn")
    mine = tmp_path / "mine" / "products"
    mine.mkdir(parents=True)
    (mine / "ds-121.toml").write_text(OWN + STUDY.format(amps=0.05), encoding="utf-8")
    with SimProcess(tmp_path, "--speed", "10") as bench:
        know(Path(bench.bench_file), mine.parent)
        checked = rig("bench", "check", "--bench", bench.bench_file, "--json", cwd=tmp_path)
        assert checked.returncode == 0, checked.stderr
        (slot,) = json.loads(checked.stdout)
        assert slot["supply_study"]["run"] == "20261123-090000-ab12"
        cited = "by study 20261123-090000-ab12 of 2026-11-23: 3.3 V, at least 0.05 A"
        assert any(cited in each for each in slot["notes"])
        done = rig("convert", "--bench", bench.bench_file, cwd=tmp_path, reports=True)
        assert done.returncode == 0, done.stderr
    run = latest(tmp_path / "runs")
    found, _ = read_journal(run.journal)
    (peak,) = [each for each in found if isinstance(each, events.Measured) and each.name == BOOT_PEAK]
    (mean,) = [each for each in found if isinstance(each, events.Measured) and each.name == "boot_mean_current"]
    assert isinstance(peak.value, float)
    assert isinstance(mean.value, float)
    assert peak.outcome is Outcome.MARGINAL
    assert 0.045 < mean.value <= peak.value < 0.5
    (ended,) = [each for each in found if isinstance(each, events.UnitEnded)]
    assert ended.outcome is Outcome.MARGINAL
    notes = [each.text for each in found if isinstance(each, events.Noted)]
    assert any(each.startswith("supply settings: 3.3 V with a limit of 0.5 A, by study 2026") for each in notes)
    assert any("supply settings: 3.3 V" in page.read_text() for page in run.path.rglob("*.html"))


def test_the_table_in_the_docs_is_a_study() -> None:
    text = (Path(__file__).parent.parent / "docs" / "power-studies.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```toml\n")[1:]]
    (block,) = [each for each in blocks if "[supply.study]" in each]
    assert set(tomllib.loads(block)["supply"]["study"]) >= {"run", "date", "volts_min", "amps_min", "sentence"}
