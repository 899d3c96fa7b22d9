"""Outside tools as flashers, tried on a small tool of our own: installed by pip, run, judged, ended."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.errors import BenchBlocked, UnitFailed, UsageProblem
from rig.flashers import environment, load_flasher
from rig.flashers.environment import explain, provide
from rig.flashers.external import ExternalFlasher, _bytes
from rig.flashers.native import NativeFlasher
from rig.flashers.process import Run, _Lines
from rig.flashers.profile import find_profile

TOOL = """
import os, subprocess, sys, time
def main():
    mode, operation, port, offset, length, file = sys.argv[1:]
    offset, length = int(offset, 16), int(length, 16)
    open(port, "rb+", buffering=0).close()
    print("path", os.environ.get("PYTHONPATH"))
    if mode == "silent":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("child", child.pid, os.getpid(), flush=True)
        time.sleep(60)
    if mode == "chatty":
        print("child", os.getpid(), os.getpid(), flush=True)
        while True:
            print("still at it", flush=True)
            time.sleep(0.02)
    if mode == "nolink":
        print("nobody answers")
        sys.exit(1)
    print("linked to a chip")
    if mode == "late":
        print("nobody answers")
        sys.exit(1)
    if mode == "unsaid":
        sys.exit(0)
    if operation == "info":
        print("| Chip | BK7231N |\\n| Id | 0x7231c |\\n| Flash | EB 60 15 |\\n| Size | 2 MiB |")
        print("| MAC | C8:47:8C:01:02:03 |\\n| Key | deadbeef cafe |")
    if operation in ("write", "check"):
        content = open(file, "rb").read()
        print("content", content.hex())
    for at in range(offset, offset + length, 0x1000):
        print(f"####busy at {at:X}", end="\\r")
    if operation == "read":
        open(file, "wb").write(bytes(length - (1 if mode == "short" else 0)))
    if mode == "retry":
        print("no reply, once more (2)")
    if mode == "lie":
        print("E: first\\nE: verify password=hunter22x failed\\nE: |-- File x")
    print("all done")
    if mode == "code":
        sys.exit(7)
    if mode == "orphan":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("child", child.pid, os.getpid(), flush=True)
"""

PROFILE = r"""
title = "Rig's fake"
package = "rigfake"
executable = "rigfake"
source = "this test"
record = ["rigfake", "pyserial"]
families = { BK7231N = "n" }
write_align = 0x1000
[identify]
command = ["{tool}", "MODE", "info", "{port}", "0", "0", "-"]
success = ["^all done$"]

[identify.fields]
chip = '\| Chip \| (?P<value>\w+)'
chip_id = '\| Id \| (?P<value>\w+)'
flash_id = '\| Flash \| (?P<value>[^|]+) \|'
flash_size = '\| Size \| (?P<value>[^|]+) \|'
mac = '\| MAC \| (?P<value>\S+)'

[read]
command = ["{tool}", "MODE", "read", "{port}", "{offset:x}", "{length:x}", "{file}"]
success = ["^all done$"]

[write]
command = ["{tool}", "MODE", "write", "{port}", "{offset:x}", "{length:x}", "{file}"]
success = ["^all done$"]

[verify]
command = ["{tool}", "MODE", "check", "{port}", "{offset:x}", "{length:x}", "{file}"]
success = ["^all done$"]

[output]
noise = '^#+'
error = '^E: (?!\|--)(?P<value>.+)'
linked = '^linked'
unlinked = ['^nobody answers']
retry = ['once more']
progress = [{ match = '^busy at (?P<address>[0-9A-F]+)' }]
private = ['\| Key \| (?P<value>[^|]+) \|']

