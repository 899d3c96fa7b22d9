"""The rig's errors: each carries one sentence for a person and the exit code a command ends with.

Whatever a user can cause ends in one of these; anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command. Where several apply, 1 wins over 3."""

    GOOD = 0
    FAILED = 1  # a unit, a study or a check failed, or is unverified
    USAGE = 2  # usage, configuration, or a refused image
    BLOCKED = 3  # the bench was to blame
    ABORTED = 130  # Ctrl-C, SIGTERM, SIGHUP or abort


def no_room(problem: BaseException) -> bool:
    """Whether it is a full disk, or a quota that is used up; among several problems one that is."""
    if isinstance(problem, BaseExceptionGroup):
        return any(no_room(each) for each in problem.exceptions)
    return isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)


class RigError(Exception):
    """Base: a sentence saying what is wrong, where, and what to do about it."""

    exit_code: Exit = Exit.FAILED


class UsageProblem(RigError):
    """The command line, a file the user wrote, or the installation is wrong. Nothing was touched."""

    exit_code = Exit.USAGE


class ImageRefused(UsageProblem):
    """A file that must not go onto this board: what it is, and what to use instead.

    `rule`: the rule it breaks, by its name in `rig.image.planning.rules`. `reason` and `instead`: the two halves
    of the sentence, where it has two.
    """

    def __init__(self, sentence: str, *, rule: str = "", reason: str = "", instead: str = "") -> None:
        super().__init__(sentence)
        self.rule, self.reason, self.instead = rule, reason or sentence, instead


class Coded(RigError):
    """An error with a failure code out of :mod:`rig.codes`."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class BenchBlocked(Coded):
    """The bench is bad (no current, weak supply, lost port): says nothing about the board."""

    exit_code = Exit.BLOCKED


class UnitFailed(Coded):
    """The board is bad: its ROM current is sane but it never links, differs on verify, or does not boot."""

    exit_code = Exit.FAILED


class Aborted(RigError):
    """A person stopped it: Ctrl-C, SIGTERM, or the abort button."""

    exit_code = Exit.ABORTED
