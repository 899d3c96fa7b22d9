"""Releases that are not on PyPI: wheels, folders, git repositories, another Python; installed by pip, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rig.errors import UsageProblem
from rig.flashers import environment, load_flasher
from rig.flashers.environment import installed_hash
from rig.flashers.external import ExternalFlasher
from rig.flashers.pythons import find_python
from rig.flashers.source import Folder, Repository, Wheel, source_of
from tests.sick_tools import fall_ill
from tests.test_flashers_external import PROFILE, TOOL, FakeLink, wheel

# A build backend that needs nothing: pip builds a folder with it and asks no index.
BACKEND = """
import base64, hashlib, zipfile
from pathlib import Path
def build_wheel(folder, config_settings=None, metadata_directory=None):
    Path("build").mkdir()
    info = "rigfake-VERSION.dist-info"
    files = {
        "rigfake.py": Path("rigfake.py").read_text(),
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: rigfake\\nVersion: VERSION\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/entry_points.txt": "[console_scripts]\\nrigfake = rigfake:main\\n",
    }
    rows = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},\\n"
        for name, text in files.items()
    )
    name = "rigfake-VERSION-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder) / name, "w") as archive:
        for file, text in (files | {f"{info}/RECORD": f"{rows}{info}/RECORD,,\\n"}).items():
            archive.writestr(file, text)
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "rigfake"
version = "VERSION"
"""


def checkout(folder: Path, version: str, tool: str = TOOL) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PYPROJECT.replace("VERSION", version))
    (folder / "backend.py").write_text(BACKEND.replace("VERSION", version))
    (folder / "rigfake.py").write_text(tool)
    return folder


def git(folder: Path, *words: str) -> str:
    told = {
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@t",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@t",
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, env=os.environ | told
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    """No index at all, an empty cache, and environments that are copies of one: making one takes seconds."""
    base = tmp_path_factory.mktemp("sources")
    model = base / "model"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("RIG_CACHE_DIR", str(base / "cache"))
        subprocess.run([sys.executable, "-m", "venv", str(model)], check=True)
        made: list[str] = []

        def make(folder: Path, lock: int, interpreter: str) -> None:
            made.append(interpreter)
            shutil.copytree(model, folder, symlinks=True)

        patch.setattr(environment, "_make", make)
        (base / "flashers").mkdir()
        (base / "flashers" / "rigfake.toml").write_text(PROFILE.replace("MODE", "ok"))
        yield base, made


def load(place, spec: str, **more: str) -> ExternalFlasher:
    flasher = load_flasher(spec, folders=[place[0] / "flashers"], **more)
    assert isinstance(flasher, ExternalFlasher)
    return flasher


def test_a_wheel_is_installed_once_and_goes_by_its_content(place, tmp_path: Path) -> None:
    wheel(tmp_path, "1.0")
    path = tmp_path / "rigfake-1.0-py3-none-any.whl"
    flasher, before = load(place, str(path)), len(place[1])
    assert flasher.versions == {"rigfake": "1.0"}
    folder = flasher.environment.folder
    assert folder.name.startswith("rigfake-1.0-wheel-")
    assert flasher.sha256 == installed_hash(folder)
    assert json.loads((folder / "rig-installed.json").read_text())["requirements"] == [path.name]
    link = FakeLink()
    try:
        assert flasher.write(link, [(0x1000, b"ab")]).ok
    finally:
        link.close()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(path, elsewhere)
    assert load(place, str(elsewhere / path.name)).environment == flasher.environment
    assert len(place[1]) == before
    with zipfile.ZipFile(path, "a") as archive:  # other content, the same name
        archive.writestr("more.py", "")
    other = load(place, str(path))
    assert other.environment.folder != folder
    assert len(place[1]) == before + 1


def test_a_folder_is_built_from_a_copy_and_again_when_it_changed(place, tmp_path: Path) -> None:
    source = checkout(tmp_path / "work", "2.0")
    (source / "build").mkdir()  # the backend would trip over it, as real ones take stale files from it
    (source / ".git").mkdir()
    flasher = load(place, str(source))
    assert flasher.versions == {"rigfake": "2.0"}
    assert flasher.environment.folder.name.startswith("rigfake-folder-")
    assert sorted(path.name for path in source.rglob("*")) == [
        ".git", "backend.py", "build", "pyproject.toml", "rigfake.py",
    ]  # fmt: skip
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "x.pyc").touch()
    assert load(place, str(source)).environment == flasher.environment
    # the same content from another place is the same release: nothing of where it was built is hashed
    twin = checkout(tmp_path / "twin", "2.0")
    assert source_of(str(twin)).key == source_of(str(source)).key == flasher.environment.folder.name
    shutil.rmtree(flasher.environment.folder)
    assert load(place, str(twin)).sha256 == flasher.sha256
    (source / "rigfake.py").write_text(f"{TOOL}\n# changed")
    assert source_of(str(source)).key != flasher.environment.folder.name


def test_a_repository_by_branch_tag_commit_and_ref(place, tmp_path: Path) -> None:
    repository = checkout(tmp_path / "rigfake.git", "3.0")
    git(repository, "init", "--quiet", "--initial-branch=main")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "one")
    git(repository, "tag", "-a", "v3.0", "-m", "three")
    first = git(repository, "rev-parse", "HEAD")
    checkout(repository, "3.1")
    git(repository, "commit", "--quiet", "-am", "two")
    second = git(repository, "rev-parse", "HEAD")
    git(repository, "update-ref", "refs/pull/7/head", second)
    url = f"git+file://{repository}"

    def version(revision: str) -> tuple[str, str]:
        source = source_of(f"{url}@{revision}" if revision else url)
        with source.fetched() as folder:
            line = next(
                line for line in (Path(folder) / "pyproject.toml").read_text().splitlines() if "version" in line
            )
        return line, source.key.rpartition("-")[2]

    assert version("v3.0") == version(first) == ('version = "3.0"', first[:12])
    assert version("main") == version("") == version("refs/pull/7/head") == ('version = "3.1"', second[:12])
    assert version(first[:9]) == ('version = "3.0"', first[:9])
    with pytest.raises(UsageProblem, match="the repository has no branch, tag or commit 'nowhere'"):
        version("nowhere")
    with pytest.raises(UsageProblem, match="the repository has no commit 0123456789"):
        version("0123456789" * 4)
    made = load(place, f"{url}@v3.0")
    assert (made.versions, made.environment.folder.name) == ({"rigfake": "3.0"}, source_of(f"{url}@v3.0").key)


def test_another_python(place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found on PATH by its name; one that does not start, as a shim of pyenv, is passed over."""
    shims, real = tmp_path / "shims", tmp_path / "real"
    for folder, text in ((shims, "#!/bin/sh\necho 'command not found' >&2; exit 127\n"), (real, "")):
        folder.mkdir()
        program = folder / f"python3.{sys.version_info.minor}"
        program.write_text(text or f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}:{real}:/usr/bin:/bin")
    mine = f"3.{sys.version_info.minor}"
    assert find_python(mine) == real / f"python{mine}"
    wheel(tmp_path, "1.0")
    spec = str(tmp_path / "rigfake-1.0-py3-none-any.whl")
    assert load(place, spec, python=mine).environment.folder.name.endswith(f"-py{mine}")
    assert place[1][-1] == str(real / f"python{mine}")
    assert (
        load(place, spec, python=sys.executable).environment.folder.name != load(place, spec).environment.folder.name
    )
    (shims / "python3.99").write_text((real / f"python{mine}").read_text())
    (shims / "python3.99").chmod(0o755)
    for wrong, sentence in (
        ("3.99", r"^Python 3.99 is not here: no python3.99 on PATH starts; install it, or name its path$"),
        ("3", "say a version such as 3.12, or a Python's full path"),
        ("/nowhere/python", "there is no Python that starts"),
    ):
        with pytest.raises(UsageProblem, match=sentence):
            load(place, spec, python=wrong)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("/nowhere/rigfake-1.0-py3-none-any.whl", "^there is no wheel /nowhere/rigfake-1.0-py3-none-any.whl$"),
        ("{here}/odd.whl", "odd.whl is not named as wheels are"),
        ("{here}/rigfake-9.0-py3-none-any.whl", "rigfake-9.0-py3-none-any.whl could not be installed: "),
        ("{here}/nothing/", "there is no folder .*/nothing with a release's source"),
        ("{here}/empty", "is no package: it has neither pyproject.toml nor setup.py"),
        ("{here}/broken", "broken/pyproject.toml cannot be read: "),
        ("{here}/strange", r"is taken for strange: no flasher called 'strange'.*, or say whose profile it has"),
        ("{here}/failing", "^{here}/failing could not be installed: "),
        ("https://example.org/tool", r"a repository is named as git\+https://example.org/tool"),
        ("git+https://me:secret@example.org/tool", "^a password in a URL would stand in every record"),
        ("git+https://example.org/rigfake@--upload-pack=x", "'--upload-pack=x' is no revision"),
        ("git+nothing", r"named as git\+https://HOST/PATH@REVISION"),
        ("git+file://{here}/empty/rigfake", "cannot be fetched, git says: "),
        ("{here}/needy,rigneeded", "a dependency is held as NAME==VERSION, not as 'rigneeded'"),
        ("{here}/needy,rigneeded==1.0", r"needy needs rigneeded==1\.0, which the package index does not have"),
        ("{here}/needy,rigfake==1.0", "names two releases of rigfake"),
    ],
)
def test_what_cannot_be_installed_is_one_sentence(place, tmp_path: Path, spec: str, sentence: str) -> None:
    (tmp_path / "odd.whl").touch()
    (tmp_path / "rigfake-9.0-py3-none-any.whl").write_bytes(b"no zip")
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "pyproject.toml").write_text("[project")
    strange = checkout(tmp_path / "strange", "1.0")
    (strange / "pyproject.toml").write_text('[project]\nname = "strange"\n')
    checkout(tmp_path / "needy", "1.0")
    (checkout(tmp_path / "failing", "1.0") / "backend.py").write_text("def build_wheel(*_, **__):\n    1 / 0\n")
    before = len(list((place[0] / "cache" / "flashers").glob("*/rig-installed.json")))
    with pytest.raises(UsageProblem, match=sentence.replace("{here}", str(tmp_path))) as problem:
        load(place, spec.replace("{here}", str(tmp_path)))
    assert "\n" not in str(problem.value)
    assert "secret" not in str(problem.value)
    assert len(list((place[0] / "cache" / "flashers").glob("*/rig-installed.json"))) == before


