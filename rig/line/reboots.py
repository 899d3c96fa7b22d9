"""A burn-in's boots: each one proven by its log and its current, all of them together in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rig.errors import Coded, UnitFailed
from rig.line import steps
from rig.line.boot import Boot, require_boot, require_listed
from rig.line.place import Place
from rig.uart.verdict import BootKind, judge


@dataclass
class Reboots:
    """What the boots so far had: seconds to boot-complete (none where no log port shows it), amps after it."""

    seconds: list[float] = field(default_factory=list)
    amps: list[float] = field(default_factory=list)
    first: Boot | None = None
    last: Boot | None = None

    def run(self, place: Place, number: int) -> None:
        """The next one, which is the `number`-th: it comes up as the first did, draws a sane current and stays up.

        Raises what a boot's proof raises, with the number in its sentence.
        """
        try:
            self._boot(place, number)
            self.amps.append(steps.require_steady(place, f"_{number}"))
            self._still_up(place)
        except Coded as problem:
            problem.args = (f"boot {number}: {problem}",)
            raise

    def _boot(self, place: Place, number: int) -> None:
        seen = steps.boot(place)
        if seen is None:
            return
        verdict = seen.verdict
        require_boot(seen, place.power, None, None)
        require_listed(verdict.firmware, place.listed)
        before = (self.first or seen).verdict
        if (verdict.firmware, verdict.version) != (before.firmware, before.version):
            raise UnitFailed("wrong-firmware", f"{_named(seen)} came up, before it was {_named(self.first or seen)}")
        self.first = self.first or seen
        place.record.measure(
            f"boot_time_{number}", seen.seconds, "s", like="boot_time", low="not-complete", high="not-complete"
        )
        self.seconds.append(seen.seconds or 0.0)
        self.last = seen

    def _still_up(self, place: Place) -> None:
        """The log once more, after the current was averaged: one that crashes right after its marker is not up."""
        if self.last is None or place.boot_log is None:
            return
        verdict = judge(place.boot_log.lines_since(self.last.power_on_ns), place.profiles)
        if verdict.kind is not BootKind.BOOTED:
            code = "boot-loop" if verdict.kind is BootKind.BOOT_LOOP else "not-complete"
            raise UnitFailed(code, f"it came up and did not stay so: {verdict.sentence}")

    def sum_up(self, place: Place) -> None:
        """How many, the worst and the mean, on record."""
        record = place.record
        record.measure("boots", len(self.amps))
        record.measure("boot_proof", self.first.verdict.kind.value if self.first else "none")
        if self.first is not None:
            record.measure("firmware", self.first.verdict.firmware or "")
            record.measure("firmware_version", self.first.verdict.version or "")
            _worst_and_mean(place, "boot_time", self.seconds, "s")
        _worst_and_mean(place, "steady_current", self.amps, "A")


def _worst_and_mean(place: Place, name: str, values: Sequence[float], unit: str) -> None:
    """The worst is the highest: of times and of currents. The lowest is judged where it was taken."""
    place.record.measure(f"{name}_worst", max(values), unit, like=name)
    place.record.measure(f"{name}_mean", sum(values) / len(values), unit, like=name)


def _named(boot: Boot) -> str:
    return f"{boot.verdict.firmware} {boot.verdict.version or ''}".strip()
