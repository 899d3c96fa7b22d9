"""The Siglent SPD3303X-E: two outputs and a third that is only switched. See `siglent.py` for sources and quirks.

No public driver judges this one: pymeasure has none for it. Quirks of its own: no protection over SCPI; output 3
(2.5, 3.3 or 5 V by a slide switch) is missing from SYST:STAT? and no query about it is ever answered; TIME:SET queues
-103 and works all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rig.sim.psu.output import OutputSpec, Span
from rig.sim.psu.siglent import SiglentSPD

_NO_DELAY = Span(0.0, 0.0, 0.0, 1.0)
_SLIDE_SWITCH_V = 3.3  # of 2.5, 3.3 and 5


def _channel() -> OutputSpec:
    # 32 V, 3.2 A and 10 mV, 10 mA: quick start, specifications of the -E
    return OutputSpec("32V/3.2A", Span(0.0, 32.0, 0.0, 0.01), Span(0.0, 3.2, 3.2, 0.01), None, None, _NO_DELAY, False)


def _fixed() -> OutputSpec:
    volts = Span(_SLIDE_SWITCH_V, _SLIDE_SWITCH_V, _SLIDE_SWITCH_V, 0.1)
    return OutputSpec("3.3V/3.2A", volts, Span(3.2, 3.2, 3.2, 0.1), None, None, _NO_DELAY, False)


class SiglentSPD3303X(SiglentSPD):
    """32 V/3.2 A twice, and 3.3 V/3.2 A. See the module for quirks."""

    idn = "Siglent Technologies,SPD3303X-E,{serial},1.01.01.02.05,V3.0"  # Source: bench
    dialect = "siglent-spd3303x"
    specs = (_channel(), _channel(), _fixed())
    board_outputs = (1, 2)
    default_shape = "culprit"
    settable = (1, 2)
    # Source: quick start
    status_bits: ClassVar[Mapping[int, tuple[int, int, int, int]]] = {1: (1, 16, 64, 256), 2: (2, 32, 128, 512)}
    status_always = 4  # bits 2 and 3 say 01, independent
    timer_complains = True
