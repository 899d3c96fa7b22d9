"""Flashing tools that are ill: programs of one's own with the profile that starts them, for runs and for studies."""

from __future__ import annotations

import sys
from pathlib import Path

FLOOD = 200_000_000  # bytes

# Each is given {port} and {file}; "linked" and "done" are what the profile reads.
SICK = {
    # never says a word, with a child that would hold the port
    "hang": """
import subprocess, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print("child", child.pid, os.getpid(), flush=True)
time.sleep(600)
""",
    # talks for ever and does nothing
    "busy": """
import time
print("child", os.getpid(), flush=True)
while True:
    print("still at it", flush=True)
    time.sleep(0.02)
""",
    "traceback": """
print("linked")
{}["flash size"]
""",
    "segfault": """
import ctypes, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print("linked", flush=True)
ctypes.string_at(0)
""",
    # lines, and then says what it did
    "flood": f"""
print("linked", flush=True)
line = b"debug: 0123456789abcdef" * 40 + b"\\n"
for _ in range({FLOOD} // len(line) // 64):
    os.write(1, line * 64)
print("done", flush=True)
""",
    # a line without an end
    "endless-line": f"""
print("linked", flush=True)
for _ in range({FLOOD} // 65536):
    os.write(1, b"#" * 65536)
print()
print("done", flush=True)
""",
    # never stops
    "flood-forever": """
print("linked", flush=True)
while True:
    os.write(1, b"noise\\n" * 4096)
""",
    "says-done": """
print("linked")
print("done")
""",
    # ends at once and leaves a child that holds its output
    "orphan": """
import subprocess
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
print("linked")
print("done")
""",
}

_PROFILE = r"""
title = "a sick tool"
executable = "EXECUTABLE"
source = "this test"
families = { BK7231N = "n" }
[identify]
command = ["{tool}", "{port}", "-"]
success = ["^done$"]
fields = { chip = 'chip (?P<value>\w+)' }
[read]
command = ["{tool}", "{port}", "{file}"]
success = ["^done$"]
[write]
command = ["{tool}", "{port}", "{file}"]
success = ["^done$"]
[output]
error = '^(?P<value>(?:\w+\.)*\w*(?:Error|Exception)\b.*)'
linked = '^linked'
[patience]
silence = SILENCE
start = START
wire_times = 1
"""


def fall_ill(folder: Path, *names: str, silence: float = 2.0, start: float = 6.0) -> list[str]:
    """Programs of these kinds in `folder`/bin with their profiles in `folder`/flashers; the specs to load them by."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "flashers").mkdir(exist_ok=True)
    for name in names:
        program = folder / "bin" / name
        program.write_text(f"#!{sys.executable} -S\nimport os, sys\n{SICK[name]}")
        program.chmod(0o755)
        text = _PROFILE.replace("EXECUTABLE", str(program))
        text = text.replace("SILENCE", f"{silence:g}").replace("START", f"{start:g}")
        (folder / "flashers" / f"{name}.toml").write_text(text)
    return list(names)
