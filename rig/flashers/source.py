"""Where a release is installed from: the package index, a wheel, a folder with its source, a git repository.

Each has a `key` that says what it is by its content, so that what is installed from it once is found again, and what
was changed since is installed anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from rig.errors import UsageProblem

_GIT_S = 300.0  # a fetch that takes longer is given up
_REVISION = re.compile(r"[A-Za-z0-9][\w./+-]*")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_WHEEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl")
_MADE = ("__pycache__", ".git", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".venv", "node_modules")
_MADE_ABOVE = ("build", "dist", "venv")  # in a checkout's own folder


class Source(Protocol):
    """`said`: how the user named it. `package`: its name as far as that tells; `version` likewise, empty if not."""

    @property
    def said(self) -> str: ...

    @property
    def package(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def key(self) -> str:
        """Of its environment's folder. Raises UsageProblem if it cannot be read or reached."""
        ...

    def fetched(self) -> AbstractContextManager[str]:
        """What pip is told. Raises UsageProblem."""
        ...


@dataclass(frozen=True)
class Index:
    """A release on PyPI."""

    package: str
    version: str

    @property
    def said(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def key(self) -> str:
        return f"{self.package}-{self.version}"

    @contextmanager
    def fetched(self) -> Iterator[str]:
        yield self.said


@dataclass(frozen=True)
class Wheel:
    """A wheel on disk."""

    path: Path
    package: str
    version: str

    @property
    def said(self) -> str:
        return self.path.name

    @property
    def key(self) -> str:
        return f"{self.package}-{self.version}-wheel-{_digest(_read(self.path))}"

    @contextmanager
    def fetched(self) -> Iterator[str]:
        yield str(self.path)


@dataclass(frozen=True)
class Folder:
    """A folder with a package's source. It is copied first: a build in it would leave things there, and take in what
    an earlier one left."""

    path: Path
    package: str
    version: str
    said: str

    @property
    def key(self) -> str:
        listed = [f"{name},{hashlib.sha256(_read(self.path / name)).hexdigest()}" for name in _files(self.path)]
        return f"{self.package}-folder-{_digest(chr(10).join(listed).encode())}"

    @contextmanager
    def fetched(self) -> Iterator[str]:
        with _scratch() as scratch:
            copy = scratch / (self.path.name or "source")
            try:
                for name in _files(self.path):
                    (copy / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(self.path / name, copy / name)
                if (self.path / ".git").is_dir():  # some packages learn their version there
                    (copy / ".git").symlink_to(self.path / ".git")
            except OSError as problem:
                raise UsageProblem(f"{self.said} cannot be copied: {problem.strerror}") from None
            yield str(copy)


@dataclass(frozen=True)
class Repository:
    """A commit of a git repository; `revision` is a branch, tag, commit or any ref, HEAD among them."""

    url: str
    revision: str
    package: str
    said: str
    version: str = ""
    _known: list[str] = field(default_factory=list, compare=False, repr=False)

    @property
    def commit(self) -> str:
        """Of the revision, as the repository says now; a commit's own name is taken as it is."""
        if not self._known:
            self._known.append(self._asked())
        return self._known[0]

    @property
    def key(self) -> str:
        return f"{self.package}-git-{_digest(self.url.encode(), 6)}-{self.commit[:12]}"

    @contextmanager
    def fetched(self) -> Iterator[str]:
        with _scratch() as scratch:
            copy = scratch / self.package
            commit = self.commit
            self._git("init", "--quiet", str(copy))
            at = ("-C", str(copy))
            alone = ("fetch", "--quiet", "--depth=1", self.url, commit)  # not every server gives any commit
            if len(commit) < 40 or self._run(*at, *alone).returncode:
                refs = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
                self._git(*at, "fetch", "--quiet", self.url, *refs)
            if self._run(*at, "checkout", "--quiet", "--detach", commit).returncode:
                raise UsageProblem(f"{self.said}: the repository has no commit {commit}")
            if (copy / ".gitmodules").exists():
                self._git(*at, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
            yield str(copy)

    def _asked(self) -> str:
        listed = self._git("ls-remote", self.url)
        refs = {name: commit for line in listed.splitlines() for commit, _, name in [line.partition("\t")] if name}
        wanted = self.revision
        for name in (f"refs/tags/{wanted}^{{}}", f"refs/tags/{wanted}", f"refs/heads/{wanted}", wanted):
            if name in refs:
                return refs[name]
        if _COMMIT.fullmatch(wanted):
            return wanted
        raise UsageProblem(f"{self.said}: the repository has no branch, tag or commit {wanted!r}")

    def _git(self, *words: str) -> str:
        """What it printed. Raises UsageProblem with what it says went wrong."""
        done = self._run(*words)
        if done.returncode == 0:
            return done.stdout
        said = [line for line in done.stderr.splitlines() if line.startswith(("fatal: ", "error: "))]
        why = said[-1].partition(": ")[2].rstrip(".") if said else f"nothing, with exit code {done.returncode}"
        raise UsageProblem(f"{self.said} cannot be fetched, git says: {why}")

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["git", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=_GIT_S, check=False, env=os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UsageProblem(f"{self.said}: git was not done after {_GIT_S:.0f} s") from None
        except OSError as problem:
            raise UsageProblem(f"{self.said}: git cannot be started: {problem.strerror}") from None


def source_of(said: str) -> Source | None:
    """A wheel, folder or repository as a user names it; None: it is named like none of them.

    Raises UsageProblem in one sentence: it is not there, or no package.
    """
    if said.startswith("git+"):
        return _repository(said)
    if "://" in said:
        raise UsageProblem(f"{said}: a repository is named as git+{said}, a wheel by its file")
    path = Path(said).expanduser()
    if said.endswith(".whl"):
        return _wheel(path.absolute())
    return _folder(path.absolute(), said) if "/" in said or said in (".", "..") else None


def _repository(said: str) -> Repository:
    url, _, egg = said.removeprefix("git+").partition("#")
    parts = urlsplit(url)
    if parts.password is not None:
        raise UsageProblem("a password in a URL would stand in every record: leave it to git's credential helper")
    path, _, revision = parts.path.partition("@")
    if revision and _REVISION.fullmatch(revision) is None:
        raise UsageProblem(f"{said}: {revision!r} is no revision")
    if not parts.scheme or not path.strip("/"):
        raise UsageProblem(f"{said}: a repository is named as git+https://HOST/PATH@REVISION")
    name = egg.removeprefix("egg=") if egg.startswith("egg=") else Path(path).name.removesuffix(".git")
    return Repository(parts._replace(path=path).geturl(), revision or "HEAD", _plain(name), said)


def _wheel(path: Path) -> Wheel:
    if not path.is_file():
        raise UsageProblem(f"there is no wheel {path}")
    named = _WHEEL.fullmatch(path.name)
    if named is None:
        raise UsageProblem(f"{path.name} is not named as wheels are, NAME-VERSION-py3-none-any.whl")
    return Wheel(path, _plain(named["name"]), named["version"])


def _folder(path: Path, said: str) -> Folder:
    if not path.is_dir():
        raise UsageProblem(f"there is no folder {path} with a release's source")
    project: dict[str, Any] = {}
    try:
        told = tomllib.loads((path / "pyproject.toml").read_text(encoding="utf-8"))
        project = told.get("project") or told.get("tool", {}).get("poetry", {})
    except FileNotFoundError:
        if not (path / "setup.py").is_file():
            raise UsageProblem(f"{path} is no package: it has neither pyproject.toml nor setup.py") from None
    except (OSError, ValueError, AttributeError) as problem:
        raise UsageProblem(f"{path / 'pyproject.toml'} cannot be read: {problem}") from None
    name, version = project.get("name") or path.name, project.get("version") or ""
    return Folder(path, _plain(str(name)), str(version), said)


def _plain(name: str) -> str:
    """As packages are compared by their names. Source: PyPA, name normalization."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _files(folder: Path) -> Sequence[str]:
    """What belongs to a source: without what tools leave in it."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        left = set(parts) & set(_MADE) or parts[0] in _MADE_ABOVE or any(part.endswith(".egg-info") for part in parts)
        if not left and path.is_file():
            found.append(str(path.relative_to(folder)))
    return found


def _digest(data: bytes, digits: int = 12) -> str:
    return hashlib.sha256(data).hexdigest()[:digits]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise UsageProblem(f"{path} cannot be read: {problem.strerror}") from None


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rig-source-") as name:
        yield Path(name)
