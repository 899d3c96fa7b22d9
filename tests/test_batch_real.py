"""A batch file on a simulated bench, station and all: numbers, labels, events; killed on the way, and gone on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from rig.records import events
from rig.records.journal import read_journal
from rig.records.run import latest
from tests.sim_process import SimProcess, rig, start_rig
from tests.waiting import wait_until

pytest.importorskip("unicorn")
BATCH = r"""
[batch]
product = "ds-121"
operator = "required"
[serials]
source = "pattern"
pattern = "SN{:06d}{check}"
count = 2
regex = 'SN(?P<checked>\d{7})'
check_digit = "luhn"
[label]
template = "label.txt"
command = ["cp", "{file}", "printed"]
[limits.steady_current]
maximum = 0.24
"""


@pytest.mark.soak
def test_a_batch_is_killed_and_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "w48.toml").write_text(BATCH)
    (tmp_path / "label.txt").write_text("{unit} {mac} {batch}")
    with SimProcess(tmp_path, "--speed", "20") as bench:
        words = ("convert", "--no-report", "--bench", bench.bench_file, "--batch", "w48.toml", "--operator", "Ada")
        process = start_rig(*words, cwd=tmp_path)
        wait_until(lambda: _journal(tmp_path, '"write-begun"'), 120, "the first unit being written")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        run = latest(tmp_path / "runs")
        (tmp_path / "w48.toml").unlink()
        done = rig("run", "--resume", run.id, "--no-report", "--json-events", cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert (kinds.count("run-resumed"), kinds.count("run-started"), kinds[-1]) == (1, 0, "run-ended")
    found, _ = read_journal(run.journal)
    ended = [(each.unit, each.outcome.value) for each in found if isinstance(each, events.UnitEnded)]
    assert ended == [("SN0000018", "unverified"), ("SN0000018", "pass"), ("SN0000026", "pass")]
    (started,) = [each for each in found if isinstance(each, events.RunStarted)]
    assert (started.batch, started.limits_version) == ("w48", "1+w48")
    labels = [each for each in found if isinstance(each, events.Labelled)]
    assert [(each.unit, each.printed) for each in labels] == [("SN0000018", True), ("SN0000026", True)]
    assert (tmp_path / "printed").read_text().startswith("SN0000026 02:52:49:")
    assert {each.operator for each in found if isinstance(each, events.UnitStarted)} == {"Ada"}
    currents = [each for each in found if isinstance(each, events.Measured) and each.name == "steady_current"]
    assert {each.maximum for each in currents} == {0.24}


def _journal(folder: Path, text: str) -> bool:
    return any(text in path.read_text() for path in (folder / "runs").glob("*/journal.jsonl"))
