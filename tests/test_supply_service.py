"""The service, its clients and its guardian: whoever dies, the outputs go off, and no process stays."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from supply_fake import ACME, FakeSupply, write_acme
from waiting import until

import rig
from rig.bench.bench import open_bench
from rig.cli.bench import _check_slot
from rig.errors import BenchBlocked, UsageProblem
from rig.sim.psu import PsuServer, ResistiveLoad
from rig.supply import client, runtime, wire
from rig.supply.channel import Setting
from rig.supply.client import LeasedChannel
from rig.supply.guardian import Guardian
from rig.supply.means import Commanded, fit
from rig.supply.service import LINGER_S, Service
from rig.supply.waveform import dip

SETTING = Setting(3.3, 0.5, ovp=3.7)


def processes(what: str = "") -> list[int]:
    """Supply services and guardians (or only one kind) of this test's runtime folder."""
    mine = f"RIG_RUNTIME_DIR={os.environ['RIG_RUNTIME_DIR']}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"rig.supply.{what}".encode() in (folder / "cmdline").read_bytes()
            if ours and mine in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@contextlib.contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """A runtime folder; afterwards nobody may be left in it. SIGTERM only saves waiting for the service's linger:
    that it ends by itself has tests of its own."""
    folder = Path(tempfile.mkdtemp(prefix="rig-supply-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIG_RUNTIME_DIR", str(folder))
        try:
            yield folder
        finally:  # what did not even start leaves nothing either
            for pid in processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            alone = until(lambda: not processes())  # a guardian without its supply gives up sooner
            for pid in processes():
                os.kill(pid, signal.SIGKILL)
            said = logs(folder)
            shutil.rmtree(folder)
    assert alone, f"processes were left behind; their logs:\n{said}"


@pytest.fixture
def runtime_folder() -> Iterator[Path]:
    with folder_of_its_own() as folder:
        yield folder


@pytest.fixture
def psu(runtime_folder: Path) -> Iterator[PsuServer]:
    """A supply that lets in one client only."""
    with PsuServer("keysight-e36312a", [ResistiveLoad(33.0)], serial="MY1001", max_clients=1) as psu:
        yield psu


@pytest.fixture(scope="module")
def served() -> Iterator[PsuServer]:
    """A supply whose service is kept running by a lease of channel 3, for tests that do it no harm."""
    with (
        folder_of_its_own(),
        PsuServer("keysight-e36312a", [ResistiveLoad(33.0)], serial="MY1002", max_clients=1) as psu,
        lease(psu.resource, 3, max_volts=3.6),
    ):
        yield psu


def lease(resource: str, channel: int, **more: Any) -> LeasedChannel:
    """As the rig's; a service may take long to come up on a busy machine."""
    return client.lease(resource, channel, **{"timeout_s": 60, **more})


def powered(resource: str, channel: int = 1) -> LeasedChannel:
    leased = lease(resource, channel, max_volts=3.6, holder=f"slot {channel}")
    leased.configure(SETTING, max_volts=3.6)
    leased.on()
    return leased


def logs(folder: Path) -> str:
    return "\n".join(log.read_text() for log in folder.glob("*.log"))


def other_process(psu: PsuServer, channel: int, then: str) -> subprocess.Popen[str]:
    """A client of its own that powers a channel, says "on" and goes on with `then`."""
    script = f"""
import os, sys, time
from rig.supply.channel import Setting
from rig.supply.client import lease
leased = lease({psu.resource!r}, {channel}, max_volts=3.6, holder="another")
leased.configure(Setting(3.3, 0.5, 3.7), max_volts=3.6)
leased.on()
print("on", flush=True)
{then}
"""
    root = str(Path(rig.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    assert psu.outputs[channel - 1].on
    return process


def test_a_lease_works_like_a_channel_and_ends_with_the_output_off(psu: PsuServer) -> None:
    with lease(psu.resource, 1, max_volts=3.6) as channel:
        assert (channel.instrument.model, channel.instrument.serial) == ("E36312A", "MY1001")
        assert (channel.limits.volts_step, channel.limits.capabilities[0]) == (0.001, "error-queue")
        assert channel.configure(SETTING, max_volts=3.6) == SETTING
        before = time.monotonic_ns()
        assert before < channel.on() < time.monotonic_ns()
        reading = channel.measure()
        assert (reading.volts, reading.amps, reading.mode) == (pytest.approx(3.3), pytest.approx(0.1), "cv")
        channel.set_volts(2.7)
        channel.set_current_limit(0.25)
        assert (psu.outputs[0].volts, psu.outputs[0].amps) == (2.7, 0.25)
        assert channel.tripped() is None
        with pytest.raises(UsageProblem, match="nothing was sent"):
            channel.set_volts(3.7)
        with lease(psu.resource, 2, max_volts=3.6) as second:
            assert second.service_pid == channel.service_pid
    assert channel.off_confirmed is True
    assert psu.outputs[0].on is False
    with pytest.raises(BenchBlocked, match="is over"):
        channel.measure()


def test_a_channel_is_leased_once_and_two_channels_are_apart(served: PsuServer) -> None:
    one = powered(served.resource, 1)
    with pytest.raises(UsageProblem, match=rf"in use by pid {os.getpid()} \(slot 1\)"):
        lease(served.resource, 1, max_volts=3.6)
    two = powered(served.resource, 2)
    assert one.service_pid == two.service_pid
    assert one.close() is True
    assert [output.on for output in served.outputs] == [False, True, False]
    assert two.close() is True


def test_outputs_with_one_switch_are_leased_once(runtime_folder: Path, tmp_path: Path) -> None:
    with PsuServer("keysight-e3631a", [ResistiveLoad(33.0)], serial="0", max_clients=1) as psu:
        one = lease(psu.resource, 1, max_volts=3.6, holder="slot A")
        with pytest.raises(UsageProblem, match=r"off together, .*Channel 1 of E3631A 0 is in use .*\(slot A\)"):
            lease(psu.resource, 2, max_volts=3.6)
        assert one.configure(Setting(3.3, 0.5, None), max_volts=3.6).volts == 3.3
        assert one.close() is True
        two = lease(psu.resource, 2, max_volts=3.6)
        assert two.close() is True
        slots = "".join(
            f'[slot.{name}]\nsupply = "psu1"\nchannel = {number}\nflash_port = "/dev/{name}"\n'
            'product = "ds-121"\novp = "none"\n'
            for number, name in ((1, "A"), (2, "B"))
        )
        table = f'[bench]\nname = "t"\n[supply.psu1]\nresource = "{psu.resource}"\n{slots}'
        (tmp_path / "bench.toml").write_text(table)
        with open_bench(str(tmp_path / "bench.toml")) as bench:
            result = _check_slot(bench, bench.slot("A"))
        assert "one slot can use it" in result["verdict"]
        assert "the bench file gives it to slot B too" in result["verdict"]
        assert result["exit_code"] == 2
        assert not any(output.on for output in psu.outputs)


def test_a_killed_client_loses_its_output_and_not_its_neighbours(served: PsuServer) -> None:
    mine = powered(served.resource, 2)
    other = other_process(served, 1, "time.sleep(60)")
    other.kill()
    assert until(lambda: not served.outputs[0].on)
    other.communicate()
    assert served.outputs[1].on
    lease(served.resource, 1, max_volts=3.6).close()  # and its lease is free
    mine.close()


def test_a_childs_inherited_socket_does_not_keep_the_lease(served: PsuServer) -> None:
    other = other_process(
        served,
        1,
        """
if os.fork() == 0:
    print(os.getpid(), flush=True)
    os.close(1)
    time.sleep(300)
    os._exit(0)
time.sleep(300)
""",
    )
    assert other.stdout is not None
    child = int(other.stdout.readline())
    other.kill()
    try:
        assert until(lambda: not served.outputs[0].on)  # and its child still lives
    finally:
        os.kill(child, signal.SIGKILL)
    other.communicate()


def test_a_client_that_just_ends_loses_its_output(psu: PsuServer, runtime_folder: Path) -> None:
    other_process(psu, 1, "sys.stdin.read(); os._exit(1)").communicate()
    assert until(lambda: not psu.outputs[0].on)
    assert until(lambda: not processes())  # and then the service ends by itself
    assert [path.suffix for path in runtime_folder.iterdir()] == [".log"]


def test_a_killed_service_is_followed_by_its_guardian(psu: PsuServer, runtime_folder: Path) -> None:
    one, two = powered(psu.resource, 1), powered(psu.resource, 2)
    os.kill(one.service_pid, signal.SIGKILL)
    assert until(lambda: not psu.outputs[0].on and not psu.outputs[1].on)
    with pytest.raises(BenchBlocked) as told:
        one.measure()
    assert told.value.code == "supply-lost"
    assert two.off() is False
    assert (one.close(), one.off_confirmed) == (False, False)
    assert until(lambda: "channel 2 switched off and read back off" in logs(runtime_folder))
    with powered(psu.resource, 1) as again:  # a new service comes up behind it
        assert again.measure().mode == "cv"
    two.close()


# Waveforms: what plays ends with whoever fired it


def fitted(channel: LeasedChannel, how: str, seconds: float) -> Commanded:
    only = tuple(means for means in channel.means if means.how == how)
    return fit(dip(2.4, seconds), replace(channel.limits, means=only), widen=False)


def over(channel: LeasedChannel) -> bool:
    """It plays no more, in time or, as a machine with much else to do tells, not."""
    try:
        return not channel.playing()
    except BenchBlocked as late:
        if " were sent " not in str(late):
            raise
        return True


@pytest.mark.parametrize("how", ["list", "timed-writes"])
def test_a_lease_plays_a_waveform_and_is_measured_meanwhile(served: PsuServer, how: str) -> None:
    with powered(served.resource) as channel:
        assert channel.limits.name == "E36312A channel 1"
        channel.arm(fitted(channel, how, 120))
        assert not channel.playing()
        before = time.monotonic_ns()
        assert before < channel.fire() < time.monotonic_ns()
        assert until(lambda: channel.measure().volts == pytest.approx(2.4))
        assert channel.playing()
        with pytest.raises(BenchBlocked, match="armed"):
            channel.set_volts(3.0)
        channel.disarm()
        commanded = fitted(channel, how, 0.3)
        channel.arm(commanded)
        before = time.monotonic_ns()
        channel.fire()
        assert until(lambda: over(channel))
        assert time.monotonic_ns() - before > 200e6  # what is written may be early by 50 ms
        assert channel.measure().volts == pytest.approx(3.3)
        channel.arm(commanded)
        channel.disarm()
        channel.set_volts(3.0)
        with pytest.raises(UsageProblem, match=r"maximum is 3\.6 V"):
            channel.arm(fit(dip(3.7, 0.3), channel.limits, widen=False))


@pytest.mark.parametrize("how", ["list", "timed-writes"])
def test_a_client_killed_in_the_middle_of_a_dip_loses_its_output(psu: PsuServer, how: str) -> None:
    other = other_process(
        psu,
        1,
        f"""
from dataclasses import replace
from rig.supply.means import fit
from rig.supply.waveform import dip
only = tuple(means for means in leased.means if means.how == {how!r})
leased.arm(fit(dip(2.4, 120), replace(leased.limits, means=only), widen=False))
leased.fire()
print("fired", flush=True)
time.sleep(300)
""",
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "fired\n"
    assert until(lambda: psu.outputs[0].live[0] == pytest.approx(2.4))
    other.kill()
    other.communicate()
    assert until(lambda: not psu.outputs[0].on)
    assert until(lambda: not psu.outputs[0].playback)
    with powered(psu.resource) as again:
        assert again.measure().volts == pytest.approx(3.3)
        assert not again.playing()


@pytest.mark.parametrize("how", ["list", "timed-writes"])
def test_a_service_killed_in_the_middle_of_a_dip_is_followed_by_its_guardian(psu: PsuServer, how: str) -> None:
    one = powered(psu.resource)
    one.arm(fitted(one, how, 120))
    one.fire()
    assert until(lambda: psu.outputs[0].live[0] == pytest.approx(2.4))
    os.kill(one.service_pid, signal.SIGKILL)
    assert until(lambda: not psu.outputs[0].on)
    assert until(lambda: psu.outputs[0].playback is None, 30), "nor does the instrument play on for two minutes"
    with pytest.raises(BenchBlocked) as told:
        one.playing()
    assert told.value.code == "supply-lost"
    one.close()
    with powered(psu.resource) as again:
        assert again.measure().volts == pytest.approx(3.3), "and not what was played when it died"
        assert psu.outputs[0].playback is None


def test_the_guardian_leaves_alone_what_was_off_already(psu: PsuServer) -> None:
    one, two = powered(psu.resource, 1), powered(psu.resource, 2)
    assert one.off()
    os.kill(one.service_pid, signal.SIGKILL)
    assert until(lambda: not psu.outputs[1].on)
    assert until(lambda: not processes())
    at = max(i for i, (_, line) in enumerate(psu.received) if line == "*IDN?")  # the guardian's session
    assert not any("(@1)" in line for _, line in psu.received[at:])
    one.close()
    two.close()


def test_a_killed_guardian_is_replaced(psu: PsuServer) -> None:
    leased = powered(psu.resource)
    os.kill(leased.guardian_pid, signal.SIGKILL)
    assert until(lambda: processes("guardian") not in ([], [leased.guardian_pid]))
    os.kill(leased.service_pid, signal.SIGKILL)
    assert until(lambda: not psu.outputs[0].on)  # it has only just been started
    assert until(lambda: not processes())
    leased.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_terminated_service_switches_off_first(
    psu: PsuServer, number: signal.Signals, runtime_folder: Path
) -> None:
    leased = powered(psu.resource)
    os.kill(leased.service_pid, number)
    assert until(lambda: not psu.outputs[0].on)
    assert until(lambda: not processes())
    assert f"{number.name}: switching off" in logs(runtime_folder)
    assert "guardian" not in logs(runtime_folder)
    with pytest.raises(BenchBlocked, match="is gone"):
        leased.measure()
    leased.close()


def test_a_signal_to_all_at_once_leaves_the_guardian(psu: PsuServer) -> None:
    leased = powered(psu.resource)
    groups = {os.getpgrp(), os.getpgid(leased.service_pid), os.getpgid(leased.guardian_pid)}
    assert len(groups) == 3  # so Ctrl-C at the terminal reaches neither
    os.kill(leased.guardian_pid, signal.SIGTERM)
    os.kill(leased.service_pid, signal.SIGKILL)
    assert until(lambda: not psu.outputs[0].on)
    assert until(lambda: not processes())  # it has read back what it did
    leased.close()


def test_nobody_opens_the_supply_before_the_guardian_is_done(tmp_path: Path, runtime_folder: Path) -> None:
    folder = write_acme(tmp_path)
    with FakeSupply() as fake:
        leased = lease(fake.resource, 1, max_volts=3.6, dialect_dirs=[folder])
        leased.configure(SETTING, max_volts=3.6)
        leased.on()
        fake.twist = lambda line: None if line == "OUT 0" else FakeSupply.GO_ON
        os.kill(leased.service_pid, signal.SIGKILL)
        assert until(lambda: leased.service_pid not in processes())
        locks = [runtime.Lock(path) for path in runtime_folder.glob("*.lock")]
        assert [lock.try_hold() for lock in locks] == [False, False]
        fake.twist = lambda line: FakeSupply.GO_ON
        assert until(lambda: not processes())
        assert fake.state["A"]["OUT"] == 0
        assert until(lambda: all(lock.try_hold() for lock in locks))
        for lock in locks:
            lock.close()
        leased.close()


def test_an_instrument_is_one_rigs_whichever_folder_another_uses(runtime_folder: Path) -> None:
    """As of a person without the station's environment: it would switch the station's boards off."""
    with PsuServer("keysight-e36312a", [ResistiveLoad(33.0)], serial="MY1004") as psu:
        first = powered(psu.resource, 1)
        sent = len(psu.received)
        with (
            folder_of_its_own(),
            pytest.raises(UsageProblem, match=rf"another rig .*pid {first.service_pid} of user .*RIG_RUNTIME_DIR"),
        ):
            lease(psu.resource, 2, max_volts=3.6)
        assert psu.outputs[0].on
        assert len(psu.received) == sent
        assert first.close()
        with folder_of_its_own(), lease(psu.resource, 2, max_volts=3.6) as second:  # once the first one has ended
            assert second.off()


def test_two_names_of_one_instrument_meet_in_one_service(runtime_folder: Path) -> None:
    with PsuServer("rigol-dp832", [], serial="DP8A1") as psu:
        one = powered(psu.resource, 1)
        other_name = psu.resource.replace("127.0.0.1", "127.0.0.2")
        relay = Relay("127.0.0.2", psu.port)
        try:
            two = powered(other_name, 2)
            assert two.service_pid == one.service_pid
            with pytest.raises(UsageProblem, match="in use by pid"):
                lease(other_name, 1, max_volts=3.6)
            by_serial = lease("TCPIP::192.0.2.1::5555::SOCKET", 3, max_volts=3.6, serial="dp8a1")
            assert by_serial.service_pid == one.service_pid
            with pytest.raises(UsageProblem, match="serial number DP8A1, not DP8A2"):
                lease(psu.resource, 3, max_volts=3.6, serial="DP8A2")
            for leased in (one, two, by_serial):
                assert leased.close()
        finally:
            relay.close()


class Relay:
    """The same port at another address."""

    def __init__(self, host: str, port: int) -> None:
        self._port = port
        self._listener = socket.create_server((host, port))
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                outer, _ = self._listener.accept()
                inner = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                return
            self._sockets += [outer, inner]
            for source, sink in ((outer, inner), (inner, outer)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while more := source.recv(4096):
                sink.sendall(more)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for sock in self._sockets:
            sock.close()


def test_many_who_start_at_once_get_one_service(psu: PsuServer) -> None:
    got: list[LeasedChannel] = []
    threads = [
        threading.Thread(target=lambda n=n: got.append(lease(psu.resource, n, max_volts=3.6))) for n in (1, 2, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 3
    assert len({leased.service_pid for leased in got}) == 1
    for leased in got:
        leased.close()


def test_requests_of_threads_are_served_in_order_so_none_starves(served: PsuServer) -> None:
    with powered(served.resource) as leased:
        done: list[int] = []
        readings = []

        def ask(number: int) -> None:
            with leased._turn:
                done.append(number)
            readings.append(leased.measure())

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        with leased._turn:
            for waiting, thread in enumerate(threads, start=1):
                thread.start()
                assert until(lambda waiting=waiting: len(leased._turn._waiting) == waiting)
        for thread in threads:
            thread.join()
        assert done == list(range(8))
        assert all(reading.mode == "cv" for reading in readings)


def test_a_request_cut_short_does_not_hand_its_answer_to_the_next(served: PsuServer) -> None:
    with powered(served.resource) as leased:
        real = leased._link.sock

        class Interrupted:
            def sendall(self, data: bytes) -> None:
                real.sendall(data)
                raise KeyboardInterrupt

        leased._link.sock = Interrupted()  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            leased.set_volts(3.0)
        leased._link.sock = real
        assert leased.measure().volts == pytest.approx(3.0)
    assert leased.off_confirmed is True


def test_a_lingering_service_is_taken_up_again(psu: PsuServer) -> None:
    with lease(psu.resource, 1, max_volts=3.6) as one:
        ending = time.monotonic()
    with lease(psu.resource, 1, max_volts=3.6) as again:
        assert again.service_pid == one.service_pid or time.monotonic() - ending > LINGER_S


@pytest.mark.parametrize("serial", ["MY1003", "MY1004"], ids=["switched off and on", "replaced"])
def test_a_supply_that_went_between_two_leases_is_opened_anew(runtime_folder: Path, serial: str) -> None:
    load = ResistiveLoad(33.0)
    with PsuServer("keysight-e36312a", [load], serial="MY1003", max_clients=1) as psu:
        with lease(psu.resource, 1, max_volts=3.6) as one:
            one.configure(SETTING, max_volts=3.6)
        with socket.socket(socket.AF_UNIX) as standing_by:  # as a station's, from one unit to the next
            standing_by.connect(one.service_address)
            psu.stop()
            again = PsuServer("keysight-e36312a", [load], serial=serial, max_clients=1, port=psu.port)
            with again, lease(again.resource, 1, max_volts=3.6) as two:
                assert (two.service_pid == one.service_pid) is (serial == "MY1003")
                assert two.instrument.serial == serial
                two.configure(SETTING, max_volts=3.6)
                two.on()
                assert again.outputs[0].on
            assert not again.outputs[0].on


def test_errors_cross_the_socket_as_what_they_are(tmp_path: Path, runtime_folder: Path) -> None:
    folder = write_acme(tmp_path, ACME.replace("timeout_s = 10", "timeout_s = 1"))  # once it does not answer
    with FakeSupply() as fake:
        with pytest.raises(UsageProblem, match="No dialect knows"):
            lease(fake.resource, 1, max_volts=3.6)
        with pytest.raises(UsageProblem, match="did you mean 'acme'"):
            lease(fake.resource, 1, max_volts=3.6, dialect="acne", dialect_dirs=[folder])
        with pytest.raises(UsageProblem, match="has no channel 3"):
            lease(fake.resource, 3, max_volts=3.6, dialect_dirs=[folder])
        with lease(fake.resource, 1, max_volts=3.6, dialect_dirs=[folder], serial="1001") as leased:
            assert leased.instrument.dialect == "acme"
            fake.twist = lambda line: None if line.startswith("OVP 3") else FakeSupply.GO_ON
            with pytest.raises(BenchBlocked, match="OVP") as told:
                leased.configure(SETTING, max_volts=3.6)
            assert told.value.code == "supply-refused"
            fake.twist = lambda line: None
            with pytest.raises(BenchBlocked, match="no answer") as told:
                leased.measure()
            assert told.value.code == "supply-lost"
            fake.twist = lambda line: FakeSupply.GO_ON
            leased.configure(SETTING, max_volts=3.6)  # it came back
        assert "OUT 1" not in fake.received


@pytest.mark.parametrize("others", [True, False], ids=["by the service", "by the guardian"])
def test_an_output_that_stays_on_is_said_and_tried_again(tmp_path: Path, runtime_folder: Path, others: bool) -> None:
    folder = write_acme(tmp_path)
    with FakeSupply() as fake, contextlib.ExitStack() as stack:
        leased = lease(fake.resource, 1, max_volts=3.6, dialect_dirs=[folder])
        if others:
            stack.enter_context(lease(fake.resource, 2, max_volts=3.6, dialect_dirs=[folder]))
        leased.configure(SETTING, max_volts=3.6)
        leased.on()
        fake.twist = lambda line: None if line == "OUT 0" else FakeSupply.GO_ON
        assert leased.off() is False
        assert leased.close() is False
        assert fake.state["A"]["OUT"] == 1
        if not others:
            assert until(lambda: "the service died" in logs(runtime_folder))
        fake.twist = lambda line: FakeSupply.GO_ON
        assert until(lambda: fake.state["A"]["OUT"] == 0)
        assert others or until(lambda: not processes())  # the guardian has read it back
    assert "could not be switched off" in logs(runtime_folder)
    assert ("guardian" in logs(runtime_folder)) is not others


BACKEND = """
import os
from pathlib import Path
from pyvisa.constants import StatusCode
from pyvisa.util import LibraryPath
from pyvisa_py.highlevel import PyVisaLibrary

class WRAPPER_CLASS(PyVisaLibrary):
    get_library_paths = staticmethod(lambda: (LibraryPath("cable"),))

    def open(self, *args, **named):
        if Path(os.environ["PULLED"]).exists():
            self.handle_return_value(None, StatusCode.error_resource_not_found)  # as HiSLIP does
        return super().open(*args, **named)
"""


def test_a_supply_whose_cable_was_pulled_goes_off_when_it_is_back(
    tmp_path: Path, runtime_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although everybody has gone meanwhile, and though its transport calls it a resource that does not exist."""
    pulled = tmp_path / "pulled"
    (tmp_path / "pyvisa_cable").mkdir()
    (tmp_path / "pyvisa_cable" / "__init__.py").write_text(BACKEND)
    for name, value in {"PYVISA_LIBRARY": "@cable", "PULLED": str(pulled), "PYTHONPATH": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with PsuServer("keysight-e36312a", [ResistiveLoad(33.0)], serial="MY1003") as psu:
        one, two = powered(psu.resource, 1), powered(psu.resource, 2)
        pulled.touch()
        psu.fault("drop")
        with pytest.raises(BenchBlocked) as told:
            one.measure()
        assert told.value.code == "supply-lost"
        assert one.close() is False
        assert two.close() is False
        assert psu.outputs[0].on
        assert psu.outputs[1].on
        pulled.unlink()
        assert until(lambda: not psu.outputs[0].on and not psu.outputs[1].on)
        assert until(lambda: not processes())


def test_a_guardian_is_not_dismissed_while_an_output_is_on(psu: PsuServer) -> None:
    how = {"resource": psu.resource, "dialect": "keysight-e36300", "serial": "MY1001", "folders": []}
    guardian = Guardian(how, ())
    for number in (1, 2):
        psu.outputs[number - 1].switch(True)
        guardian.tell_on(number)
    guardian.tell_off(2)
    assert guardian.dismiss()
    assert [output.on for output in psu.outputs[:2]] == [False, True]


def test_a_bug_in_switching_one_off_keeps_no_other_on(tmp_path: Path) -> None:
    class Told:
        on: ClassVar[set[int]] = {2}

        def tell_on(self, number: int) -> None:
            self.on.add(number)

        def tell_off(self, number: int) -> None:
            self.on.discard(number)

    class Channel:
        keeps_line = False

        def __init__(self, number: int) -> None:
            self.number = number

        def off(self) -> bool:
            if self.number == 1:
                raise TypeError("a bug")
            return True

        def disarm(self) -> None:
            pass

    with socket.create_server(str(tmp_path / "sock"), family=socket.AF_UNIX) as listener:
        service = Service(None, Told(), set(), tmp_path, listener)  # type: ignore[arg-type]
        for number in (1, 2):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "sock"))
                service._accept()
            service.clients[-1].channel = Channel(number)  # type: ignore[assignment]
        for each in list(service.clients):
            service._drop(each, "the test")
        assert (set(service.unsafe), Told.on) == ({1}, {1}), "the guardian has it from here"


def test_a_closed_port_is_one_sentence(runtime_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(BenchBlocked, match="refused") as told:
        lease(f"TCPIP::127.0.0.1::{port}::SOCKET", 1, max_volts=3.6)
    assert told.value.code == "supply-lost"
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("max_volts", [0, -1, float("nan"), float("inf")])
def test_a_maximum_that_is_none_is_refused(max_volts: float) -> None:
    with pytest.raises(UsageProblem, match="maximum"):
        lease("TCPIP::127.0.0.1::1::SOCKET", 1, max_volts=max_volts)


def test_nonsense_on_the_socket_ends_nobody_elses_lease(served: PsuServer) -> None:
    with powered(served.resource) as leased:
        path = next(Path(os.environ["RIG_RUNTIME_DIR"]).glob("*.sock"))
        stranger = runtime.connect(path, 5)
        assert stranger is not None
        with stranger:
            stranger.sendall(b"{not json\n")
            assert "bug" in json.loads(stranger.recv(65536))
            stranger.sendall(wire.line({"op": "on"}))
            assert "no lease" in json.loads(stranger.recv(65536))["error"]["sentence"]
        assert leased.measure().mode == "cv"


def test_checking_walks_the_dialect_and_changes_nothing(served: PsuServer) -> None:
    output = served.outputs[0]
    output.volts, output.amps = 1.5, 0.25
    before = len(served.received)
    instrument, found = client.check(served.resource, 1)
    assert instrument.model == "E36312A"
    assert found["good"] is True
    rows = {row["entry"]: row for row in found["rows"]}
    assert rows["queries.volts"]["reply"] == "+1.50000000E+00"
    assert rows["queries.volts"]["ms"] > 0
    assert rows["commands.volts"]["sent"] == "VOLT 1.5000,(@1)"
    assert (output.volts, output.amps, output.on) == (1.5, 0.25, False)
    assert not any("OUTP ON" in line for _, line in served.received[before:])
    output.switch(True)
    with pytest.raises(BenchBlocked, match="output of E36312A channel 1 is on"):
        client.check(served.resource, 1)
    assert output.on  # refused, and left as it was


def test_checking_names_the_lines_that_do_not_fit(tmp_path: Path, runtime_folder: Path) -> None:
    folder = write_acme(tmp_path)
    with FakeSupply() as fake:
        fake.twist = lambda line: "?" if line == "OVP?" else FakeSupply.GO_ON
        _, found = client.check(fake.resource, 1, dialect_dirs=[folder])
    assert found["good"] is False
    assert "do not fit: queries.ovp." in found["verdict"]


# The folder where they meet


def test_the_folder_is_private(runtime_folder: Path) -> None:
    assert runtime.folder() == runtime_folder
    os.chmod(runtime_folder, 0o755)
    with pytest.raises(UsageProblem, match="mode 0700"):
        runtime.folder()
    os.chmod(runtime_folder, 0o700)


def test_the_folder_is_made_and_never_a_link(runtime_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RIG_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_folder))
    made = runtime.folder()
    assert made == runtime_folder / "rig"
    assert made.stat().st_mode & 0o777 == 0o700
    (runtime_folder / "link").symlink_to(made)
    monkeypatch.setenv("RIG_RUNTIME_DIR", str(runtime_folder / "link"))
    with pytest.raises(UsageProblem, match="directory of your own"):
        runtime.folder()
    monkeypatch.setenv("RIG_RUNTIME_DIR", "/tmp/" + "x" * 90)
    with pytest.raises(UsageProblem, match="too long"):
        runtime.folder()
    os.rmdir("/tmp/" + "x" * 90)
    monkeypatch.setenv("RIG_RUNTIME_DIR", str(runtime_folder))


def test_a_resource_has_one_name_however_it_is_written() -> None:
    names = ["TCPIP::localhost::5025::SOCKET", "TCPIP0::127.0.0.1::5025::SOCKET", "tcpip::127.0.0.1::5025::socket"]
    assert len({runtime.resource_key(name) for name in names}) == 1
    assert runtime.resource_key("TCPIP::127.0.0.1::5026::SOCKET") != runtime.resource_key(names[0])


def test_a_serial_number_that_says_nothing_is_told_apart_by_its_resource() -> None:
    here, there = "TCPIP::127.0.0.1::1::SOCKET", "TCPIP::127.0.0.1::2::SOCKET"
    assert runtime.instrument_key("0", here) != runtime.instrument_key("0", there)
    assert runtime.instrument_key("MY1", here) == runtime.instrument_key("my1", there)


def test_a_lock_is_held_by_one_and_survives_its_files_removal(runtime_folder: Path) -> None:
    one, two = runtime.Lock(runtime_folder / "x.lock"), runtime.Lock(runtime_folder / "x.lock")
    assert one.try_hold()
    assert not two.try_hold()
    one.remove()
    assert two.try_hold()
    three = runtime.Lock(runtime_folder / "x.lock")
    assert not three.try_hold()
    two.close()
    assert three.try_hold()
    three.close()


def test_a_service_stands_by_for_the_next_unit_and_ends_when_nobody_wants_it(psu: PsuServer) -> None:
    standby = client.Standby()
    with lease(psu.resource, 1, max_volts=3.6) as first:
        standby.keep(first)
        standby.keep(first)
    assert not until(lambda: not processes("service"), 1.6), "it was to outlive its linger"
    with lease(psu.resource, 1, max_volts=3.6) as second:
        standby.keep(second)
        assert (second.service_pid, second.guardian_pid) == (first.service_pid, first.guardian_pid)
        second.configure(SETTING, max_volts=3.6)
        second.on()
    assert not psu.outputs[0].on, "it keeps nothing on"
    standby.close()
    assert until(lambda: not processes())
