"""What a finding says: a sentence with its numbers, what to do about it, and the units behind it."""

from __future__ import annotations

import math

import numpy as np

from reports import discovery
from reports.evidence import Evidence, Measure
from reports.finding_sizes import apart, change, halves_counted, levels_apart, mine, shares, telling
from reports.finding_tests import BLOCKS, Test, series_of
from reports.findings import MOST_ORDERS, Cause, Finding
from reports.metrics import Rate, percent
from reports.text import number

_MOST_MEASURES = 4
_GROWS = 0.01
_NAMED = {"slot": "Slot {}", "image": "Image {}", "station": "Station {}", "flasher": "Flasher {}",
          "baud": "At {} Bd", "operator": "Operator {}", "run": "Run {}"}  # fmt: skip
_VERBS = {"failed": "fails more boards", "blocked": "is blocked more often", "lost": "loses more units"}
_KINDS = {"slot": "slots", "image": "images", "station": "stations", "flasher": "flashers", "baud": "speeds",
          "operator": "operators", "run": "runs"}  # fmt: skip


def told(known: Evidence, cause: Cause) -> Finding:
    """A cause as the report shows it."""
    tests = _leading(known, cause)
    first = tests[0]
    factor = first.factor
    who = factor.labels[first.level] if factor is not None else "bench"
    drifts = any(test.kind == "drift" for test in tests) or grows(known, first)
    effect = _effect(known, first)
    own = mine(known, first)
    orders = known.orders[first.measure.rows[own]]
    if first.measure.is_share:
        own &= telling(first) if first.kind == "share" else own
        orders = known.orders[first.measure.rows[own & (first.measure.values > 0)]]
    return Finding(
        sentence=_sentence(known, tests, effect),
        what="drift" if drifts else factor.name if factor is not None else "drift",
        who=who,
        measure=first.measure.title,
        q=cause.q,
        n=int(own.sum()),
        effect=effect,
        orders=[int(order) for order in orders[:MOST_ORDERS]],
        action=_action(tests, who),
    )


def _leading(known: Evidence, cause: Cause) -> list[Test]:
    """One test a measure, the strongest measure first; of one that also changes over time, the change."""
    found: dict[str, Test] = {}
    apart_told = {test.measure.topic for test, _ in cause.tests} & {"failed", "blocked"}
    for test, _ in cause.tests:
        if test.measure.topic == "lost" and apart_told:
            continue  # it is in the others
        key = f"{test.measure.topic} {'' if test.measure.is_share else test.measure.title}"
        before = found.get(key)
        if before is None or (test.kind == "drift" and before.kind != "drift"):
            found[key] = test
    return sorted(found.values(), key=lambda test: not test.measure.is_share)  # what became of units before why


def grows(known: Evidence, test: Test) -> bool:
    """Whether a slot's share, which stands already, is one that rises over the batch: one more question, at 1 %."""
    if test.kind != "share" or test.factor is None or test.factor.name != "slot":
        return False
    series = test.measure.values[mine(known, test) & telling(test)]
    found = discovery.trend(discovery.in_blocks(series, BLOCKS))
    return found.s > 0 and found.p < _GROWS


def subject(test: Test) -> str:
    """ "Slot C", "The whole bench"."""
    if test.factor is None:
        return "The whole bench"
    return _NAMED[test.factor.name].format(test.factor.labels[test.level])


def _sentence(known: Evidence, tests: list[Test], effect: str) -> str:
    first = tests[0]
    who, others = subject(first), f"the other {_KINDS[first.factor.name]}" if first.factor is not None else ""
    measure = first.measure
    if first.kind == "share":
        said = f"{who} {_VERBS[measure.topic]} than {others}: {effect}{_mostly(known, first)}."
        if grows(known, first):
            (early, n_early), (late, n_late) = halves_counted(known, first, whole=True)
            said += f" It gets worse: {early} of its first {n_early} units, {late} of its last {n_late}."
    elif first.kind == "level":
        more = _compared(first)
        said = f"{who} {more} than {others}: {measure.title} {effect}."
    elif measure.is_share:
        said = f"{who} gets worse over the batch: {effect}{_mostly(known, first)} ({measure.title} units)."
    else:
        way = "rises" if first.way > 0 else "falls"
        said = f"{who}: {measure.title} {way} over the batch, {effect}."
    also = [_also(known, test) for test in tests[1:_MOST_MEASURES]]
    if len(tests) > _MOST_MEASURES:
        also.append(f"{len(tests) - _MOST_MEASURES} more")
    if also:
        said += f" Likewise {', '.join(also)}."
    if first.factor is not None and first.factor.also:
        said += f" Each {first.factor.name} is one {first.factor.also}, too: it may be that."
    return said


def _compared(test: Test) -> str:
    if test.measure.topic == "time":
        return "is slower" if test.way > 0 else "is faster"
    return "reads higher" if test.way > 0 else "reads lower"


def _effect(known: Evidence, test: Test) -> str:
    if test.kind == "share":
        own, use = mine(known, test), telling(test)
        values = test.measure.values > 0
        ours, theirs = (Rate(int(values[each].sum()), int(each.sum())) for each in (own & use, ~own & use))
        either = " failed or blocked" if test.measure.topic == "lost" else ""
        return f"{ours}{either} against {percent(theirs.value)} ({theirs.good} of {theirs.n})"
    if test.kind == "level":
        return _means(known, test) if test.measure.topic == "count" else _shift(known, test)
    if test.measure.is_share:
        (early, n_early), (late, n_late) = halves_counted(known, test)
        return f"{Rate(late, n_late)} in the second half of its units, {early} of {n_early} in the first"
    return _changed(known, test)


