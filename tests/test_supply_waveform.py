"""Waveforms on every simulated supply: how long and how deep they come out, held against what their means state; what
is refused; and that set-points, output and line are afterwards as they were."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from waiting import PATIENCE_S, until

from rig.errors import BenchBlocked, UsageProblem
from rig.sim.psu import PERSONALITIES, PsuServer, ResistiveLoad
from rig.supply import dialect, guardian, play, visa, wire
from rig.supply.channel import Setting
from rig.supply.client import lease
from rig.supply.driver import VisaChannel
from rig.supply.instrument import Supply, filled
from rig.supply.means import Commanded, Means, fit
from rig.supply.replies import numbers
from rig.supply.waveform import Step, Waveform, dip, interruption, ramp, starve

FAST = 10.0  # a supply whose own clock goes so much faster, where its shortest step is a second
TRIES = 25  # a busy machine moves edges that a supply would not


class Recorder(ResistiveLoad):
    """A rail that notes when the output went to which volts and limit."""

    def __init__(self) -> None:
        super().__init__(33.0)
        self.times: list[tuple[float, bool, float, float]] = []

    def apply(self, on: bool, volts: float, amps: float) -> None:
        self.times.append((time.monotonic(), on, volts, amps))
        super().apply(on, volts, amps)


@contextmanager
def powered(
    name: str, number: int = 1, *, speed: float = 1.0, folder: Path | None = None
) -> Iterator[tuple[PsuServer, VisaChannel, Recorder]]:
    """A simulated supply with 3.3 V and 0.5 A on one channel, without its dialect's pause between messages."""
    rails = [Recorder() for _ in PERSONALITIES[name].specs]
    with PsuServer(name, rails, serial="W1", time_scale=1 / speed) as psu:
        supply = Supply.open(psu.resource, folders=[folder] if folder else [])
        supply.link.transport = supply.dialect.transport.model_copy(update={"gap_s": 0.0, "timeout_s": PATIENCE_S})
        channel = VisaChannel(supply, number, max_volts=3.6)
        try:
            ovp = 3.6 if "ovp" in channel.limits.capabilities else None
            channel.configure(Setting(3.3, 0.5, ovp), max_volts=3.6)
            channel.on()
            yield psu, channel, rails[number - 1]
            assert channel.off()
        finally:
            supply.close()


def played(channel: VisaChannel, rail: Recorder, commanded: Commanded) -> list[tuple[float, bool, float, float]]:
    """Play it to its end; what the rail was told, from the first edge on."""
    channel.arm(commanded)
    rail.times.clear()
    before = time.monotonic_ns()
    assert before <= channel.fire() <= time.monotonic_ns()
    assert until(lambda: not channel.playing())
    return list(rail.times)


def played_in_time(
    channel: VisaChannel, rail: Recorder, commanded: Commanded
) -> list[tuple[float, bool, float, float]]:
    """The same, once this machine has found the time for its edges."""
    for _ in range(TRIES):
        try:
            return played(channel, rail, commanded)
        except BenchBlocked as late:  # told, and not taken for what was asked
            if " were sent " not in str(late):
                raise
    raise AssertionError("too late, always")


def over(channel: VisaChannel) -> bool:
    """It plays no more, in time or not."""
    try:
        return not channel.playing()
    except BenchBlocked as late:
        if " were sent " not in str(late):
            raise
        return True


def every_means() -> list[tuple[str, int, str]]:
    """Each personality's channels, one of a kind, with each of their means."""
    found = []
    for name, model in PERSONALITIES.items():
        known = dialect.load(model.dialect)
        instrument = known.recognise(model.idn.format(serial="W1"))
        assert instrument is not None
        modules = getattr(model, "modules", ("",))
        for number, module in {module: (number, module) for number, module in enumerate(modules, start=1)}.values():
            plays = known.plays(instrument.model, known.channel(instrument.model, number, module))
            found += [(name, number, how) for how in (*(["list"] if plays else []), "timed-writes")]
    return found


EVERY = pytest.mark.parametrize(("name", "number", "how"), every_means())


