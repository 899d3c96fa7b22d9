"""What plans are made of, each by itself: comparing, contact's bytes, options, the live log, the seal."""

from __future__ import annotations

import contextlib
import os
import random
from argparse import ArgumentTypeError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.options import _count, _limits
from rig.bench.product import Limits, Product, load_product
from rig.chip.frames import Header, Long, Reply
from rig.errors import BenchBlocked, Coded, UnitFailed, UsageProblem
from rig.flashers.base import ChipIdentity
from rig.flashers.matching import OWN
from rig.line.boot import Boot
from rig.line.clearance import require_clearance
from rig.line.contact import STRAY, check_contact, on_a_noisy_line, tell_strays
from rig.line.place import Place
from rig.line.reboots import Reboots
from rig.line.steps import identify, require_steady
from rig.line.verification import Expected, compared, require_content
from rig.records.backups import BackupStore
from rig.records.events import Outcome
from rig.uart.bootlog import BootLog
from rig.uart.guard import Guard
from rig.uart.recorder import Recorder
from rig.uart.verdict import BootKind
from tests.waiting import wait_until

fixed = settings(derandomize=True, deadline=None, max_examples=40)


# -- comparing a flash with a plan -------------------------------------------------------------------------


@fixed
@given(st.integers(0, OWN + 0x8000), st.integers(1, 0x5000), st.sets(st.integers(0, 0x4FFF), max_size=4))
def test_every_differing_byte_of_the_firmwares_part_is_found_and_no_other(
    start: int, length: int, wrong: set[int]
) -> None:
    content = random.Random(start).randbytes(length)
    held = bytearray(b"\xff" * 0x200000)
    held[start : start + length] = content
    hit = {start + at for at in wrong if at < length}
    for at in hit:
        held[at] ^= 1
    seen = {at for at in hit if at < OWN}
    if seen:
        with pytest.raises(
            UnitFailed, match=rf"at 0x{min(seen):x} \({len({at >> 12 for at in seen})} sector"
        ) as failed:
            require_content(bytes(held), [(start, content)], "it")
        assert failed.value.code == "verify-failed"
    elif start < OWN:
        assert require_content(bytes(held), [(start, content)], "it") == min(length, OWN - start)
    else:
        with pytest.raises(UnitFailed, match="nothing to compare"):
            require_content(bytes(held), [(start, content)], "it")


def test_a_boards_own_part_is_not_compared() -> None:
    assert compared([(OWN - 2, b"abcd"), (OWN, b"efgh")]) == [(OWN - 2, b"ab")]


@fixed
@given(st.lists(st.tuples(st.integers(0, 0x30000), st.binary(min_size=1, max_size=64)), max_size=4))
def test_a_board_that_holds_the_plan_is_among_its_candidates(pieces: list[tuple[int, bytes]]) -> None:
    flash = bytearray(b"\xff" * 0x40000)
    for start, content in pieces:
        flash[start : start + len(content)] = content
    others: Any = SimpleNamespace(candidates=lambda offset, length: [b"o" * length])
    known = Expected(pieces, others)
    for offset in range(0, 0x40000, 0x10000):
        held, other = known.candidates(offset, 0x10000)
        assert bytes(held) == flash[offset : offset + 0x10000]
        assert other == b"o" * 0x10000


# -- contact -----------------------------------------------------------------------------------------------


LINKED = Reply(1, b"\x00").encode()


class Record:
    def __init__(self, product: Product) -> None:
        self.product = product
        self.values: dict[str, float] = {}
        self.unit, self.known_as = "1", ()  # type: tuple[str, tuple[str, ...]]
        self.notes: list[str] = []

    def measure(
        self, name: str, value: float, unit: str = "", *, low: str = "", high: str = "", like: str | None = None
    ) -> None:
        self.values[name] = value
        limits = self.product.limits.get(like or name)
        if limits is not None and isinstance(value, int | float) and limits.judge(value) is Outcome.FAIL:
            raise BenchBlocked(high, "outside of its limits")

    def note(self, text: str, *, warning: bool = False) -> None:
        self.notes.append(text)


