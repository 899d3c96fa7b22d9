"""The batch report: complete, self-contained, escaped, scrubbed, and the same figures everywhere."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import typer
from synthetic_journals import START, SyntheticRun
from test_reports_metrics import mixed
from typer.testing import CliRunner

import reports
from reports import metrics
from reports.load import load
from reports.numbers import MemoryNumbers
from reports.tables import Name, records_of
from rig.cli.report import report
from rig.codes import CODES
from rig.errors import UsageProblem
from rig.records.events import Measured, Outcome, Reworked, UnitEnded

FILES = ["index.html", "measurements.csv", "phases.csv", "summary.json", "unit-pages", "units.csv"]
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
        self.text += " " if tag in ("td", "th", "dt", "dd", "h2", "p") else ""
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
    assert text.count("<script") <= 1
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        elif link != "data:,":
            assert (path.parent / unquote(link)).exists(), link
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
    outside = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert [link for link in outside if link.startswith("..")] == ["../../run-1/units/SN1/1/unit.html"]
    assert "unit-pages/SN1.html" in outside
    for each in (index.parent / "unit-pages").iterdir():
        assert each.stem in check(each).plain
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
    written = [path for path in (tmp_path / "report").rglob("*") if path.is_file()]
    assert len(written) == len(FILES) + 1
    for name in written:
        raw = name.read_text()
        assert "hunter2" not in raw, name
        assert "\x1b" not in raw
        assert "\x00" not in raw
    rows = list(csv.DictReader((tmp_path / "report" / "units.csv").open()))
    assert rows[0]["unit"] == '\'=HYPERLINK("x")'
    assert "hunter2" not in "\n".join(reports.summary_lines([tmp_path / "run"]))


@pytest.mark.parametrize(("outcome", "says"), [
    (None, "No board was judged: no unit was started."),
    ("blocked", "No board was judged: 1 was blocked or aborted."),
    ("aborted", "No board was judged: 1 was blocked or aborted."),
])  # fmt: skip
def test_a_run_without_a_counted_unit(tmp_path: Path, outcome: str | None, says: str) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        if outcome:
            run.attempt("1", outcome, current=None, stop_at="power-on")
    index = reports.write_report([tmp_path / "run"], tmp_path / "report")
    page = check(index).plain
    assert says in page
    assert page.count("no counted units") >= 6
    assert not re.search(r"\bnan\b|NaT|None", page)
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


def sixty(folder: Path, *, unit: str = "SN{}", **told: str) -> None:
    """A batch with a slot that measures too much, failures of two codes, a blocked and a reworked unit."""
    with SyntheticRun(folder, image="obk.bin", **told) as run:
        for number in range(60):
            slot = "ABCD"[number % 4]
            current = 0.09 + 0.001 * (number * 7 % 11) + (0.04 if slot == "C" else 0)
            name = unit.format(number)
            if number in (5, 6, 7):
                code = "no-link" if number < 7 else "verify-failed"
                run.attempt(name, "fail", code=code, stop_at="write", current=None, slot=slot)
            if number == 9:
                run.attempt(name, "blocked", code="no-current", stop_at="power-on", current=None, slot=slot)
            if number == 6:
                run.write(Reworked, unit=name, what="soldered TX again", who="Ana")
            if number != 7:
                run.attempt(name, "pass", current=current, slot=slot, identity=f"C8478C{number:06X}")
        run.end(1)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of sixty units, with a limit replayed and exports."""
    folder = tmp_path_factory.mktemp("sixty")
    sixty(folder / "run", batch="B7")
    told = {"what_ifs": ["boot_current.max=0.1"], "exports": ["csv", "junit"]}
    return reports.write_report([folder / "run"], folder / "report", **told)


def test_the_first_screen_says_what_a_manager_asks(batch: Path) -> None:
    text = check(batch).plain
    head = text[text.index("Batch report") : text.index("Findings Run Yield")]
    for told in ("59 of 60 boards are good. 1 failed.",
                 "First-pass yield 95.0 % 57 of 60; 95 % interval 86.3 % to 98.3 %", "Final yield 98.3 % 59 of 60",
                 "Good boards an hour", "Failed first no-link 2 of 3 first failures",
                 "Not counted 1 attempts: 1 blocked, 0 aborted", "What stands out Slot C reads higher",
                 "boot_current"):  # fmt: skip
        assert told in head, told
    assert re.search(r"over all \d+ comparisons that were made", head)


def test_every_section_is_there_and_says_what_it_rests_on(batch: Path) -> None:
    page = check(batch)
    for told in ("Defects per million steps (DPMO) 3", "Cp and Cpk: spread within", "Western Electric rules, raw",
                 "What if a limit were different", "boot_current (boot) at most 0.1 A 60 95.0 % →", "Strangest units",
                 "Where the time goes", "chance alone would give about", "By slot Slot",
                 "Rolled throughput yield"):  # fmt: skip
        assert told in page.plain, told
    assert "gage" not in page.ids, "no study was run"
    text = batch.read_text()
    assert text.count("I-MR chart of boot boot_current") == 1
    assert "Distribution of boot boot_current against the limits, n = 59" in text
    assert batch.stat().st_size < 300_000
    assert (batch.parent / "csv").is_dir()
    assert list((batch.parent / "junit").iterdir())


