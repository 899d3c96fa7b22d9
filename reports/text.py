"""Text as a report shows it: without passwords, without control characters, numbers readable."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from rig.records.events import Measured
from rig.scrub import scrub

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LOOK = r"(?i)pass|pwd|psk|secret|token|authorization|key|kvs|pmk|ptk|gtk|://|[^\t\n\x20-\x7e]"
"""Found in every text that `shown` changes: each pattern of rig.scrub needs one of these; a test says so."""
SUSPECT = re.compile(LOOK)
NOTHING = "–"


def shown(text: object) -> str:
    """Any text of a run as it may be shown: scrubbed, and what a browser or terminal would obey made visible."""
    told = str(text)
    return _cleaned(told) if SUSPECT.search(told) else told


@lru_cache(maxsize=4096)
def _cleaned(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", scrub(text.replace("\r\n", "\n")))


def shown_log(text: str, secrets: Iterable[str] = ()) -> str:
    """Printed lines as they may be shown, none of `secrets` in them: a bare carriage return ends a line, colours
    (ESC) stay."""
    lines = scrub(text.replace("\r\n", "\n").replace("\r", "\n"), secrets)
    return _CONTROL.sub(lambda hit: hit[0] if hit[0] == "\x1b" else "\N{REPLACEMENT CHARACTER}", lines)


def number(value: float | None) -> str:
    """A number with about four digits that mean something."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:.4g}"


def rough(value: float) -> str:
    """A number that is known roughly: whole above ten, two digits below."""
    return number(round(value)) if value >= 10 else f"{value:.2g}"


def seconds(value: float | None) -> str:
    """A duration in seconds, tenths below a minute's worth of them."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else number(value)


def size(count: int) -> str:
    """Bytes for people: 2 MiB, 4 KiB, 517 B."""
    for name, unit in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count} B"


def limits(minimum: float | None, maximum: float | None, unit: str = "") -> str:
    """What a number had to keep to: "2.9 to 3.6 V", "at most 0.25 A", or nothing."""
    low = None if minimum is None or math.isnan(minimum) else number(minimum)
    high = None if maximum is None or math.isnan(maximum) else number(maximum)
    tail = f" {unit}" if unit else ""
    if low is not None and high is not None:
        return f"{low} to {high}{tail}"
    if low is not None:
        return f"at least {low}{tail}"
    return f"at most {high}{tail}" if high is not None else ""


def value(measured: float | str | bool | None) -> str:
    """A measured value; None is one that could not be measured."""
    if measured is None:
        return "not measured"
    if isinstance(measured, bool):
        return "yes" if measured else "no"
    return shown(measured) if isinstance(measured, str) else number(measured)


def against_limits(event: Measured) -> tuple[str, str, str, str, str]:
    """A measurement as table cells: name, value, unit, limits, outcome."""
    told = limits_told(event.minimum, event.maximum, event.marginal_minimum, event.marginal_maximum)
    return shown(event.name), value(event.value), shown(event.unit_of), told, str(event.outcome)


def limits_told(minimum: float | None, maximum: float | None, low: float | None, high: float | None) -> str:
    """Limits with the warning limits, `low` and `high`: "0.02 to 0.25 (warning above 0.2)"."""
    kept_to, band = limits(minimum, maximum), limits(low, high)
    if " to " in band:
        return f"{kept_to} (warning outside {band})"
    band = band.replace("at most", "above").replace("at least", "below")
    return f"{kept_to} (warning {band})" if band else kept_to


def moment(utc: datetime | None) -> str:
    """A time of day that says which clock it is."""
    return utc.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if utc is not None else NOTHING
