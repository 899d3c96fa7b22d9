"""Made-up batches, for tests of what a report finds in them: clean ones, and ones with a cause planted.

What a unit measures is drawn to look like a line's numbers: meters with a resolution, tails, times that hang
together, numbers that are missing, single failures and blocked attempts, retests of the same bad board. The planted
causes work through a model of what they do, the same as on the simulated bench: a needle whose resistance grows with
each board until the radio's current pulls the chip below its reset level, a USB-UART whose every answer is late, an
image that does not come up.

`records` makes tables at once; `journals` writes the same as runs' journals.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.numbers import MemoryNumbers
from reports.tables import OUTCOME, Name, Numbers, Records, counted, good, records_of
from rig.records.events import Measured, Outcome, PhaseEnded, PhaseStarted, Planned, UnitEnded
from tests.synthetic_journals import SyntheticRun

START = datetime(2026, 11, 2, 6, 0, tzinfo=UTC)
SECTORS = 512  # a backup's reads: one late answer each
WEAK_OHMS = 5.5  # above it the simulated chip loses its power as it transmits: (3.3 V x 2.0 / 1.8 - 2.0) / 0.304 A
FAILS = ("no-link", "verify-failed", "boot-loop", "current-high", "log-silent")
BLOCKS = ("supply-lost", "contact", "port-lost", "no-current")
BROKEN = 0.15  # chance that a clean batch's unit that failed is not broken: it passes when it is tried again

_NAMES = {
    "off_volts": ("supply-off", "V", (None, 0.3)),
    "rom_current": ("identify", "A", (0.005, 0.1)),
    "rail_volts": ("identify", "V", (3.0, 3.6)),
    "flash_line_strays": ("identify", "B", (None, None)),
    "backup_time": ("backup", "s", (None, None)),
    "backup_read": ("backup", "B", (None, None)),
    "write_size": ("plan", "B", (None, None)),
    "write_time": ("flash", "s", (None, None)),
    "retries": ("flash", "", (None, None)),
    "verify_time": ("flash", "s", (None, None)),
    "settled_time": ("settled", "s", (None, None)),
    "resets": ("boot", "", (None, None)),
    "boot_time": ("boot", "s", (None, 30.0)),
    "steady_current": ("steady", "A", (0.02, 0.25)),
    "steady_volts": ("steady", "V", (None, None)),
}
PHASES = list(dict.fromkeys(phase for phase, _, _ in _NAMES.values()))
NAMES = {name: Name(phase, phase, name, unit) for name, (phase, unit, _) in _NAMES.items()}


@dataclass(frozen=True)
class Batch:
    """A batch to be made up. `worn`: the slot whose needle wears, `slow`: the one whose USB-UART is slow, `bad`:
    whether the last run's image is bad."""

    units: int = 96
    slots: int = 4
    images: int = 2
    runs: int = 2
    seed: int = 0
    worn: str | None = None
    slow: str | None = None
    bad: bool = False
    per_board: float = 0.35  # ohms a touch
    spread: float = 1.0
    late_ms: float = 16.0


def clean(seed: int) -> Batch:
    """The clean batch of a number: 64 to 200 units, 3 to 8 slots, one or two runs and images."""
    draw = np.random.default_rng([seed, 1])
    runs = int(draw.integers(1, 4))
    return Batch(
        units=int(draw.integers(64, 201)), slots=int(draw.integers(3, 9)), runs=runs,
        images=min(runs, int(draw.integers(1, 3))), seed=seed,
    )  # fmt: skip


@dataclass(frozen=True)
class Attempts:
    """Columns of all attempts in order of time, and of each name (order, value)."""

    told: dict[str, Any]
    seconds: NDArray[np.float64]
    numbers: dict[str, NDArray[np.float64]]  # NaN: not measured


