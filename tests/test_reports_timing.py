"""Where a unit's time goes: parts add up, like is compared with like, a trend is found and none is made up."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports import timing
from reports.numbers import MemoryNumbers
from reports.tables import PHASES, Name, Records, records_of, typed
from reports.timing import PARTS, Trend, breakdown, kendall_p, of_trace, parts, regression, theil_sen
from rig.errors import UnitFailed
from rig.line.timing import BAUD, CHECK, ERASE, LINK, PROGRAM, READ, baud_of, seconds_of, timed
from rig.uart.accounting import account
from rig.uart.trace import Command, save_json

STARTED = pd.Timestamp("2026-11-01 08:00", tz="UTC")


def name(phase: str, what: str) -> Name:
    return Name(phase, phase, what, "s")


SPLIT = {
    name("identify", "link_time"): 0.5, name("backup", "backup_time"): 10.0, name("flash", "write_time"): 8.0,
    name("flash", "link_time"): 0.25, name("flash", "erase_time"): 2.0, name("flash", "program_time"): 4.0,
    name("flash", "check_time"): 1.0, name("flash", "read_time"): 0.5, name("settled", "link_time"): 0.25,
    name("settled", "settled_time"): 1.25,
}  # fmt: skip
BOOT_S, TOTAL_S = 3.0, 25.0
EXPECTED = {"link": 1.0, "read": 10.5, "erase": 2.0, "write": 4.0, "verify": 2.0, "boot": 3.0, "rig": 2.5}


def converted(n: int, told: dict[Name, Any] | None = None, **columns: Any) -> Records:
    """n attempts that took TOTAL_S; `told` in place of the numbers in SPLIT (None: not measured)."""
    numbers = {
        each: {"order": np.arange(n), "value": np.broadcast_to(value, n)}
        for each, value in (SPLIT | (told or {})).items()
        if value is not None
    }
    attempts = {
        "unit": [f"U{each}" for each in range(n)], "cycle_s": np.full(n, TOTAL_S),
        "started": STARTED + pd.to_timedelta(np.arange(n) * 600, unit="s"), "baud": 921600,
    } | columns  # fmt: skip
    phases = {
        "order": np.repeat(np.arange(n), 2), "phase": ["flash", "boot"] * n, "step": ["flash", "boot"] * n,
        "outcome": "pass", "duration_s": [8.5, BOOT_S] * n,
    }  # fmt: skip
    return records_of(attempts, numbers=MemoryNumbers.of_names(numbers), phases=phases)


# -- the parts -----------------------------------------------------------------------------------------------


def test_the_parts_are_what_was_measured_and_add_up() -> None:
    table = parts(converted(3))
    assert dict(table.iloc[0][list(PARTS)]) == pytest.approx(EXPECTED)
    assert table[list(PARTS)].sum(axis=1).to_numpy() == pytest.approx([TOTAL_S] * 3)
    assert list(table["order"]) == [0, 1, 2]


def test_only_good_attempts_of_the_usual_task_are_compared() -> None:
    records = converted(
        8,
        task=["convert"] * 5 + ["burn-in"] * 3,
        outcome=["pass", "fail", "blocked", "marginal", "aborted"] + ["pass"] * 3,
    )
    assert list(parts(records)["order"]) == [5, 6, 7]  # most of the good ones
    assert list(parts(records, "convert")["order"]) == [0, 3]
    assert len(parts(converted(4, cycle_s=[np.nan, 1.0, np.nan, 2.0]))) == 2  # a clock that jumped says nothing
    study = converted(4, study=True)
    assert len(parts(study)) == 4  # nothing else is there
    assert len(parts(converted(4, study=[True, True, True, False]))) == 1


def test_by_slot_baud_and_flasher_in_medians() -> None:
    slow = np.where(np.arange(10) % 2, 4.0, 9.0)
    records = converted(
        10,
        {name("flash", "program_time"): slow},
        slot=["A", "B"] * 5,
        baud=[115200, 921600] * 4 + [0, 0],
        flasher=["native"] * 9 + ["ltchiptool==4.15.0"],
    )
    by_slot = breakdown(records, "slot").set_index("slot")
    assert list(by_slot["n"]) == [5, 5]
    assert list(by_slot["write"]) == [9.0, 4.0]
    assert by_slot.loc["A", "rig"] == 0.0  # what does not fit into the whole is never negative
    assert list(by_slot["total"]) == [TOTAL_S, TOTAL_S]
    by_baud = breakdown(records, "baud")
    assert list(by_baud["baud"]) == [115200, 921600]  # unknown speeds are no speed
    assert list(by_baud["n"]) == [4, 4]
    assert list(breakdown(records, "flasher")["n"]) == [1, 9]
    with pytest.raises(ValueError, match="slot, baud, flasher, run, station, not by colour"):
        breakdown(records, "colour")
    assert breakdown(converted(0), "slot").empty
    assert list(breakdown(converted(0), "station").columns) == ["station", "n", *PARTS, "total"]


def test_records_without_the_split_have_one_write() -> None:
    gone = dict.fromkeys(each for each in SPLIT if each.phase == "flash" and each.name != "write_time")
    table = parts(converted(2, {**gone, name("flash", "verify_time"): 0.75}))
    assert list(table["write"]) == [8.0, 8.0]
    assert table["erase"].isna().all()
    assert list(table["verify"]) == [1.75, 1.75]  # a tool's write was judged by itself


def test_a_verification_has_reading_and_no_writing() -> None:
    numbers = {
        Name("verify: identify", "identify", "link_time", "s"): {"order": [0], "value": [0.5]},
        Name("verify: read", "read", "read_time", "s"): {"order": [0], "value": [9.0]},
    }
    phases = {"order": [0, 0, 0], "phase": ["read", "verify", "boot"], "duration_s": [9.1, 0.2, 3.0]}
    records = records_of({"unit": ["U1"], "task": "verify", "cycle_s": [15.0]},
                         numbers=MemoryNumbers.of_names(numbers), phases=phases)  # fmt: skip
    (row,) = parts(records).to_dict("records")
    assert (row["read"], row["verify"], row["boot"], row["rig"]) == pytest.approx((9.0, 0.2, 3.0, 2.3))
    assert np.isnan(row["erase"])
    assert np.isnan(row["write"])


# -- wire traces ---------------------------------------------------------------------------------------------


def command(kind: str, begun_ms: int, ends_ms: int, **more: Any) -> Command:
    """A command that took all the time since the one before it."""
    ms = 1_000_000
    times = {"sent_ns": begun_ms * ms, "reply_ns": ends_ms * ms, "reply_end_ns": ends_ms * ms}
    return Command(kind, None, begun_ms * ms, **times, size=10, reply_size=10, answered=True, **more)


WIRE = [
    command("link-check", 0, 500), command("set-baud", 500, 510), command("read-4k", 510, 2510, baud=921600),
    command("check-crc", 2510, 3510, baud=921600), command("erase", 4000, 5000, baud=921600),
    command("write-4k", 5000, 6500, baud=921600), command("check-crc", 6500, 6900, baud=921600),
    command("read-reg", 6900, 7000, baud=921600),
]  # fmt: skip
STEPS = pd.DataFrame({
    "phase": ["identify", "backup", "flash"], "start_ns": [0, 510_000_000, 3_900_000_000],
    "end_ns": [510_000_000, 3_600_000_000, 8_000_000_000],
})  # fmt: skip


def test_the_names_are_those_that_the_line_measures_by() -> None:
    names = (timing.LINK, timing.READ, timing.ERASE, timing.PROGRAM, timing.CHECK)
    assert names == (LINK, READ, ERASE, PROGRAM, CHECK)


def test_a_trace_says_what_the_measurements_would(tmp_path: Path) -> None:
    path = tmp_path / "wire.jsonl"
    save_json(path, WIRE)
    found = of_trace(path, STEPS)
    assert found == pytest.approx({"link": 0.51, "read": 3.0, "erase": 1.0, "write": 1.5, "verify": 0.4})
    sums = seconds_of(account(WIRE[4:]))
    assert sums == pytest.approx({ERASE: 1.0, PROGRAM: 1.5, "check_time": 0.4})
    assert of_trace(tmp_path / "none.jsonl", STEPS) is None
    path.write_text('{"name": "read-4k", "surprise": 1}\n')
    assert of_trace(path, STEPS) is None


def test_old_records_are_split_by_their_traces(tmp_path: Path) -> None:
    gone = dict.fromkeys(each for each in SPLIT if each.phase in ("flash", "settled") and each.name != "write_time")
    records = converted(2, {**gone, name("identify", "link_time"): None, name("backup", "backup_time"): None})
    save_json(tmp_path / "wire.jsonl", WIRE)
    phases = STEPS.assign(order=0, step=STEPS["phase"], outcome="pass", duration_s=1.0)
    records = replace(
        records,
        steps=typed(phases, PHASES, len(phases)),
        look_up=lambda orders: pd.DataFrame({"order": orders}).assign(
            folder=[str(tmp_path) if order == 0 else np.nan for order in orders],
            board_name=None, sentence=None, mac=None, identity=None, backup_sha256=None, backup_bytes=np.nan,
        ),
    )  # fmt: skip
    table = parts(records)
    assert list(table["write"]) == [1.5, 8.0]  # the other one's trace is gone
    assert table["erase"].iloc[0] == 1.0
    assert table["read"].iloc[0] == 3.0


def test_a_step_measures_its_own_share_of_the_wire() -> None:
    told: list[tuple[str, float, str]] = []
    record: Any = SimpleNamespace(measure=lambda what, value, unit="": told.append((what, value, unit)))
    tap: Any = SimpleNamespace(commands=WIRE[:4])
    with timed(tap, record, baud=True):
        tap.commands = WIRE
    assert told == [
        (PROGRAM, pytest.approx(1.5), "s"), (ERASE, pytest.approx(1.0), "s"), ("check_time", pytest.approx(0.4), "s"),
        (BAUD, 921600, "Bd"),
    ]  # fmt: skip
    told.clear()
    tap.commands = []
    with timed(tap, record, LINK, READ):
        tap.commands = WIRE
    assert {what for what, _, _ in told} == {LINK, READ}
    told.clear()

    def fail() -> None:
        with timed(tap, record, baud=True):
            tap.commands = [*WIRE, *WIRE]
            raise UnitFailed("verify-failed", "it did not hold")

    with pytest.raises(UnitFailed):
        fail()
    assert [what for what, _, _ in told] == [BAUD]  # at which speed it went wrong
    assert baud_of([]) is None


# -- over time -----------------------------------------------------------------------------------------------


def drifting(n: int, per_day: float, seed: int = 1, *, noise: float = 0.3, **columns: Any) -> Records:
    draw = np.random.default_rng(seed)
    days = np.arange(n) * 600 / 86400
    program = 6 + per_day * days + draw.normal(0, noise, n) + (draw.random(n) < 0.03) * 30  # with hiccups
    other = {each: draw.normal(5, noise, n) for each in SPLIT if each != name("flash", "program_time")}
    return converted(n, {**other, name("flash", "program_time"): program}, cycle_s=np.full(n, 80.0), **columns)


def test_a_drift_is_found_with_its_slope_whatever_the_hiccups() -> None:
    found = {each.part: each for each in regression(drifting(600, 0.2))}
    write = found["write"]
    assert write.significant
    assert write.low * 24 < 0.2 < write.high * 24
    assert (write.n, write.hours) == (600, pytest.approx(599 / 6))
    assert write.change == pytest.approx(0.2 * 599 / 144, rel=0.25)
    assert "write takes" in str(write)
    assert "longer at the end" in str(write)
    assert "a day" in str(write)
    assert not found["erase"].significant
    assert "no trend" in str(found["erase"])


def test_theil_sens_slope_is_scipys() -> None:
    records = drifting(150, 0.2, slot="A")
    (write,) = [each for each in regression(records) if each.part == "write"]
    values = parts(records)["write"].to_numpy()
    hours = np.arange(150) / 6
    judge = stats.theilslopes(values, hours, 0.95)
    assert (write.slope, write.low, write.high) == pytest.approx((judge.slope, judge.low_slope, judge.high_slope))
    assert write.median == np.median(values)


def test_a_slot_that_came_later_is_no_drift() -> None:
    n = 400
    late = np.arange(n) >= n // 2
    program = np.where(late & (np.arange(n) % 2 == 0), 12.0, 6.0) + np.random.default_rng(2).normal(0, 0.1, n)
    slots = np.where(late & (np.arange(n) % 2 == 0), "B", "A")
    found = {
        each.part: each for each in regression(converted(n, {name("flash", "program_time"): program}, slot=slots))
    }
    assert not found["write"].significant


def test_one_look_in_twenty_at_most_makes_a_trend_up() -> None:
    made_up = sum(any(each.significant for each in regression(drifting(40, 0.0, seed))) for seed in range(15))
    assert made_up <= 4  # 5 % of 15 are less than one: five or more come up once in 1800 tries


def test_too_few_or_nothing_to_compare() -> None:
    assert regression(converted(0)) == []
    assert regression(drifting(11, 0.1)) == []
    assert regression(converted(20, started=STARTED)) == []  # all at one moment
    assert regression(converted(20)) == []  # nothing varies
    one = Trend("write", 20, 5.0, 4.0, -0.1, -0.2, -0.05, 0.01)
    assert "shorter" in str(one)
    assert "an hour" in str(one)


def test_forty_thousand_attempts_take_a_moment() -> None:
    """Two weeks of ten stations; a year's million takes 1 to 2 s."""
    n = 40_000
    slots, stations = np.array(list("ABCDEFGH"))[np.arange(n) % 8], np.array(["s1", "s2"])[np.arange(n) % 2]
    records = drifting(n, 0.0, slot=slots, station=stations, outcome="pass")
    began = time.process_time()
    known = parts(records)
    table, trends = breakdown(records, "slot", table=known), regression(records, table=known)
    assert time.process_time() - began < 1
    assert (len(table), len(trends)) == (8, 6)  # boot and total are always the same here


@pytest.mark.parametrize("n", [12, 33, 34, 200])
@pytest.mark.parametrize("digits", [15, 1])  # 1: with many ties
def test_slopes_and_their_p_are_scipys(n: int, digits: int) -> None:
    draw = np.random.default_rng(n)
    x = np.round(np.sort(draw.normal(size=n)), digits)
    y = np.round(0.3 * x + draw.normal(size=n), digits)
    line = stats.theilslopes(y, x, 0.95)
    assert theil_sen(x, y) == pytest.approx((line.slope, line.low_slope, line.high_slope), rel=1e-12)
    assert kendall_p(x, y) == pytest.approx(stats.kendalltau(x, y).pvalue, rel=1e-9)
