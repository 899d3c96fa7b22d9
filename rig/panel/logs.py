"""Boot logs as they may be shown. Everything goes through the scrubber, with what is known to be secret in this run.

The secrets of a provisioning are in no file of a run; they are read where the run's job names them. Where they cannot
be (another shell's environment, a file that is gone, or was changed since) the log of such a run is not shown at all.
"""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

from reports.text import shown_log
from rig.bench.bench import read_bench
from rig.bench.product import Product, load_product
from rig.errors import RigError
from rig.home.config import Home, load_home
from rig.image.contents.provision import Provision, load_provision
from rig.panel.tail import last_bytes
from rig.records.events import RunStarted

_TAIL = 32 << 10  # bytes read for the last lines
_CONTEXT = 6  # lines at a cut's beginning that are left out: a key may stand some lines below what names it
_PAGE = 1 << 20  # bytes of a whole log that are shown
_LONGEST = 400  # characters of a line
_HOLDS_S = 5.0  # what a provisioning says is read again after this time
HIDDEN_LOG = (
    "This run's provisioning holds passwords that this page cannot read, or was changed since the run began, so its "
    "logs are not shown here. "
    "Start rig panel with the environment and the files that the run was started with."
)


def secrets_of(started: RunStarted | None) -> tuple[str, ...] | None:
    """What this run's provisioning holds; None where it has one that cannot be read here, or not any more as it was.

    A run that provisions nothing may meet boards that were: what the product's own holds is hidden there too.
    """
    if started is None or started.job.get("no_provision"):
        return ()
    file, home, bench = (started.job.get(key) for key in ("provision", "home", "bench"))
    now = int(time.monotonic() / _HOLDS_S)
    named = (str(file) if file else None, str(home) if home else None, started.product)
    found = _secrets(*named, str(bench) if bench else None, now)
    if "convert" not in started.tasks:
        return found[0] if found is not None else ()
    return found[0] if found is not None and found[1] <= started.utc.timestamp() else None


@lru_cache(maxsize=64)
def _secrets(
    file: str | None, home: str | None, product: str, bench: str | None, now: int
) -> tuple[tuple[str, ...], float] | None:
    """The secrets of provisioning and of the network at home, and when the files that they come from were changed
    last (seconds since 1970)."""
    try:
        own = None if file and home else _of_product(product, bench)
        files = [Path(each) for each in (file, home) if each]
        told: list[Provision | Home | None] = [
            load_provision(Path(file)) if file else own.provision if own else None,
            load_home(Path(home)) if home else own.home if own else None,
        ]
        secrets: list[str] = []
        for each in told:
            if each is not None:
                files += each.secret_files()
                secrets += each.secrets()
        return tuple(dict.fromkeys(secrets)), max((path.stat().st_mtime for path in files), default=0.0)
    except (RigError, OSError):
        return None if file or home or bench else ((), 0.0)


def _of_product(product: str, bench: str | None) -> Product:
    """The product's own profile; a bench's file may name a folder of such."""
    folders = read_bench(Path(bench)).profiles("products") if bench and Path(bench).is_file() else ()
    return load_product(product, folders)


def last_lines(folder: Path, secrets: tuple[str, ...] | None, count: int) -> list[str]:
    """The last whole lines of an attempt's log while it comes, or of the one that was kept."""
    if secrets is None:
        return [HIDDEN_LOG] if _log_in(folder) is not None else []
    path = _log_in(folder)
    if path is None:
        return []
    raw, whole = last_bytes(path, _TAIL)
    text = raw[: raw.rfind(b"\n") + 1].decode(errors="replace")
    lines = shown_log(text, secrets).splitlines()
    lines = lines if whole else lines[_CONTEXT:]
    return [_plain(line)[:_LONGEST] for line in lines if line.strip()][-count:]


def whole_log(folder: Path, secrets: tuple[str, ...] | None) -> str | None:
    """The attempt's log, its last mebibyte where it is longer; None where there is none."""
    path = _log_in(folder)
    if path is None:
        return None
    if secrets is None:
        return HIDDEN_LOG
    raw, whole = last_bytes(path, _PAGE)
    if path.name != "boot.log":  # still being written: its last line may be torn within a password
        raw = raw[: raw.rfind(b"\n") + 1]
    lines = shown_log(raw.decode(errors="replace"), secrets).splitlines()
    lines = lines if whole else ["… what came before is in boot.log …", *lines[_CONTEXT:]]
    return "\n".join(_plain(line) for line in lines)


def _log_in(folder: Path) -> Path | None:
    return next((folder / name for name in ("boot.log", "boot.live.log") if (folder / name).is_file()), None)


def _plain(line: str) -> str:
    return line.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