[patience]
silence = 30
start = 60
wire_times = 1
"""


class FakeLink:
    """A pseudo-terminal nobody serves; `problem` is what check() raises from `after` seconds on."""

    baud = 921600
    lines = ""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.path = os.ttyname(self.slave)
        self.prepared = 0
        self.problem: Exception | None = None
        self.when = lambda: True

    def prepare(self) -> None:
        self.prepared += 1

    def check(self) -> None:
        if self.problem is not None and self.when():
            raise self.problem

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def link():
    link = FakeLink()
    yield link
    link.close()


def wheel(folder: Path, version: str) -> None:
    """A wheel of the tool, made by hand: no build, no network."""
    info = f"rigfake-{version}.dist-info"
    files = {
        "rigfake.py": TOOL,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: rigfake\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nrigfake = rigfake:main\n",
    }
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},"
        f"{len(text.encode())}"
        for name, text in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    with zipfile.ZipFile(folder / f"rigfake-{version}-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """pip looks into a folder with rigfake 1.0 and 1.2 and nowhere else; the cache is empty."""
    base = tmp_path_factory.mktemp("pip")
    wheels = base / "wheels"
    wheels.mkdir()
    wheel(wheels, "1.0")
    wheel(wheels, "1.2")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(wheels))
        patch.setenv("RIG_CACHE_DIR", str(base / "cache"))
        yield base


@pytest.fixture(scope="module")
def installed(index):
    """rigfake 1.0, installed where a first attempt was killed half-way; and what was said meanwhile."""
    folder = environment.cache_folder() / "rigfake-1.0"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "rigfake").write_text("half of a command")
    (folder / "left-behind").touch()
    said: list[str] = []
    made = provide("rigfake", "1.0", say=said.append)
    return made, said


@pytest.fixture
def fake(installed, tmp_path):
    """A function: the flasher whose tool behaves as `mode` says."""
    folder = tmp_path / "flashers"
    folder.mkdir()
    (tmp_path / "work").mkdir()

    def make(mode: str = "ok", **more: str) -> ExternalFlasher:
        text = PROFILE.replace("MODE", mode)
        for old, new in more.items():
            text = text.replace(old, new)
        (folder / "rigfake.toml").write_text(text)
        made = load_flasher("rigfake==1.0", folders=[folder], work=tmp_path / "work")
        assert isinstance(made, ExternalFlasher)
        return made

    return make


def wait_for(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Still there, and not just a zombie nobody has reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pids_of(flasher: ExternalFlasher) -> list[int]:
    line = next(line for line in flasher.last_output.splitlines() if line.startswith("child "))
    return [int(pid) for pid in line.split()[1:]]


# -- environments --------------------------------------------------------------------------------------


def test_a_killed_installation_does_not_count(installed):
    made, said = installed
    assert said[-2:] == [
        "installing rigfake==1.0 into an environment of its own (once)", "installed rigfake==1.0",
    ]  # fmt: skip
    assert not (made.folder / "left-behind").exists()
    assert made.versions["rigfake"] == "1.0"
    assert made.executable("rigfake").is_file()


def test_the_lock_stays_with_the_pip_of_a_killed_rig(tmp_path):
    """Or the next run would install into the folder that pip still fills."""
    folder = tmp_path / "cache" / "tool-1.0"
    victim = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from rig.flashers.environment import _lock, _run\n"
            "with _lock(Path(sys.argv[1]), print) as lock:"
            " _run(['sh', '-c', f'echo $$ > {sys.argv[2]}; until [ -e {sys.argv[3]} ]; do sleep 0.05; done'], lock)",
            str(folder),
            str(tmp_path / "pid"),
            str(tmp_path / "go"),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    said: list[str] = []

    def waiting(line: str) -> None:
        said.append(line)
        (tmp_path / "go").touch()  # not before: else there may be nothing to wait for

    try:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        with environment._lock(folder, waiting):
            pid = int((tmp_path / "pid").read_text())
            wait_for(lambda: not alive(pid))  # a process lets go of its files a moment before it is gone
    finally:
        victim.kill()
        victim.wait()
        (tmp_path / "go").touch()
    assert said == ["waiting for another run that installs tool-1.0"]


def test_an_installation_is_made_once(installed):
    made, _ = installed
    said: list[str] = []
    assert provide("rigfake", "1.0", say=said.append) == made
    assert said == []


def test_a_moved_or_broken_installation_does_not_count(installed, tmp_path, monkeypatch):
    made, _ = installed
    assert environment._installed(made.folder) == made
    moved = tmp_path / "elsewhere"
    shutil.copytree(made.folder, moved, symlinks=True)
    assert environment._installed(moved) is None  # its scripts start the Python of the first place
    monkeypatch.setattr(environment.os, "access", lambda path, mode: False)
    assert environment._installed(made.folder) is None  # the Python it was made with has gone


@pytest.fixture
def quick_venv(installed, monkeypatch):
    """A copy of an environment instead of a new one: making one takes seconds."""
    made, _ = installed
    monkeypatch.setattr(
        environment, "_make", lambda folder, *_: shutil.copytree(made.folder, folder, symlinks=True) and None
    )


def test_two_do_not_install_at_once(quick_venv, monkeypatch):
    said: list[str] = []
    made: list[object] = []
    make = environment._make

    def held(folder, *rest):
        wait_for(lambda: any(line.startswith("waiting") for line in said))  # the other one comes meanwhile
        return make(folder, *rest)

    monkeypatch.setattr(environment, "_make", held)
    threads = [
        threading.Thread(target=lambda: made.append(provide("rigfake", "1.2", say=said.append))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == [
        "installed rigfake==1.2",
        "installing rigfake==1.2 into an environment of its own (once)",
        "waiting for another run that installs rigfake-1.2",
    ]
    assert made[0] == made[1]


def test_pins_make_an_environment_of_their_own(quick_venv, installed, tmp_path):
    (tmp_path / "rigfake.toml").write_text(PROFILE)
    pinned = load_flasher("rigfake==1.0,rigfake==1.0", folders=[tmp_path])
    assert isinstance(pinned, ExternalFlasher)
    assert pinned.name == "rigfake==1.0,rigfake==1.0"
    assert pinned.environment.folder.name.startswith("rigfake-1.0-")
    stamp = json.loads((pinned.environment.folder / "rig-installed.json").read_text())
    assert stamp["requirements"] == ["rigfake==1.0", "rigfake==1.0"]


def test_an_unknown_release_is_one_sentence_and_leaves_nothing(quick_venv):
    with pytest.raises(UsageProblem, match=r"^the package index has no rigfake 1\.1; there is 1\.0, 1\.2$"):
        provide("rigfake", "1.1")
    assert not (environment.cache_folder() / "rigfake-1.1").exists()


def test_offline_is_one_sentence(quick_venv, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(
        UsageProblem, match=r"^othertool==1\.0 is not installed yet and .* cannot be reached: go online"
    ):
        provide("othertool", "1.0")


def test_a_cache_that_cannot_be_written_is_one_sentence(monkeypatch):
    monkeypatch.setenv("RIG_CACHE_DIR", "/proc/nowhere")
    with pytest.raises(UsageProblem, match="set RIG_CACHE_DIR"):
        provide("rigfake", "1.0")


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        (
            "ERROR: Could not find a version that satisfies the requirement tool==4.99.0 (from versions: 1.0.0, "
            "4.9.0, 4.10.0, 4.11.2, 4.14.4, 4.15.0)\nERROR: No matching distribution found for tool==4.99.0",
            "the package index has no tool 4.99.0; there is 4.11.2, 4.14.4, 4.15.0",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement tool==4.99.0 (from versions: none)\n"
            "ERROR: No matching distribution found for tool==4.99.0",
            "the package index has no tool: correct the name",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement dep<2 (from versions: 2.0, 2.1)\n"
            "ERROR: No matching distribution found for dep<2",
            "tool==4.99.0 needs dep<2, which the package index does not have",
        ),
        ("ERROR: Failed building a wheel.", "tool==4.99.0 could not be installed: Failed building a wheel"),
        ("", "tool==4.99.0 could not be installed: nothing was printed"),
    ],
)  # fmt: skip
def test_what_pip_said_as_one_sentence(printed, sentence):
    assert explain(printed, "tool==4.99.0") == sentence


# -- profiles ------------------------------------------------------------------------------------------


def test_specs():
    assert isinstance(load_flasher("native"), NativeFlasher)
    with pytest.raises(UsageProblem, match=r"no flasher called 'ltchiptol'; did you mean 'ltchiptool'\?"):
        load_flasher("ltchiptol==4.15.0")
    with pytest.raises(UsageProblem, match="did you mean 'native'"):
        load_flasher("nativ")
    with pytest.raises(UsageProblem, match="say which release, ltchiptool==VERSION"):
        load_flasher("ltchiptool")
    with pytest.raises(UsageProblem, match="say which release"):
        load_flasher("ltchiptool==4.15.0; rm -rf")
    with pytest.raises(UsageProblem, match=r"a dependency is held as NAME==VERSION, not as 'bk7231tools'$"):
        load_flasher("ltchiptool==4.11.2,bk7231tools")
    with pytest.raises(UsageProblem, match="names two releases of ltchiptool"):
        load_flasher("ltchiptool==4.11.2,ltchiptool==4.15.0")


@pytest.mark.parametrize(
    ("text", "size"),
    [("2 MiB", 0x200000), ("512KB", 0x80000), ("2097152", 0x200000), ("0x200000", 0x200000), ("0xZ", None)],
)
def test_sizes_as_tools_print_them(text, size):
    assert _bytes(text) == size


def test_a_later_release_may_have_a_profile_of_its_own(tmp_path):
    (tmp_path / "rigfake.toml").write_text(PROFILE)
    (tmp_path / "rigfake@1.10.toml").write_text(PROFILE.replace("Rig's fake", "Newer"))
    titles = {version: find_profile("rigfake", version, [tmp_path]).title for version in ("1.9", "1.10", "2.0")}
    assert titles == {"1.9": "Rig's fake", "1.10": "Newer", "2.0": "Newer"}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("{offset:x}", "{offest:x}", r"{offest} is unknown; did you mean 'offset'\?"),
        ("{length:x}", "{length:q}", "is no template"),
        ("'^linked'", "'^li(nked'", "linked.*regular expression"),
        ("(?P<address>[0-9A-F]+)", "[0-9A-F]+", r"needs a group \(\?P<percent>"),
        ("'^E: (?!\\|--)(?P<value>.+)'", "'^E: '", r"needs a group \(\?P<value>"),
        ('success = ["^all done$"]', "success = []", "success"),
        ("silence = 30", "silense = 30", "unknown key 'patience.silense'; did you mean 'silence'"),
        ('title = "Rig\'s fake"', "", "'title' is missing"),
    ],
)
def test_a_mistake_in_a_profile_is_one_sentence(tmp_path, old, new, sentence):
    assert old in PROFILE
    (tmp_path / "rigfake.toml").write_text(PROFILE.replace(old, new))
    with pytest.raises(UsageProblem, match=rf"^{tmp_path}/rigfake\.toml: .*{sentence}") as problem:
        find_profile("rigfake", "1.0", [tmp_path])
    assert "\n" not in str(problem.value)


# -- runs ----------------------------------------------------------------------------------------------


def test_a_write_is_run_read_and_kept(fake, link, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    told: list[tuple[str, int, int]] = []
    flasher = fake("retry")
    began = time.monotonic()
    result = flasher.write(link, [(0x1000, b"ab"), (0x4000, b"\x5a" * 0x2001)], lambda *what: told.append(what))
    assert (result.ok, result.said, result.size) == (True, "wrote 8195 bytes", 8195)
    assert link.prepared == 2
    assert result.retries == ("no reply, once more (2)",) * 2
    assert "content 6162" in result.output
    assert "path None" in result.output  # our own packages are not the tool's
    assert 0 < result.seconds < time.monotonic() - began
    assert told[-4:] == [("write", done, 8195) for done in (2, 2 + 0x1000, 2 + 0x2000, 8195)]
    assert flasher.versions == {"rigfake": "1.0"}
    kept = sorted((tmp_path / "work").iterdir())
    assert [path.name for path in kept] == ["flasher-01-write.txt", "flasher-02-write.txt"]
    assert stat.S_IMODE(kept[0].stat().st_mode) == 0o600
    assert "rigfake==1.0" in kept[0].read_text()
    assert "# exit code 0" in kept[0].read_text()
    fake().write(link, [(0, b"again")])  # another flasher, the same folder: nothing is lost
    assert len(list((tmp_path / "work").iterdir())) == 3


def test_a_read_hands_over_the_file(fake, link):
    result = fake().read(link, 0x1000, 0x1234)
    assert result.data == bytes(0x1234)
    assert result.size == 0x1234


def test_an_identity_is_read_and_its_key_hidden(fake, link, tmp_path):
    identity = fake().identify(link)
    assert (identity.chip, identity.chip_id, identity.flash_id) == ("BK7231N", 0x7231C, bytes.fromhex("eb6015"))
    assert (identity.flash_size, identity.mac) == (0x200000, "c8:47:8c:01:02:03")
    assert "| Key | *** |" in identity.text
    assert "deadbeef" not in identity.text + (tmp_path / "work" / "flasher-01-identify.txt").read_text()


def test_a_verify_the_tool_has_is_used(fake, link):
    assert fake().verify(link, [(0, b"xyz")]).ok
    with pytest.raises(UnitFailed, match="said: verify"):
        fake("lie").verify(link, [(0, b"xyz")])


def test_an_error_counts_whatever_the_exit_code(fake, link):
    with pytest.raises(UnitFailed) as failure:
        fake("lie").write(link, [(0, b"x")])
    assert failure.value.code == "flasher-failed"
    assert str(failure.value) == "rigfake==1.0, write: it said: verify password=***"


def test_an_exit_code_counts_whatever_was_said(fake, link):
    with pytest.raises(UnitFailed, match="it ended with exit code 7; its last line: all done") as failure:
        fake("code").write(link, [(0, b"x")])
    assert failure.value.code == "flasher-failed"


def test_silence_on_success_is_no_success(fake, link):
    with pytest.raises(UnitFailed, match="ended without saying that it is done; its last line: linked to a chip"):
        fake("unsaid").write(link, [(0, b"x")])


def test_a_short_file_is_no_read(fake, link):
    with pytest.raises(UnitFailed, match="says it is done and left 4095 of 4096 bytes"):
        fake("short").read(link, 0, 4096)


def test_a_tool_that_never_linked(fake, link):
    with pytest.raises(UnitFailed, match="never answered") as failure:
        fake("nolink").identify(link)
    assert failure.value.code == "no-link"
    with pytest.raises(UnitFailed, match="exit code 1") as failure:
        fake("late").identify(link)  # it did answer, once
    assert failure.value.code == "flasher-failed"


STARTED = {"^busy at (?P<address>[0-9A-F]+)": "^child (?P<address>[0-9]+)"}  # progress: it runs, and said so


class Clock:
    """Stands still until `start`: what the tool takes to start is none of its hanging."""

    def __init__(self) -> None:
        self._at, self._behind = time.monotonic(), None

    def start(self, *_: object) -> None:
        self._behind = time.monotonic() - self._at

    def monotonic(self) -> float:
        return self._at if self._behind is None else time.monotonic() - self._behind


@pytest.mark.parametrize(
    ("mode", "patience", "sentence"),
    [
        ("silent", {"silence = 30": "silence = 0.4"}, "hung: it printed nothing"),
        ("chatty", {"start = 60": "start = 0.5"}, "was not done"),
    ],
)
def test_a_hanging_tool_is_ended_with_all_it_started(fake, link, monkeypatch, mode, patience, sentence):
    clock = Clock()
    monkeypatch.setattr("rig.flashers.process.time", clock)
    flasher = fake(mode, **STARTED, **patience)
    with pytest.raises(UnitFailed, match=sentence) as failure:
        flasher.write(link, [(0, b"x")], clock.start)
    assert failure.value.code == "flasher-failed"
    wait_for(lambda: not any(map(alive, pids_of(flasher))))


def test_what_a_tool_leaves_running_is_ended(fake, link):
    flasher = fake("orphan")
    assert flasher.read(link, 0, 1).ok
    wait_for(lambda: not alive(pids_of(flasher)[0]))


def test_what_went_wrong_underneath_comes_first_and_ends_the_tool(fake, link):
    flasher = fake("silent", **STARTED)
    started: list[object] = []
    link.problem = BenchBlocked("guard-stopped", "the guard stopped erase")
    link.when = lambda: bool(started)
    with pytest.raises(BenchBlocked, match="the guard stopped erase"):
        flasher.write(link, [(0, b"x")], lambda *what: started.append(what))
    wait_for(lambda: not any(map(alive, pids_of(flasher))))


def test_a_failure_is_blamed_on_what_was_underneath(fake, link):
    """The tool fails because its port went away, known only once it has ended: that is no word on the board."""
    flasher = fake("lie")
    link.problem = BenchBlocked("port-lost", "the port went away")
    link.when = lambda: bool(flasher.last_output)
    with pytest.raises(BenchBlocked, match="the port went away"):
        flasher.write(link, [(0, b"x")])


def test_an_interrupt_ends_the_tool(fake, link):
    """Whoever follows the progress stops it: Ctrl-C comes as an exception in whatever runs just then."""
    flasher = fake("chatty", **{"^busy at (?P<address>[0-9A-F]+)": "^still (?P<address>a)t it"})

    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flasher.write(link, [(0, b"x")], interrupt)
    wait_for(lambda: not any(map(alive, pids_of(flasher))))


def test_what_a_tool_cannot_do_is_said_before_anything_is_touched(fake, link):
    flasher = fake()
    with pytest.raises(UsageProblem, match=r"^Rig's fake has no erase: use the native flasher$"):
        flasher.erase(link, 0, 0x1000)
    with pytest.raises(UsageProblem, match="writes from multiples of 0x1000 only, not from 0x1001"):
        flasher.write(link, [(0x1000, b"ok"), (0x1001, b"not ok")])
    assert link.prepared == 0
    with pytest.raises(UsageProblem, match="does not work on BK7231T"):
        ExternalFlasher("rigfake==1.0", flasher.profile, flasher.environment, chip="BK7231T")


def test_a_profile_that_names_another_command(installed):
    with pytest.raises(UsageProblem, match="has no command 'rigfaker'"):
        installed[0].executable("rigfaker")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(alphabet="ab#é\r\n\x1b[1m ", max_size=60), st.lists(st.integers(0, 120), max_size=8))
def test_lines_do_not_depend_on_how_bytes_come(text, cuts):
    def lines(pieces: list[bytes]) -> list[str]:
        run = Run(())
        cutter = _Lines(run, lambda line: None, lambda line: line.lstrip("#"))
        for piece in pieces:
            cutter.feed(piece)
        cutter.end()
        return run.lines

    raw = text.encode()
    at = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[start:end] for start, end in itertools.pairwise(at)]
    assert lines(pieces) == lines([raw])
    assert not any("\r" in line or line.startswith("#") or not line for line in lines([raw]))


def test_bars_and_colours_are_no_part_of_a_line():
    run = Run(())
    cutter = _Lines(run, lambda line: None, lambda line: line)
    cutter.feed(textwrap.dedent("\x1b[92mI: linked\x1b[0m\n10%\r20%\r\nlast").encode())
    cutter.end()
    assert run.lines == ["I: linked", "10%", "20%", "last"]
