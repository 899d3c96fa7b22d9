"""Releases as they are run: installed, with the profile that says how they are asked and how their output is read."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig.errors import UsageProblem
from rig.flashers import load_flasher
from rig.flashers.environment import Environment
from rig.flashers.external import ExternalFlasher
from rig.flashers.profile import Profile
from rig.releases.record import Installed
from rig.releases.study import Release

NATIVE = "native"


@dataclass(frozen=True)
class Tool:
    """One release, ready to be run. `profile` and `environment` are None for the rig's own flasher.

    `name`: the tool it is a release of (`ltchiptool`), by which operations have words of its own.
    """

    title: str
    name: str
    profile: Profile | None = None
    environment: Environment | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def native(self) -> bool:
        return self.profile is None


def install(
    release: Release, folders: Sequence[Path] = (), say: Callable[[str], None] = lambda line: None
) -> tuple[Tool | None, Installed]:
    """A release, installed now if it never was; no tool, and `problem` says why, where that cannot be."""
    if release.spec == NATIVE:
        versions = {"rig": own_version()}
        return Tool(release.title, NATIVE, versions=versions), Installed(release.title, NATIVE, versions)
    more: dict[str, Any] = {
        name: value for name, value in (("python", release.python), ("profile", release.profile)) if value is not None
    }
    try:
        flasher = load_flasher(release.spec, folders=folders, say=say, **more)
        if not isinstance(flasher, ExternalFlasher):
            raise UsageProblem(f"{release.spec} is not a release of an outside tool")
        flasher.environment.executable(flasher.profile.executable)
    except UsageProblem as problem:
        return None, Installed(release.title, release.spec, problem=str(problem))
    python = platform.python_version() if release.python is None else release.python
    environment, profile = flasher.environment, flasher.profile
    name = profile.package or Path(profile.executable).name
    tool = Tool(release.title, name, profile, environment, flasher.versions)
    return tool, Installed(release.title, release.spec, environment.versions, environment.sha256, python)


def own_version() -> str:
    """The rig's."""
    from importlib import metadata

    try:
        return metadata.version("rig")
    except metadata.PackageNotFoundError:
        return "checkout"
