"""Flashers: one interface for the rig's own client and for releases of external tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from rig.errors import UsageProblem
from rig.flashers.base import Flasher
from rig.flashers.environment import Environment, program, provide
from rig.flashers.external import ExternalFlasher
from rig.flashers.native import NativeFlasher
from rig.flashers.profile import Profile, find_profile

__all__ = ["environment_of", "load_flasher"]

_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*")


def load_flasher(
    spec: str,
    *,
    folders: Sequence[Path] = (),
    work: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Flasher:
    """`native`, or a release such as `ltchiptool==4.15.0`, installed now if it never was (`say` hears of it).

    A dependency is held by `ltchiptool==4.11.2,bk7231tools==2.0.2`. A program of the user's own, whose profile names
    no package, goes by its name alone. `folders` hold users' own profiles, `work`
    keeps what a tool prints. Raises UsageProblem: unknown (names the nearest), no such release, or offline.
    """
    if spec == "native":
        return NativeFlasher()
    profile, pins, version = _parsed(spec, folders)
    return ExternalFlasher(spec, profile, _environment(profile, pins, version, say), work=work)


def environment_of(
    spec: str, *, folders: Sequence[Path] = (), say: Callable[[str], None] = lambda line: None
) -> Environment:
    """Where a release named as for `load_flasher` is installed, for who types its commands. Raises UsageProblem."""
    profile, pins, version = _parsed(spec, folders)
    return _environment(profile, pins, version, say)


def _environment(profile: Profile, pins: Sequence[str], version: str, say: Callable[[str], None]) -> Environment:
    if profile.package is None:
        return program(Path(profile.executable), profile.files)
    return provide(profile.package, version, pins=pins, say=say)


def _parsed(spec: str, folders: Sequence[Path]) -> tuple[Profile, list[str], str]:
    """(profile, requirements that go with it, version)."""
    first, *held = spec.split(",")
    name, _, version = first.partition("==")
    profile = find_profile(name.partition("=")[0], version or "999999", folders)
    if profile.package is None:
        if spec != name:
            raise UsageProblem(f"--flasher {spec}: {name} is a program of your own, name it without a release")
        return profile, [], ""
    if _RELEASE.fullmatch(first) is None:
        raise UsageProblem(f"--flasher {spec}: say which release, {name.partition('=')[0]}==VERSION")
    for pin in held:
        if _RELEASE.fullmatch(pin) is None:
            raise UsageProblem(f"--flasher {spec}: a dependency is held as NAME==VERSION, not as {pin!r}")
        package, _, other = pin.partition("==")
        if package.lower() == profile.package.lower() and other != version:
            raise UsageProblem(f"--flasher {spec}: names two releases of {profile.package}")
    return profile, [*profile.pins, *held], version
