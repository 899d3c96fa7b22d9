"""Exports, judged by pandas, duckdb, a JUnit schema and OpenHTF's own records; no password; whole or not at all."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
import xmlschema
from hypothesis import example, given, settings
from hypothesis import strategies as st
from synthetic_journals import START, SyntheticRun

from reports import text as text_module
from reports.cells import cell, safe_column
from reports.exports import KINDS, csv_tables, export, openhtf
from reports.load import load
from reports.numbers import ROWS
from reports.tables import Name, Records, records_of, typed
from reports.text import shown
from rig import scrub
from rig.errors import UsageProblem
from rig.records.events import Measured, Outcome, PhaseEnded, PhaseStarted

SECRET = "hunter2hunter2"
SCHEMA = Path(__file__).parent / "data" / "junit-10.xsd"
"""Jenkins' own (xunit-plugin, MIT), as pytest's source distribution has it in testing/example_scripts."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with all that is awkward: every outcome, names that a spreadsheet or a schema trips over, a password,
    an unknown code, values that were not measured, a unit that is still being worked on."""
    folder = tmp_path_factory.mktemp("runs")
    command = f"rig convert --set password={SECRET}"
    with SyntheticRun(folder / "r1", batch="b,1", operator="=HYPERLINK(1)", command=command) as run:
        run.attempt("SN1", "pass", identity="uid-1", mac="C8:47:8C:00:00:01", firmware="1.17.5", written=True)
        run.attempt("SN2", "marginal", stop_at="boot", current=0.24)
        run.attempt("=cmd|' /C calc'!A0", "fail", code="no-link", stop_at="identify",
                    sentence=f'said "no", then\npassword: {SECRET}')  # fmt: skip
        run.attempt('q"uote,é <&> Ω', "blocked", code="step-timeout", stop_at="write", sentence="too long")
        run.attempt("SN2", "aborted", stop_at="backup")
        run.attempt("SN5", "unverified", code="half-written", stop_at="write")
        run.attempt("SN8", "blocked", code="no-current", stop_at="power-on", sentence="no current")
        run.attempt("SN6", "fail", code="never-heard-of", stop_at="boot", current=None)
        who = run.begin("SN7")
        run.note(f"wifi password: {SECRET}", unit="SN7", level="warning", said=f"psk={SECRET}")
        run.write(PhaseStarted, **who, phase="boot")
        run.write(Measured, **who, phase="boot", name="boot_current", value=None, unit_of="A", maximum=0.25,
                  outcome=Outcome.FAIL)  # fmt: skip
        run.write(Measured, **who, phase="boot", name="firmware", value=None, outcome=Outcome.FAIL)
        run.write(Measured, **who, phase="boot", name="paired", value=True)
        run.write(Measured, **who, phase="boot", name="config", value=f"mqtt://me:{SECRET}@host")
        run.write(Measured, **who, phase="boot", name=f"test_login[password={SECRET}]", value=1.0)
        run.write(PhaseEnded, **who, phase="boot", outcome=Outcome.FAIL, duration_s=1.5, code="boot-loop")
        run.attempt("GOLD", "pass", role="golden", task="verify")
        run.end(1)
    with SyntheticRun(folder / "r2", start=START + timedelta(days=1)) as run:
        run.attempt("SN1", "pass", identity="uid-1")
        run.begin("SN9")
    return folder


@pytest.fixture(scope="module")
def records(runs: Path) -> Records:
    return load([runs])


@pytest.fixture(scope="module")
def nothing() -> Records:
    return records_of({})


def _clean(value: Any) -> Any:
    """What becomes of a value that leaves."""
    return shown(value) if isinstance(value, str) else value


# -- what leaves ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_password_leaves_through_an_export(records: Records, tmp_path: Path, kind: str) -> None:
    found = export(records, kind, tmp_path)
    assert found == sorted(path for path in (tmp_path / kind).rglob("*") if path.is_file())
    assert found
    if kind == "parquet":
        texts = [pd.read_parquet(path).to_csv() for path in found]
    else:
        texts = [path.read_text() for path in found]
    assert not [path for path, text in zip(found, texts, strict=True) if SECRET in text]
    hidden = sum(text.count("***") for text in texts)
    assert hidden >= {"csv": 4, "parquet": 5, "junit": 1, "openhtf": 3}[kind]


WORDS = st.sampled_from([
    "pass", "password: ", "Pwd=", "psk", "PSK - hexdump(len=3): aa bb", "ssid:home key:12345678", "token: ",
    "sec_key=",
    "mqtt://me:", "@host", "secret", "get key:\n01 02 03 04", "key: ", "dev id key: 16", "get kvs", "Authorization: ",
    "\r\n", "\t", "\x07", "\u202e", "ſ", "K", "Ω", " ", ":", "[", "]", '"', "12345678", "wpa_passphrase", "ok",
])  # fmt: skip


SECRETS = [
    "Using Pass [12345678]", "ssid:home key:12345678", "mqttpassword 12345678", 'psk:"12345678"', "token='12345678'",
    "?pwd=1234&", "{passwd:1234,", "password: 1234", "password is 1234x", "pwd hunter2hunter", "passphrase hunter2x",
    "x_secret: abc", "Authorization: Basic abc", "key: 12345678", "mqtt://me:1234@host", "PMK hexdump(len=2): aa bb",
    "GTK hexdump(len=2): aa bb", "PTK hexdump(len=2): aa bb", "get kvs:\n01 02 03 04", "dev id key: 16\n01 02 03 04",
]  # fmt: skip


_slow = text_module._cleaned.__wrapped__


def test_whatever_the_slow_look_hides_the_fast_one_sees() -> None:
    for finder in scrub._FINDERS:
        assert any(finder.search(text) for text in SECRETS), f"an example is missing for {finder.pattern}"
    for text in SECRETS:
        assert "***" in shown(text) == _slow(text), text


@settings(max_examples=250, derandomize=True, deadline=None)
@given(st.lists(WORDS | st.text(max_size=6), max_size=8).map("".join))
@example("paſſword: 12345678")
def test_the_fast_look_says_what_the_slow_one_says(text: str) -> None:
    assert shown(text) == _slow(text)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | WORDS, max_size=8))
def test_a_column_is_its_cells(texts: list[str | None]) -> None:
    for values in (pd.Series(texts, dtype="str"), pd.Series(texts, dtype="str").astype("category")):
        assert safe_column(values, guard=True).to_pylist() == [text if text is None else cell(text) for text in texts]
        assert safe_column(values).to_pylist() == [text if text is None else shown(text) for text in texts]


# -- CSV -----------------------------------------------------------------------------------------------------------


def test_pandas_reads_the_csv_back(records: Records, tmp_path: Path) -> None:
    folder = export(records, "csv", tmp_path)[0].parent
    assert {path.name for path in folder.iterdir()} == {f"{name}.csv" for name in csv_tables.NAMES}
    attempts = pd.read_csv(folder / "attempts.csv", parse_dates=["started", "ended"])
    details = records.details(records.attempts["order"])
    told = records.attempts
    assert list(attempts["order"]) == list(range(len(told)))
    for name in ("outcome", "slot", "counted", "good", "reworked", "trial", "attempt"):
        assert list(attempts[name]) == list(told[name])
    for name in ("cycle_s", "duration_s"):
        np.testing.assert_array_equal(attempts[name], told[name])  # to the last bit; NaN where NaN
    for name in ("started", "ended"):
        assert [*attempts[name]] == [*told[name]] or attempts[name].equals(told[name])
    assert list(attempts["board"]) == [cell(board) for board in details["board_name"]]
    assert list(attempts["unit"]) == [cell(unit) for unit in told["unit"]]
    assert attempts["sentence"].dropna().to_list() == [cell(each) for each in details["sentence"].dropna()]
    assert attempts["mac"].dropna().to_list() == ["C8:47:8C:00:00:01"]
    phases = pd.read_csv(folder / "phases.csv")
    assert list(phases["step"]) == list(records.phases["step"])
    assert phases["outcome"].fillna("").to_list() == records.phases["outcome"].astype(object).fillna("").to_list()
    golden = pd.read_csv(folder / "golden.csv")
    assert list(golden["unit"]) == ["GOLD"]
    runs = pd.read_csv(folder / "runs.csv")
    assert list(runs["run"]) == ["r1", "r2"]
    assert json.loads(runs["tools"][0]) == records.runs["tools"][0]
    assert runs["operator"][0] == "'=HYPERLINK(1)"


def test_duckdb_reads_the_csv_back(records: Records, tmp_path: Path) -> None:
    folder = export(records, "csv", tmp_path)[0].parent
    every = records.numbers.all_of(records.attempts["order"])
    told = duckdb.sql(
        f"select m.*, a.outcome as attempt_outcome from '{folder}/measurements.csv' m "
        f"join '{folder}/attempts.csv' a using (\"order\", run, unit, attempt) order by all"
    ).df()
    assert len(told) == len(every)

    def value(row: Any) -> Any:
        return str(row.value).lower() if isinstance(row.value, bool) else _clean(row.value)

    wanted = Counter(
        (row.order, row.step, _clean(row.name), value(row), str(row.outcome)) for row in every.itertuples(index=False)
    )
    found: Counter[Any] = Counter()
    for row in told.itertuples():
        either = row.text if isinstance(row.text, str) else None if pd.isna(row.value) else row.value
        found[row.order, row.step, row.name, either, row.outcome] += 1
    assert found == wanted
    assert sum(1 for key in found if key[3] is None) == 2  # the missing current, and the missing text
    limits = told[told["name"] == "boot_current"].groupby("marginal_maximum", dropna=False)["maximum"].first()
    assert limits.to_dict()[0.2] == 0.25
    kinds = dict(duckdb.sql(f"select column_name, column_type from (describe '{folder}/attempts.csv')").fetchall())
    assert (kinds["started"][:9], kinds["order"], kinds["counted"]) == ("TIMESTAMP", "BIGINT", "BOOLEAN")


def test_what_a_spreadsheet_would_run_is_text() -> None:
    for formula in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1"):
        assert cell(formula) == f"'{formula}"
    assert (cell(-1.5), cell(None), cell("a=b")) == (-1.5, None, "a=b")
    assert cell(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00+00:00"


def test_chunks_of_a_csv_join_without_a_seam(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {path.name: path.read_bytes() for path in export(records, "csv", tmp_path / "whole")}
    monkeypatch.setattr(csv_tables, "ATTEMPTS_AT_ONCE", 2)
    assert {path.name: path.read_bytes() for path in export(records, "csv", tmp_path / "parts")} == whole


# -- JUnit ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(SCHEMA)


def test_junit_is_valid_by_jenkins_schema(
    records: Records, nothing: Records, schema: xmlschema.XMLSchema, tmp_path: Path
) -> None:
    files = export(records, "junit", tmp_path)
    assert [path.name for path in files] == ["r1.xml", "r2.xml"]
    bare = records_of({"unit": ["U1", "U2"], "outcome": ["pass", "running"], "run": ["..", "a/b"]})
    others = export(bare, "junit", tmp_path / "bare")
    assert len(others) == 2
    for path in files + others:
        schema.validate(path)
    broken = files[0].read_text().replace(' errors="', ' mistakes="')
    assert not schema.is_valid(broken)


def test_junit_has_all_that_the_ant_schema_asks_for(records: Records, tmp_path: Path) -> None:
    """Source: JUnit.xsd of windyroad/JUnit-Schema, for Ant's reports: rules that Jenkins' schema does not have."""
    for path in export(records, "junit", tmp_path):
        root = ElementTree.parse(path).getroot()
        (suite,) = root
        assert (root.tag, root.attrib) == ("testsuites", {})
        assert set(suite.attrib) == {"id", "package", "name", "timestamp", "hostname", "tests", "failures", "errors",
                                     "skipped", "time"}  # fmt: skip
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        assert re.fullmatch(r"\d+(\.\d+)?", suite.attrib["time"])
        tags = [child.tag for child in suite]
        assert tags == ["properties", *["testcase"] * (len(tags) - 3), "system-out", "system-err"]
        for case in suite.iter("testcase"):
            assert set(case.attrib) == {"classname", "name", "time"}
            assert len(case) <= 1
            assert all("type" in child.attrib for child in case if child.tag != "skipped")


def test_pytests_own_report_and_ours_have_the_same_build(
    records: Records, schema: xmlschema.XMLSchema, tmp_path: Path
) -> None:
    suite = tmp_path / "test_it.py"
    suite.write_text("import pytest\ndef test_a(): pass\ndef test_b(): assert 0\ndef test_c(): pytest.skip('x')\n"
                     "@pytest.fixture\ndef bad(): raise OSError\ndef test_d(bad): pass\n")  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(suite)]
    subprocess.run([*command, f"--junitxml={tmp_path}/own.xml"], capture_output=True, check=False, cwd=tmp_path)
    schema.validate(tmp_path / "own.xml")
    theirs = ElementTree.parse(tmp_path / "own.xml").getroot()
    ours = ElementTree.parse(export(records, "junit", tmp_path)[0]).getroot()

    def build(root: ElementTree.Element, name: str) -> set[str]:
        return {key for each in root.iter(name) for key in each.attrib}

    assert build(theirs, "testcase") <= build(ours, "testcase") == {"classname", "name", "time"}
    assert build(ours, "failure") >= build(theirs, "failure")
    assert build(theirs, "testsuite") - build(ours, "testsuite") == set()


def test_what_junit_says_of_each_attempt(records: Records, tmp_path: Path) -> None:
    root = ElementTree.parse(export(records, "junit", tmp_path)[0]).getroot()
    suite = root[0]
    cases = list(suite.iter("testcase"))
    kinds = Counter(child.tag for case in cases for child in case)
    assert {key: int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": len(cases), "failures": kinds["failure"], "errors": kinds["error"], "skipped": kinds["skipped"],
    }  # fmt: skip
    assert suite.attrib["timestamp"] == "2026-11-22T17:15:00"
    names = Counter((case.attrib["classname"], case.attrib["name"]) for case in cases)
    assert max(names.values()) == 1
    by_name = {(case.attrib["classname"], case.attrib["name"]): case for case in cases}
    assert len(by_name["SN1", "boot"]) == 0
    failed = by_name["=cmd|' /C calc'!A0", "identify"][0]
    assert (failed.tag, failed.attrib["type"]) == ("failure", "no-link")
    assert failed.attrib["message"] == 'said "no", then\npassword: ***'
    assert "What to do: Check TX and RX" in (failed.text or "")
    assert by_name["=cmd|' /C calc'!A0", "backup"][0].tag == "skipped"
    blocked = by_name['q"uote,é <&> Ω', "write"][0]
    assert (blocked.tag, blocked.attrib["type"]) == ("error", "step-timeout")
    assert by_name["SN2", "backup (attempt 2)"][0].tag == "error"
    unknown = by_name["SN6", "boot"][0]
    assert (unknown.attrib["type"], unknown.text) == ("never-heard-of", "fail")
    assert by_name["SN5", "write"][0].attrib["type"] == "half-written"
    assert by_name["SN7", "boot"][0].attrib["message"].startswith("The board resets again")
    assert by_name["SN7", "attempt 1"][0].attrib["type"] == "crashed"
    assert suite.findtext("system-out") == "marginal: SN2 boot\n"
    assert "GOLD" not in {case.attrib["classname"] for case in cases}


def test_an_attempt_whose_end_no_step_tells_is_a_testcase(tmp_path: Path) -> None:
    told = records_of(
        {"unit": ["U1", "U2", "U3"], "outcome": ["blocked", "running", "pass"], "code": ["crashed", None, None]},
        phases={"order": [0], "step": ["boot"], "phase": ["boot"], "outcome": ["pass"]},
    )
    root = ElementTree.parse(export(told, "junit", tmp_path)[0]).getroot()
    found = {
        (case.attrib["classname"], case.attrib["name"]): [child.tag for child in case]
        for case in root.iter("testcase")
    }
    assert found == {("U1", "boot"): [], ("U1", "attempt 1"): ["error"], ("U2", "attempt 1"): ["skipped"],
                     ("U3", "attempt 1"): []}  # fmt: skip
    assert (root[0].attrib["tests"], root[0].attrib["errors"], root[0].attrib["skipped"]) == ("4", "1", "1")


# -- OpenHTF -------------------------------------------------------------------------------------------------------

LIMITS: list[list[float | None]] = [
    [0.02, 0.25, 0.03, 0.2], [None, 0.25, None, 0.2], [0.02, None, None, None], [3.0, 3.0, None, None],
    [1e-07, 1e22, None, None],
]  # fmt: skip


@pytest.fixture(scope="module")
def own() -> Any:
    """What OpenHTF itself writes."""
    pytest.importorskip("openhtf")
    script = Path(__file__).parent / "openhtf_record.py"
    ran = subprocess.run(
        [sys.executable, script, json.dumps(LIMITS)], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def told(records: Records, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Ours, by their unit and attempt."""
    files = export(records, "openhtf", tmp_path_factory.mktemp("openhtf"))
    by_name = {f"{path.parent.name} {path.stem}": json.loads(path.read_text()) for path in files}
    ended = records.attempts[records.attempts["outcome"] != "running"]
    assert len(by_name) == len(ended) >= 8
    return by_name


