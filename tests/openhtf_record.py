"""Run by the tests of exports, in a process of its own: what OpenHTF itself writes, as JSON on stdout.

records: of tests that end in each way; validators: how in_range says each of the limits given in argv; units: by
suffix.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import openhtf
from openhtf.output.callbacks.json_factory import OutputToJSON
from openhtf.util import units, validators


class _Kept(io.BytesIO):
    def close(self) -> None:
        """OpenHTF closes what it wrote to; it is still to be read."""


@openhtf.measures(
    openhtf.Measurement("current").in_range(0.02, 0.25, 0.03, 0.2).with_units("A"),
    openhtf.Measurement("firmware"),
    openhtf.Measurement("flag"),
    openhtf.Measurement("missing").in_range(maximum=3),
)
def boot(test: Any) -> None:
    test.logger.info("a note")
    test.measurements.current = 0.05
    test.measurements.firmware = "1.17.5"
    test.measurements.flag = True


@openhtf.measures(openhtf.Measurement("current").in_range(0.02, 0.25, 0.03, 0.2).with_units("A"))
def near(test: Any) -> None:
    test.measurements.current = 0.24


@openhtf.measures(openhtf.Measurement("current").in_range(0.02, 0.25, 0.03, 0.2).with_units("A"))
def far(test: Any) -> None:
    test.measurements.current = 0.5


def broken(test: Any) -> None:
    raise OSError("no answer")


def skipped(test: Any) -> Any:
    return openhtf.PhaseResult.SKIP


def _record(*phases: Any) -> Any:
    sink = _Kept()
    test = openhtf.Test(*phases, test_name="convert", test_version="ds-121/3")
    test.add_output_callbacks(OutputToJSON(sink))
    test.execute(test_start=lambda: "SN1")
    return json.loads(sink.getvalue())


told = {
    "records": {
        "pass": _record(near, skipped),
        "fail": _record(boot, far, skipped),
        "error": _record(broken, skipped),
    },
    "validators": [str(validators.in_range(*limits)) for limits in json.loads(sys.argv[1])],
    "units": {suffix: list(each) for suffix, each in units.UNITS_BY_SUFFIX.items() if suffix},
}
json.dump(told, sys.stdout)
