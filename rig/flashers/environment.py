"""An environment of its own for every release of an outside tool, so that releases never meet.

It is made once, by `python -m venv` and `pip install`, in `$RIG_CACHE_DIR/flashers` or `~/.cache/rig/flashers`; its
name says what is in it (rig.flashers.source), with which pins and which Python. A stamp file written last says that
it is whole: an installation that was killed, or whose Python has gone since, is thrown away and made again. What pip
really chose is in the stamp, for the records: the same release gets other dependencies on another day. So is a hash
of what was installed. A program of the user's own is left where it is, and hashed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rig.errors import UsageProblem
from rig.files import write_durably
from rig.flashers.pythons import find_python
from rig.flashers.source import Index, Source

Say = Callable[[str], None]

_STAMP = "rig-installed.json"
_LIST = (
    "import importlib.metadata as m, json; "
    "print(json.dumps({(d.metadata['Name'] or '?').lower(): d.version for d in m.distributions()}))"
)
_VENV_OWN = ("pip", "setuptools", "wheel")  # come with Python, not with the release
_OF_PLACE = ("INSTALLER", "REQUESTED", "direct_url.json")  # tell how and from where it was installed
_SKIPPED = ("__pycache__", ".git")
_OFFLINE = re.compile(
    r"Failed to establish a new connection|NewConnectionError|NameResolutionError"
    r"|Temporary failure in name resolution|ConnectTimeout|ReadTimeout|ProxyError|ConnectionResetError"
    r"|Connection refused|SSLError"
)
_RELEASES = re.compile(r"\(from versions: (?P<list>[^)]*)\)")
_MISSING = re.compile(r"No matching distribution found for (?P<what>\S+)")
_PYTHON = re.compile(r"Requires-Python (?P<range>[^)\n]+?)(?:[;)\n]|$)")


@dataclass(frozen=True)
class Environment:
    """An installed release, or a program of the user's own (`own`), in whose folder it is.

    `versions`: every distribution in it, by its name in lower case. `sha256`: of what was installed, see
    `installed_hash` and `files_hash`.
    """

    folder: Path
    versions: dict[str, str]
    sha256: str = ""
    own: bool = False

    @property
    def bin(self) -> Path:
        return self.folder if self.own else self.folder / "bin"

    def executable(self, name: str) -> Path:
        """Path of a command the release installed. Raises UsageProblem if it has none of this name."""
        path = self.bin / name
        if not os.access(path, os.R_OK if self.own else os.X_OK):
            raise UsageProblem(f"the installation in {self.folder} has no command {name!r}: correct the profile")
        return path


def cache_folder() -> Path:
    """Where environments live: `$RIG_CACHE_DIR/flashers`, else `~/.cache/rig/flashers`."""
    base = os.environ.get("RIG_CACHE_DIR")
    return (Path(base) if base else Path.home() / ".cache" / "rig") / "flashers"


def provide(package: str, version: str, *, pins: Sequence[str] = (), say: Say = lambda line: None) -> Environment:
    """The environment of one release on PyPI: `provide_from`."""
    return provide_from(Index(package, version), pins=pins, say=say)


def provide_from(
    source: Source, *, pins: Sequence[str] = (), python: str | None = None, say: Say = lambda line: None
) -> Environment:
    """The environment of what `source` is, installed now if it is not there yet.

    `pins` are further requirements (`NAME==VERSION`) that hold its dependencies. `python`: a version (`3.12`) or a
    path, else the rig's own. `say` hears what takes time.
    Raises UsageProblem in one sentence: no such release or Python, the index cannot be reached, pip failed.
    """
    folder = cache_folder() / _name(source.key, pins, python)
    found = _installed(folder)
    if found is not None:
        return found
    interpreter = sys.executable if python is None else str(find_python(python))
    with _lock(folder, say) as lock:
        found = _installed(folder)  # by whoever held the lock before us
        if found is None:
            found = _install(folder, source, pins, interpreter, say, lock)
    return found


def program(path: Path, files: Sequence[Path] = ()) -> Environment:
    """A program of the user's own: nothing is installed. `files` are folders and files that belong to it.

    Raises UsageProblem if one of them is not there or cannot be read.
    """
    if not path.is_file():
        raise UsageProblem(f"there is no program {path}: correct the flasher's profile")
    return Environment(path.parent, {}, files_hash([path, *files]), own=True)


def installed_hash(folder: Path) -> str:
    """SHA-256 of what pip installed in an environment: of the lists of files with their hashes that every
    distribution leaves (RECORD), in order. The same wheels give the same, wherever and whenever they are installed;
    the start scripts, which hold the folder's name, and what comes with Python are left out."""
    found = []
    for record in sorted(folder.glob("lib/python*/site-packages/*.dist-info/RECORD")):
        if record.parent.name.split("-")[0].lower() in _VENV_OWN:
            continue
        for line in record.read_text(encoding="utf-8").splitlines():
            name, digest, *_ = [*line.rsplit(",", 2), ""]
            if digest and not name.startswith(("..", "/")) and Path(name).name not in _OF_PLACE:
                found.append(f"{record.parent.name}/{name},{digest}")
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def files_hash(paths: Sequence[Path]) -> str:
    """SHA-256 of files, and of all files below folders, by name and content. Raises UsageProblem."""
    found = []
    for path in paths:
        try:
            whole = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in whole:
                if file.is_file() and not set(_SKIPPED) & set(file.parts):
                    name = file.relative_to(path) if path.is_dir() else file.name
                    found.append(f"{name},{hashlib.sha256(file.read_bytes()).hexdigest()}")
            if not whole:
                raise FileNotFoundError(2, "nothing there")
        except OSError as problem:
            raise UsageProblem(f"{path}, which belongs to a flasher, cannot be read: {problem.strerror}") from None
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


