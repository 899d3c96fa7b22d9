"""Weak sources that boards are fed from on tables where there is no bench supply: `sources.toml`.

On a bench they are played by the supply: its volts and its current limit stand as the source's would at the board's
peak. What the source's own capacitors, its resistance between peaks and its dying slowly do is not played.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, model_validator

from rig.toml import checked, read_toml

_FILE = Path(__file__).with_name("sources.toml")
PEAK_AMPS = 0.304  # Tuya's CBU hardware guide: transmitting 802.11b 11M at +17 dBm, peak


class Source(BaseModel):
    """A source as its maker or somebody's meter has it. `amps`: what it gives at most, as a hard limit.

    A regulator on an input that sags (`input_volts`, `input_ohms`) gives no more than that less `dropout_volts`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    title: str
    volts: float
    amps: float
    ohms: float = 0.0
    input_volts: float | None = None
    input_ohms: float = 0.0
    dropout_volts: float = 0.0
    source: str

    @model_validator(mode="after")
    def _positive(self) -> Source:
        if not (self.volts > 0 and self.amps > 0 and self.ohms >= 0 and self.input_ohms >= 0):
            raise ValueError("volts and amps are more than 0, resistances not negative")
        return self

    def played(self, most_volts: float) -> tuple[float, float]:
        """(volts, amps) a supply is set to in its place: as it stands at the board's peak, or at its own limit where
        that is less; never above `most_volts`."""
        amps = min(self.amps, PEAK_AMPS)
        volts = self.volts
        if self.input_volts is not None:
            volts = min(volts, self.input_volts - self.input_ohms * amps - self.dropout_volts)
        return round(min(volts - self.ohms * amps, most_volts), 3), self.amps


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: dict[str, Source]


@cache
def load_sources() -> MappingProxyType[str, Source]:
    """All of them by name, the weakest last."""
    found = checked(_File, read_toml(_FILE, "list of sources"), str(_FILE)).source
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: -item[1].amps)))
