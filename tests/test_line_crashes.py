"""The station, a unit, the panel or whoever writes the database dies, or the disk is full, in the middle of a batch:
after `--resume` every record agrees with its board, no backup is missing, none was written without one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.line_crashes import OFF_WITHIN_S, VICTIMS, Ordeal, small_disk
from tests.line_table import laid_table

pytest.importorskip("unicorn")


def test_a_batch_survives_three_crashes(tmp_path: Path) -> None:
    """The short cousin."""
    with laid_table(tmp_path, (), units=2, slots=2, seed=5, speed=30) as table:
        ordeal = Ordeal(table, seed=5, victims=("station", "unit"), within=15)
        ordeal.run(moments=3)
    assert sum(ordeal.hits.values()) == 3
    assert max(ordeal.off_s, default=0.0) < OFF_WITHIN_S


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="a disk to fill is mounted as root")
def test_a_hundred_random_moments(tmp_path: Path) -> None:
    """Batches of eight units over four slots, until a hundred moments are used up."""
    wanted = int(os.environ.get("RIG_CRASHES", "100"))
    done, seed, outputs, told = 0, 1, 0, []
    while done < wanted:
        folder = tmp_path / str(seed)
        folder.mkdir()
        with small_disk(folder / "runs"), laid_table(folder, (), units=8, slots=4, seed=seed, speed=10) as table:
            ordeal = Ordeal(table, seed, VICTIMS)
            ordeal.run(moments=min(wanted - done, 12))
        assert max(ordeal.off_s, default=0.0) < OFF_WITHIN_S
        done += sum(ordeal.hits.values())
        told.append(
            f"batch {seed}: {dict(ordeal.hits)}, {ordeal.resumed} resumed, {ordeal.unverified} half-written, "
            f"outputs off after {max(ordeal.off_s, default=0.0):.2f} s at most (of {len(ordeal.off_s)})"
        )
        sys.stderr.write(told[-1] + "\n")
        outputs += len(ordeal.off_s)
        seed += 1
    assert outputs >= wanted // 10, "hardly any output was on when something died: nothing is proven"
