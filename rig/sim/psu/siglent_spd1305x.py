"""The Siglent SPD1305X: one output, with protections that are always on. See `siglent.py` for sources and quirks.

Quirks of its own: OVP and OCP have a level and no switch, and that one of them has tripped is told by nothing but the
output being off; OUTP:RESE:PROT lets it be switched on again. Source: manual. The levels' ranges, and that the output
stays off after the reset: guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from rig.sim.psu.output import OutputSpec, Rail, Span
from rig.sim.psu.parser import AMPS, VOLTS, Call, Command, QueryHandler, SetHandler, action, answer
from rig.sim.psu.siglent import SiglentSPD

_SPEC = OutputSpec(
    "30V/5A",
    Span(0.0, 30.0, 0.0, 0.001),  # Source: manual
    Span(0.0, 5.0, 5.0, 0.001),  # Source: manual
    Span(0.01, 33.0, 33.0, 0.001),  # guess
    Span(0.01, 5.5, 5.5, 0.001),  # guess
    Span(0.0, 0.0, 0.0, 1.0),
    True,
)
_FOUR_WIRE = 32  # bit of SYST:STAT?. Source: manual


class SiglentSPD1305X(SiglentSPD):
    """30 V/5 A. See the module for quirks."""

    idn = "Siglent Technologies,SPD1305X,{serial},1.0.1.16R4"  # Source: a public driver's example
    dialect = "siglent-spd1000x"
    specs = (_SPEC,)
    board_outputs = (1,)
    default_shape = "quoted"
    settable = (1,)
    status_bits: ClassVar[Mapping[int, tuple[int, int, int, int]]] = {1: (1, 16, 64, 256)}  # Source: manual

    def __init__(
        self, rails: Sequence[Rail], *, serial: str, time_scale: float = 1.0, slow_meter: bool = False
    ) -> None:
        super().__init__(rails, serial=serial, time_scale=time_scale, slow_meter=slow_meter)
        self.outputs[0].ocp_on = True

    def _protection(self, name: Literal["ovp", "ocp"]) -> tuple[SetHandler, QueryHandler]:
        output = self.outputs[0]
        span = output.spec.ovp if name == "ovp" else output.spec.ocp
        assert span is not None

        def store(call: Call) -> None:
            value = span.take(call.params.number(VOLTS if name == "ovp" else AMPS))
            call.params.end()
            setattr(output, name, value)

        return store, answer(lambda: f"{getattr(output, name):.3f}")

    def _sense_wires(self, call: Call) -> None:
        four = call.params.word("2W", "4W") == "4W"
        call.params.end()
        self.status_always = _FOUR_WIRE if four else 0

    def commands(self) -> Sequence[Command]:
        return [
            *super().commands(),
            Command("OVP", *self._protection("ovp")),
            Command("OCP", *self._protection("ocp")),
            Command("OUTPut:RESEt:PROTection", action(lambda: self.outputs[0].clear("ovp", "ocp", restore=False))),
            Command("MODE:SET", self._sense_wires),
        ]
