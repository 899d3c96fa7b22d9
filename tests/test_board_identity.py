"""Whose board it is, and what stays its own where its efuse tells nothing: as it may be on any board.

A board without UID is known by its MAC, which may be lost, made up by firmware, another board's, or given anew.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from image_files import demo, dump, patched
from test_restore import Made

from rig.bench.product import load_product
from rig.errors import ImageRefused, UnitFailed, UsageProblem
from rig.flashers.base import ChipIdentity
from rig.image import flashmap
from rig.image.contents.calibration import MADE_UP_MAC, read_calibration, with_mac
from rig.image.planning.guard import Board, Plan, plan_write
from rig.line.attempt import Attempt
from rig.line.identity import carry_over, identity_of, mac_after
from rig.line.job import Job, Stage
from rig.line.target import Order, open_target, twin, wrong_board
from rig.records.backups import Backup, BackupStore
from rig.records.kept import KeptBackup, find_kept
from rig.records.run import RunFolder
from rig.sim import firmware
from tests_hil import test_conversion as steps

CAL, CAL_END = flashmap.identity_ranges()[0]
STORE, STORE_END = flashmap.identity_ranges()[1]
LOST = b"\xff" * 0x1000
OWN = firmware.factory_dump(1)
MINE, THEIRS = firmware.mac(1).hex(":"), read_calibration(dump()[CAL:CAL_END]).mac  # type: ignore[union-attr]
GIVEN = "c8:47:8c:01:02:03"
KEY = bytes.fromhex("93b00f51dceacba37ea1935903ebadc7")  # Tuya's
BLANK = KEY + bytes(16)  # an efuse with a key and nothing else
MADE_UP = bytes.fromhex("544c560016000000 001111110e000000 0211111106000000 c8478c000000").ljust(0x1000, b"\xff")


def with_cal(sector: bytes, flash: bytes = OWN) -> bytes:
    return patched(flash, CAL, sector)


def sector(flash: bytes) -> bytes:
    return flash[CAL:CAL_END]


def after(plan: Plan, data: bytes, held: bytes) -> bytes:
    flash = bytearray(held)
    for at, content in plan.contents(data):
        flash[at : at + len(content)] = content
    return bytes(flash)


# -- which board -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("efuse", "mac", "identity"),
    [
        (KEY + bytes(range(8)) + bytes(8), MINE, "uid-0001020304050607"),
        (BLANK, MINE, f"mac-{MINE}"),
        (None, MINE, f"mac-{MINE}"),
        (KEY + b"\xff" * 16, MINE, f"mac-{MINE}"),
        (KEY + bytes(8) + bytes.fromhex(GIVEN.replace(":", "")) + bytes(2), MINE, f"mac-{GIVEN}"),
        (KEY + bytes(8) + bytes.fromhex("c8478c000000") + bytes(2), MINE, f"mac-{MINE}"),
        (BLANK, MADE_UP_MAC, None),
        (BLANK, "ff:ff:ff:ff:ff:ff", None),
        (BLANK, "01:00:5e:00:00:01", None),
        (BLANK, None, None),
    ],
)
def test_boards_never_pass_for_one_another(efuse: bytes | None, mac: str | None, identity: str | None) -> None:
    assert identity_of(ChipIdentity(efuse=efuse, mac=mac)) == identity


# -- calibrations that firmware made up ---------------------------------------------------------------------------


def test_a_made_up_calibration_is_a_lost_one() -> None:
    assert read_calibration(MADE_UP).made_up  # type: ignore[union-attr]
    held = with_cal(MADE_UP)
    plan = plan_write(dump(), "d", board=Board(held=held, backup=OWN))
    assert sector(after(plan, dump(), held)) == sector(OWN)
    for backup in (held, None):  # the backup is of a board that had booted so
        plan = plan_write(dump(), "d", board=Board(held=held, backup=backup, mac=GIVEN))
        assert plan.mac == GIVEN
        assert sector(after(plan, dump(), held)) == with_mac(sector(dump()), GIVEN)
    plan = plan_write(dump(), "d", board=Board(held=OWN, backup=held))
    assert sector(after(plan, dump(), OWN)) == sector(OWN)
    bare = with_cal(MADE_UP, dump())
    plan = plan_write(bare, "d", board=Board(held=held, backup=held))
    assert sector(after(plan, bare, held)) == MADE_UP
    assert any("neither its backup nor the dump has one" in note for note in plan.notes)


def test_a_measured_calibration_with_the_made_up_mac_gets_another() -> None:
    real = bytes.fromhex("544c56003e000000 001111110e000000 0211111106000000 c8478c000000 0022222220000000")
    real = (real + bytes.fromhex("0222222218000000") + bytes(24)).ljust(0x1000, b"\xff")
    found = read_calibration(real)
    assert found is not None
    assert (found.made_up, found.measured) == (True, True)
    held = with_cal(real)
    plan = plan_write(dump(), "d", board=Board(held=held, backup=held, mac=GIVEN))
    assert sector(after(plan, dump(), held)) == with_mac(real, GIVEN)


def test_the_made_up_mac_is_given_to_no_board() -> None:
    held = with_cal(LOST)
    with pytest.raises(UsageProblem, match="makes up"):
        plan_write(dump(), "d", board=Board(held=held, backup=held, mac=MADE_UP_MAC))
    plan = plan_write(dump(), "d", board=Board(held=held, backup=held, efuse_mac=MADE_UP_MAC))
    assert plan.mac not in (None, MADE_UP_MAC, THEIRS)
    with pytest.raises(ImageRefused, match="made it up"):
        plan_write(MADE_UP, "cal", board=Board(held=OWN, backup=held))


# -- a board that got another's dump before ------------------------------------------------------------------------

CLONE = dump()  # all of it, storage too


def test_a_clone_with_a_mac_given_gets_it_and_none_of_the_donors_storage() -> None:
    for backup in (CLONE, None):  # first backed up when it was one already
        plan = plan_write(CLONE, "d", board=Board(held=CLONE, backup=backup, mac=GIVEN))
        flash = after(plan, CLONE, CLONE)
        assert plan.mac == GIVEN
        assert sector(flash) == with_mac(sector(CLONE), GIVEN)
        assert not flash[STORE:STORE_END].strip(b"\xff")
        assert any(f"MAC {THEIRS}, written to it before" in note for note in plan.notes)


def test_a_clone_that_was_backed_up_before_is_itself_again() -> None:
    plan = plan_write(CLONE, "d", board=Board(held=CLONE, backup=OWN))
    flash = after(plan, CLONE, CLONE)
    assert sector(flash) == sector(OWN)
    assert flash[STORE:] == OWN[STORE:]


def test_a_boards_own_dump_is_no_clones() -> None:
    for board in (
        Board(held=CLONE, backup=CLONE),
        Board(held=CLONE, backup=CLONE, efuse_mac=THEIRS, mac=GIVEN),
        Board(held=CLONE, backup=CLONE, mac=THEIRS),
    ):
        plan = plan_write(CLONE, "d", board=board)
        assert after(plan, CLONE, CLONE) == CLONE
        assert plan.mac is None


def test_two_boards_with_one_mac_are_said_however_it_came(tmp_path: Path) -> None:
    (tmp_path / "d.bin").write_bytes(CLONE)
    target = open_target(Order("recover", tmp_path / "d.bin"), load_product("ds-121"))
    lost = with_cal(LOST)
    for board, said in (
        (Board(held=CLONE, backup=CLONE), True),
        (Board(held=lost, backup=lost, mac=THEIRS), True),  # given by name
        (Board(held=CLONE, backup=CLONE, mac=GIVEN), False),
        (Board(held=CLONE, backup=OWN), False),
    ):
        plan = target.aim(board)
        assert (twin(target, mac_after(plan, CLONE, board)) is not None) is said


# -- a QIO brings no calibration -----------------------------------------------------------------------------------


def test_recovering_with_a_qio_brings_back_what_was_lost() -> None:
    held = patched(with_cal(LOST), STORE, b"\xff" * (STORE_END - STORE))
    board = Board(held=held, backup=OWN)
    flash = after(plan_write(demo(), "q", board=board, recover=True), demo(), held)
    assert sector(flash) == sector(OWN)
    assert flash[STORE:] == OWN[STORE:]
    assert sector(after(plan_write(demo(), "q", board=board), demo(), held)) == LOST  # a conversion does not
    plan = plan_write(demo(), "q", board=Board(held=OWN, backup=OWN, mac=GIVEN), recover=True)
    assert plan.ranges == [(0, len(demo()))]
    assert any(f"{GIVEN} was not used" in note for note in plan.notes)


# -- a new MAC is a new name ---------------------------------------------------------------------------------------


def test_the_mac_after_a_plan_is_what_the_board_will_have() -> None:
    lost = with_cal(LOST)
    for data, board, mac in (
        (dump(), Board(held=lost, backup=OWN, efuse_mac=GIVEN), MINE),
        (dump(), Board(held=lost, backup=lost, efuse_mac=GIVEN), GIVEN),
        (demo(), Board(held=OWN, backup=OWN, efuse_mac=GIVEN), MINE),
        (demo(), Board(held=lost, backup=lost, efuse_mac=GIVEN), GIVEN),
        (demo(), Board(held=with_cal(MADE_UP), efuse_mac=GIVEN), None),
        (demo(), Board(held=lost, backup=lost), None),
        (demo(), Board(), None),
    ):
        assert mac_after(plan_write(data, "x", board=board), data, board) == mac
    board = Board(held=dump(), backup=OWN)
    assert mac_after(plan_write(OWN, "own", board=board, own_backup=True), OWN, board) == MINE


def carried(runs: Path, board: Board, backup: Backup) -> Backup | None:
    plan = plan_write(dump(), "d", board=board)
    return carry_over(BackupStore(runs / "backups"), backup, plan, dump(), board, BLANK)


def test_a_board_that_gets_a_mac_is_found_again_by_it(tmp_path: Path) -> None:
    lost = with_cal(LOST)
    first = BackupStore(tmp_path / "backups").keep("slot-A-R-1", lost)
    kept = carried(tmp_path, Board(held=lost, backup=lost, mac=GIVEN), first)
    assert kept is not None
    assert (kept.identity, kept.sha256) == (f"mac-{GIVEN}", first.sha256)
    assert BackupStore(tmp_path / "backups").first(f"mac-{GIVEN}") == kept
    assert carried(tmp_path, Board(held=OWN, backup=OWN), replace(first, identity=f"mac-{MINE}")) is None

    other = BackupStore(tmp_path / "backups").keep("slot-A-R-2", patched(lost, STORE + 0x5000, b"another"))
    with pytest.raises(ImageRefused, match="no two boards"):
        carried(tmp_path, Board(held=other.content(), backup=other.content(), mac=GIVEN), other)


def test_a_recovery_that_was_cut_off_goes_on_with_the_same_mac(tmp_path: Path) -> None:
    lost = with_cal(LOST)
    store = BackupStore(tmp_path / "backups")
    kept = carried(tmp_path, Board(held=lost, backup=lost, mac=GIVEN), store.keep("slot-A-R-1", lost))
    half = dump()[:0x80000] + b"\xff" * 0x10000 + lost[0x90000:]
    again = store.keep("slot-A-R-2", half)
    assert carried(tmp_path, Board(held=half, backup=half, mac=GIVEN), again) == kept
    another = patched(half, STORE + 0x5000, b"another board's keys")
    with pytest.raises(ImageRefused, match="no two boards"):
        carried(tmp_path, Board(held=another, backup=another, mac=GIVEN), store.keep("slot-A-R-3", another))


def test_a_converted_board_that_lost_its_calibration_gets_its_own_mac_back(tmp_path: Path) -> None:
    """By its keys it is told from another one, for which its MAC stays refused."""
    store = BackupStore(tmp_path / "backups")
    first = store.keep(f"mac-{MINE}", OWN)
    converted = patched(with_cal(LOST), flashmap.APP, b"another firmware" * 0x8000)
    board = Board(held=converted, backup=converted, mac=MINE)
    assert carried(tmp_path, board, store.keep("slot-A-R-1", converted)) == first
    for storage in (b"\xff" * (STORE_END - STORE), dump()[STORE:STORE_END]):
        other = patched(converted, STORE, storage)
        board, backup = Board(held=other, backup=other, mac=MINE), store.keep("slot-A-R-2", other)
        with pytest.raises(ImageRefused, match=f"MAC {MINE}, by which another"):
            carried(tmp_path, board, backup)


def test_a_calibration_of_another_boards_mac_is_refused_by_that_mac(tmp_path: Path) -> None:
    store = BackupStore(tmp_path / "backups")
    store.keep(f"mac-{THEIRS}", dump())
    board = Board(held=OWN, backup=OWN)
    plan = plan_write(sector(dump()), "cal", board=board, overrides=["erases-calibration"])
    with pytest.raises(ImageRefused, match=f"MAC {THEIRS}, .*use another file"):
        carry_over(store, store.keep(f"mac-{MINE}", OWN), plan, sector(dump()), board, BLANK)


def test_a_clone_leaves_the_donors_backup_to_the_donor(tmp_path: Path) -> None:
    """Both say the same MAC: what was backed up first may be of either."""
    donors = BackupStore(tmp_path / "backups").keep(f"mac-{THEIRS}", dump())
    held = patched(CLONE, 0x1E0000, b"its own boots")
    kept = carried(tmp_path, Board(held=held, backup=dump(), mac=GIVEN), donors)
    assert kept is not None
    assert kept.content() == held


def test_its_backup_goes_back_by_either_name(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    both = (("SN1", f"mac-{MINE}", OWN), ("SN1", f"mac-{GIVEN}", OWN), ("U", "uid-01", OWN), ("U", "uid-02", OWN))
    made = Made(runs, *both)
    own = find_kept(f"{made.folder.id}/SN1", runs)
    target: Any = SimpleNamespace(order=SimpleNamespace(own=own))
    for name, fits in (
        (f"mac-{MINE}", True),
        (f"mac-{GIVEN}", True),
        ("mac-02:00:00:00:00:09", False),
        (None, False),
    ):
        assert (wrong_board(target, name) is None) is fits
    with pytest.raises(UsageProblem, match="more than one board"):
        find_kept(f"{made.folder.id}/U", runs)


def test_a_clones_own_backup_goes_back_onto_it_and_not_onto_the_donor(tmp_path: Path) -> None:
    """Recovered with a MAC of its own, then converted, in one run: the donor's backup was taken for its first."""
    runs, held = tmp_path / "runs", patched(CLONE, 0x1E0000, b"its own boots")
    made = Made(runs, ("SN1", f"mac-{THEIRS}", CLONE), ("SN1", f"mac-{GIVEN}", held), ("SN1", f"mac-{GIVEN}", held),
                attempts=(1, 1, 2))  # fmt: skip
    own = find_kept(f"{made.folder.id}/SN1", runs)
    assert own.backup.content() == held
    assert own.identities == (f"mac-{GIVEN}",)
    swapped = Made(runs, ("SN1", f"mac-{THEIRS}", CLONE), ("SN1", f"mac-{GIVEN}", held))
    with pytest.raises(UsageProblem, match="more than one board"):  # each in an attempt of its own
        find_kept(f"{swapped.folder.id}/SN1", runs)


