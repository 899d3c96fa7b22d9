"""The table of flasher releases: the committed document agrees with what is expected, and a difference is seen."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import flasher_releases
from benchmarks.flasher_expectations import Expectation, Seen, load, outcome, tool_of
from benchmarks.flasher_releases import overlaid
from benchmarks.flasher_table import Row, document
from rig.errors import UsageProblem

DOCUMENT = Path(__file__).parent.parent / "docs" / "flasher-releases.md"


@pytest.fixture(scope="module")
def expectations():
    return load()


def committed() -> tuple[list[str], list[list[str]], dict[str, str]]:
    """(titles of the columns, cells of the rows, notes by number)."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    tables = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    first = next(at for at, cells in enumerate(tables) if cells[0] == "release")
    rows = [cells for cells in tables[first + 2 :] if "==" in cells[0]]
    notes = dict(match.groups() for line in lines if (match := re.fullmatch(r"(\d+)\. (.*)\.", line)))
    return tables[first], rows, notes


def test_the_committed_table_is_what_is_expected(expectations):
    titles, rows, notes = committed()
    assert titles == ["release", "bk7231tools", *(operation.title for operation in expectations.operations)]
    assert [row[0] for row in rows] == list(expectations.releases)
    for release, library, *cells in rows:
        tool = tool_of(release)
        versions = {tool: release.partition("==")[2].partition(",")[0]} | {"bk7231tools": library}
        for operation, cell in zip(expectations.operations, cells, strict=True):
            if tool not in operation.commands:
                assert cell == "–"
                continue
            rule = expectations.of(operation.id, tool, versions)
            seen, _, number = cell.partition(" [")
            assert seen == rule.outcome, (release, operation.id)
            assert notes.get(number.rstrip("]")) == (rule.why if rule.when else None), (release, operation.id)
    assert "## Not as expected\n\nNothing." in DOCUMENT.read_text(encoding="utf-8")


def test_the_releases_that_matter_are_among_them(expectations):
    _, rows, _ = committed()
    libraries = {row[0]: row[1] for row in rows}
    assert sum(release.startswith("ltchiptool==") for release in libraries) >= 8
    assert libraries["ltchiptool==4.0.1"] == "1.4.0"
    assert libraries["ltchiptool==4.11.2,bk7231tools==2.0.2"] == "2.0.2"
    assert {"ltchiptool==4.11.2", "ltchiptool==4.15.0", "bk7231tools==2.0.2", "bk7231tools==2.1.2"} <= set(libraries)
    assert any(release.startswith("bk7231tools==1.5.") for release in libraries)


def test_the_last_expectation_that_fits_counts(expectations):
    def of(tool: str, **versions: str) -> str:
        return expectations.of("complement", tool, versions).outcome

    assert of("ltchiptool", ltchiptool="4.11.2", bk7231tools="2.1.0") == "done"
    assert of("ltchiptool", ltchiptool="4.11.2", bk7231tools="2.0.2") == "error, flash untouched"
    assert expectations.of("silent", "bk7231tools", {"bk7231tools": "2.1.2"}).outcome == "error, exit 0"
    assert expectations.of("info", "bk7231tools", {"bk7231tools": "1.5.7"}).outcome == "done"
    assert expectations.of("info", "ltchiptool", {"ltchiptool": "4.7.0"}).outcome == "absent"
    with pytest.raises(UsageProblem, match="expects nothing of ltchiptool at 'guard2'"):
        expectations.of("guard2", "ltchiptool", {})
    with pytest.raises(UsageProblem, match="'ltchiptool~4' is neither"):
        Expectation("info", "done", "", when="ltchiptool~4").fits("ltchiptool", {})


@pytest.mark.parametrize(
    ("done", "code", "lines", "touched", "text"),
    [
        (True, 0, [], None, "done"),
        (True, 0, ["W: an Error is only a word here"], True, "done"),
        (False, 0, ["all fine"], None, "exit 0, not done"),
        (False, 0, ["Traceback", "TimeoutError: no"], None, "error, exit 0"),
        (True, 1, ["E: x"], True, "error, flash changed"),
        (False, 1, ["E: x"], False, "error, flash untouched"),
        (False, 2, ["Error: No such option: -E"], None, "absent"),
        (False, 2, ["tool: error: argument -s"], None, "error, exit 2"),
        (False, -9, [], None, "error, exit -9"),
    ],
)
def test_outcomes(done, code, lines, touched, text):
    assert outcome(done=done, exit_code=code, lines=lines, touched=touched) == text


def test_a_cell_that_differs_is_told(expectations):
    rule = Expectation("info", "done", "", says=("OK!$",), never=("bad",), pulses=1)
    assert rule.differences(Seen("done", 0, 1, ["OK!"])) == []
    assert len(rule.differences(Seen("error", 1, 0, ["a bad thing"]))) == 4
    two = replace(expectations, operations=expectations.operations[:2])
    row = Row("ltchiptool==4.15.0", "ltchiptool", {"ltchiptool": "4.15.0", "bk7231tools": "2.1.2"})
    row.seen = {"reset": Seen("done", 0, 1), "info": Seen("exit 0, not done", 0)}
    gone = Row("ltchiptool==9.9", "ltchiptool", {}, "the package index has no ltchiptool 9.9")
    text = document(two, [row, gone], "x.bin")
    assert "| ltchiptool==4.15.0 | 2.1.2 | done | **exit 0, not done, not expected** |" in text
    assert "- ltchiptool==4.15.0, info: expected 'done', seen 'exit 0, not done'" in text
    assert "| ltchiptool==9.9 | | the package index has no ltchiptool 9.9 |" in text
    assert "- ltchiptool==9.9: the package index has no ltchiptool 9.9" in text


@pytest.mark.parametrize("only", [[], ["--only", "ltchiptool==4.15.0"]])
def test_a_release_that_cannot_be_installed_is_a_difference_and_the_document_stays(
    tmp_path, monkeypatch, capsys, only
):
    def offline(release, say):
        raise UsageProblem("the package index cannot be reached")

    kept = tmp_path / "flasher-releases.md"
    kept.write_text("what was seen when there was a network")
    monkeypatch.setattr(flasher_releases, "DOCUMENT", kept)
    monkeypatch.setattr(flasher_releases, "environment_of", offline)
    monkeypatch.setattr(flasher_releases, "contents", lambda image, dump: (b"", {"whole": b""}))
    monkeypatch.setattr(flasher_releases, "SimBench", contextlib.nullcontext)
    assert flasher_releases.main(only) == 1
    told = capsys.readouterr()
    assert kept.read_text() == "what was seen when there was a network"
    assert ("not written, since these could not be installed: ltchiptool==" in told.err) is not bool(only)
    assert ("## Not as expected\n\n- ltchiptool==4.15.0: the package index" in told.out) is bool(only)


def test_what_a_write_leaves():
    before = bytes(range(256)) * 64
    after = overlaid(before, 0x1000, b"x" * 0x1001)
    assert len(after) == len(before)
    assert after[:0x1000] == before[:0x1000]
    assert after[0x1000:0x3000] == b"x" * 0x1001 + b"\xff" * 0xFFF
    assert after[0x3000:] == before[0x3000:]
