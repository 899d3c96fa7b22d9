"""Flashers: one interface for the rig's own client and for releases of external tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from rig.errors import UsageProblem
from rig.flashers.base import Flasher
from rig.flashers.environment import Environment, program, provide_from
from rig.flashers.external import ExternalFlasher
from rig.flashers.native import NativeFlasher
from rig.flashers.profile import Profile, find_profile
from rig.flashers.source import Index, Source, source_of

__all__ = ["environment_of", "load_flasher"]

_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*")
_NEWEST = "999999"


def load_flasher(
    spec: str,
    *,
    folders: Sequence[Path] = (),
    work: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    python: str | None = None,
    profile: str | None = None,
) -> Flasher:
    """`native`, or a release such as `ltchiptool==4.15.0`, installed now if it never was (`say` hears of it).

    A release not on PyPI is a wheel's file, a folder with its source (`./ltchiptool`), or a repository
    (`git+https://HOST/PATH@REVISION`, a branch, tag, commit or ref such as refs/pull/1/head). A dependency is held by
    `,bk7231tools==2.0.2` behind any of them. A program of the user's own, whose profile names no package, goes by its
    name alone. `python`: the Python to install it with, a version (`3.12`) or a path, else the rig's. `profile`: the
    tool whose command line it has, where its package is called otherwise. `folders` hold users' own profiles, `work`
    keeps what a tool prints. Raises UsageProblem: unknown (names the nearest), no such release or Python, or offline.
    """
    if spec == "native":
        return NativeFlasher()
    found, environment = _provided(spec, folders, say, python, profile)
    return ExternalFlasher(spec, found, environment, work=work)


def environment_of(
    spec: str,
    *,
    folders: Sequence[Path] = (),
    say: Callable[[str], None] = lambda line: None,
    python: str | None = None,
) -> Environment:
    """Where a release named as for `load_flasher` is installed, for who types its commands. Raises UsageProblem."""
    return _provided(spec, folders, say, python, None)[1]


def _provided(
    spec: str, folders: Sequence[Path], say: Callable[[str], None], python: str | None, named: str | None
) -> tuple[Profile, Environment]:
    first, pins = _split(spec)
    source = source_of(first)
    if source is not None:
        return _from_source(spec, source, pins, folders, say, python, named)
    name, _, version = first.partition("==")
    profile = find_profile(named or name.partition("=")[0], version or _NEWEST, folders)
    if profile.package is None:
        if spec != name:
            raise UsageProblem(f"--flasher {spec}: {name} is a program of your own, name it without a release")
        if python is not None:
            raise UsageProblem(f"--flasher {spec}: a program of your own has its Python in its profile's command")
        return profile, program(Path(profile.executable), profile.files)
    if _RELEASE.fullmatch(first) is None:
        raise UsageProblem(f"--flasher {spec}: say which release, {name.partition('=')[0]}==VERSION")
    _one_release(spec, name, version, pins)
    return profile, provide_from(Index(name, version), pins=[*profile.pins, *pins], python=python, say=say)


def _from_source(
    spec: str,
    source: Source,
    pins: Sequence[str],
    folders: Sequence[Path],
    say: Callable[[str], None],
    python: str | None,
    named: str | None,
) -> tuple[Profile, Environment]:
    """Which of a tool's profiles fits is known once it is installed: its version tells."""
    name = named or source.package
    try:
        guessed = find_profile(name, source.version or _NEWEST, folders)
    except UsageProblem as problem:
        if named is not None:
            raise
        raise UsageProblem(f"{spec} is taken for {name}: {problem}, or say whose profile it has") from None
    if guessed.package is None:
        raise UsageProblem(f"--flasher {spec}: {name} is a program of your own, name it alone")
    _one_release(spec, source.package, None, pins)
    environment = provide_from(source, pins=[*guessed.pins, *pins], python=python, say=say)
    version = environment.versions.get(source.package) or environment.versions.get(guessed.package.lower())
    profile = find_profile(name, version or source.version or _NEWEST, folders)
    return profile, environment


def _split(spec: str) -> tuple[str, list[str]]:
    """(what is installed, requirements held with it). Raises UsageProblem."""
    first, *pins = spec.split(",")
    for pin in pins:
        if _RELEASE.fullmatch(pin) is None:
            raise UsageProblem(f"--flasher {spec}: a dependency is held as NAME==VERSION, not as {pin!r}")
    return first, pins


def _one_release(spec: str, package: str, version: str | None, pins: Sequence[str]) -> None:
    for pin in pins:
        held, _, other = pin.partition("==")
        if held.lower() == package.lower() and other != version:
            raise UsageProblem(f"--flasher {spec}: names two releases of {package}")
