"""What a boot says of its board, and what the supply says of a failure: who is to blame."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from rig.bench.power import Sag
from rig.bench.product import load_product
from rig.errors import BenchBlocked, Coded, UnitFailed
from rig.image.firmware import load_profiles
from rig.line.boot import Boot, boot_unseen, causes_of, refined, require_boot, require_listed
from rig.supply.channel import Mode, Reading
from rig.uart.bootlog import LogLine
from rig.uart.verdict import BootKind, judge
from tests.log_lines import LOG_DIR, kept_logs, recorded

PROFILES = load_profiles()
BOOTED = [
    "rig-boot 1.0",
    "J 0x10000",
    "rig-demo BK7231N, version 1.0.0",
    "reset cause 0 (power-on)",
    "boot complete",
]


@dataclass
class Power:
    """A channel that was switched on (or not) and reads what the test says."""

    mode: Mode = "cv"
    amps: float = 0.03
    limit: float = 0.5
    sag: Sag | None = None
    setting: Any = None
    supplied: Any = None
    hunts: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.supplied = load_product("ds-121").supply.model_copy(update={"current_limit": self.limit})

    def reading(self) -> Reading | None:
        return Reading(3.3, self.amps, self.mode, 1)

    def watch_closely(self, on: bool) -> None:
        self.hunts.append(on)

    def average(self, seconds: float, *, until: Any = None) -> tuple[float, float]:
        return 3.3, self.amps


def boot(texts: list[str], causes: tuple[str, ...] = ("watchdog", "watchdog", "watchdog")) -> Boot:
    """A power-on that printed `texts` and got to its marker."""
    lines = [LogLine(at * 1000, text) for at, text in enumerate(texts)]
    verdict = judge(lines, PROFILES)
    assert verdict.complete
    return Boot(verdict, 0, 5.0, causes)


def fault(found: Boot, power: Power | None = None, expected: str | None = None) -> Coded | None:
    try:
        require_boot(found, power or Power(), expected, None)  # type: ignore[arg-type]
    except Coded as problem:
        return problem
    return None


@pytest.fixture(autouse=True)
def _short_hunt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.line.boot._SAG_HUNT_S", 0.02)


def test_a_good_boot_is_good() -> None:
    assert fault(boot(BOOTED)) is None
    assert fault(boot(BOOTED[:2] + BOOTED), expected="rig-demo") is None  # one reset: perhaps a bouncing contact


def test_a_loop_that_gets_through_now_and_then_is_a_loop() -> None:
    looping = boot(BOOTED[:4] * 2 + BOOTED)
    assert looping.verdict.kind is BootKind.BOOT_LOOP
    found = fault(looping)
    assert isinstance(found, UnitFailed)
    assert found.code == "boot-loop"


def test_a_loop_on_a_weak_supply_is_the_bench_s() -> None:
    looping = boot(BOOTED[:4] * 2 + BOOTED)
    power = Power(sag=Sag(2.4, True, 1))
    found = fault(looping, power)
    assert isinstance(found, BenchBlocked)
    assert found.code == "weak-supply"
    lost = fault(replace(looping, causes=("power-on",) * 3))  # nothing else clears the cause
    assert lost is not None
    assert lost.code == "weak-supply"


# -- what each reset was -------------------------------------------------------------------------------------

CUT = ["rig-boot 1", "ST:00000000", "J 0x10000", "rig-demo BK7231N, version 1.0.0", "r"]  # its power goes mid-line


def endless(texts: list[str]) -> Boot:
    """A power-on that printed `texts` and never got to its marker."""
    lines = [LogLine(at * 1000, text) for at, text in enumerate(texts)]
    return Boot(judge(lines, PROFILES), 0, None, causes_of(lines, PROFILES))


def code_of(found: Coded | None) -> tuple[type[Coded], str]:
    assert found is not None
    return type(found), found.code


def test_a_loop_that_loses_its_power_before_its_firmware_says_why_is_the_bench_s() -> None:
    """As behind 8 ohms of needle: the bootloader's own word tells."""
    lost = endless(CUT * 4)
    assert lost.causes == ("power-on",) * 4
    found = fault(lost)
    assert code_of(found) == (BenchBlocked, "weak-supply")
    assert "contact resistance" in str(found)
    assert "the supply" not in str(found).partition("(")[0]
    mixed = endless((CUT + BOOTED[:4]) * 2)  # the firmware had the time to say so in every second boot
    assert mixed.causes == ("power-on",) * 4
    assert code_of(fault(mixed)) == (BenchBlocked, "weak-supply")


