"""What is armed or plays on one channel, one waveform at a time, and which steps a channel may be given at all.

`rig.supply.driver` calls it with the line's lock held, but for `stop`, `over` and `keeps_line`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from rig.errors import UsageProblem
from rig.supply.channel import Setting
from rig.supply.instrument import Supply, filled
from rig.supply.means import Commanded
from rig.supply.models import ChannelLimits
from rig.supply.play import Level, ListPlay, Play, made

log = logging.getLogger(__name__)


def levels_of(
    commanded: Commanded, now: Setting, name: str, volts: Callable[[float], float], amps: Callable[[float], float]
) -> list[Level]:
    """Each step with its volts and amps; `volts` and `amps` raise for what is beyond a maximum.

    Raises UsageProblem for what may not leave the channel that is set to `now`: nothing at the OVP, nothing above the
    current limit, no lower limit where the protection would trip at it.
    """
    words, levels = commanded.waveform.words, []
    if now.ocp_trips and any(step.amps is not None for step in commanded.waveform.steps):
        raise UsageProblem(
            f"{words}: over-current protection of {name} trips, so that a lower limit would switch its output off: "
            'it needs on_overcurrent = "limit" in the product.'
        )
    for step in commanded.waveform.steps:
        level = Level(
            step.seconds,
            now.volts if step.volts is None else volts(step.volts),
            now.amps if step.amps is None else amps(step.amps),
        )
        if now.ovp is not None and level.volts >= now.ovp:
            raise UsageProblem(f"{words}: {level.volts:g} V would trip the OVP of {now.ovp:g} V.")
        if level.amps > now.amps:
            raise UsageProblem(f"{words}: {level.amps:g} A is more than the current limit of {now.amps:g} A.")
        levels.append(level)
    return levels


class Player:
    """Of one channel. All but `stop` raise BenchBlocked."""

    def __init__(self, supply: Supply, place: ChannelLimits) -> None:
        self._supply, self._place = supply, place
        self._play: Play | None = None
        self.fired = False

    @property
    def armed(self) -> bool:
        """Something is, or plays."""
        return self._play is not None

    def load(self, now: Setting, levels: list[Level], commanded: Commanded) -> list[str]:
        """Make ready to play `levels` and to return to `now`; what the instrument has against it, and then nothing is
        armed."""
        self.end()
        play = made(self._supply, self._place, Level(0.0, now.volts, now.amps), levels, commanded)
        if isinstance(play, ListPlay):
            for old in self._supply.errors():
                log.info("channel %d: left over: %s", self._place.number, old)
            play.load()
            errors = self._supply.errors() or play.misloaded()
            if errors:
                play.end()
                self._supply.errors()
                return errors
        self._play = play
        return []

    def fire(self) -> int:
        """Play what is armed; monotonic nanoseconds midway of sending that."""
        assert self._play is not None
        self.fired = True
        return self._play.fire()

    def over(self) -> bool:
        """What was fired plays no more."""
        play = self._play
        return play is None or play.over()

    @property
    def keeps_line(self) -> bool:
        """Edges are being written so close to one another that no question fits between them."""
        play = self._play
        return play is not None and play.keeps_line

    def stop(self) -> None:
        """No edge is written any more once the line's lock is ours. Call it before that: the writer may hold the lock
        until an edge is due."""
        if self._play is not None:
            self._play.stop()

    def end(self) -> str:
        """Nothing is armed, the instrument holds its set-points; what was wrong with what played, "" if nothing.

        Where the line breaks meanwhile, it is still to be ended.
        """
        play = self._play
        if play is None:
            return ""
        play.end()
        self._play, self.fired = None, False
        return play.verdict()

    def forget(self) -> bool:
        """Whatever of ours is armed, and what somebody who died has left in the instrument: whether that can play
        anything by itself, and was told to end it."""
        self._play, self.fired = None, False
        d = self._supply.dialect
        if d.sequence is None or d.plays(self._supply.instrument.model, self._place) is None:
            return False
        self._supply.link.write(*(filled(line, self._place) for line in d.sequence.abort))
        return True