def _name(key: str, pins: Sequence[str], python: str | None) -> str:
    name = key
    if python is not None:
        name += f"-py{python}" if "/" not in python else f"-py{hashlib.sha256(python.encode()).hexdigest()[:8]}"
    return f"{name}-{hashlib.sha256(' '.join(sorted(pins)).encode()).hexdigest()[:8]}" if pins else name


def _installed(folder: Path) -> Environment | None:
    """The environment in `folder` if it is whole and its Python still starts from there."""
    try:
        stamp = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
        versions = {str(name): str(version) for name, version in stamp["versions"].items()}
        same_place = stamp["folder"] == str(folder.absolute())  # its scripts name their interpreter by full path
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    if not same_place or not os.access(folder / "bin" / "python", os.X_OK):
        return None
    found = installed_hash(folder)
    if stamp.get("sha256", found) != found:  # pip, by hand, since; a stamp of old has none
        return None
    return Environment(folder.absolute(), versions, found)


@contextmanager
def _lock(folder: Path, say: Say) -> Iterator[int]:
    """One installer at a time; the lock goes with its process, and with the pip that outlives a killed one."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder.with_name(folder.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise UsageProblem(
            f"tools are installed under {folder.parent}, which cannot be written ({problem.strerror}); "
            "set RIG_CACHE_DIR to a folder that can"
        ) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that installs {folder.name}")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _install(folder: Path, source: Source, pins: Sequence[str], interpreter: str, say: Say, lock: int) -> Environment:
    say(f"installing {source.said} into an environment of its own (once)")
    shutil.rmtree(folder, ignore_errors=True)
    python = str(folder / "bin" / "python")
    try:
        with source.fetched() as what:
            _make(folder, lock, interpreter)
            options = ["--no-input", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
            done = _run([python, "-I", "-m", "pip", "install", *options, what, *pins], lock)
        if done.returncode:
            raise UsageProblem(explain(done.stdout, source.said))
        versions = json.loads(_run([python, "-I", "-c", _LIST], lock).stdout.splitlines()[-1])
        digest = installed_hash(folder)
        stamp = {
            "folder": str(folder.absolute()),
            "requirements": [source.said, *pins],
            "versions": versions,
            "sha256": digest,
        }
        write_durably(folder / _STAMP, json.dumps(stamp, indent=1) + "\n")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    say(f"installed {source.said}")
    return Environment(folder.absolute(), versions, digest)


def _make(folder: Path, lock: int, interpreter: str = sys.executable) -> None:
    made = _run([interpreter, "-m", "venv", str(folder)], lock)
    if made.returncode:
        raise UsageProblem(
            f"no Python environment could be made in {folder}: {_last_line(made.stdout)} "
            "(on Debian: apt install python3-venv)"
        )


def _run(command: list[str], lock: int) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", check=False, cwd="/", pass_fds=[lock],
        )  # fmt: skip
    except OSError as problem:
        raise UsageProblem(f"{command[0]} cannot be started: {problem.strerror}") from None


def explain(output: str, requirement: str) -> str:
    """One sentence on why `pip install` failed, from what it printed."""
    package, _, version = requirement.partition("==")
    if _OFFLINE.search(output):
        return f"{requirement} is not installed yet and the package index cannot be reached: go online once"
    missing = _MISSING.search(output)
    releases = _RELEASES.search(output)
    if missing and releases:
        what = missing["what"].rstrip(".")
        known = [name for name in releases["list"].split(", ") if name and name != "none"]
        if what.lower() != requirement.lower():
            return f"{requirement} needs {what}, which the package index does not have"
        if not known:
            return f"the package index has no {package}: correct the name"
        return f"the package index has no {package} {version}; there is {', '.join(_around(version, known))}"
    needs = _PYTHON.search(output)
    if needs:
        return f"{requirement} needs Python {needs['range']}, this is {sys.version.split()[0]}"
    return f"{requirement} could not be installed: {_last_line(output)}"


def _around(version: str, known: list[str], count: int = 5) -> list[str]:
    """The releases nearest to `version`, in order."""
    ordered = sorted({*known, version}, key=release_key)
    at = ordered.index(version)
    return [name for name in ordered[max(0, at - count + 2) : at + count - 1] if name != version][-count:]


def release_key(version: str) -> tuple[int, ...]:
    """The numbers in a version, to order releases by; pre-releases are not told apart."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["nothing was printed"])[-1].removeprefix("ERROR: ").rstrip(".")