def made(batch: Batch) -> Attempts:
    """Draws the batch."""
    draw = np.random.default_rng([batch.seed, 2])
    n = batch.units
    unit = np.arange(n)
    run = unit * batch.runs // n
    image = np.minimum(run, batch.images - 1)
    slot = _turns(draw, run, batch.slots)
    outcome, code = _ends(draw, n)
    numbers = _numbers(draw, n, run, image)
    letters = np.array([chr(ord("A") + each) for each in range(batch.slots)])
    _plant(batch, draw, letters[slot], run, outcome, code, numbers)
    unit, again = _retests(draw, unit, outcome)
    taken = {name: values[unit] for name, values in numbers.items()}
    noise = draw.normal(1, 0.01, len(unit)) * (1 + 0.02 * draw.standard_t(4, len(unit)).clip(-5, 20))
    for name in ("backup_time", "write_time", "settled_time"):
        taken[name] = taken[name] * np.abs(noise)
    outcome, code = outcome[unit].copy(), code[unit].copy()
    passed = again & (draw.random(len(unit)) < BROKEN)
    outcome[passed], code[passed] = "pass", None
    _cut_short(draw, outcome, code, taken)
    busy = np.nansum([taken[name] for name in ("backup_time", "write_time", "settled_time", "boot_time")], axis=0)
    seconds = busy + draw.gamma(9, 0.5, len(unit))
    starts = np.floor(np.arange(len(unit)) / batch.slots) * 60 + slot[unit]
    operators = np.array(["ann", "bob"])[: int(draw.integers(1, 3))]
    told = {
        "run": np.array([f"run-{each + 1}" for each in range(batch.runs)])[run[unit]],
        "unit": np.array([f"SN{each:04d}" for each in unit]), "board": unit, "attempt": 1 + again.astype(int),
        "slot": letters[slot[unit]], "outcome": outcome, "code": code,
        "image": np.array(["old.bin", "new.bin"])[image[unit]],
        "image_sha256": np.array(["0d" * 32, "1e" * 32])[image[unit]],
        "operator": operators[draw.integers(0, len(operators), len(unit))],
        "started": [START + timedelta(seconds=float(each)) for each in starts], "cycle_s": seconds,
    }  # fmt: skip
    return Attempts(told, seconds, taken)


def records(batch: Batch) -> Records:
    """The batch as tables."""
    attempts = made(batch)
    order = np.arange(len(attempts.seconds), dtype=np.int32)
    told = {}
    for name, values in attempts.numbers.items():
        taken = ~np.isnan(values)
        minimum, maximum = _NAMES[name][2]
        told[NAMES[name]] = {
            "order": order[taken], "value": np.where(values[taken] == MISSING, np.nan, values[taken]),
            "minimum": np.nan if minimum is None else minimum, "maximum": np.nan if maximum is None else maximum,
        }  # fmt: skip
    return records_of(attempts.told, numbers=MemoryNumbers.of_names(told))


class Drawn:
    """Numbers as reports.tables.Numbers has them, as far as findings ask for them: without the work that is for
    pages, so that hundreds of batches can be looked at."""

    def __init__(self, attempts: Attempts) -> None:
        self._values = attempts.numbers
        self._limits = {limits: at for at, limits in enumerate({each[2]: 0 for each in _NAMES.values()})}

    def names(self) -> list[Name]:
        return list(NAMES.values())

    def of(self, name: Name) -> pd.DataFrame:
        values = self._values[name.name]
        taken = np.flatnonzero(~np.isnan(values))
        value = np.where(values[taken] == MISSING, np.nan, values[taken])
        at = self._limits[_NAMES[name.name][2]]
        return pd.DataFrame({"order": taken.astype(np.int32), "value": value, "limits": np.full(len(taken), at)})

    def limits(self) -> pd.DataFrame:
        return pd.DataFrame(list(self._limits), columns=["minimum", "maximum"]).astype(float)


def quick(batch: Batch) -> Records:
    """The batch as the columns that findings look at, and no others."""
    attempts = made(batch)
    told, n = attempts.told, len(attempts.seconds)
    texts = ("run", "slot", "code", "image", "image_sha256", "operator")
    outcome = pd.Series(pd.Categorical(told["outcome"], dtype=OUTCOME))
    plain = {name: pd.Categorical([word] * n) for name, word in
             (("station", "station-1"), ("task", "convert"), ("flasher", "native"))}  # fmt: skip
    table = pd.DataFrame({
        **plain, **{name: pd.Categorical(told[name]) for name in texts}, "board": told["board"].astype(np.int32),
        "outcome": outcome, "counted": counted(outcome), "good": good(outcome), "study": False, "baud": 0,
        "cycle_s": told["cycle_s"],
    })  # fmt: skip
    nothing = pd.DataFrame()
    runs = pd.DataFrame(columns=["run", "image", "image_sha256"])
    numbers = cast(Numbers, Drawn(attempts))
    return Records(runs, table, nothing, numbers, nothing, nothing, nothing)