@pytest.mark.parametrize("word", ["00010000", "0001AD12", "00000001", "0000AD13"])
def test_one_reset_that_was_not_the_power_s_leaves_the_board_to_blame(word: str) -> None:
    other = [line.replace("00000000", word) for line in CUT]
    assert code_of(fault(endless([*CUT, *other, *CUT, *CUT]))) == (UnitFailed, "boot-loop")


def test_the_firmware_s_own_word_goes_before_the_bootloader_s() -> None:
    """A chip that is reset by its pin clears the word; OpenBeken knows by its RAM that the power stayed."""
    one = ["V:BK7231N_1.0.1", "ST:00000000", "J 0x10000", "bk_misc_init_start_type a 0", "Main_Init_Before_Delay"]
    found = endless(one * 4)
    assert found.causes == ("crash-xat0-again",) * 4
    assert code_of(fault(found)) == (UnitFailed, "boot-loop")


def banner(stack: str) -> list[str]:
    return ["V:BK7231N_1.0.1", f"SVC:000000D3          {stack} ", "ST:00000000", "J 0x10000", "LibreTiny v1.9.1"]


def test_a_jump_to_address_0_is_no_loss_of_power() -> None:
    """The bootloader runs again, its word still 0; it dumps the stack that it found."""
    rom, jumped = "00401C1C 000033AC", "004091A8 00027841"
    assert endless(banner(rom) + 3 * banner(jumped)).causes == ("power-on", "restart", "restart", "restart")
    assert code_of(fault(endless(banner(rom) + 3 * banner(jumped)))) == (UnitFailed, "boot-loop")
    assert code_of(fault(endless(banner(rom) * 4))) == (BenchBlocked, "weak-supply")


def test_a_loop_whose_app_never_spoke_is_the_image_s() -> None:
    assert code_of(fault(endless(CUT[:3] * 4))) == (UnitFailed, "bootloader-only")


@kept_logs
def test_the_words_of_kept_logs() -> None:
    folder = Path(LOG_DIR or "")
    for name in ("openbeken_BK7231N_safe_mode_boot_uart2.txt", "tuya_CB3S_72-087_1gang_switch_1.3.5_uart2.txt"):
        texts = [line for line in (folder / name).read_text().splitlines() if not line.startswith("#")]
        until = next(at for at, line in enumerate(texts) if line.startswith("prvHeapInit")) + 1
        whole, cut = texts[:until], [line for line in texts[:until] if not line.startswith("bk_misc_init")]
        for loop in (whole * 4, cut * 4, (whole + cut) * 2):  # as if that real start had come again and again
            assert endless(loop).causes == ("power-on",) * 4
            assert code_of(fault(endless(loop))) == (BenchBlocked, "weak-supply")
    for name in ("damage_obkN_app_second_half_ff.log", "damage_obkN_app_erased.log"):
        causes = endless(recorded(name).splitlines()).causes
        assert causes[0] == "power-on"
        assert set(causes[1:]) == {"watchdog"}


def test_a_crash_that_ends_in_the_marker_is_no_boot() -> None:
    found = fault(boot([*BOOTED[:4], "[ARM ANOMALY]", "boot complete"]))
    assert found is not None
    assert found.code == "not-complete"


def test_safe_mode_is_no_boot() -> None:
    lines = ["prvHeapInit-start", "OpenBK7231N, version 1.18.300", "Info:MAIN:Main_Init_Before_Delay"]
    found = fault(boot([*lines, "Info:MAIN:safe mode activated", "Info:MAIN:Boot complete time reached (5 seconds)"]))
    assert isinstance(found, UnitFailed)
    assert found.code == "safe-mode"
    assert fault(boot([*lines, "Info:MAIN:Boot complete time reached (5 seconds)"])) is None


