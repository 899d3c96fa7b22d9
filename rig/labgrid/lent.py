"""A bench that labgrid lends: `open_place` is what `--bench labgrid:PLACE` opens."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from rig.files import write_durably
from rig.labgrid.elsewhere import Elsewhere, stop_with_input
from rig.labgrid.place import bench_toml, is_here, slots_of
from rig.labgrid.spec import parse
from rig.labgrid.tenure import Tenure, held


@contextlib.contextmanager
def open_place(spec: str) -> Iterator[tuple[Path, Tenure]]:
    """The place, acquired, as a bench file; given back when the context ends, however it does.

    Raises UsageProblem where it cannot be had, Elsewhere where its ports are on another machine.
    """
    wanted = parse(spec)
    over = threading.Event()
    with held(wanted, _say) as tenure:
        host = slots_of(wanted, tenure.look())[0].host
        if not is_here(host):
            raise Elsewhere(wanted, host)
        tenure.acquire()
        path = tenure.folder / "bench.toml"
        write_durably(path, bench_toml(wanted, slots_of(wanted, tenure.resources)), private=True)
        stop_with_input(over)
        try:
            yield path, tenure
        finally:
            over.set()


def _say(text: str) -> None:
    print(f"labgrid: {text}", file=sys.stderr, flush=True)  # noqa: T201
