"""Our driver against supplies that misbehave: no answer is taken for another's, and when it gives up the output is
off, or it says that this could not be confirmed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from waiting import until

from rig.errors import BenchBlocked
from rig.sim.psu import PsuServer, ResistiveLoad
from rig.supply import driver
from rig.supply.channel import Setting
from rig.supply.driver import VisaChannel
from rig.supply.instrument import Supply
from rig.supply.visa import Link

NOT_CONFIRMED = "That its output is off could not be confirmed"
ALL = ["keysight-e36312a", "rigol-dp832", "siglent-spd1305x", "siglent-spd3303x", "tti-pl303p"]


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "OFF_PATIENCE_S", 0.2)


@pytest.fixture
def personality() -> str:
    return "tti-pl303p"  # one client only, no pause between messages


@pytest.fixture
def psu(personality: str) -> Iterator[PsuServer]:
    with PsuServer(personality, [ResistiveLoad(10)], serial="S1") as psu:
        yield psu


@pytest.fixture
def channel(psu: PsuServer) -> Iterator[VisaChannel]:
    """Configured, with a timeout that tests can wait for and no pause."""
    supply = Supply.open(psu.resource)
    supply.link.transport = supply.dialect.transport.model_copy(update={"gap_s": 0.0, "timeout_s": 0.25})
    channel = VisaChannel(supply, 1, max_volts=5)
    channel.configure(setting(channel), max_volts=5)
    yield channel
    supply.close()


def setting(channel: VisaChannel) -> Setting:
    return Setting(3.3, 0.5, 3.7 if "ovp" in channel.limits.capabilities else None)


def gives_up(act: Callable[[], object]) -> str:
    with pytest.raises(BenchBlocked) as told:
        act()
    sentence = str(told.value)
    assert "\n" not in sentence
    assert len(sentence) < 500
    return sentence


@pytest.mark.parametrize(
    ("personality", "carried_out"), [("keysight-e36312a", True), ("tti-pl303p", False), ("tti-pl303p", True)]
)
def test_wherever_the_line_breaks_while_switching_on_the_output_ends_off(
    channel: VisaChannel, psu: PsuServer, carried_out: bool
) -> None:
    for after in range(40):
        psu.fault("drop", after=after, carried_out=carried_out)
        said = ""
        try:
            channel.on()
        except BenchBlocked as failed:
            said = str(failed)
        if not said:
            break
        assert NOT_CONFIRMED not in said
        assert psu.outputs[0].on is False
        channel.configure(setting(channel), max_volts=5)
    assert after > 3  # it did break some
    assert "drop" in psu.faults  # and this time it was still to come
    assert psu.outputs[0].on is True
    psu.clear_faults()
    assert channel.off()


@pytest.mark.parametrize("personality", ALL)
def test_answers_in_pieces_and_with_nuls_are_read(channel: VisaChannel, psu: PsuServer) -> None:
    psu.fault("split", gap=0.002)
    psu.fault("trailing-nul")
    channel.configure(setting(channel), max_volts=5)
    channel.on()
    reading = channel.measure()
    assert (reading.volts, reading.amps, reading.mode) == (3.3, 0.33, "cv")
    assert channel.off()


def test_a_late_answer_is_never_the_next_questions(channel: VisaChannel, psu: PsuServer) -> None:
    d = channel._supply.dialect
    for query in (d.queries.amps, d.queries.output):
        channel.configure(setting(channel), max_volts=5)
        channel.on()
        psu.fault("late", seconds=0.6)
        sentence = gives_up(lambda query=query: channel._supply.ask(query, channel._limits))
        assert "(timeout)" in sentence
        assert channel.off()  # as it was left to do in its line, too
        reading = channel.measure()
        assert (reading.volts, reading.amps, reading.mode) == (0, 0, "off")
    channel.configure(setting(channel), max_volts=5)
    channel.on()
    psu.fault("late", seconds=0.02, times=3)  # late, but in time
    assert channel.measure().volts == 3.3
    assert channel.off()


def test_a_hung_supply_is_told_and_found_off_when_it_recovers(channel: VisaChannel, psu: PsuServer) -> None:
    channel._verify = lambda setting: psu.fault("hung")  # type: ignore[method-assign]  # just before OP1 1
    sentence = gives_up(channel.on)
    assert "(timeout)" in sentence
    assert NOT_CONFIRMED in sentence
    sentence = gives_up(channel.measure)
    assert "gave no answer to '*IDN?' (timeout). It takes one connection only" in sentence
    psu.clear_faults()
    assert channel.off() is True
    with pytest.raises(BenchBlocked, match="configure it"):
        channel.on()


def test_a_supply_that_wakes_up_late_does_what_it_was_told_last(channel: VisaChannel, psu: PsuServer) -> None:
    channel._verify = lambda setting: psu.fault("hung", keeps=True)  # type: ignore[method-assign]
    assert NOT_CONFIRMED in gives_up(channel.on)
    done = len(psu.received)
    psu.clear_faults()
    assert until(lambda: len(psu.received) >= done + 3)
    assert [line for _, line in psu.received[done : done + 3]] == ["OP1 1", "OP1?", "OP1 0"]
    assert until(lambda: not psu.outputs[0].on)  # a line is noted before it is carried out
    assert channel.off()
    assert channel._supply.link.farewells == {}


def test_a_dead_connection_that_still_counts_is_one_sentence_and_waited_for(
    channel: VisaChannel, psu: PsuServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel.on()
    psu.fault("half-open")
    assert "gave no answer" in gives_up(channel.measure)
    sentence = gives_up(channel.measure)
    assert "It takes one connection only and may still count" in sentence
    assert psu.outputs[0].on is True
    assert channel.off() is False
    monkeypatch.setattr(driver, "OFF_PATIENCE_S", 10.0)
    psu.fault("half-open", seconds=0.2)
    assert channel.off() is True
    assert psu.outputs[0].on is False


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("personality", ["tti-pl303p", "rigol-dp832"])
def test_a_second_program_is_told_who_is_in_the_way(channel: VisaChannel, psu: PsuServer, silent: bool) -> None:
    psu.fault("one-client", silent=silent)
    sentence = gives_up(Link(psu.resource, channel._supply.link.transport).open)
    one = "It takes one connection only" in sentence
    assert one == channel._supply.dialect.transport.one_client
    assert one or "Another program may be holding it" in sentence
    assert channel.measure().mode == "off"  # the first is not disturbed


@pytest.mark.parametrize("personality", ["rigol-dp832", "siglent-spd3303x", "tti-pl303p"])
def test_a_full_error_queue_is_emptied_and_one_that_never_empties_refused(
    channel: VisaChannel, psu: PsuServer
) -> None:
    psu.fault("error-queue-full")
    channel.configure(setting(channel), max_volts=5)  # those were not about us
    psu.fault("error-queue-full", stuck=True)
    sentence = gives_up(lambda: channel.configure(setting(channel), max_volts=5))
    assert "reports" in sentence
    assert "and 37 more" in sentence
    assert psu.outputs[0].on is False
    with pytest.raises(BenchBlocked, match="configure it"):
        channel.on()


def test_an_answer_that_trails_a_comma_is_not_guessed_at(channel: VisaChannel, psu: PsuServer) -> None:
    psu.fault("trailing-comma")
    sentence = gives_up(lambda: channel.configure(setting(channel), max_volts=5))
    assert "answered 'OP1?' in a way that dialect aimtti-pl-p cannot read" in sentence
    assert psu.outputs[0].on is False


@pytest.mark.parametrize("personality", ["rigol-dp832"])
def test_a_slow_meter_shows_the_past_and_then_the_present(channel: VisaChannel, psu: PsuServer) -> None:
    psu.fault("slow-meter", seconds=60)
    channel.on()
    assert channel.measure().volts == 0
    psu.fault("slow-meter", seconds=0.2)
    assert until(lambda: channel.measure().volts == 3.3)
    assert channel.off()