class Record:
    """A unit up to its plan."""

    def __init__(self, runs: Path, held: bytes, backup: Backup | None) -> None:
        self.run, self.held, self.backup = RunFolder(runs / "R"), held, backup
        self.unit, self.efuse, self.mac = "SN1", BLANK, "02:00:00:00:00:99"
        self.kept: list[Backup] = []

    def backup_kept(self, backup: Backup) -> None:
        self.kept.append(backup)

    def __getattr__(self, name: str) -> Any:
        return lambda *what, **more: None


def test_the_step_keeps_the_backup_by_its_new_name_and_opens_the_wire_for_no_one_elses_mac(tmp_path: Path) -> None:
    (tmp_path / "d.bin").write_bytes(dump())
    lost = with_cal(LOST)
    backup = BackupStore(tmp_path / "backups").keep("slot-A-R-1", lost)
    product = load_product("ds-121")
    slot: Any = SimpleNamespace(product=product, name="A")
    config: Any = SimpleNamespace(getoption={"--mac": GIVEN, "--accept-no-backup": None}.get)
    opened: list[Any] = []
    guard: Any = SimpleNamespace(allow_writes=opened.append)
    for held, refused in ((lost, False), (patched(lost, STORE + 0x5000, b"another"), True)):
        target = open_target(Order("recover", tmp_path / "d.bin"), product)
        backup = BackupStore(tmp_path / "backups").keep(f"slot-A-R-{refused}", held)
        record: Any = Record(tmp_path, held, backup)
        with pytest.raises(UnitFailed, match="no two boards") if refused else contextlib.nullcontext():
            steps.test_the_image_fits_this_board(target, None, record, guard, slot, config)
        assert len(opened) == 1
        if not refused:
            assert [kept.identity for kept in record.kept] == [f"mac-{GIVEN}"]
            assert record.mac == GIVEN