def _type(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def _build(value: Any) -> Any:
    """Keys and types; of a list what its items are like."""
    if isinstance(value, dict):
        return {key: _build(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_build(each) for each in value[:1]]
    return _type(value)


@pytest.mark.parametrize(("mine", "theirs"), [("SN2.1", "pass"), ("SN6.1", "fail"), ("SN8.1", "error")])
def test_keys_and_types_are_those_of_a_record_that_openhtf_wrote(
    own: Any, told: dict[str, Any], mine: str, theirs: str
) -> None:
    ours, wanted = told[f"r1 {mine}"], own["records"][theirs]
    assert ours["outcome"] == wanted["outcome"]
    assert set(ours) == set(wanted)
    for key in set(wanted) - {"metadata", "phases", "log_records", "outcome_details"}:
        assert _build(ours[key]) == _build(wanted[key]), key
    assert {"test_name", "test_version", "config"} <= set(ours["metadata"])
    assert isinstance(ours["metadata"]["config"]["station_id"], str)
    of_theirs = {phase["outcome"]: phase for phase in wanted["phases"]}
    for phase in ours["phases"]:
        like = dict(of_theirs.get(phase["outcome"], wanted["phases"][0]))
        assert set(phase) == set(like)
        for key in set(like) - {"measurements", "result", "marginal"}:
            assert _build(phase[key]) == _build(like[key]), key
        assert phase["options"] == like["options"]
        assert phase["start_time_millis"] <= phase["end_time_millis"] <= ours["end_time_millis"]
    marginal = {phase["outcome"]: type(phase["marginal"]) for phase in own["records"][theirs]["phases"]}
    for phase in ours["phases"]:
        assert type(phase["marginal"]) is marginal.get(phase["outcome"], type(None))
    for detail, like in zip(ours["outcome_details"], own["records"]["error"]["outcome_details"], strict=False):
        assert _build(detail) == _build(like)


def test_measurements_read_like_openhtfs(own: Any, told: dict[str, Any]) -> None:
    theirs = next(phase for phase in own["records"]["fail"]["phases"] if phase["name"] == "boot")["measurements"]
    first = next(phase for phase in told["r1 SN1.1"]["phases"] if phase["name"] == "boot")["measurements"]
    assert first["boot_current"] == {
        "name": "boot_current", "outcome": "PASS", "validators": ["0.02 <= x <= Marginal:0.2 <= 0.25"],
        "units": theirs["current"]["units"], "measured_value": 0.07,
    }  # fmt: skip
    assert set(first["firmware"]) == set(theirs["firmware"]) == {"name", "outcome", "measured_value"}
    missing = next(phase for phase in told["r1 SN7.1"]["phases"] if phase["name"] == "boot")["measurements"]
    assert set(missing["boot_current"]) - {"units"} == set(theirs["missing"]) == {"name", "outcome", "validators"}
    assert missing["boot_current"]["outcome"] == theirs["missing"]["outcome"] == "UNSET"
    assert (missing["paired"]["measured_value"], theirs["flag"]["measured_value"]) == (True, True)


def test_limits_and_units_are_said_in_openhtfs_words(own: Any) -> None:
    names = ["minimum", "maximum", "marginal_minimum", "marginal_maximum"]
    rows = pd.DataFrame(LIMITS, columns=names, dtype=object).itertuples()
    assert [openhtf._limits(row) for row in rows] == own["validators"]
    for unit in openhtf._UNITS.values():
        assert list(unit) == own["units"][unit[2]]


def test_what_openhtf_is_told_of_each_outcome(told: dict[str, Any]) -> None:
    found = {name: (record["outcome"], record["marginal"]) for name, record in told.items()}
    assert found["r1 SN1.1"] == ("PASS", False)
    assert found["r1 SN2.1"] == ("PASS", True)
    assert found["r1 SN2.2"] == ("ABORTED", None)
    assert found["r1 SN5.1"] == ("FAIL", None)
    assert [found[name] for name in found if "=C3=A9" in name] == [("TIMEOUT", None)]
    assert found["r1 SN7.1"] == ("ERROR", None)
    first = told["r1 SN1.1"]
    assert (first["dut_id"], first["station_id"]) == ("SN1", "station-1")
    assert first["metadata"]["mac"] == "C8:47:8C:00:00:01"
    assert first["start_time_millis"] == int(START.timestamp() * 1000)
    assert first["end_time_millis"] - first["start_time_millis"] == 30_000
    times = [(phase["start_time_millis"], phase["end_time_millis"]) for phase in first["phases"]]
    begun = first["start_time_millis"]
    assert [(low - begun, high - begun) for low, high in times] == [
        (0, 1500), (1500, 3000), (3000, 12000), (12000, 24000), (24000, 30000)
    ]  # fmt: skip
    notes = [line["message"] for line in told["r1 SN7.1"]["log_records"]]
    assert notes == ["wifi password: ***"]
    assert [phase["outcome"] for phase in told["r1 SN6.1"]["phases"]] == ["PASS"] * 4 + ["FAIL"]


def test_openhtf_refuses_more_files_than_a_folder_bears(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openhtf, "MOST", 3)
    with pytest.raises(UsageProblem, match=r"these are \d+ attempts; at most 3 .* export csv or parquet"):
        export(records, "openhtf", tmp_path)
    assert not any(tmp_path.iterdir())


# -- Parquet -------------------------------------------------------------------------------------------------------


def test_a_folder_of_parquet_is_the_same_records_again(records: Records, tmp_path: Path) -> None:
    folder = tmp_path / "parquet"
    assert export(records, "parquet", tmp_path)
    again = load([folder])
    for name in ("attempts", "phases", "golden", "artifacts"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(records, name))
    orders = records.attempts["order"]
    assert SECRET in records.runs["command"][0]
    commands = records.runs["command"].map(shown).astype(object)
    pd.testing.assert_frame_equal(again.runs, records.runs.assign(command=commands))
    details, every = records.details(orders), records.numbers.all_of(orders)
    sentences = details["sentence"].map(_clean).astype("str")
    pd.testing.assert_frame_equal(again.details(orders), details.assign(sentence=sentences))
    names = every["name"].cat.rename_categories(_clean)
    wanted = every.assign(value=every["value"].map(_clean), name=names)
    pd.testing.assert_frame_equal(again.numbers.all_of(orders), wanted, check_categorical=False)
    found = duckdb.sql(
        f"select unit, value, maximum from '{folder}/measurements.parquet' join '{folder}/attempts.parquet' "
        'using ("order") where name = \'boot_current\' order by "order"'
    ).fetchall()
    mine = every[every["name"] == "boot_current"]
    units = records.attempts["unit"].iloc[mine["order"]]
    assert found == list(zip(units, mine["value"], mine["maximum"], strict=True))
    assert [row.text for row in again.notes.itertuples()] == [shown(row.text) for row in records.notes.itertuples()]


# -- whole or not at all -------------------------------------------------------------------------------------------


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow past `size` bytes: the system refuses the write, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(records: Records, tmp_path: Path, kind: str) -> None:
    with full_disk(256), pytest.raises(UsageProblem, match=r"^The export cannot be written to .*: file too large\.$"):
        export(records, kind, tmp_path)
    assert not any(tmp_path.iterdir())
    before = {path: path.read_bytes() for path in export(records, kind, tmp_path)}
    with full_disk(256), pytest.raises(UsageProblem):
        export(records, kind, tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    assert [path.name for path in tmp_path.iterdir()] == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_made_again_takes_the_place_of_the_old_one(records: Records, tmp_path: Path, kind: str) -> None:
    first = {path.relative_to(tmp_path): path.stat().st_ino for path in export(records, kind, tmp_path)}
    part = records.part(np.arange(len(records.attempts)) >= len(records.attempts) - 1)
    second = {path.relative_to(tmp_path): path.stat().st_ino for path in export(part, kind, tmp_path)}
    assert set(second) <= set(first)
    assert not set(first.values()) & set(second.values())
    assert {path.name for path in tmp_path.iterdir()} == {kind}
    if kind == "junit":
        assert [path.name for path in second] == ["r2.xml"]


@pytest.mark.parametrize("kind", KINDS)
def test_other_files_are_never_replaced(records: Records, tmp_path: Path, kind: str) -> None:
    (tmp_path / kind).mkdir()
    (tmp_path / kind / "thesis.docx").write_text("mine")
    with pytest.raises(UsageProblem, match=r"thesis\.docx in it is not from an export"):
        export(records, kind, tmp_path)
    assert [path.name for path in (tmp_path / kind).iterdir()] == ["thesis.docx"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageProblem, match=r"cannot be written to .*/file/.*: .*/file is a file"):
        export(records, kind, tmp_path / "file")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / kind).write_text("mine")
    with pytest.raises(UsageProblem, match=r"cannot be written to .*: .* is a file"):
        export(records, kind, tmp_path / "taken")


def test_an_unknown_kind_is_named(records: Records, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="no export 'xlsx': choose from csv, parquet, junit, openhtf"):
        export(records, "xlsx", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_export_is_empty_tables(nothing: Records, tmp_path: Path, kind: str) -> None:
    found = export(nothing, kind, tmp_path)
    assert (tmp_path / kind).is_dir()
    if kind == "csv":
        assert [len(pd.read_csv(path)) for path in found] == [0] * 5
        assert re.match('"order","run","unit"', (tmp_path / kind / "measurements.csv").read_text())


# -- scale ---------------------------------------------------------------------------------------------------------


class Drawn:
    """Numbers of a million units that are drawn when they are asked for: 20 names."""

    def __init__(self, n: int) -> None:
        self._n = n

    def all_names(self) -> list[Name]:
        return [Name("boot", "boot", f"m{at}", "A") for at in range(20)]

    names = all_names

    def rows_of(self, name: Name) -> pd.DataFrame:
        rng = np.random.default_rng(int(name.name[1:]))
        columns = {
            "order": np.arange(self._n),
            "number": rng.normal(0.07, 0.01, self._n),
            "limits": 0,
            "outcome": "pass",
        }
        return typed(columns, ROWS, self._n)

    def limits(self) -> pd.DataFrame:
        return pd.DataFrame({"minimum": [np.nan], "maximum": [0.1], "marginal_minimum": [np.nan],
                             "marginal_maximum": [0.09]})  # fmt: skip


@pytest.mark.soak
def test_a_million_units_in_a_minute_and_bounded_memory(tmp_path: Path) -> None:
    """CSV and Parquet in under 60 s of processor time each, JUnit in 300; under 2 GB with the records themselves."""
    n = 1_000_000
    order = np.arange(n)
    steps = ["power-on", "identify", "backup", "flash", "boot"]
    phases = {"order": np.repeat(order, 5), "step": np.tile(steps, n), "phase": np.tile(steps, n), "outcome": "pass",
              "duration_s": 6.0}  # fmt: skip
    told = records_of(
        {"unit": np.char.add("SN", order.astype(str)), "run": np.char.add("r", (order // 300).astype(str))},
        numbers=Drawn(n),  # type: ignore[arg-type]
        phases=phases,
    )
    for kind, most in (("csv", 60), ("parquet", 60), ("junit", 300)):
        before, began = time.process_time(), time.monotonic()
        export(told, kind, tmp_path)
        took, wall = time.process_time() - before, time.monotonic() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{kind}: {took:.1f} s of processor, {wall:.1f} s, {memory:.2f} GB")  # noqa: T201
        assert took < most
        assert memory < 2.0
    assert duckdb.sql(f"select count(*) from '{tmp_path}/csv/measurements.csv'").fetchall() == [(20 * n,)]
    with pytest.raises(UsageProblem, match="1000000 attempts"):
        export(told, "openhtf", tmp_path)