def place(unasked: bytes = b"", said: bytes = b"", product: Product | None = None) -> tuple[Place, Record]:
    """A board that linked; `unasked` then came on the flash line, `said` on the log line."""
    product = product or load_product("ds-121")
    record, log = Record(product), SimpleNamespace(raw=b"before", check=lambda: None)

    def average(seconds: float, **more: object) -> tuple[float, float]:
        log.raw += said
        return 3.3, 0.03

    board: Any = SimpleNamespace(
        power=SimpleNamespace(average=average),
        link=SimpleNamespace(check=lambda: None),
        tap=SimpleNamespace(unasked=unasked, commands=[]),
    )
    rom: Any = SimpleNamespace(connect=lambda link: None)
    parts: Any = (SimpleNamespace(speed=1), SimpleNamespace(product=product), board, rom, log, [], record, None)
    return Place(*parts), record


@pytest.mark.parametrize("stray", [b"", b"\x00" * (STRAY - 1)])
def test_what_switching_on_leaves_on_a_line_is_let_pass(stray: bytes) -> None:
    here, record = place(stray, stray)
    check_contact(here)
    assert record.values["flash_line_strays"] == record.values["log_line_strays"] == len(stray)


@pytest.mark.parametrize(("flash", "log", "line"), [(b"\x55" * STRAY, b"", "flash"), (b"", b"V:BK7", "log")])
def test_bytes_that_nobody_asked_for_block(flash: bytes, log: bytes, line: str) -> None:
    here, _ = place(flash, log)
    with pytest.raises(BenchBlocked, match=f"came on the {line} line") as blocked:
        check_contact(here)
    assert blocked.value.code == "contact"


def test_more_replies_than_questions_are_a_note_and_no_noise() -> None:
    here, record = place(LINKED * 3 + b"\x00")
    check_contact(here)
    assert record.values["flash_line_strays"] == 1
    assert "3 times more than it was asked" in record.notes[0]


@pytest.mark.parametrize(("strays", "told"), [(STRAY - 1, 0), (STRAY, 1)])
def test_noise_that_did_no_harm_is_told_all_the_same(strays: int, told: int) -> None:
    record: Any = Record(load_product("ds-121"))
    tell_strays(record, strays)
    assert record.values["written_strays"] == strays
    assert [f"{strays} bytes came on the flash line" in note for note in record.notes] == [True] * told


def test_a_product_may_say_itself_how_quiet_a_line_has_to_be() -> None:
    product = load_product("ds-121")
    product = product.model_copy(update={"limits": product.limits | {"log_line_strays": Limits(maximum=10)}})
    here, _ = place(said=b"x" * 10, product=product)
    check_contact(here)
    with pytest.raises(BenchBlocked, match="outside"):
        check_contact(place(said=b"x" * 11, product=product)[0])


def test_the_recorder_keeps_what_comes_after_an_answer_until_the_next_question() -> None:
    recorder = Recorder()
    recorder.reply(b"noise", 115200)
    assert recorder.unasked == b"noise"
    recorder.begins(Header(False, 0, 1, b""), 115200, None)
    assert recorder.unasked == b""
    recorder.reply(LINKED, 115200)
    assert recorder.unasked == b""
    recorder.reply(b"more", 115200)
    recorder.begins(Header(True, int(Long.ERASE), 13, b"\x20\x00\x00\x00\x00"), 115200, "not now")
    assert recorder.unasked == b"more", "the chip never heard of what was stopped"
    assert recorder.strays == 9
    recorder.begins(Header(False, 0, 1, b""), 115200, None)
    recorder.reply(LINKED * 3, 115200)
    assert recorder.strays == 9, "a ROM's replies to queued link checks are no noise"
    recorder.reply(b"x" * 0x5000, 115200)
    assert len(recorder.unasked) == 0x1000


def test_what_comes_in_the_middle_of_a_reply_is_counted_as_well() -> None:
    """The next command is asked before anything is left over of the last one's reply."""
    recorder = Recorder()
    recorder.begins(Header(True, int(Long.ERASE), 13, b"\x20\x00\x00\x00\x00"), 115200, None)
    recorder.reply(b"x" * 6, 115200)
    assert recorder.strays == 6
    recorder.begins(Header(False, 0, 1, b""), 115200, None)
    recorder.reply(b"x" * 6, 115200)
    assert recorder.strays == 6, "while a board is linked anything may come"