def test_a_number_leads_to_the_units_behind_it(batch: Path) -> None:
    text = batch.read_text()
    row = re.search(r'no-link</td><td class="n"><a href="#(set-\d+)">2</a>', text)
    assert row is not None
    found = re.search(rf'id="{row[1]}" data-orders="([\d ]+)" data-title="([^"]+)" data-total="2"', text)
    assert found is not None
    assert found[2] == "First failure no-link"
    units = {re.search(rf'id="a{order}".*?>(SN\d+)</a>', text, re.DOTALL)[1] for order in found[1].split()}  # type: ignore[index]
    assert units == {"SN5", "SN6"}


def test_a_unit_has_a_page_of_all_its_attempts(batch: Path) -> None:
    page = check(batch.parent / "unit-pages" / "SN6.html")
    for told in ("Pass in the end, after 2 attempts", "Reworked by Ana: soldered TX again", "Attempt 1, slot C",
                 "Attempt 2, slot C", "fail no-link", CODES["no-link"].action, "sha256 " + "5a" * 32,
                 "0.02 to 0.25 (warning above 0.2)"):  # fmt: skip
        assert told in page.plain, told
    assert page.plain.index("Attempt 2") < page.plain.index("Attempt 1")


def test_a_units_page_has_its_log_and_volts_without_secrets(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("../SN 1", "pass")
        run.end()
    folder = run.folder.unit_dir("../SN 1", 1)
    folder.mkdir(parents=True)
    (folder / "boot.log").write_text("0.1 Info:MAIN:Boot\n0.2 Using Pass [hunter2secret]\n0.3 <b>\x1b[31m\n")
    (folder / "power.csv").write_text("mono_ns,volts,amps,mode\n" + "".join(
        f"{5_000_000_000 + at * 10**8},3.3,0.07,cv\n" for at in range(50)))  # fmt: skip
    reports.write_report([tmp_path / "run"], tmp_path / "report")
    (made,) = (tmp_path / "report" / "unit-pages").iterdir()
    page, text = check(made), made.read_text()
    assert "3 lines, seconds since power-on, passwords hidden" in page.plain
    assert "Info:MAIN:Boot" in page.plain
    assert "hunter2" not in text
    assert "\x1b" not in text
    assert "Supply volts and amps over time" in text
    index = check(tmp_path / "report" / "index.html")
    assert [link for link in index.links if link.startswith("unit-pages")]


def test_a_report_in_a_runs_own_folder_leaves_its_evidence_alone(tmp_path: Path) -> None:
    mixed(tmp_path / "run")
    kept = tmp_path / "run" / "units" / "SN1" / "1" / "boot.log"
    kept.parent.mkdir(parents=True)
    kept.write_text("evidence")
    for _ in range(2):
        reports.write_report([tmp_path / "run"], tmp_path / "run")
    assert kept.read_text() == "evidence"
    assert (tmp_path / "run" / "unit-pages" / "SN1.html").is_file()


def test_of_very_many_the_page_shows_the_ones_most_worth_seeing(tmp_path: Path) -> None:
    n = 3000
    outcome = np.array(["pass"] * n, dtype=object)
    outcome[[7, 1500, 2999]] = ["fail", "unverified", "blocked"]
    values = np.random.default_rng(1).normal(0.09, 0.01, n)
    name = Name("boot", "boot", "current", "A")
    taken = {"order": np.arange(n), "value": values, "minimum": 0.02, "maximum": 0.25}
    numbers = MemoryNumbers.of_names({name: taken})
    records = records_of({"outcome": outcome, "code": np.where(outcome == "fail", "no-link", None)}, numbers=numbers)
    index = reports.write_report(records, tmp_path / "report")
    page, text = check(index), index.read_text()
    assert "The 200 attempts most worth seeing, of 3000" in page.plain
    assert text.count('<tbody id="a') == 200
    for order in (7, 1500, 2999):
        assert f'id="a{order}"' in text
    assert "the first 40 of them here; all are in the files beside this page" in page.plain
    assert index.stat().st_size < 700_000
    assert len((tmp_path / "report" / "units.csv").read_text().splitlines()) == n + 1


@pytest.mark.parametrize(
    "spoil", ["one", "all-failed", "unknown-code", "missing", "clock-jumps", "schema-1", "schema-2"]
)
def test_odd_batches_have_a_right_page(tmp_path: Path, spoil: str) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        for number in range(1 if spoil == "one" else 6):
            bad = spoil in ("all-failed", "unknown-code")
            code = ("from-the-future" if spoil == "unknown-code" else "no-link") if bad else None
            who = run.attempt(f"SN{number}", "fail" if bad else "pass", code=code, stop_at="boot" if bad else None,
                              current=None if spoil == "missing" else 0.07)  # fmt: skip
            if spoil == "missing":
                run.write(Measured, **who, phase="boot", name="boot_current", value=None, unit_of="A", minimum=0.02)
            if spoil == "clock-jumps" and number == 2:
                run.now -= 7200
        run.end()
    if spoil.startswith("schema"):
        younger = {"role", "operator", "chain", "tasks", "job", "instruments", "profiles"}
        younger |= {"task"} if spoil == "schema-1" else set()  # all that schema 1 had, for these events
        older = [json.loads(line) for line in run.folder.journal.read_text().splitlines()]
        kept = [{key: told for key, told in each.items() if key not in younger} for each in older]
        lines = [json.dumps(each | {"schema_version": int(spoil[-1])}) for each in kept]
        run.folder.journal.write_text("\n".join(lines) + "\n")
    index = reports.write_report([tmp_path / "run"], tmp_path / "report")
    page = check(index).plain
    assert not re.search(r"\bnan\b|NaT|\bNone\b", page), spoil
    says = {
        "one": "The board is good.", "all-failed": "0 of 6 boards are good. 6 failed.",
        "unknown-code": "This code is not in this rig's list.", "missing": "boot_current A 0 – – –",
        "clock-jumps": "All 6 boards are good.", "schema-1": "All 6 boards are good.",
        "schema-2": "All 6 boards are good.",
    }  # fmt: skip
    assert says[spoil] in page


def test_no_more_boards_than_there_are_are_called_more(tmp_path: Path) -> None:
    with SyntheticRun(tmp_path / "run") as run:
        run.attempt("1", "aborted", stop_at="boot")
        run.begin("2")
        page = check(reports.write_report([tmp_path / "run"], tmp_path / "report")).plain
    assert "No board is judged yet: 1 was blocked or aborted, 1 is still running." in page


def test_several_batches_have_a_page_over_them(tmp_path: Path) -> None:
    for number, name in enumerate(("B1", "B2", "../B3 <i>")):
        start = START + timedelta(days=number)
        with SyntheticRun(tmp_path / "runs" / f"run-{number}", batch=name, start=start) as run:
            for unit in range(12):
                bad = number == 1 and unit % 3 == 0
                run.attempt(f"SN{unit}", "fail" if bad else "pass", code="no-link" if bad else None)
            run.end()
    records = reports.read([tmp_path / "runs"])
    assert reports.batches(records) == 3
    index = reports.write_index(records, tmp_path / "report")
    page = check(index)
    assert "3 batches, 36 boards" in page.plain
    assert "B2 ds-121 2026-11-23 17:15:00 UTC 1 12 66.7 % 39.1 % to 86.2 % 66.7 % 0 0" in page.plain
    assert page.plain.index("../B3 <i> ds-121") < page.plain.index("B2 ds-121") < page.plain.index("B1 ds-121")
    below = [tmp_path / "report" / unquote(link) for link in page.links if link.endswith("index.html")]
    assert len(below) == 3
    for each in below:
        assert "../../index.html" in check(each).links
        assert (tmp_path / "report" / "batches") in each.resolve().parents
    figures = json.loads((index.parent / "index.json").read_text())
    assert [each["first_pass"]["good"] for each in figures] == [12, 8, 12]


@pytest.mark.parametrize(("told", "says"), [
    ({"what_ifs": ["boot_currant.max=1"]}, "boot_current"),
    ({"what_ifs": ["boot_current"]}, "is no limit to try"),
    ({"exports": ["xls"]}, "choose from csv, parquet, junit, openhtf"),
])  # fmt: skip
def test_what_makes_no_sense_is_one_sentence_and_writes_nothing(tmp_path: Path, told: Any, says: str) -> None:
    mixed(tmp_path / "run")
    with pytest.raises(UsageProblem, match=says) as problem:
        reports.write_report([tmp_path / "run"], tmp_path / "report", **told)
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "report").exists()


def test_the_command_takes_all_of_it(tmp_path: Path) -> None:
    mixed(tmp_path / "runs" / "run-1")
    app = typer.Typer()
    app.command()(report)
    runs, run = str(tmp_path / "runs"), CliRunner().invoke
    done = run(app, [runs, "--what-if", "boot_current.max=0.06", "--export", "csv"])
    assert done.exit_code == 0, done.output
    assert f"Report: {tmp_path / 'runs' / 'report' / 'index.html'}" in done.output.replace("\n", "")
    assert "What if a limit" in (tmp_path / "runs" / "report" / "index.html").read_text()
    done = run(app, [runs, "--index", "--json", "--out", str(tmp_path / "out")])
    assert json.loads(done.output)[0]["first_pass"] == {"good": 3, "n": 7, "rate": 3 / 7, "wilson_95": [
        pytest.approx(0.158, abs=1e-3), pytest.approx(0.750, abs=1e-3)]}  # fmt: skip


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