def by(channel: VisaChannel, how: str) -> Means:
    return next(means for means in channel.means if means.how == how)


def test_the_supplies_that_play_by_themselves_are_these() -> None:
    lists = {(name, number) for name, number, how in every_means() if how == "list"}
    assert lists == {
        ("keysight-e36312a", 1), ("keysight-n6705c", 2), ("rs-hmp4040", 1), ("rigol-dp832", 1),
        ("siglent-spd1305x", 1), ("siglent-spd3303x", 1),
    }  # fmt: skip
    timed = {(name, number) for name, number, how in every_means() if how == "timed-writes"}
    assert timed == {*lists, ("keysight-e3631a", 1), ("bk-9130b", 1), ("keysight-n6705c", 3), ("tti-pl303p", 1)}


@EVERY
def test_the_shortest_dip_comes_out_as_wide_and_as_deep_as_is_stated(name: str, number: int, how: str) -> None:
    speed = FAST if how == "list" and name.startswith(("rigol", "siglent")) else 1.0
    with powered(name, number, speed=speed) as (psu, channel, rail):
        means = by(channel, how)
        assert means.source.startswith(f"{PERSONALITIES[name].dialect}: "), "where it was learnt"
        commanded = fit(dip(2.4, means.least_s), replace(channel.limits, means=(means,)), widen=False, speed=speed)
        widths: list[float] = []

        def as_stated() -> bool:
            try:
                edges = played(channel, rail, commanded)
            except BenchBlocked as late:  # a machine with much else to do: told, and not taken for what was asked
                if " were sent " not in str(late):
                    raise
                return False
            lows = [
                index for index, edge in enumerate(edges) if edge[2] == pytest.approx(2.4, abs=means.volts_tolerance)
            ]
            assert len(lows) == 1, edges
            assert {edge[1] for edge in edges} == {True}, "the output stays on"
            assert {edge[2] for edge in edges} == {edges[lows[0]][2], edges[-1][2]}, "two levels and no other"
            assert [edge[3] for edge in edges] == pytest.approx([0.5] * len(edges), abs=channel.limits.amps_step)
            widths.append((edges[lows[0] + 1][0] - edges[lows[0]][0]) * speed)
            assert means.how == "timed-writes" or widths[-1] >= commanded.waveform.seconds - means.early_s
            asked = commanded.waveform.seconds
            return asked - means.early_s <= widths[-1] <= asked + means.late_s

        assert any(as_stated() for _ in range(TRIES)), widths
        assert channel.measure().mode == "cv"
        assert psu.outputs[number - 1].volts == pytest.approx(3.3, abs=channel.limits.volts_step)
        assert channel.set_volts(3.2), "and it is a channel as ever"


@EVERY
def test_a_step_a_tenth_too_short_is_refused_and_nothing_is_sent(name: str, number: int, how: str) -> None:
    with powered(name, number) as (psu, channel, _):
        means = by(channel, how)
        only = replace(channel.limits, means=(means,))
        sent = len(psu.received)
        with pytest.raises(UsageProblem, match=r"cannot be asked of .* ask for at least"):
            fit(dip(2.4, 0.9 * means.least_s), only, widen=False)
        assert fit(dip(2.4, 0.9 * means.least_s), only, widen=True).waveform.seconds == pytest.approx(means.least_s)
        assert len(psu.received) == sent


@pytest.mark.parametrize("name", ["keysight-e36312a", "rs-hmp4040", "keysight-e3631a"])
def test_slopes_and_limits_are_played_too(name: str) -> None:
    with powered(name) as (_, channel, rail):
        limits = channel.limits
        slope = ramp(3.2, 2.4, 5 * limits.means[0].least_s, 5)
        down = [edge[2] for edge in played_in_time(channel, rail, fit(slope, limits, widen=False))]
        assert down[:5] == pytest.approx([3.2, 3.0, 2.8, 2.6, 2.4], abs=limits.volts_step)
        assert down[5:] == pytest.approx([3.3] * len(down[5:]), abs=limits.volts_step)
        edges = played_in_time(channel, rail, fit(starve(0.05, limits.means[0].least_s), limits, widen=False))
        assert [edge[3] for edge in edges if edge[3] < 0.4] == [pytest.approx(0.05, abs=limits.amps_step)]
        assert edges[-1][2:] == (pytest.approx(3.3, abs=limits.volts_step), pytest.approx(0.5, abs=limits.amps_step))
        both = Waveform("both", (Step(limits.means[0].least_s, 2.5, 0.1),), "both at once")
        assert any(
            edge[2:] == (pytest.approx(2.5, abs=limits.volts_step), pytest.approx(0.1, abs=limits.amps_step))
            for edge in played_in_time(channel, rail, fit(both, limits, widen=False))
        )