def test_a_backup_that_is_restored_is_its_own_by_name_only() -> None:
    own = KeptBackup(RunFolder(Path("runs/R")), "SN1", Backup(f"mac-{MINE}", Path("x"), "0", 1))
    assert own.identities == (f"mac-{MINE}",)


def test_all_units_of_a_run_get_the_image_that_it_began_with(tmp_path: Path) -> None:
    image = tmp_path / "d.bin"
    image.write_bytes(demo())
    product = load_product("ds-121")
    digest = open_target(Order("convert", image), product).sha256
    job = Job(("1",), (Stage("convert", image, digest),))
    ground: Any = SimpleNamespace(
        job=job,
        bench=SimpleNamespace(path=tmp_path / "b.toml"),
        folder=RunFolder(tmp_path),
        address=tmp_path / "events",
        locks={"A": 3},
        operator=lambda: None,
        books=SimpleNamespace(known_as=lambda unit: ()),
    )
    slot: Any = SimpleNamespace(name="A")
    assert f"--image-sha256={digest}" in Attempt(ground, slot, "1", 1, job.stages[0]).command(4)
    assert open_target(Order("convert", image, sha256=digest), product).sha256 == digest
    image.write_bytes(dump())
    with pytest.raises(UsageProblem, match="was changed since the run began"):
        open_target(Order("convert", image, sha256=digest), product)
