"""rig releases: what a trial is called, by what was seen and what was said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.flashers.base import ChipIdentity
from rig.releases.files import Made
from rig.releases.operations import Operation
from rig.releases.oracle import MOST_DIFFERING, Said, Seen, Verdict, judge

SIZE, SECTOR = 0x40000, 0x1000
BEFORE = bytes(range(1, 256)) * (SIZE // 255 + 1)
BEFORE = BEFORE[:SIZE]
AT = 0x20000
DATA = b"\xa5" * (2 * SECTOR + 100)
WHO = ChipIdentity("BK7231N", 0x7231C, b"\xeb\x60\x15", SIZE, "02:52:49:00:00:01", bytes(range(32)))
OK = Said(True, None, True, 0, ["OK!"])
FAILED = Said(False, "ValueError: no", False, 1, ["E: ValueError: no"])
EXIT_0 = Said(False, "TimeoutError: no", True, 0, ["TimeoutError: no"])


def write(**more: Any) -> Operation:
    table = {"id": "w", "title": "w", "what": "w", "group": "write", "does": "write", "file": "odd", "offset": AT}
    return Operation.model_validate(table | more)


def read(**more: Any) -> Operation:
    table = {"id": "r", "title": "r", "what": "r", "group": "read", "does": "read", "offset": AT, "length": SECTOR}
    return Operation.model_validate(table | more)


def flash(*pieces: tuple[int, bytes]) -> bytes:
    content = bytearray(BEFORE)
    for at, data in pieces:
        content[at : at + len(data)] = data
    return bytes(content)


PADDED = flash((AT, DATA.ljust(3 * SECTOR, b"\xff")))
WRITTEN = flash((AT, DATA))


def called(operation: Operation, said: Said, now: bytes = BEFORE, **more: Any) -> Verdict:
    made = Made(DATA, ((AT, DATA),)) if operation.does == "write" else None
    return judge(operation, WHO, made, 921600, "ltchiptool", said, Seen(BEFORE, now, **more))


@pytest.mark.parametrize(
    ("said", "now", "outcome", "why"),
    [
        (OK, WRITTEN, "correct", "as it has to be"),
        (OK, PADDED, "correct", "as it has to be"),
        (OK, BEFORE, "lies", "not as it has to be at 0x20000+0x3000"),
        (OK, flash((AT, DATA), (0x30000, b"\0")), "lies", "0x30000+0x1000"),
        (OK, flash((AT, DATA), (AT - 1, b"\xff")), "lies", "0x1f000+0x1000"),
        (OK, flash((AT, DATA[:-1] + b"\0")), "lies", "0x22000+0x1000"),
        (FAILED, WRITTEN, "wrong", "all is as it has to be, but it says"),
        (FAILED, BEFORE, "wrong", "flash is untouched"),
        (FAILED, flash((AT, b"\xff" * SECTOR)), "wrong", "0x20000+0x1000"),
        (EXIT_0, BEFORE, "lies", "ends with exit code 0"),
        (Said(False, None, False, -11, []), BEFORE, "crashes", "signal 11"),
        (Said(False, None, False, 1, ["TypeError: nope"]), BEFORE, "crashes", "TypeError: nope"),
        (Said(False, None, False, 2, ["Error: No such command 'write'."]), BEFORE, "absent", "No such command"),
        (Said(False, None, False, None, [], hung="it printed nothing for 15 s"), BEFORE, "hangs", "nothing for 15 s"),
        (Said(False, None, False, 1, [], stopped="write-reg: an efuse write"), BEFORE, "wrong", "the guard stopped"),
    ],
)
def test_a_write_is_judged_by_flash_and_not_by_what_it_says(said: Said, now: bytes, outcome: str, why: str) -> None:
    found = called(write(), said, now)
    assert (found.outcome, why in found.why) == (outcome, True), found.why


def test_what_stands_behind_a_file_may_have_to_stay() -> None:
    assert called(write(tail="kept"), OK, PADDED).outcome == "lies"
    assert called(write(tail="kept"), OK, WRITTEN).outcome == "correct"


def test_a_tail_is_blank_or_kept_and_nothing_else() -> None:
    end = AT + len(DATA)
    assert called(write(), OK, flash((AT, DATA), (end, b"\0" * 8))).outcome == "lies"
    assert called(write(), OK, flash((AT, DATA), (end, b"\xff" * 8))).outcome == "correct"


@pytest.mark.parametrize(
    ("expects", "said", "now", "outcome"),
    [
        ("done-or-refused", OK, WRITTEN, "correct"),
        ("done-or-refused", FAILED, BEFORE, "refuses"),
        ("done-or-refused", FAILED, flash((AT, b"\xff" * SECTOR)), "wrong"),
        ("done-or-refused", OK, BEFORE, "lies"),
        ("refused", FAILED, BEFORE, "refuses"),
        ("refused", OK, WRITTEN, "wrong"),
        ("refused", OK, BEFORE, "wrong"),
        ("refused", FAILED, WRITTEN, "wrong"),
        ("refused", EXIT_0, BEFORE, "lies"),
        ("failed", FAILED, BEFORE, "correct"),
        ("failed", FAILED, WRITTEN, "correct"),
        ("failed", FAILED, flash((0, b"\0" * SECTOR)), "wrong"),
        ("failed", OK, WRITTEN, "lies"),
        ("failed", EXIT_0, BEFORE, "lies"),
    ],
)
def test_what_may_or_must_be_declined(expects: str, said: Said, now: bytes, outcome: str) -> None:
    assert called(write(expects=expects), said, now).outcome == outcome


def test_a_read_is_its_file() -> None:
    right = BEFORE[AT : AT + SECTOR]
    assert called(read(), OK, left=right).outcome == "correct"
    assert called(read(), OK, left=right[:-1]).why.endswith("the file has 4095 of 4096 bytes")
    assert called(read(), OK, left=None).outcome == "lies"
    other = bytearray(right)
    other[0x10] ^= 1
    assert "differs from the flash at 0x20010" in called(read(), OK, left=bytes(other)).why
    assert called(read(), FAILED, left=right).outcome == "wrong"
    assert called(read(), OK, flash((0, b"\0")), left=right).outcome == "lies"


def test_half_a_file_is_no_refusal() -> None:
    operation = read(expects="done-or-refused")
    assert called(operation, FAILED, left=BEFORE[AT : AT + 100]).outcome == "wrong"
    assert called(operation, FAILED).outcome == "refuses"


def test_the_speed_is_what_passed_on_the_wire() -> None:
    right = BEFORE[AT : AT + SECTOR]
    assert called(read(baud=921600), OK, left=right, bauds=frozenset({921600})).outcome == "correct"
    assert "went at 115200" in called(read(baud=921600), OK, left=right, bauds=frozenset({115200})).why


def test_what_a_board_is_has_to_be_shown() -> None:
    shows = {"ltchiptool": ["\\| Chip ID +\\| {chip_id} +\\|", "\\| MAC Address +\\| {mac} +\\|"]}
    operation = Operation.model_validate(
        {"id": "i", "title": "i", "what": "i", "group": "look", "does": "identify", "shows": shows}
    )
    lines = ["| Chip ID             | 0x7231c           |", "| MAC Address         | 02:52:49:00:00:01 |"]
    assert called(operation, Said(True, None, True, 0, lines)).outcome == "correct"
    assert called(operation, Said(True, None, True, 0, lines[:1])).outcome == "lies"
    wrong = [lines[0], lines[1].replace("01 ", "02 ")]
    assert called(operation, Said(True, None, True, 0, wrong)).outcome == "lies"


@pytest.mark.parametrize(
    ("before", "after", "good"),
    [(0x7C, 0, True), (0x4000, 0, True), (0, 0, True), (0x0200, 0x0200, True), (0, 0x7C, False), (0x0200, 0, False)],
)
def test_only_protection_may_go_from_the_status_register(before: int, after: int, good: bool) -> None:
    found = called(write(), OK, WRITTEN, sr_before=before, sr_after=after)
    assert found.outcome == ("correct" if good else "lies")


def test_what_the_running_firmware_may_change_is_not_the_tools() -> None:
    right, now = BEFORE[AT : AT + SECTOR], flash((0x3000, b"\0" * 10))
    assert called(read(), OK, now, left=right).outcome == "lies"
    assert called(read(stray=[(0x3000, 0x1000)]), OK, now, left=right).outcome == "correct"


@given(st.sets(st.integers(0, SIZE // SECTOR - 1), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_sector_that_differs_is_named(sectors: set[int]) -> None:
    now = flash(*((sector * SECTOR + 5, b"\0") for sector in sectors if BEFORE[sector * SECTOR + 5]))
    found = called(read(), FAILED, now).differing
    named = {at // SECTOR for start, length in found for at in range(start, start + length, SECTOR)}
    assert named <= sectors
    assert named == sectors or len(found) == MOST_DIFFERING
    assert found == sorted(found)