def writers() -> list[str]:
    """The threads that write edges."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("edges of channel")]


# What may not leave the channel


def test_no_step_goes_above_a_maximum_the_ovp_or_the_limit_that_is_set() -> None:
    with powered("keysight-e36312a") as (psu, channel, _):
        sent = len(psu.received)
        for waveform, said in (
            (dip(3.61, 1), "maximum is 3.6 V here; nothing was sent"),
            (dip(3.6, 1), "3.6 V would trip the OVP of 3.6 V"),
            (starve(0.6, 1), "0.6 A is more than the current limit of 0.5 A"),
        ):
            with pytest.raises(UsageProblem, match=said):
                channel.arm(fit(waveform, channel.limits, widen=False))
        strange = fit(
            dip(2.4, 1), replace(channel.limits, means=(Means("list", 1, 1, 0, 0, 0.1, "another"),)), widen=False
        )
        with pytest.raises(UsageProblem, match="was fitted to another channel"):
            channel.arm(strange)
        assert len(psu.received) == sent
        with pytest.raises(BenchBlocked, match="nothing armed"):
            channel.fire()
        channel.configure(Setting(3.3, 0.5, 3.6, ocp_trips=True), max_volts=3.6)
        with pytest.raises(UsageProblem, match="a lower limit would switch its output off"):
            channel.arm(fit(starve(0.2, 1), channel.limits, widen=False))
    with PsuServer("keysight-e36312a", [ResistiveLoad()], serial="W1") as psu:
        supply = Supply.open(psu.resource)
        unset = VisaChannel(supply, 1, max_volts=3.6)
        with pytest.raises(BenchBlocked, match="configure it"):
            unset.arm(fit(dip(2.4, 1), unset.limits, widen=False))
        supply.close()


def test_steps_that_the_instrument_refuses_are_told_with_its_own_words() -> None:
    with powered("keysight-e36312a") as (psu, channel, rail):
        commanded = fit(dip(2.4, 0.02), channel.limits, widen=False)
        psu.instrument._transients._most_points = 1
        with pytest.raises(BenchBlocked, match=r"does not take the steps of a dip to 2\.40 V for 20 ms: -223"):
            channel.arm(commanded)
        psu.instrument._transients._most_points = 100
        assert [edge[2] for edge in played(channel, rail, commanded)] == [2.4, 3.3]


def test_what_is_armed_waits_through_a_power_cycle_and_is_forgotten_on_demand() -> None:
    for name in ("keysight-e36312a", "rigol-dp832", "keysight-e3631a"):
        speed = 1.0 if name == "keysight-e3631a" else FAST
        with powered(name, speed=speed) as (_, channel, rail):
            commanded = fit(dip(2.4, channel.means[0].least_s), channel.limits, widen=False, speed=speed)
            channel.arm(commanded)
            assert channel.off()
            with pytest.raises(BenchBlocked, match="is off"):
                channel.fire()
            channel.on()
            with pytest.raises(BenchBlocked, match="armed"):
                channel.set_volts(3.0)
            rail.times.clear()
            channel.fire()
            with pytest.raises(BenchBlocked, match="plays already"):
                channel.fire()
            with pytest.raises(BenchBlocked, match="or switch it off"):
                channel.on()
            with pytest.raises(BenchBlocked, match="wait until it is over"):
                channel.arm(commanded)
            assert until(lambda channel=channel: over(channel))
            assert min(edge[2] for edge in rail.times) == pytest.approx(2.4, abs=0.01)
            channel.arm(commanded)
            channel.disarm()
            channel.set_volts(3.0)
            with pytest.raises(BenchBlocked, match="nothing armed"):
                channel.fire()


@pytest.mark.parametrize("name", list(PERSONALITIES))
def test_switching_off_ends_it_at_once_and_it_comes_on_as_it_was_set(name: str) -> None:
    with powered(name) as (psu, channel, rail):
        channel.arm(fit(dip(2.4, 30), channel.limits, widen=False))
        channel.fire()
        assert until(lambda: rail.times[-1][2] == pytest.approx(2.4, abs=0.01))
        assert channel.playing()
        began = time.monotonic()
        assert channel.off()
        assert time.monotonic() - began < 20  # of 30
        assert until(lambda: not writers()), "and nobody is left who would write an edge"
        assert not psu.outputs[0].on
        assert not channel.playing()
        channel.on()
        assert rail.times[-1][1:3] == (True, pytest.approx(3.3, abs=0.01))
        assert psu.outputs[0].playback is None


@pytest.mark.parametrize("name", ["keysight-e36312a", "keysight-e3631a"])
def test_stopping_it_leaves_the_output_on_as_it_was_set(name: str) -> None:
    with powered(name) as (psu, channel, rail):
        channel.arm(fit(dip(2.4, 30), channel.limits, widen=False))
        channel.fire()
        assert until(lambda: rail.times[-1][2] == pytest.approx(2.4))
        channel.disarm()
        assert until(lambda: not writers())
        assert not channel.playing()
        assert rail.times[-1][1:3] == (True, pytest.approx(3.3))
        assert psu.outputs[0].on


def test_a_lists_remains_are_forgotten_by_whoever_configures_the_channel_next() -> None:
    for name in ("keysight-e36312a", "rigol-dp832", "rs-hmp4040", "siglent-spd3303x", "keysight-n6705c"):
        with powered(name) as (psu, channel, rail):
            channel.arm(fit(dip(2.4, 30), channel.limits, widen=False))
            channel.fire()
            assert until(lambda rail=rail: rail.times[-1][2] == pytest.approx(2.4, abs=0.01))
            later = VisaChannel(channel._supply, 1, max_volts=3.6)  # the one before it was killed
            later.configure(Setting(3.0, 0.5, 3.6 if "ovp" in later.limits.capabilities else None), max_volts=3.6)
            rail.times.clear()
            later.on()
            assert psu.outputs[0].playback is None
            assert {edge[2] for edge in rail.times if edge[1]} == {3.0}
            assert later.off()
            channel._set = None
            channel._player._play, channel._player.fired = None, False


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, number, how in every_means() if how == "list"])
def test_the_guardian_ends_a_list_once_the_output_is_off(name: str, number: int) -> None:
    with powered(name, number) as (psu, channel, rail):
        supply, output = channel._supply, psu.outputs[number - 1]
        only = replace(channel.limits, means=(by(channel, "list"),))
        channel.arm(fit(dip(2.4, 30), only, widen=False))
        channel.fire()
        assert until(lambda: rail.times[-1][2] == pytest.approx(2.4, abs=0.01))
        supply.close()  # the service was killed
        before = len(psu.received)
        how = {"resource": psu.resource, "dialect": supply.dialect.name, "serial": "W1", "folders": []}
        assert guardian.rescue(how, {number})
        assert (output.on, output.playback) == (False, None)
        assert supply.dialect.sequence is not None
        off, abort, state = (
            filled(line, channel._limits)
            for line in (
                supply.dialect.commands.output_off.send[-1],
                supply.dialect.sequence.abort[-1],
                supply.dialect.queries.output.send,
            )
        )
        sent = [line for _, line in psu.received[before:]]
        assert sent.index(off) < sent.index(state) < sent.index(abort), "off and seen to be off, before anything else"
        assert off in sent[sent.index(abort) :]
        assert sent[-1] == state
        assert not [line for line in sent[: sent.index(off)] if "ERR" in line], "nor is the error queue read before"
        output.switch(True)  # somebody at the front panel
        assert rail.times[-1][1:3] == (True, pytest.approx(3.3, abs=0.01))


def test_a_line_that_breaks_as_a_list_is_ended_leaves_it_to_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with powered("keysight-e36312a") as (psu, channel, rail):
        channel.arm(fit(dip(2.4, 30), channel.limits, widen=False))
        channel.fire()
        assert until(lambda: rail.times[-1][2] == pytest.approx(2.4, abs=0.01))
        link, write, broken = channel._supply.link, channel._supply.link.write, []

        def breaks(*lines: str) -> None:
            if lines[0].startswith("ABOR") and not broken:
                broken.append(lines)
                raise link._lost("closed the connection")
            write(*lines)

        monkeypatch.setattr(link, "write", breaks)
        assert channel.off()
        assert broken
        assert (psu.outputs[0].on, psu.outputs[0].playback) == (False, None)


def highest_with_a_line_lost(name: str, number: int, lost: int) -> tuple[float, bool]:
    """Volts that come out as a dip is loaded over what somebody else has left in the instrument, and played if it may
    be, where the instrument never gets the line number `lost`; and whether there is a line of that number."""
    speed = FAST if name.startswith(("rigol", "siglent")) else 1.0
    with powered(name, number, speed=speed) as (_, channel, rail):
        supply, how, means = channel._supply, channel._supply.dialect.sequence, by(channel, "list")
        assert how is not None
        others = [play.Level(means.least_s, 5.0, 0.5)] * 4
        play.ListPlay(supply, channel._limits, how, others, speed).load()
        only = replace(channel.limits, means=(means,))
        put, said = supply.link._put, list[str]()

        def loses(line: str) -> None:
            said.extend([] if "?" in line else [line])
            if "?" in line or len(said) != lost + 1:
                put(line)

        supply.link._put = loses  # type: ignore[method-assign]
        rail.times.clear()
        with contextlib.suppress(BenchBlocked):
            channel.arm(fit(dip(2.4, means.least_s), only, widen=False, speed=speed))
            channel.fire()
            until(lambda: not channel.playing(), 5)
        supply.link._put = put  # type: ignore[method-assign]
        return max((volts for _, on, volts, _ in rail.times if on), default=0.0), lost < len(said)


# the HMP cannot be asked for its steps: its OVP is what is left
ASKED = [(name, number) for name, number, how in every_means() if how == "list" and name != "rs-hmp4040"]


@pytest.mark.parametrize(("name", "number"), ASKED)
def test_no_line_that_is_lost_leaves_a_step_of_somebody_elses_in(name: str, number: int) -> None:
    """On its way, or since it came too soon: no error tells of it."""
    for lost in range(40):
        volts, was_one = highest_with_a_line_lost(name, number, lost)
        assert volts < 3.4, lost
        if not was_one:
            break
    assert 3 < lost < 39


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2.50,0.50,1,", [2.5, 0.5, 1]),
        ("+2.40000000E+00,+3.30000000E+00", [2.4, 3.3]),
        ("#90000000371,0.500,1.000,1.0;2,5.500,2.000,1.0\x00", [1, 0.5, 1, 1, 2, 5.5, 2, 1]),
    ],
)
def test_what_an_instrument_says_of_its_steps_is_read_in_each_of_its_shapes(said: str, meant: list[float]) -> None:
    assert numbers(said) == meant
    for bad in (f"{said[:-2]}V", "", "2.4,,0.5"):
        with pytest.raises(ValueError, match="more than numbers"):
            numbers(bad)


def test_one_channel_of_an_instrument_plays_alone() -> None:
    """Both are armed; *TRG would start both."""
    for name in ("keysight-e36312a", "keysight-n6705c"):
        with powered(name) as (psu, channel, rail):
            other = VisaChannel(channel._supply, 2, max_volts=3.6)
            other.configure(Setting(3.3, 0.5, 3.6), max_volts=3.6)
            other.on()
            other.arm(fit(dip(2.0, 0.02), other.limits, widen=False))
            played(channel, rail, fit(dip(2.4, 0.02), channel.limits, widen=False))
            second = psu.outputs[1].rail
            assert isinstance(second, Recorder)
            assert {edge[2] for edge in second.times if edge[1]} == {3.3}
            assert other.off()


# Writes at their times


def timed(channel: VisaChannel, waveform: Waveform) -> Commanded:
    only = (by(channel, "timed-writes"),)
    return fit(waveform, replace(channel.limits, means=only), widen=False)


def test_with_nagle_on_a_short_dip_is_no_dip_of_that_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """What guards the width of written dips: the second edge would wait 40 ms for the first one's acknowledgement."""
    with powered("keysight-n6705c", 3) as (_, channel, rail):

        def width() -> float:
            try:
                edges = played(channel, rail, timed(channel, dip(2.4, 0.02)))
            except BenchBlocked:
                return 0.0
            return edges[1][0] - edges[0][0]

        means = channel.means[0]
        assert any(0.02 - means.early_s <= width() <= 0.02 + means.late_s for _ in range(TRIES))
        sock = channel._supply.link._socket()
        assert sock is not None
        sock.setsockopt(visa.socket.IPPROTO_TCP, visa.socket.TCP_NODELAY, 0)
        assert min(width() or 1.0 for _ in range(3)) > 0.035, "with Nagle it was not, so this test would see it"


