"""rig power: from facts to an outcome class; trials as lines of JSON; spare sectors; what is a board's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import UsageProblem
from rig.image import flashmap
from rig.image.contents.openbeken import config_sector, default_config
from rig.power.aftermath import differing
from rig.power.outcome import OUTCOMES, Seen, classify
from rig.power.owned import Owned, calibration_kept, config_kept, owned
from rig.power.spare import WINDOW, erases_of, least_worn, spare_windows
from rig.power.trial import Cell, Trial, read_trials
from rig.records.trials import TRIALS
from rig.sim import firmware
from rig.uart.trace import Command

SECTOR = 0x1000
FINE = Seen(
    True, seconds=1.0, usual_s=1.0, answers=True, cycled=True, boots=True, content=True, elsewhere=True, later=True,
    cycles=2, calibration=True, config=True,
)  # fmt: skip
LOST = "link-lost: no reply to erase"


@pytest.mark.parametrize(
    ("changed", "outcome", "says"),
    [
        ({}, "unaffected", "as ever"),
        ({"seconds": 1.4, "usual_s": 1.0}, "unaffected", "as ever"),
        ({"seconds": 1.5, "usual_s": 1.0}, "late", "1.50 s, usual are 1.00 s"),
        ({"error": "erase repeated: no reply"}, "detected", "no reply; then it was done"),
        ({"finished": False, "error": LOST}, "detected", "no reply to erase; the board itself is as good"),
        ({"finished": False, "error": LOST, "content": False}, "detected", "as good as before"),
        ({"finished": False, "error": LOST, "answers": None}, "detected", "no reply"),
        ({"resets": 1, "causes": ("power-on",)}, "recovered", "it reset once (power-on) and came back"),
        ({"finished": False, "error": LOST, "resets": 1}, "recovered", "told: link-lost"),
        ({"finished": False, "error": LOST, "resets": 12, "content": False}, "detected", "and its ROM answers"),
        ({"finished": False, "resets": 3, "answers": None, "causes": ("watchdog", "watchdog")}, "boot-loop",
         "reset 3 times (watchdog)"),
        ({"finished": False, "resets": 5, "answers": False}, "boot-loop", "did not come up until its power"),
        ({"finished": False, "answers": False}, "hung", "did not answer until its power was cycled"),
        ({"finished": False, "answers": False, "error": LOST}, "hung", "did not answer"),
        ({"finished": False, "answers": False, "resets": 1}, "hung", "after a reset"),
        ({"finished": False, "answers": None}, "hung", "said nothing"),
        ({"content": False, "where": ((0x1B0000, 4),)}, "silent-corruption", "at 0x1b0000 (4 bytes)"),
        ({"later": False}, "silent-corruption", "wrong after 2 power-cycles"),
        ({"later": False, "error": "set-baud repeated: no echo"}, "silent-corruption", "wrong after 2 power-cycles"),
        ({"elsewhere": False, "finished": False, "error": LOST}, "silent-corruption", "where nothing was written"),
        ({"calibration": False}, "lost-data", "its calibration is gone"),
        ({"calibration": False, "config": False, "elsewhere": False}, "lost-data", "calibration and its config"),
        ({"boots": False, "elsewhere": False, "full_image": True}, "full-image", "by a full image from 0x0 only"),
        ({"boots": False, "full_image": False}, "dead", "even with a full image"),
        ({"cycled": False, "answers": False}, "dead", "does not answer any more"),
        ({"blocked": "the flash port went away"}, "blocked", "the flash port went away"),
    ],
)  # fmt: skip
def test_each_class_follows_from_its_facts(changed: dict[str, object], outcome: str, says: str) -> None:
    found, why = classify(replace(FINE, **changed))  # type: ignore[arg-type]
    assert (found, says in why) == (outcome, True), why


_FACT = st.sampled_from([None, True, False])
_SEEN = st.builds(
    Seen, finished=st.booleans(), error=st.sampled_from(["", LOST]), seconds=st.none() | st.floats(0, 100),
    usual_s=st.none() | st.floats(0.01, 100), resets=st.integers(0, 5), answers=_FACT, cycled=_FACT, boots=_FACT,
    content=_FACT, elsewhere=_FACT, later=_FACT, calibration=_FACT, config=_FACT, full_image=_FACT,
    blocked=st.sampled_from(["", "supply-lost"]),
)  # fmt: skip
_WORSE = {
    "calibration": "lost-data", "config": "lost-data", "elsewhere": "silent-corruption", "cycled": "dead",
    "full_image": "dead",
}  # fmt: skip


@settings(derandomize=True, max_examples=300, deadline=None)
@given(_SEEN)
def test_any_facts_have_one_class_and_a_sentence(seen: Seen) -> None:
    outcome, why = classify(seen)
    assert outcome in OUTCOMES
    assert why.strip()
    assert "\n" not in why
    assert (outcome == "blocked") == bool(seen.blocked)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(_SEEN, st.sampled_from(sorted(_WORSE)))
def test_damage_never_makes_an_outcome_milder(seen: Seen, name: str) -> None:
    seen = replace(seen, blocked="")
    before, _ = classify(seen)
    after, _ = classify(replace(seen, **{name: False}))  # type: ignore[arg-type]
    assert OUTCOMES.index(after) >= min(OUTCOMES.index(before), OUTCOMES.index(_WORSE[name]))
    assert OUTCOMES.index(after) >= OUTCOMES.index(_WORSE[name])


@pytest.mark.parametrize("lost", ["content", "later"])
def test_a_write_that_is_wrong_and_was_told_of_is_no_silent_corruption(lost: str) -> None:
    told, _ = classify(replace(FINE, finished=False, error=LOST, **{lost: False}))  # type: ignore[arg-type]
    untold, _ = classify(replace(FINE, **{lost: False}))  # type: ignore[arg-type]
    assert (told, untold) == ("detected", "silent-corruption")


# -- trials on record ------------------------------------------------------------------------------------

DIP = {"kind": "dip", "steps": [{"seconds": 0.02, "volts": 2.4, "amps": None}], "words": "dip to 2.40 V for 20 ms"}
CELL = Cell("s/dip", "flash", "erase", DIP, 3.3, 0.5, None, {"volts": 2.4, "seconds": 0.02}, 2, 0.001)
TRIAL = Trial(
    7, CELL, "A", "uid-01", False, "silent-corruption", "äh", {"fired_ns": 5}, None, 1.25, 1.0, 1, ["power-on"],
    {"0x1c0000": 2}, 2, [(0x1C0000, 16)], "2026-11-23T10:00:00+00:00", 9, 50.0, {"rig": "1"}, "logs/A-7.txt", None,
)  # fmt: skip


def test_a_trial_comes_back_from_its_line() -> None:
    line = TRIAL.to_json()
    assert "\n" not in line
    assert Trial.from_dict(json.loads(line)) == TRIAL
    assert Trial.from_dict(json.loads(line) | {"of a later rig": 1}) == TRIAL
    assert not TRIAL.good
    assert TRIAL.counted
    assert not replace(TRIAL, outcome="blocked").counted


def test_a_torn_line_is_dropped_and_the_last_of_a_number_counts(tmp_path: Path) -> None:
    again = replace(TRIAL, outcome="unaffected")
    torn = replace(TRIAL, n=8).to_json()[:40]
    rest = replace(TRIAL, n=9).to_json()
    text = f"{TRIAL.to_json()}\n{again.to_json()}\n{torn}\n{rest}\n{replace(TRIAL, n=10).to_json()}"
    (tmp_path / TRIALS).write_text(text, encoding="utf-8")
    assert read_trials(tmp_path) == [again, replace(TRIAL, n=9)]
    assert read_trials(tmp_path / "none") == []


@pytest.mark.parametrize(
    "row",
    [
        "[1]", '{"n": 1}', json.dumps(json.loads(TRIAL.to_json()) | {"outcome": "fine"}),
        json.dumps(json.loads(TRIAL.to_json()) | {"cell": {"study": "s", "activity": "fly"}}),
        json.dumps(json.loads(TRIAL.to_json()) | {"cell": {"study": "s", "activity": "boot", "phase": "lunch"}}),
        json.dumps(json.loads(TRIAL.to_json()) | {"cell": 3}),
        json.dumps(json.loads(TRIAL.to_json()) | {"where": [1]}),
    ],
)  # fmt: skip
def test_what_is_no_trial_is_said_in_a_sentence(tmp_path: Path, row: str) -> None:
    (tmp_path / TRIALS).write_text(row + "\n")
    with pytest.raises(UsageProblem):
        read_trials(tmp_path)


# -- spare sectors ---------------------------------------------------------------------------------------


def test_windows_are_blank_and_in_nobodys_way() -> None:
    area = flashmap.region("ota")
    flash = bytearray(b"\xff" * flashmap.FLASH_SIZE)
    flash[area.start + 3 * SECTOR + 7] = 0
    flash[area.end - 1] = 0
    windows = spare_windows(bytes(flash), "BK7231N", [(0x11000, area.start - 0x11000 + 1)])
    taken = {at + n * SECTOR for at in windows for n in range(WINDOW)}
    assert len(taken) == WINDOW * len(windows)
    assert min(taken) == area.start + 4 * SECTOR
    assert max(taken) <= area.end - 2 * SECTOR
    for at in taken:
        assert bytes(flash[at : at + SECTOR]) == b"\xff" * SECTOR


def test_a_firmware_that_uses_it_all_leaves_no_room() -> None:
    with pytest.raises(UsageProblem, match="leaves no 8 sectors"):
        spare_windows(bytes(flashmap.FLASH_SIZE), "BK7231N", [])


def test_wear_spreads_over_the_windows() -> None:
    windows, worn = [0x1A0000, 0x1A8000, 0x1B0000], {0x1A0000 + n * SECTOR: 0 for n in range(24)}
    for _ in range(9):
        at = least_worn(windows, worn)
        for n in range(WINDOW):
            worn[at + n * SECTOR] += 1
    assert set(worn.values()) == {3}


def test_erases_are_counted_by_sector() -> None:
    commands = [
        Command("erase", 0x1A0000, 0, head="20"), Command("erase", 0x1A0000, 0, head="d8"),
        Command("erase-4k", 0x3A1000, 0), Command("erase", 0x1A0000, 0, head="20", refused="no backup"),
        Command("write-4k", 0x1A0000, 0),
    ]  # fmt: skip
    found = erases_of(commands, flashmap.FLASH_SIZE)
    assert (found[0x1A0000], found[0x1A1000], found[0x1AF000], len(found)) == (2, 2, 1, 16)


def test_differences_are_told_by_place() -> None:
    wanted = bytes(4 * SECTOR)
    now = bytearray(wanted)
    now[5], now[9], now[100], now[SECTOR + 1], now[3 * SECTOR] = 1, 1, 1, 1, 1
    assert differing(wanted, bytes(now), [(0, 2 * SECTOR)]) == [(5, 5), (100, 1), (SECTOR + 1, 1)]
    assert differing(wanted, bytes(now), [(10, 50)]) == []
    assert differing(wanted, bytes(now), [(3 * SECTOR - 10, 20)]) == [(3 * SECTOR, 1)]


# -- what is a board's own -------------------------------------------------------------------------------


def board_flash() -> bytearray:
    flash = bytearray(firmware.factory_dump(5))
    at = flashmap.OBK_CONFIG["BK7231N"]
    flash[at : at + SECTOR] = config_sector(default_config("c8:47:8c:01:02:03"))
    return flash


def own(flash: bytearray) -> Owned:
    return owned(bytes(flash), "BK7231N")


def test_calibration_and_configuration_are_kept_or_lost() -> None:
    flash = board_flash()
    before = own(flash)
    assert (calibration_kept(before, before), config_kept(before, before)) == (True, True)
    calibration, config = flashmap.CALIBRATION["BK7231N"], flashmap.OBK_CONFIG["BK7231N"]
    for at in (calibration, config):
        gone = bytearray(flash)
        gone[at : at + SECTOR] = b"\xff" * SECTOR
        assert (calibration_kept(before, own(gone)), config_kept(before, own(gone))) == (
            at != calibration,
            at != config,
        )
        assert (calibration_kept(own(gone), before) is None) == (at == calibration)
        assert (config_kept(own(gone), before) is None) == (at == config)


def test_what_a_firmware_counts_is_no_loss_and_one_wrong_bit_is() -> None:
    flash, config = board_flash(), default_config("c8:47:8c:01:02:03")
    before = own(flash)
    at = flashmap.OBK_CONFIG["BK7231N"]
    flash[at : at + SECTOR] = config_sector(replace(config, changes=9))
    assert config_kept(before, own(flash))
    flash[at + 0x20] ^= 1
    assert config_kept(before, own(flash)) is False
    flash[at : at + SECTOR] = config_sector(replace(config, short_name="obk00000000"))
    assert config_kept(before, own(flash)) is False
    calibration = before.calibration
    assert calibration is not None
    entry = next(each for each in calibration.entries if each.name == "MAC")
    flash[flashmap.CALIBRATION["BK7231N"] + entry.offset + 5] ^= 0x10
    assert calibration_kept(before, own(flash)) is False
