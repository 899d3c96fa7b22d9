"""How much slower a release is, in an interval, and where on the wire its time goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from rig.releases.design import Pair, transfer_s
from rig.releases.trial import Trial

CONFIDENCE = 0.95  # of the interval of a time ratio
_DRAWS = 2000
_SEED = 8
_WORTH_TELLING = 0.15  # of a difference in time


def bootstrap(ratios: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Percentile interval of the median ratio, blocks drawn with replacement; of logarithms, the same every time."""
    values = np.asarray(ratios, dtype=np.float64)
    drawn = np.random.default_rng(_SEED).integers(0, len(values), (_DRAWS, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.median(values[drawn], axis=1), [tail, 1 - tail])
    return math.exp(low), math.exp(high)


def where_from(pairs: Sequence[Pair]) -> str:
    """One sentence on where the release's time differs from the baseline's, by the wire: medians over the pairs."""
    total = _shift(pairs, transfer_s)
    said = []
    shares: dict[str, Callable[[Trial], float]] = {
        "host gaps": lambda trial: trial.host_s,
        "the chip": lambda trial: trial.chip_s,
        "bytes on the wire": lambda trial: trial.wire_s,
        "waiting for lost replies": lambda trial: trial.lost_s,
    }
    for name, share in sorted(shares.items(), key=lambda each: -abs(_shift(pairs, each[1]))):
        seconds = _shift(pairs, share)
        if abs(seconds) >= _WORTH_TELLING * max(abs(total), 0.001):
            gaps = f" in {round(median(_count(new) for _, new in pairs))} commands" if name == "host gaps" else ""
            said.append(f"{name} {seconds:+.3f} s{gaps}")
    retries = _shift(pairs, lambda trial: trial.retries)
    if retries:
        said.append(f"{_number(retries)} {'retry' if abs(retries) == 1 else 'retries'}")
    for name in sorted({name for pair in pairs for trial in pair for name in trial.commands} - {"link-check"}):
        count = median(new.commands.get(name, 0) - base.commands.get(name, 0) for base, new in pairs)
        if count:
            said.append(f"{_number(count)} {name}")
    traffic = _shift(pairs, lambda trial: trial.bytes_out + trial.bytes_in)
    if abs(traffic) >= 512:
        said.append(f"{abs(traffic) / 1024:.1f} KiB {'more' if traffic > 0 else 'less'} on the wire")
    link = _shift(pairs, lambda trial: trial.link_s)
    linked = f"; until the link, not counted: {link:+.2f} s" if abs(link) >= 0.2 else ""
    return f"{total:+.3f} s a transfer: {', '.join(said) or 'no share stands out'}{linked}"


def _shift(pairs: Sequence[Pair], share: Callable[[Trial], float]) -> float:
    return float(median(share(new) - share(base) for base, new in pairs))


def _count(trial: Trial) -> int:
    return sum(count for name, count in trial.commands.items() if name != "link-check")


def _number(count: float) -> str:
    return f"{abs(count):g} {'more' if count > 0 else 'fewer'}"
