"""The batch report: complete, self-contained, escaped, scrubbed, and the same figures everywhere."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_journals import SyntheticRun
from test_reports_metrics import mixed

import reports
from reports import metrics
from reports.load import load
from rig.codes import CODES
from rig.errors import UsageProblem
from rig.records.events import Outcome, UnitEnded

FILES = ["index.html", "measurements.csv", "phases.csv", "summary.json", "units.csv"]
VOID = {"meta", "br", "rect", "path", "use", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Every tag closed, every id once, every link inside the page or relative."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href", "srcset", "action", "data"):
                self.links.append(value or "")
            assert not name.startswith("on"), f"a script in {name}"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    @property
    def plain(self) -> str:
        return re.sub(r"\s+", " ", self.text)


def check(path: Path) -> Page:
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids)), "ids are not unique"
    assert "script" not in page.tags
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            assert (path.parent / link).exists(), link
    assert not re.search(r"https?://|@import|url\((?!#)", text), "an external resource"
    return page


def test_a_whole_report(tmp_path: Path) -> None:
    mixed(tmp_path / "run-1")
    unit = tmp_path / "run-1" / "units" / "SN1" / "1"
    unit.mkdir(parents=True)
    (unit / "unit.html").write_text("<p>SN1</p>")
    index = reports.write_report([tmp_path / "run-1"], tmp_path / "out" / "report")
    assert index == tmp_path / "out" / "report" / "index.html"
    assert sorted(path.name for path in index.parent.iterdir()) == FILES
    page = check(index)
    assert "5 of 7 boards are good. 1 failed. 1 may be half written" in page.plain
    assert "3 of 7; 95 % interval 15.8 % to 75.0 %" in page.plain
    assert "Simulated" not in page.plain
    for code in ("no-link", "verify-failed", "half-written", "no-current"):
        assert CODES[code].cause in page.plain
        assert CODES[code].action in page.plain
    assert [link for link in page.links if not link.startswith("#")] == ["../../run-1/units/SN1/1/unit.html"]
    assert "ds-121/3" in page.plain


def test_evidence_of_a_unit_is_shown(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run", image="obk.bin", image_sha256="9f" * 32, operator="Ana", batch="B7") as run:
        run.attempt("SN1", "pass", identity="C8478C000001", mac="c8:47:8c:00:00:01", firmware="OpenBeken 1.18.300",
                    written=True, seconds=31.25)  # fmt: skip
        run.attempt("SN2", "fail", code="current-high", current=0.31, off=False, sentence="0.31 A after boot.")
        run.attempt("SN3", "pass", off=None)
        run.end(1)
    page = check(reports.write_report([tmp_path / "run"], tmp_path / "report")).plain
    for told in ("c8:47:8c:00:00:01", "C8478C000001", "OpenBeken 1.18.300", "5a" * 32, "2 MiB, checked by chip-crc",
                 "written and verified", "31.2", "9f" * 32, "obk.bin", "Ana", "batch B7", "0.31 A after boot.",
                 "boot_current 0.31 A (fail; limits 0.02 to 0.25 A)", "not asked"):  # fmt: skip
        assert told in page, told
    assert "NOT CONFIRMED" in page
    assert "Unit SN2: the supply was not confirmed off on slot A. Check it." in page


@pytest.mark.parametrize(("speeds", "says"), [
    ((50.0,), "Simulated bench at 50 times real time. No real board was touched"),
    ((1.0, 20.0), "Simulated bench at 1 times real time and 20 times real time."),
    ((None, 20.0), "1 of 2 runs: simulated bench at 20 times real time."),
])  # fmt: skip
def test_a_simulated_bench_is_said_plainly(tmp_path: Path, speeds: tuple[float | None, ...], says: str) -> None:
    for number, speed in enumerate(speeds):
        with SyntheticRun(tmp_path / f"run-{number}", simulated=speed is not None, speed=speed or 1.0) as run:
            run.attempt("1", "pass")
            run.end()
    page = check(reports.write_report([tmp_path], tmp_path / "report")).plain
    assert says in page
    assert says in " ".join(reports.summary_lines([tmp_path]))
    assert ("their times do not compare" in page) == (len(speeds) > 1)


def test_nothing_a_run_says_becomes_markup_a_secret_or_a_formula(tmp_path: Path) -> None:
    nasty = '</td><script>alert(1)</script><img src=x onerror=alert(1)> & "quoted" {{ 7*7 }}'
    with SyntheticRun(tmp_path / "run", operator=nasty, batch=nasty, station=nasty, tools={nasty: nasty}) as run:
        run.attempt('=HYPERLINK("x")', "fail", code=nasty, sentence=nasty, slot=nasty, mac=nasty, firmware=nasty,
                    identity=nasty, stop_at="boot", shares=((nasty, 0.5), ("boot", 0.5)))  # fmt: skip
        run.note(nasty, level="warning", log="Using Pass [hunter2secret]", how={"a": nasty})
        run.attempt("2", "fail", sentence="Using Pass [hunter2secret] \x1b[31m\x00", code="not-complete")
    index = reports.write_report([tmp_path / "run"], tmp_path / "report")
    page = check(index)
    assert page.plain.count("<script>alert(1)</script>") >= 6  # as text
    assert "{{ 7*7 }}" in page.text
    for name in FILES:
        raw = (tmp_path / "report" / name).read_text()
        assert "hunter2" not in raw, name
        assert "\x1b" not in raw
        assert "\x00" not in raw
    rows = list(csv.DictReader((tmp_path / "report" / "units.csv").open()))
    assert rows[0]["unit"] == '\'=HYPERLINK("x")'
    assert "hunter2" not in "\n".join(reports.summary_lines([tmp_path / "run"]))


@pytest.mark.parametrize("outcome", [None, "blocked", "aborted"])
def test_a_run_without_a_counted_unit(tmp_path: Path, outcome: str | None) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        if outcome:
            run.attempt("1", outcome, current=None, stop_at="power-on")
    index = reports.write_report([tmp_path / "run"], tmp_path / "report")
    page = check(index).plain
    assert "No board was judged: there are no counted units." in page
    assert page.count("no counted units") >= 6
    assert "nan" not in page.lower()
    figures = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert figures["rates"]["first_pass"] == {
        "good": 0, "n": 0, "rate": None, "wilson_95": None, "at_least_95": None, "at_most_95": None,
    }  # fmt: skip
    assert any("no counted units" in line for line in reports.summary_lines([tmp_path / "run"]))


def test_files_for_programs_say_what_the_page_says(tmp_path: Path) -> None:
    mixed(tmp_path / "run-1")
    reports.write_report([tmp_path / "run-1"], tmp_path / "report")
    figures = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert (figures["rates"]["first_pass"]["good"], figures["rates"]["first_pass"]["n"]) == (3, 7)
    assert figures["counts"]["blocked_attempts"] == 3
    assert figures["failures"][0] == {"code": "no-link", "count": 2, "share": 0.5, "cumulative": 0.5}
    assert figures["runs"][0]["exit_code"] == 1
    units = list(csv.DictReader((tmp_path / "report" / "units.csv").open()))
    assert len(units) == 14
    assert [row["attempt"] for row in units if row["unit"] == "SN2"] == ["1", "2"]
    phases = list(csv.DictReader((tmp_path / "report" / "phases.csv").open()))
    assert {row["outcome"] for row in phases} == {"pass", "fail", "blocked", "aborted", "unverified", ""}
    measurements = list(csv.DictReader((tmp_path / "report" / "measurements.csv").open()))
    assert {row["name"] for row in measurements} == {"boot_current"}


def test_a_run_that_was_cut_or_goes_on_says_so(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("1", "pass")
        who = run.begin("2")
        page = check(reports.write_report([tmp_path / "run"], tmp_path / "report")).plain
        assert "still going on" in page
        assert "1 more is still running" in page
        run.write(UnitEnded, **who, outcome=Outcome.FAIL, duration_s=1.0)  # and no code
    page = check(reports.write_report([tmp_path / "run"], tmp_path / "report")).plain
    assert "no end on record: the rig was killed or lost power" in page
    assert "(no code)" in page


def test_runs_of_different_things_are_not_mixed_silently(tmp_path: Path) -> None:
    for name, product in (("run-1", "ds-121"), ("run-2", "cb3s")):
        with SyntheticRun(tmp_path / name, product=product) as run:
            run.attempt("1", "pass" if name == "run-1" else "fail", code="no-link", stop_at="identify")
            run.end()
    page = check(reports.write_report([tmp_path], tmp_path / "report")).plain
    assert "These runs have different products" in page
    assert "100 % (1 of 1)" in page
    assert "0 % (0 of 1)" in page


def test_the_summary_for_a_terminal(tmp_path: Path) -> None:
    mixed(tmp_path / "run-1")
    lines = reports.summary_lines([tmp_path / "run-1"])
    assert lines[0].startswith("ds-121: 5 of 7 boards are good.")
    assert "First-pass yield  42.9 % (3 of 7, 95 % interval 15.8 % to 75.0 %)" in lines
    assert "Failed            2 × no-link" in lines
    assert "Blocked (bench)   2 × no-current" in lines


def test_a_report_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    mixed(tmp_path / "run-1")
    (tmp_path / "file").touch()
    with pytest.raises(UsageProblem, match="cannot be written"):
        reports.write_report([tmp_path / "run-1"], tmp_path / "file")


def test_without_the_extra_one_sentence_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['pandas'] = None\n"
        "from pathlib import Path; import reports; from rig.errors import UsageProblem\n"
        "for call in (lambda: reports.summary_lines([]), lambda: reports.write_report([], Path('x'))):\n"
        "    try: call()\n"
        "    except UsageProblem as problem: print(problem)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("pip install -e '.[report]'") == 2


def test_a_hundred_units_are_quick_and_whole(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        for number in range(100):
            run.attempt(f"SN{number}", "pass", identity=f"C8478C{number:06X}")
        run.end()
    index = reports.write_report([tmp_path / "run"], tmp_path / "report")
    assert "All 100 boards are good." in check(index).plain
    assert metrics.yields(load([tmp_path / "run"])).final.good == 100
    assert index.stat().st_size < 400_000
