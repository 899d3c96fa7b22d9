"""Flashers: one interface for the rig's own client and for releases of external tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from rig.errors import UsageProblem
from rig.flashers.base import Flasher
from rig.flashers.environment import provide
from rig.flashers.external import ExternalFlasher
from rig.flashers.native import NativeFlasher
from rig.flashers.profile import find_profile

__all__ = ["load_flasher"]

_RELEASE = r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*"
_SPEC = re.compile(rf"(?P<name>[^=,]+)==(?P<version>[^=,]+)(?P<pins>(?:,{_RELEASE})*)")


def load_flasher(
    spec: str,
    *,
    folders: Sequence[Path] = (),
    work: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Flasher:
    """`native`, or a release such as `ltchiptool==4.15.0`, installed now if it never was (`say` hears of it).

    A dependency is held by `ltchiptool==4.11.2,bk7231tools==2.0.2`. `folders` hold users' own profiles, `work`
    keeps what a tool prints. Raises UsageProblem: unknown (names the nearest), no such release, or offline.
    """
    if spec == "native":
        return NativeFlasher()
    match = _SPEC.fullmatch(spec)
    name = match["name"] if match else spec.partition("=")[0]
    version = match["version"] if match else ""
    profile = find_profile(name, version or "999999", folders)
    if match is None or re.fullmatch(_RELEASE, f"{name}=={version}") is None:
        raise UsageProblem(f"--flasher {spec}: say which release, {name}==VERSION")
    pins = [*profile.pins, *filter(None, match["pins"].split(","))]
    return ExternalFlasher(spec, profile, provide(profile.package, version, pins=pins, say=say), work=work)