def journals(batch: Batch, folder: Path) -> Path:
    """The batch as journals of its runs under `folder`."""
    attempts = made(batch)
    told = attempts.told
    for run in dict.fromkeys(told["run"]):
        rows = np.flatnonzero(told["run"] == run)
        image = {"image": str(told["image"][rows[0]]), "image_sha256": str(told["image_sha256"][rows[0]])}
        with SyntheticRun(folder / run, start=told["started"][rows[0]], **image) as written:
            for row in rows:
                _attempt(written, attempts, int(row), image)
            written.end()
    return folder


MISSING = -1e9  # a number that could not be measured: the row is there, its value not


def _attempt(run: SyntheticRun, attempts: Attempts, row: int, image: dict[str, str]) -> None:
    told = {name: values[row] for name, values in attempts.told.items()}
    outcome, code = Outcome(str(told["outcome"])), told["code"]
    who = run.begin(str(told["unit"]), str(told["slot"]), operator=str(told["operator"]))
    begun, over = run.now, False
    for at, phase in enumerate(PHASES):
        mine = {name: attempts.numbers[name][row] for name, (step, _, _) in _NAMES.items() if step == phase}
        there = {name: value for name, value in mine.items() if not np.isnan(value)}
        if over or not there:
            result = None if over else outcome
            run.write(PhaseEnded, **who, phase=phase, outcome=result, duration_s=0.0, code=None if over else code)
            over = True
            continue
        run.write(PhaseStarted, **who, phase=phase)
        run.now = begun + attempts.seconds[row] * (at + 1) / len(PHASES)
        for name, value in there.items():
            minimum, maximum = _NAMES[name][2]
            run.write(Measured, **who, phase=phase, name=name, value=None if value == MISSING else float(value),
                      unit_of=_NAMES[name][1], minimum=minimum, maximum=maximum)  # fmt: skip
        if phase == "plan":
            run.write(Planned, **who, image=image["image"], image_sha256=image["image_sha256"], pieces=[],
                      note="")  # fmt: skip
        run.write(PhaseEnded, **who, phase=phase, outcome=Outcome.PASS, duration_s=1.0)
    run.now = begun + attempts.seconds[row]
    run.write(UnitEnded, **who, outcome=outcome, duration_s=attempts.seconds[row], code=code)


def _turns(draw: np.random.Generator, run: NDArray[np.int64], slots: int) -> NDArray[np.int64]:
    """Which slot each unit comes into: the one that is free first."""
    slot = np.empty(len(run), dtype=np.int64)
    free = draw.random(slots)
    for at in range(len(run)):
        slot[at] = free.argmin()
        free[slot[at]] += draw.gamma(20, 3)
    return slot