@pytest.mark.parametrize(
    ("problem", "strays", "code"),
    [
        (UnitFailed("backup-mismatch", "two reads differ"), STRAY, "contact"),
        (BenchBlocked("link-lost", "no answer"), STRAY, "contact"),
        (UnitFailed("backup-mismatch", "two reads differ"), STRAY - 1, "backup-mismatch"),
        (UnitFailed("boot-loop", "three resets"), 1000, "boot-loop"),
    ],
)
def test_a_noisy_line_is_not_the_boards_fault(problem: Coded, strays: int, code: str) -> None:
    found = on_a_noisy_line(problem, strays)
    assert found.code == code
    assert str(problem) in str(found)
    assert isinstance(found, BenchBlocked) == (code != problem.code or isinstance(problem, BenchBlocked))


def test_another_board_than_the_units_is_told_as_it_says_who_it_is() -> None:
    here, record = place()
    efuse = bytes(16) + b"12345678" + bytes(8)
    who = ChipIdentity("BK7231N", 0x7231C, b"\xeb\x60\x15", 0x200000, "c8:47:8c:00:00:01", efuse)
    here.rom.identify = lambda link, progress: who  # type: ignore[method-assign]
    record.unit, record.known_as = "SN1", (f"uid-{b'12345678'.hex()}",)
    assert identify(here) is who
    record.known_as = ("uid-0102030405060708",)
    with pytest.raises(BenchBlocked, match="SN1: its board was uid-0102030405060708") as blocked:
        identify(here)
    assert blocked.value.code == "wrong-board"


# -- steady current ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amps", "steady", "looks"),
    [
        ([0.08], 0.08, 1),
        ([0.3, 0.3, 0.09, 0.08], 0.09, 4),
        ([0.3] * 9, 0.3, 5),
        ([0.3, 0.08, 0.31, 0.08, 0.3], 0.31, 5),  # comes and goes: no moment's luck lets it pass
    ],
)
def test_a_radios_peak_is_waited_for_and_a_load_that_stays_is_not(
    amps: list[float], steady: float, looks: int
) -> None:
    here, record = place()
    left = list(amps)
    here.board.power.average = lambda seconds, **more: (3.3, left.pop(0))  # type: ignore[method-assign]
    here.board.power.sag = None  # type: ignore[misc]
    with pytest.raises(BenchBlocked, match="outside") if looks == 5 else contextlib.nullcontext():
        require_steady(here, "_7")
    assert len(amps) - len(left) == looks
    assert record.values["steady_current_7"] == steady
    assert record.values.get("settling_current_7") == (max(amps) if looks > 1 else None)
    assert len(record.notes) == (looks > 1)


# -- burn-in -----------------------------------------------------------------------------------------------


def came_up(firmware: str = "OpenBeken", version: str = "1.18", seconds: float = 6.0) -> Boot:
    verdict = SimpleNamespace(
        kind=BootKind.BOOTED, firmware=firmware, version=version, safe_mode=False, rf_lost=False, sentence="it is up"
    )
    return Boot(verdict, 0, seconds)  # type: ignore[arg-type]


def burn_in(monkeypatch: pytest.MonkeyPatch, *boots: Boot, after: BootKind = BootKind.BOOTED) -> Record:
    """Boots, 0.08 A after the first and 0.01 A more after each; the log looked at once more says `after`."""
    here, record = place()
    told, amps = iter(boots), iter([0.08, 0.09, 0.10])
    here.boot_log.lines_since = lambda since: []  # type: ignore[method-assign, union-attr, assignment]
    monkeypatch.setattr("rig.line.reboots.steps.boot", lambda here: next(told))
    monkeypatch.setattr("rig.line.reboots.steps.require_steady", lambda here, suffix: next(amps))
    monkeypatch.setattr("rig.line.reboots.judge", lambda *what: SimpleNamespace(kind=after, sentence="it reset"))
    reboots = Reboots()
    for number in range(1, len(boots) + 1):
        reboots.run(here, number)
    reboots.sum_up(here)
    return record


def cleared(tmp_path: Path, held: str = "verify-failed", **image: Any) -> dict[str, Any]:
    """What is measured of a board `uid-1` whose flash differs from the image by `held` ("": not at all)."""
    here, record = place()
    told: Any = record
    told.run, told.identity, told.efuse = SimpleNamespace(path=tmp_path / "run"), "uid-1", None
    asked: list[Any] = []

    def verify(link: object, pieces: list[Any], progress: object) -> Any:
        asked.extend(pieces)
        return SimpleNamespace(ok=not held, said=held)

    here.rom.verify = verify  # type: ignore[method-assign, assignment]
    target: Any = SimpleNamespace(pieces=[(0, b"code"), (OWN - 1, b"xy")], name="q.bin", aim=lambda board: None)
    target.__dict__.update(image)

    def ask() -> Any:
        if "none" in image:
            raise UsageProblem("no image: name one")
        return target

    require_clearance(here, ask)
    assert asked in ([], [(0, b"code"), (OWN - 1, b"x")])
    return record.values