def test_no_question_stands_in_the_way_of_an_edge() -> None:
    """From a while before it the line is kept free: who asks then waits until it is sent, others do not."""
    with powered("keysight-e36312a") as (_, channel, rail):
        line = channel._supply.link.lock
        commanded = timed(channel, dip(2.4, 0.6))

        def kept_free() -> bool:
            channel.arm(commanded)
            due = channel.fire() / 1e9 + 0.6
            channel.measure()
            early = time.monotonic()
            assert until(lambda: time.monotonic() > due - play.LEAD_S / 2)
            with line:
                asked = time.monotonic()
                channel.measure()  # answered after the edge was carried out, if that was sent before
                now = rail.times[-1][2]
            assert until(lambda: over(channel))
            return early < due - play.LEAD_S and asked >= due - 0.005 and now == pytest.approx(3.3)

        assert any(kept_free() for _ in range(TRIES))


def test_an_edge_that_was_sent_late_is_told_and_not_taken_for_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with powered("keysight-e3631a") as (_, channel, rail):
        commanded = timed(channel, dip(2.4, 0.3))
        monkeypatch.setattr(play, "LEAD_S", 0.0)
        channel.arm(commanded)
        channel.fire()
        with channel._supply.link.lock:
            assert not threading.Event().wait(0.45)  # something else has the line when the edge is due
        with pytest.raises(
            BenchBlocked, match=r"the edges of a step of 300 ms were sent [\d.]+ m?s apart, beyond what is"
        ):
            until(lambda: not channel.playing())
        assert rail.times[-1][2] == pytest.approx(3.3)
        assert [edge[2] for edge in played_in_time(channel, rail, commanded)] == pytest.approx([2.4, 3.3])