def test_a_source_whose_command_is_missing_says_so(place, tmp_path: Path) -> None:
    source = checkout(tmp_path / "work", "2.0")
    (source / "backend.py").write_text(
        (source / "backend.py").read_text().replace("rigfake = rigfake", "other = rigfake")
    )
    with pytest.raises(UsageProblem, match="has no command 'rigfake': correct the profile"):
        load(place, str(source))


def test_how_sources_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_of("ltchiptool==4.15.0") is None
    assert source_of("native") is None
    found = source_of("git+https://github.com/libretiny-eu/ltchiptool@refs/pull/100/head")
    assert isinstance(found, Repository)
    assert (found.url, found.revision, found.package) == (
        "https://github.com/libretiny-eu/ltchiptool", "refs/pull/100/head", "ltchiptool",
    )  # fmt: skip
    named = source_of("git+ssh://git@github.com/me/fork.git@v1#egg=Bk7231_Tools")
    assert isinstance(named, Repository)
    assert (named.url, named.revision, named.package) == ("ssh://git@github.com/me/fork.git", "v1", "bk7231-tools")
    monkeypatch.chdir(checkout(tmp_path / "here", "5.0"))
    here = source_of(".")
    assert isinstance(here, Folder)
    assert (here.package, here.version) == ("rigfake", "5.0")
    (tmp_path / "A_b.C-1.0-1-cp311-cp311-linux_x86_64.whl").touch()
    built = source_of(str(tmp_path / "A_b.C-1.0-1-cp311-cp311-linux_x86_64.whl"))
    assert isinstance(built, Wheel)
    assert (built.package, built.version) == ("a-b-c", "1.0")


def test_a_program_of_ones_own_has_its_python_in_its_profile(tmp_path: Path) -> None:
    fall_ill(tmp_path, "says-done")
    with pytest.raises(UsageProblem, match="has its Python in its profile's command"):
        load_flasher("says-done", folders=[tmp_path / "flashers"], python="3.12")