def _ends(draw: np.random.Generator, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Outcome and code by chance alone, at rates that a line has."""
    outcome = np.full(n, "pass", dtype=object)
    code = np.full(n, None, dtype=object)
    failing, blocking = draw.uniform(0.0, 0.08), draw.uniform(0.0, 0.06)
    few = draw.dirichlet(np.ones(len(FAILS)))
    for at in np.flatnonzero(draw.random(n) < failing):
        outcome[at], code[at] = "fail", draw.choice(FAILS, p=few)
    for at in np.flatnonzero(draw.random(n) < blocking):
        outcome[at], code[at] = "blocked", draw.choice(BLOCKS)
    return outcome, code


def _numbers(
    draw: np.random.Generator, n: int, run: NDArray[np.int64], image: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    def tails(degrees: float = 3.0) -> NDArray[np.float64]:
        return draw.standard_t(degrees, n)

    def steps(values: NDArray[np.float64], resolution: float) -> NDArray[np.float64]:
        return np.round(values / resolution) * resolution

    slow = np.exp(0.03 * tails() + draw.normal(0, 0.05, 3)[run])  # how busy the station is, and how it was that day
    meter = draw.choice([1e-4, 1e-3, 5e-3])  # a good meter, and one that shows two digits
    warm = draw.normal(0, 1, n)  # what makes one chip draw more than another, in all its states
    return {
        "off_volts": steps(draw.exponential(0.02, n), 1e-3),
        "rom_current": steps(0.031 * np.exp(0.04 * warm + 0.02 * tails()), meter),
        "rail_volts": steps(3.3 + 2e-4 * tails(), 1e-3),
        "flash_line_strays": draw.poisson(0.03, n).astype(float),
        "backup_time": 12.0 * slow * np.exp(0.01 * tails()),
        "backup_read": np.where(np.arange(n) < 8, 2097152.0, 65536.0),
        "write_size": np.array([1220464.0, 1180000.0])[image],
        "write_time": np.array([14.0, 13.1])[image] * slow * np.exp(0.01 * tails()),
        "retries": draw.poisson(0.1, n).astype(float),
        "verify_time": 2.8 * slow,
        "settled_time": 4.8 * slow * np.exp(0.005 * tails()),
        "resets": (draw.random(n) < 0.02).astype(float),
        "boot_time": np.array([2.5, 2.9])[image] * np.exp(0.02 * tails(2.0)).clip(0.5, 5),
        "steady_current": steps(np.array([0.082, 0.078])[image] * np.exp(0.05 * warm + 0.03 * tails()), meter),
        "steady_volts": steps(3.3 + 2e-4 * tails(), 1e-3),
    }


def _plant(
    batch: Batch, draw: np.random.Generator, slot: NDArray[Any], run: NDArray[np.int64], outcome: NDArray[Any],
    code: NDArray[Any], numbers: dict[str, NDArray[np.float64]],
) -> None:  # fmt: skip
    if batch.bad:
        hit = (run == batch.runs - 1) & (draw.random(batch.units) < 0.6) & (outcome == "pass")
        outcome[hit], code[hit] = "fail", "boot-loop"
    if batch.slow is not None:
        late = batch.late_ms / 1000
        mine = slot == batch.slow
        numbers["backup_time"][mine] += SECTORS * late
        numbers["write_time"][mine] += numbers["write_size"][mine] / 4096 * late
        numbers["settled_time"][mine] += 40 * late
    if batch.worn is not None:
        mine = np.flatnonzero(slot == batch.worn)
        touch = np.arange(len(mine))
        ohms = 0.3 + batch.per_board * touch + draw.uniform(-batch.spread, batch.spread, len(mine))
        weak = mine[(ohms > WEAK_OHMS) & (outcome[mine] != "blocked")]
        outcome[weak], code[weak] = "blocked", "weak-supply"


def _retests(
    draw: np.random.Generator, unit: NDArray[np.int64], outcome: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Units in order of their attempts: most of what did not pass is tried once more at once, in the same slot."""
    bad = (outcome != "pass") & (draw.random(len(unit)) < 0.7)
    order = np.concatenate([unit, unit[bad]])
    again = np.concatenate([np.zeros(len(unit), dtype=bool), np.ones(int(bad.sum()), dtype=bool)])
    place = np.lexsort((again, order))
    return order[place], again[place]


_STOPS = {"no-link": "identify", "no-current": "identify", "contact": "identify", "supply-lost": "backup",
          "port-lost": "flash", "verify-failed": "settled", "boot-loop": "boot", "weak-supply": "boot",
          "log-silent": "boot", "current-high": "steady"}  # fmt: skip


def _cut_short(
    draw: np.random.Generator, outcome: NDArray[Any], code: NDArray[Any], taken: dict[str, NDArray[np.float64]]
) -> None:
    """What comes after the step that failed was not measured; of the rest, some is missing."""
    stop = np.array([len(PHASES) if each is None else PHASES.index(_STOPS[each]) for each in code])
    for name, values in taken.items():
        values[draw.random(len(values)) < 0.01] = MISSING
        values[PHASES.index(_NAMES[name][0]) >= stop] = np.nan
