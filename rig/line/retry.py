"""Which unit is tried again by itself."""

from __future__ import annotations

from rig.line.rules import Retry
from rig.records.events import Outcome

_AGAIN = (Outcome.FAIL, Outcome.BLOCKED)


def again(rule: Retry, outcome: Outcome, code: str | None, attempts: int) -> bool:
    """Whether a unit that has had `attempts` attempts, the last of which ended so, gets another one.

    Only a failed or blocked attempt with a code that the rule names is tried again: a good one needs nothing, an
    aborted one was stopped by a person who will say what comes next, and an unverified one waits for a resume, which
    puts it first anyway. At least one attempt must have been had (ValueError: a bug of the caller's)."""
    if attempts < 1:
        raise ValueError(f"a unit without an attempt cannot be tried again: {attempts}")
    return outcome in _AGAIN and code in rule.codes and attempts < rule.attempts
