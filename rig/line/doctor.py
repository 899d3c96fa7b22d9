"""The link doctor: a board does not link; why, by what was measured, and what to try next.

One trial: board off and discharged, link checks running, power; meanwhile the supply's meter, every byte on the flash
port and every line of the log port are looked at. The verdicts and what decides them, in this order:

| kind | decided by |
|---|---|
| `output-off` | the output is off though it was switched on |
| `limited` | the supply limits its current, to less than a healthy ROM may draw |
| `short` | the supply limits its current, to more than that; or the board draws more, and says nothing |
| `no-current` | less than a ROM draws |
| `noise` | bytes that are no answer; or too few answers, or such as say the chip got broken frames |
| `linked` | it answers: nothing is wrong now |
| `booted` | the log port speaks: the ROM's window went by |
| `mute` | silent while link checks run, but it boots without them: it hears, and is not heard |
| `silent` | nothing at all, with the current of a ROM |

`mute` needs a second power-on without link checks, which lets the firmware run: only where the caller allows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from rig.bench.link import SlotLink
from rig.bench.power import BoardPower
from rig.bench.product import Product
from rig.codes import CODES
from rig.errors import BenchBlocked, Coded, UnitFailed
from rig.flashers.fit import rom_current
from rig.image.firmware import load_profiles
from rig.line.trial import Trial
from rig.uart.bootlog import BootLog
from rig.uart.verdict import BootKind, judge

Kind = Literal[
    "output-off", "limited", "short", "no-current", "linked", "noise", "booted", "mute", "silent", "bench"
]  # fmt: skip

_PATIENCE_S = 4.0  # after so long a firmware has said its first word on the log port
_LEAST_PATIENCE_S = 2.0  # of a fast simulated bench, whose ROM listens as long as any


@dataclass(frozen=True)
class Finding:
    """Why a board does not link. `code` is a failure code of `rig.codes` (None: it links now); `measurements` are
    volts, amps, seconds and counts by name; `next` is what to try, the likeliest first."""

    kind: Kind
    code: str | None
    sentence: str
    measurements: Mapping[str, float | int | str] = field(default_factory=dict)
    next: tuple[str, ...] = ()

    @property
    def problem(self) -> Coded | None:
        """The finding as what a step raises; None for a board that links."""
        if self.code is None:
            return None
        raised = BenchBlocked if CODES[self.code].blames == "bench" else UnitFailed
        return raised(self.code, self.sentence)

    def lines(self) -> list[str]:
        """For a person: the sentence, what was measured, what to do."""
        measured = ", ".join(f"{name} {_shown(value)}" for name, value in self.measurements.items())
        return [self.sentence, f"Measured: {measured or 'nothing'}", *(f"Try: {step}" for step in self.next)]


def diagnose_link(
    link: SlotLink,
    power: BoardPower,
    boot_log: BootLog | None,
    product: Product,
    *,
    speed: float = 1.0,
    may_boot: bool = False,
) -> Finding:
    """One trial, at most about five seconds; the board is off afterwards. A flasher must have let go of the link.

    `boot_log` is None where no log port is wired. `speed` is the bench's. `may_boot` allows a second power-on that
    lets the firmware run on purpose: not before there is a backup. What fails underneath (a lost port, a rail that
    does not fall, a supply that is gone, an output that is not read back off) is a finding of kind `bench`.
    """
    patience_s = max(_LEAST_PATIENCE_S, _PATIENCE_S / speed)
    trial = Trial(link, power, boot_log, patience_s, rom_current(product)[0])
    try:
        found = _found(trial, product, may_boot)
    finally:  # Ctrl-C too
        is_off = link.off()
    return found if is_off else _left_on(found)


def _found(trial: Trial, product: Product, may_boot: bool) -> Finding:
    try:
        trial.run()
        found = _judged(trial, product)
        if found.kind == "silent" and may_boot and trial.boot_log is not None:
            found = _second_look(trial, trial.boot_log, found)
        return found
    except Coded as problem:
        return Finding("bench", problem.code, str(problem), trial.measurements(), (CODES[problem.code].action,))


def _left_on(found: Finding) -> Finding:
    """Whatever else was found: the output may be on."""
    return replace(
        found,
        kind="bench",
        code="supply-lost",
        sentence=f"the output could not be read back off after the link was examined ({found.sentence})",
        next=("switch the supply off by hand before the board is touched", CODES["supply-lost"].action),
    )


def _judged(trial: Trial, product: Product) -> Finding:
    """The first verdict of the table above that fits."""
    least, most = rom_current(product)
    volts, amps, limit, measured = trial.volts, trial.amps, trial.limit, trial.measurements()

    def finding(kind: Kind, code: str | None, sentence: str, *steps: str) -> Finding:
        return Finding(kind, code, sentence, measured, steps)

    if trial.mode == "off":
        return finding(
            "output-off", "supply-lost",
            "the output went off by itself: a protection tripped, or somebody switched it off",
            "look at the supply's front panel for a trip, clear it, then `rig bench check`",
            "take the board out and measure 3V3 to GND: a short trips some supplies",
        )  # fmt: skip
    if trial.mode == "cc" and limit < most:
        return finding(
            "limited", "weak-supply",
            f"the supply limits the board to {limit:g} A and the rail stands at {volts:.2f} V; a healthy one may "
            f"draw {most:g} A in its ROM",
            f"raise the current limit: the product's is {product.supply.current_limit:g} A",
        )  # fmt: skip
    if trial.mode == "cc":
        return finding(
            "short", "short",
            f"the board pulls the supply into its limit of {limit:g} A, the rail stands at {volts:.2f} V",
            "take the board out: if the limit is still reached, the short is in the jig or its cable",
            "measure 3V3 to GND on the board, look for solder bridges and a board put in the wrong way round",
        )  # fmt: skip
    if amps < least:
        return finding(
            "no-current", "no-current",
            f"the slot draws {amps * 1000:.1f} mA at {volts:.2f} V: no board in it, no contact, or held in reset",
            "seat the board; check the 3V3 and GND needles",
            "check the polarity: 3V3 is pad 8, GND is pad 9 of a CB3S",
            "check that nothing holds CEN low",
        )  # fmt: skip
    if trial.garbled or trial.misheard:
        return _noise(trial, finding)
    if trial.linked:
        return finding(
            "linked", None, "the board answers link checks now",
            "run it again; if it comes and goes, clean the needles and check that the board sits straight",
        )  # fmt: skip
    if trial.log_lines:
        return _booted(trial, finding)
    if most and amps > most:
        return finding(
            "short", "short",
            f"the board draws {amps * 1000:.0f} mA and says nothing; in its ROM a healthy one draws at most "
            f"{most * 1000:.0f} mA",
            "feel for a hot part, look for solder bridges; a relay or LED pin may be shorted",
        )  # fmt: skip
    no_log = "no log port is wired" if trial.boot_log is None else "the log port is silent"
    return finding(
        "silent", "no-link",
        f"the board draws {amps * 1000:.0f} mA and does not answer {trial.asked} link checks; {no_log}",
        "check the wires of RX1 (pad 15, to the adaptor's TX) and TX1 (pad 16, to its RX): crossed, seated, 3.3 V",
        "put the adaptor's own RX and TX together: what is typed at its port must come back",
        "check the strapping of CSN (P24) and that CEN is released; then suspect crystal or chip",
    )  # fmt: skip


def _noise(trial: Trial, finding: _Maker) -> Finding:
    sample = bytes(trial.heard[:16]).hex(" ")
    if not trial.garbled:
        told = f"and says {trial.complaints} times that it got broken frames" if trial.complaints else "now and then"
        return finding(
            "noise", "no-link",
            f"the chip answers {trial.answers} of {trial.asked} link checks {told}: what reaches its RX1 is damaged",
            "look for another driver on RX1: a touch controller, a TuyaMCU or a button; it must let go of the line",
            "check the ground between adaptor and board, shorten the wires",
        )  # fmt: skip
    return finding(
        "noise", "no-link",
        f"{trial.noise} of {len(trial.heard)} bytes that came are no answer ({sample} ...): the line is disturbed, "
        "or its speed is another",
        "check the ground between adaptor and board, and that the adaptor's level is 3.3 V",
        "try another adaptor: its clock may be off; 115200 baud is what the ROM speaks",
        "a firmware that runs speaks on UART1 at its own speed, 9600 baud with a TuyaMCU: see what the log port says",
    )  # fmt: skip


def _booted(trial: Trial, finding: _Maker) -> Finding:
    assert trial.boot_log is not None
    lines = trial.boot_log.lines_since(trial.on_ns)
    verdict = judge(lines, load_profiles())
    after = (lines[0].mono_ns - trial.on_ns) / 1e9
    if verdict.kind is BootKind.SILENT:
        what = f"{len(lines)} lines that no known firmware prints"
    else:
        what = verdict.sentence.rstrip(".")
    return finding(
        "booted", "no-link",
        f"the chip runs: its log port spoke {after:.2f} s after power-on ({what}), so its ROM heard no link check",
        "check RX1 (pad 15): its wire to the adaptor's TX, and that no touch controller, TuyaMCU or button drives it",
        "see that link checks run before the power comes: a supply that rises slowly, or CEN let go late, misses the "
        "ROM's window",
    )  # fmt: skip


def _second_look(trial: Trial, boot_log: BootLog, found: Finding) -> Finding:
    """Does it boot when nobody asks for a link?"""
    moment = trial.link.boot()
    boot_log.mark("power-on", moment)
    line = boot_log.wait_for(r"\S\S", trial.patience_s, since_ns=moment)
    trial.link.check()
    if line is None:
        return found
    measured = {**found.measurements, "log_lines_without_link_checks": len(boot_log.lines_since(moment))}
    return Finding(
        "mute", "no-link",
        "the board is silent while link checks run and boots without them: its ROM hears them, and is not heard",
        measured,
        ("check TX1 (pad 16): its wire to the adaptor's RX, the needle, the adaptor's RX pin",),
    )  # fmt: skip


class _Maker(Protocol):
    """The type of `_judged`'s `finding`."""

    def __call__(self, kind: Kind, code: str | None, sentence: str, *steps: str) -> Finding: ...


def _shown(value: float | int | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
