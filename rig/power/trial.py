"""One trial of a supply study: an activity of a board under a supply, as planned and as it came out.

A study's trials stand in `trials.jsonl`, one JSON object a line, appended and fsynced one by one. All that judges or
shows a study reads these and `study.json`, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from rig.errors import UsageProblem
from rig.power.outcome import COUNTED, GOOD, OUTCOMES, Outcome
from rig.records.trials import read_rows

STUDY = "study.json"
LOGS = "logs"
TRACES = "traces"
AFTERWARDS = "--- looked at afterwards, at its own supply ---"  # a line of a kept log: the activity ended here

Activity = Literal[
    "link",  # power on, link to the ROM, read who it is
    "flash",  # write spare sectors, and read them back
    "boot",  # power on, until the firmware is up
    "convert",  # write the study's image, prove its boot
    "running",  # the firmware is up, and stays up
]
ACTIVITIES: tuple[Activity, ...] = get_args(Activity)
Phase = Literal[
    "rom", "link", "erase", "program", "crc", "read", "boot", "rf-calibration", "access-point", "running"
]  # fmt: skip
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True)
class Cell:
    """What a trial is a repeat of.

    `waveform`: what the output does from the moment it fires, as `asdict` of rig.supply's Waveform gives it:
    `{"kind": "dip", "steps": [{"seconds": 0.02, "volts": 2.4, "amps": null}], "words": "dip to 2.40 V for 20 ms"}`;
    None: nothing, the supply is held at `volts` with a limit of `amps`. `phase`: what the board is at when it fires:
    the `nth` time, `delay_s` later. `source`: the weak source that volts and amps stand for. `x`: the searched axes
    by name, as {"volts": 2.6, "seconds": 0.02}.
    """

    study: str
    activity: Activity
    phase: Phase | None = None
    waveform: dict[str, Any] | None = None
    volts: float = 3.3
    amps: float = 0.5
    source: str | None = None
    x: dict[str, float] = field(default_factory=dict)
    nth: int = 1
    delay_s: float = 0.0

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Cell:
        """Raises UsageProblem for what is no cell; keys of a later rig are passed over."""
        known = {each.name for each in fields(cls)}
        try:
            cell = cls(**{name: value for name, value in row.items() if name in known})
        except TypeError as problem:
            raise UsageProblem(f"no cell of a study: {problem}") from None
        if cell.activity not in ACTIVITIES:
            raise UsageProblem(f"no cell of a study: {cell.activity!r} is no activity")
        if cell.phase is not None and cell.phase not in PHASES:
            raise UsageProblem(f"no cell of a study: {cell.phase!r} is no phase")
        return cell


@dataclass(frozen=True)
class Trial:
    """A trial as it came out.

    `reference`: nothing was done to the supply, to see that the board is still itself. `why`: one sentence.
    `commanded`: {"sentence", "waveform", "means", "widened", "fired_ns", "seen_ns" (the phase's event), "delay_s"
    (from that to the firing), "missed"}; None where the supply was only held. `achieved`: what the witness saw,
    {"v_min", "widths", "area_vs", "delay_s", "instrument", "sample_s"}; None: not measured. `seconds` of the
    activity, `usual_s` of this board in this study with nothing done to it. `resets` and `causes`: of the log.
    `erased`: erases by sector address ("0x1c0000"), those to put the board right included. `cycles`: power-cycles
    after which flash was looked at again. `where`: (address, length) that differed, at most 16. `utc`, `mono`: when
    it began. `speed`: of the simulated board, 1 of a real one. `log`, `trace`: files below the study's folder,
    scrubbed; the log goes on beyond the activity (`AFTERWARDS`), the trace ends with it.
    """

    n: int
    cell: Cell
    slot: str
    board: str
    reference: bool
    outcome: Outcome
    why: str
    commanded: dict[str, Any] | None = None
    achieved: dict[str, Any] | None = None
    seconds: float | None = None
    usual_s: float | None = None
    resets: int = 0
    causes: list[str] = field(default_factory=list)
    erased: dict[str, int] = field(default_factory=dict)
    cycles: int = 0
    where: list[tuple[int, int]] = field(default_factory=list)
    utc: str = ""
    mono: int = 0
    speed: float = 1.0
    versions: dict[str, str] = field(default_factory=dict)
    log: str | None = None
    trace: str | None = None

    @property
    def good(self) -> bool:
        return self.outcome in GOOD

    @property
    def counted(self) -> bool:
        """Whether it says anything of the board."""
        return self.outcome in COUNTED

    @property
    def missed(self) -> str | None:
        """Why its wave never fired, as the phase it waits for did not come: then it says nothing of the wave. None:
        it fired, or nothing was to fire."""
        return (self.commanded or {}).get("missed") or None

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Trial:
        """Raises UsageProblem for what is no trial; keys of a later rig are passed over."""
        known = {each.name for each in fields(cls)}
        found = {name: value for name, value in row.items() if name in known}
        where = f"trial {row.get('n')}"
        if found.get("outcome") not in OUTCOMES:
            raise UsageProblem(f"{where}: {found.get('outcome')!r} is no outcome")
        try:
            found["cell"] = Cell.from_dict(found["cell"])
            found["where"] = [(int(at), int(length)) for at, length in found.get("where", [])]
            return cls(**found)
        except (TypeError, KeyError, ValueError, AttributeError) as problem:
            raise UsageProblem(f"{where}: {problem}") from None


def read_trials(run: Path) -> list[Trial]:
    """As `rig.records.trials.read_rows`."""
    return read_rows(run, Trial.from_dict)