def test_a_machine_that_slept_between_two_edges_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The board has stood at the dip's volts all night; by the monotonic clock it was a dip as asked."""
    with powered("keysight-e36312a") as (_, channel, rail):
        channel.arm(timed(channel, dip(2.4, 0.3)))
        channel.fire()
        before = play.asleep_s()
        monkeypatch.setattr(play, "asleep_s", lambda: before + 28800)
        with pytest.raises(BenchBlocked, match=r"this machine slept for 28800 s while it wrote the edges") as told:
            until(lambda: not channel.playing())
        assert told.value.code == "supply-refused"
        assert rail.times[-1][2] == pytest.approx(3.3)


def test_a_line_that_breaks_while_edges_are_written_is_lost_and_nothing_goes_on() -> None:
    with powered("keysight-e3631a") as (psu, channel, rail):
        channel.arm(timed(channel, dip(2.4, 0.5)))
        channel.fire()
        channel._supply.link.close()
        assert channel.measure().mode == "cv"  # by another session
        with pytest.raises(BenchBlocked, match="lost its connection"):
            until(lambda: not channel.playing())
        assert channel.off()
        assert not psu.outputs[0].on
        channel.configure(Setting(3.3, 0.5, None), max_volts=3.6)
        channel.on()
        assert rail.times[-1][1:3] == (True, pytest.approx(3.3))