def test_the_firmware_runs_of_a_board_that_has_a_backup_or_holds_the_image(tmp_path: Path) -> None:
    assert cleared(tmp_path, held="")["cleared_by"] == "image"
    BackupStore(tmp_path / "backups").keep("uid-2", b"another board's")
    for image, says in (({}, "not hold q.bin"), ({"none": True}, "no image: name one"), ({"pieces": []}, "nothing")):
        with pytest.raises(BenchBlocked, match=says) as blocked:
            cleared(tmp_path, **image)
        assert blocked.value.code == "no-backup"
    kept = BackupStore(tmp_path / "backups").keep("uid-1", b"its own")
    assert cleared(tmp_path)["cleared_by"] == "backup"
    kept.path.unlink()
    with pytest.raises(BenchBlocked, match=r"no backup .*is gone"):
        cleared(tmp_path)


def test_all_boots_of_a_burn_in_are_summed_up_as_worst_and_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    values = burn_in(monkeypatch, came_up(), came_up(seconds=9.0), came_up()).values
    assert (values["boots"], values["boot_time_2"]) == (3, 9.0)
    assert (values["boot_time_worst"], values["boot_time_mean"]) == (9.0, 7.0)
    assert (values["steady_current_worst"], values["steady_current_mean"]) == (0.10, pytest.approx(0.09))


def test_a_boot_of_another_version_fails_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UnitFailed, match=r"^boot 2: OpenBeken 1\.17 came up, before it was OpenBeken 1\.18"
    ) as failed:
        burn_in(monkeypatch, came_up(), came_up(version="1.17"))
    assert failed.value.code == "wrong-firmware"


def test_a_board_that_resets_after_it_was_up_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnitFailed, match=r"^boot 1: it came up and did not stay so") as failed:
        burn_in(monkeypatch, came_up(), after=BootKind.BOOT_LOOP)
    assert failed.value.code == "boot-loop"


# -- the seal ----------------------------------------------------------------------------------------------


def test_a_sealed_guard_opens_for_nobody() -> None:
    guard = Guard()
    guard.allow_writes([(0, 0x1000)])
    guard.seal()
    assert not guard.writes_allowed
    with pytest.raises(BenchBlocked, match="sealed") as blocked:
        guard.allow_writes([(0, 0x1000)])
    assert blocked.value.code == "guard-stopped"
    assert not guard.writes_allowed


# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "-3", "many"])
def test_a_burn_in_has_at_least_one_boot(text: str) -> None:
    with pytest.raises(ValueError):
        _count(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "JSON"), ('{"a": {"maxmum": 1}}', "a.maxmum"), ('{"a": {"maximum": NaN}}', "a.maximum"), ("[]", "object")],
)
def test_limits_that_are_none_are_told_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ArgumentTypeError, match=said):
        _limits(text)


# -- the live log ------------------------------------------------------------------------------------------


def test_lines_are_in_the_live_log_while_the_port_is_open(tmp_path: Path) -> None:
    master, slave = os.openpty()
    live = tmp_path / "boot.live.log"
    try:
        with BootLog.open(os.ttyname(slave), tmp_path / "boot.log", live=live):
            os.write(master, b"one\r\nt\xffwo\nthr")
            wait_until(lambda: live.read_text() == "one\nt\\xffwo\n", 60, "two lines")
        assert live.read_text() == "one\nt\\xffwo\n"
        assert "thr" in (tmp_path / "boot.log").read_text()
    finally:
        os.close(master)
        os.close(slave)


def test_a_disk_that_refuses_the_live_log_costs_the_log_nothing() -> None:
    master, slave = os.openpty()
    try:
        with BootLog.open(os.ttyname(slave), live=Path("/dev/full")) as log:
            os.write(master, b"one\ntwo\n")
            assert log.wait_for("two", 60) is not None
            os.write(master, b"three\n")
            assert log.wait_for("three", 60) is not None
    finally:
        os.close(master)
        os.close(slave)