def _means(known: Evidence, test: Test) -> str:
    own, others = shares(known, test)
    use, ours = telling(test), mine(known, test)
    counts = test.measure.values[use & ours]
    error = 1.96 * float(counts.std(ddof=1)) / math.sqrt(len(counts)) if len(counts) > 1 else math.nan
    between = f"{max(0.0, own - error):.2g} to {own + error:.2g}"
    n = f"n = {len(counts)} against {int((use & ~ours).sum())}"
    return f"{own:.2g} a unit (95 % interval {between}) against {others:.2g}, {n}"


def _shift(known: Evidence, test: Test) -> str:
    """How far from the others, with the interval of Moses: where the rank test would just not reject."""
    own = mine(known, test)
    n, m = int(own.sum()), int((~own).sum())
    pairs = np.sort(apart(test))
    reach = 1.96 * math.sqrt((n + m + 1) / (12.0 * n * m))
    low, high = np.quantile(pairs, [max(0.0, 0.5 - reach), min(1.0, 0.5 + reach)])
    shift, usual = levels_apart(known, test), float(np.median(test.measure.values[~own]))
    return (
        f"by {_signed(shift, test.measure)}{_relative(shift, usual)} (95 % interval {_signed(low, test.measure)} to "
        f"{_signed(high, test.measure)}), n = {n} against {m}"
    )


def _changed(known: Evidence, test: Test) -> str:
    """From first to last unit, with Sen's interval by Kendall's variance."""
    slopes: list[np.ndarray] = []
    whole = discovery.NO_TREND
    for series, slot in series_of(known, test.measure):
        if test.level in (-1, slot):
            first, second = np.triu_indices(len(series), 1)
            slopes.append((series[second] - series[first]) / (second - first) * (len(series) - 1))
            whole += discovery.trend(series)
    found = np.concatenate(slopes)
    reach = 1.96 * math.sqrt(whole.variance) / (2 * max(whole.pairs, 1))
    low, high = np.quantile(found, [max(0.0, 0.5 - reach), min(1.0, 0.5 + reach)])
    own = mine(known, test)
    shift, usual = change(known, test), float(np.median(test.measure.values[own]))
    return (
        f"by {_signed(shift, test.measure)}{_relative(shift, usual)} from the first unit to the last (95 % interval "
        f"{_signed(low, test.measure)} to {_signed(high, test.measure)}), n = {int(own.sum())}"
    )


def _also(known: Evidence, test: Test) -> str:
    measure = test.measure
    if test.kind == "share":
        own = mine(known, test) & telling(test)
        hits, n = int((measure.values[own] > 0).sum()), int(own.sum())
        return f"{hits} of {n} {_either(measure)}{_mostly(known, test)}"
    if measure.is_share:
        (early, n_early), (late, n_late) = halves_counted(known, test)
        return f"{_either(measure)} {late} of {n_late} in the second half and {early} of {n_early} in the first"
    shift = levels_apart(known, test) if test.kind == "level" else change(known, test)
    over = " over the batch" if test.kind == "drift" else ""
    return f"{measure.title} by {_signed(shift, measure)}{over}"


def _either(measure: Measure) -> str:
    return "failed or blocked" if measure.topic == "lost" else measure.topic


def _mostly(known: Evidence, test: Test) -> str:
    """The commonest codes behind a share."""
    use = mine(known, test) & (test.measure.values > 0)
    ends = known.ends[test.measure.rows[use & telling(test) if test.kind == "share" else use]]
    counts = np.bincount(ends[ends >= 0], minlength=len(known.codes))
    first = [known.codes[at] for at in np.argsort(-counts, kind="stable")[:2] if 4 * counts[at] >= max(len(ends), 1)]
    if not first:
        return ""
    return f", {'' if counts.max() == len(ends) else 'mostly '}{' and '.join(first)}"


def _signed(value: float, measure: Measure) -> str:
    if measure.unit_of in ("A", "V") and abs(value) < 0.1:
        return f"{value * 1000:+.3g} m{measure.unit_of}"
    return f"{value:+.3g} {measure.unit_of}".strip()


def _relative(shift: float, usual: float) -> str:
    return f", {100 * shift / usual:+.0f} % of {number(usual)}" if usual > 0 else ""


def _action(tests: list[Test], who: str) -> str:
    first = tests[0]
    topics = {test.measure.topic for test in tests}
    name = first.factor.name if first.factor is not None else "bench"
    if name == "slot":
        parts = []
        if topics & {"blocked", "failed", "lost", "electric", "count"}:
            parts.append(
                f"Clean or replace the needles of slot {who}, look at its leads, and run a golden unit there."
            )
        if "time" in topics:
            parts.append(
                f"Look at slot {who}'s USB-UART: its latency timer (1 ms), hub, cable and baud; swap it with another "
                "slot's and see whether the time goes with it."
            )
        return " ".join(parts)
    if name == "image":
        return (
            f"Stop using {who} until it is known why: compare it with one that works (`rig inspect`), and read what "
            "the boards print."
        )
    if name == "bench" and topics == {"time"}:
        return "Look at what the station does beside this: other programs, a full disk, a hub that all slots share."
    return {
        "bench": "Look at what all slots share: the supply, the room's temperature, a lot of boards that changed.",
        "station": f"Compare station {who} with another: supply, leads, hub, versions; run one golden unit on both.",
        "flasher": f"Use another flasher than {who} until it is known why; its notes are on the units' pages.",
        "baud": f"Flash at another speed than {who} Bd and see whether it stays.",
        "operator": f"Look together with {who} at how boards are seated; do not take it for a verdict on a person.",
        "run": f"Look at what was different in run {who}: lot of boards, image, settings, its notes.",
    }[name]