def test_a_client_that_goes_away_among_edges_without_a_pause_is_noticed() -> None:
    """Somebody measures all the while, as the watch over a board's power does: for that there is no time."""
    rails = [Recorder() for _ in range(3)]
    with PsuServer("keysight-e3631a", rails, serial="W1") as psu:
        for _ in range(2):
            with lease(psu.resource, 1, max_volts=3.6, timeout_s=60) as one:
                one.configure(Setting(3.3, 0.5, None), max_volts=3.6)
                one.on()
                slope = ramp(3.2, 2.4, 80 * one.means[0].least_s, 80)
                one.arm(fit(slope, one.limits, widen=False))
                one.fire()
                assert one.playing()
                one._link.sock.sendall(wire.line({"op": "measure", "id": 0}))
                one._link.close()
                gone = time.monotonic()
                assert until(lambda: not psu.outputs[0].on)
                assert until(lambda: not rails[0].times[-1][1])
                assert rails[0].times[-1][0] - gone < slope.seconds / 2  # not once it has come to its end


def test_an_output_that_goes_off_while_it_plays_is_told() -> None:
    with powered("keysight-e36312a") as (psu, channel, _):
        channel.arm(fit(interruption(0.05), channel.limits, widen=False))
        channel.fire()
        psu.instrument.execute("OUTP OFF,(@1)")
        with pytest.raises(BenchBlocked, match="switched its output off while it played"):
            until(lambda: not channel.playing())