def test_a_board_without_calibration_is_no_good() -> None:
    found = fault(boot([*BOOTED[:4], "mac none: no TLV", "boot complete"]))
    assert isinstance(found, UnitFailed)
    assert found.code == "calibration-lost"


# -- the supply's eyes ---------------------------------------------------------------------------------------


def seen(problem: Coded, power: Power, rom_maximum: float = 0.1) -> Coded:
    product = load_product("ds-121")
    limits = product.limits["rom_current"].model_copy(update={"maximum": rom_maximum})
    product = product.model_copy(update={"limits": {"rom_current": limits}})
    return refined(problem, power, product)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["no-link", "link-lost"])
def test_an_output_that_went_off_by_itself(code: str) -> None:
    problem = BenchBlocked("link-lost", "gone") if code == "link-lost" else UnitFailed("no-link", "silent")
    found = seen(problem, Power(mode="off", amps=0.0))
    assert isinstance(found, BenchBlocked)
    assert found.code == "supply-lost"
    assert "by itself" in str(found)


def test_a_current_limit_below_what_a_rom_draws_is_no_short() -> None:
    problem = UnitFailed("no-link", "silent")
    weak = seen(problem, Power(mode="cc", amps=0.05, limit=0.05))
    assert isinstance(weak, BenchBlocked)
    assert weak.code == "weak-supply"
    short = seen(problem, Power(mode="cc", amps=0.5, limit=0.5))
    assert isinstance(short, UnitFailed)
    assert short.code == "short"
    assert seen(problem, Power(mode="cc", amps=0.1, limit=0.1)).code == "short"


def test_no_current_is_no_board_and_a_sane_one_changes_nothing() -> None:
    problem = UnitFailed("no-link", "silent")
    assert seen(problem, Power(amps=0.001)).code == "no-current"
    assert seen(problem, Power()) is problem
    other = UnitFailed("wrong-chip", "another")
    assert seen(other, Power(mode="off")) is other


def test_an_output_that_never_was_on_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    power = Power()
    monkeypatch.setattr(power, "reading", lambda: None)
    problem = UnitFailed("no-link", "silent")
    assert seen(problem, power) is problem


# -- no log port ---------------------------------------------------------------------------------------------


class Link:
    def __init__(self) -> None:
        self.boots = self.checks = 0
        self.problem: BenchBlocked | None = None

    def boot(self) -> int:
        self.boots += 1
        return time.monotonic_ns()

    def check(self) -> None:
        self.checks += 1
        if self.problem and self.checks > 2:
            raise self.problem


def test_a_board_nobody_hears_keeps_its_power_until_it_must_be_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.line.boot._LEAST_UNSEEN_S", 0.1)
    slow, slower = (
        PROFILES[0].model_copy(update={"log": PROFILES[0].log.model_copy(update={"expected_s": seconds})})
        for seconds in (4.0, 8.0)
    )
    link = Link()
    began = time.monotonic()
    boot_unseen(link, [slower, slow], speed=20)  # type: ignore[arg-type]
    assert time.monotonic() - began >= 0.4
    assert link.checks < 10  # one each quarter of a second: not the 8 s of a real one
    began = time.monotonic()
    boot_unseen(link, [slower], speed=1000)  # type: ignore[arg-type]
    assert time.monotonic() - began >= 0.1
    assert link.checks < 20
    assert link.boots == 2


def test_the_wait_ends_with_the_supply() -> None:
    link = Link()
    link.problem = BenchBlocked("supply-lost", "gone")
    with pytest.raises(BenchBlocked, match="gone"):
        boot_unseen(link, PROFILES)  # type: ignore[arg-type]
    assert link.checks == 3


def test_the_old_firmware_booting_as_ever_is_no_proof_of_an_image_that_does_not_say_what_it_is() -> None:
    listed = [profile for profile in PROFILES if profile.name in ("openbeken-bk7231n", "rig-demo")]
    require_listed("rig-demo", listed)
    require_listed(None, listed)  # its log does not say
    require_listed("rig-factory", [])  # nobody says what is to come up
    with pytest.raises(UnitFailed, match=r"rig-factory came up.*OpenBeken or rig-demo") as failed:
        require_listed("rig-factory", listed)
    assert failed.value.code == "wrong-firmware"
