"""The guardian: a child of the supply service that does one thing, should the service die without a goodbye:
switch off every output that was on, over a VISA session of its own, and confirm it; then it ends what the instrument
plays by itself, whose end may be minutes away.

It waits on a pipe whose other end only the service holds, so it notices any death, kill -9 included, and it can
outlive the service only for as long as the switching off takes. It inherits the service's locks: nobody else
opens the instrument before it is done.

It is started with how to reach the instrument and what is on; then come messages, one JSON object a line: `on` N,
`off` N, `bye`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rig.supply.driver import VisaChannel
    from rig.supply.instrument import Supply

RESCUE_S = 12.0  # many supplies accept one client and are slow to notice that the dead one is gone


class Guardian:
    """The service's end: starts the guardian, keeps it told, and starts another should it die first."""

    def __init__(self, how: dict[str, Any], lock_fds: Sequence[int]) -> None:
        self._how = how
        self._lock_fds = tuple(lock_fds)
        self._on: set[int] = set()
        self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell_on(self, channel: int) -> None:
        """Call before an output is switched on."""
        self._on.add(channel)
        self._tell({"on": channel})

    def tell_off(self, channel: int) -> None:
        """Call after an output was read back off."""
        self._on.discard(channel)
        self._tell({"off": channel})

    def look(self) -> bool:
        """Replace a guardian that died. True if that was needed."""
        if self._process.poll() is None:
            return False
        self._close_pipe()
        self._process = self._start()
        return True

    def dismiss(self) -> bool:
        """End it: with a goodbye, or leaving it to switch off what was not read back off. Whether it is gone."""
        clean = not self._on
        if clean:
            self._tell({"bye": True})
        self._close_pipe()
        try:
            self._process.wait(2 if clean else RESCUE_S + 8)
        except subprocess.TimeoutExpired:
            _say(f"guardian {self.pid} is still at work as the service ends")
            return False
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        state = {"start": self._how, "on": sorted(self._on)}  # as an argument: known even if we die this instant
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rig.supply.guardian", json.dumps(state)],
            stdin=subprocess.PIPE,
            pass_fds=self._lock_fds,
            start_new_session=True,
            preexec_fn=_ignore_signals,  # from its first moment; the service has one thread, so this is safe
        )
        return self._process

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._send(message)
        except OSError:
            self.look()  # a new one is told the whole state

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _close_pipe(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it is dead; what was buffered goes nowhere
                self._process.stdin.close()


def _ignore_signals() -> None:
    """It ends with its service, not before, whatever is sent to all at the end of a session."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _load() -> None:
    """Load what a rescue needs, while there is time."""
    import rig.supply.driver  # noqa: F401
    from rig.supply.visa import preload

    preload()


def _watch() -> tuple[dict[str, Any], set[int]] | None:
    """Follow the service; None when it said goodbye, else how to reach the instrument and what is on."""
    state = json.loads(sys.argv[1])
    how: dict[str, Any] = state["start"]
    on: set[int] = set(state["on"])
    if on:
        _load()
    for raw in sys.stdin.buffer:
        try:
            message = json.loads(raw)
        except ValueError:
            break  # torn by the service's death
        if "on" in message:
            on.add(message["on"])
            _load()
        elif "off" in message:
            on.discard(message["off"])
        elif "bye" in message:
            return None
    return how, on


def rescue(how: dict[str, Any], channels: set[int]) -> bool:
    """Switch `channels` off and read them back off; then end what the instrument plays on them by itself, so that
    nothing is left in it that could change an output. RESCUE_S seconds are tried for; whether all are off."""
    from rig.errors import RigError
    from rig.supply.instrument import Supply

    rescued = _Rescue(set(channels), set(channels))
    deadline = time.monotonic() + RESCUE_S
    while True:
        try:
            supply = Supply.open(
                how["resource"],
                dialect=how["dialect"],
                serial=how["serial"] or None,
                folders=[Path(folder) for folder in how["folders"]],
                in_haste=True,
            )
            try:
                rescued.attempt(supply)
            finally:
                supply.close()
        except RigError as bad:
            rescued.say_once(f"not yet: {bad}")
        if not rescued.playing or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    rescued.conclude(how["resource"])
    return not rescued.on


class _Rescue:
    """How far it came: channels not yet read back off (`on`), and those that may still be `playing`. A channel's own
    trouble keeps none of the others waiting."""

    def __init__(self, on: set[int], playing: set[int]) -> None:
        self.on = on
        self.playing = playing
        self._said: set[str] = set()

    def attempt(self, supply: Supply) -> None:
        """One connection's worth. Raises nothing of a single channel's."""
        from rig.supply.driver import VisaChannel

        channels: list[VisaChannel] = []
        for number in sorted(self.playing):
            with self._of(number):
                channels.append(VisaChannel(supply, number, max_volts=1))
        for act in (self._tell_off, self._switch_off, self._still):
            for channel in channels:
                with self._of(channel.number):
                    act(channel)

    def _tell_off(self, channel: VisaChannel) -> None:
        if channel.number in self.on:
            channel.say_off()

    def _switch_off(self, channel: VisaChannel) -> None:
        if channel.number in self.on and channel.off():
            self.on.discard(channel.number)
            _say(f"channel {channel.number} switched off and read back off")

    def _still(self, channel: VisaChannel) -> None:
        """Never before it is off, and never in the way of another's switching off."""
        if channel.number in self.on:
            return
        if not channel.still():
            self.on.add(channel.number)
        else:
            self.playing.discard(channel.number)

    @contextlib.contextmanager
    def _of(self, number: int) -> Iterator[None]:
        from rig.errors import RigError

        try:
            yield
        except RigError as bad:
            self.say_once(f"channel {number}, not yet: {bad}")

    def say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            _say(text)

    def conclude(self, resource: str) -> None:
        def named(channels: set[int]) -> str:
            return ", ".join(map(str, sorted(channels)))

        if self.on:
            _say(f"COULD NOT SWITCH OFF channel {named(self.on)} of {resource}: do it by hand")
        if left := self.playing - self.on:
            _say(f"channel {named(left)} of {resource} is off; what the instrument played there may play on")


def _say(text: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    sys.stderr.write(f"{stamp} guardian {os.getpid()}: {text}\n")
    sys.stderr.flush()


def main() -> int:
    found = _watch()
    if found is None:
        return 0
    how, on = found
    if not on:
        return 0
    _say(f"the service died with channel {', '.join(map(str, sorted(on)))} on")
    return 0 if rescue(how, on) else 1


if __name__ == "__main__":
    sys.exit(main())