# Dialects


ACME_LIST = """
[sequence]
load = ["N {count}", "S {triplets:.3f}"]
trigger = "GO {channel}"
abort = "HALT {channel}"
done = { send = "BUSY?", reply = { kind = "word", words = { Y = false, N = true } }, source = "test" }
source = "test"
[[model]]
sequence = { min_dwell_s = 0.01, max_steps = 8, source = "test" }
"""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "{triplets:.3f}",
            "{volts:.3f}",
            r"sequence: .*send no \{volts\}, \{amps\} and \{seconds\}, nor \{triplets\}",
        ),
        ("{triplets:.3f}", "{triplets:.1f}", r"sequence sends fewer decimals of \{volts\} than the channel's step"),
        ("{triplets:.3f}", "{value:.3f}", r"\{value\} is not one of \{amps\}, \{channel\}, \{count\}"),
        ('"GO {channel}"', '"GO {index}"', r"\{index\} is not one of \{channel\}, \{name\}"),
        ("trigger =", "triger =", r"unknown key sequence\.triger; did you mean 'trigger'"),
        ("Y = false", "Y = true", r"sequence\.done has a reply of the wrong kind or with the wrong meanings"),
        ("sequence = { min", "sequenze = { min", r"unknown key .*sequenze; did you mean 'sequence'"),
        ("max_steps = 8", "max_steps = 1", r"greater than 1"),
        ("abort =", "# ", r"sequence\.abort: Field required"),
        (
            "abort =",
            'told = [{ send = "S?", what = ["volts"], source = "test" }]\nabort =',
            r"told says nothing of the",
        ),
        (
            "abort =",
            'told = [{ send = "S? {volts}", what = ["volts", "amps"], source = "test" }]\nabort =',
            r"\{volts\} is not one of \{channel\}, \{count\}, \{index\}",
        ),
    ],
)
def test_a_mistake_in_a_dialects_sequence_is_told_in_one_sentence(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    from supply_fake import ACME, write_acme

    whole = ACME.replace("[[model]]\n", ACME_LIST.lstrip("\n"))
    assert before in whole
    folder = write_acme(tmp_path, whole)
    assert dialect.load("acme", [folder]).sequence is not None
    write_acme(tmp_path / "other", whole.replace(before, after))
    with pytest.raises(UsageProblem, match=said) as told:
        dialect.load("acme", [tmp_path / "other"])
    assert "\n" not in str(told.value)
