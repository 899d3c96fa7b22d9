"""The broker, listened to from before a unit gets its power: what was said, by whom, and when."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from rig.errors import BenchBlocked, UsageProblem
from rig.home.config import Home

Found = TypeVar("Found")
_KEPT = 20_000  # messages, of all devices at this broker
_CONNECT_S = 5.0
_KEEPALIVE_S = 10
_LONGEST = 4096  # bytes of a payload that are looked at: OpenBeken's discovery messages are below 1 KiB


@dataclass(frozen=True)
class Message:
    """One message. `kept`: the broker had it from before, so it says nothing of the device as it is now."""

    number: int
    topic: str
    payload: str
    kept: bool
    mono_ns: int


class Broker:
    """A client of the broker, from `with` on. Every message to OpenBeken's topics and Home Assistant's is heard.

    Raises BenchBlocked("broker-lost") where it cannot be reached, refuses us, or goes away meanwhile: then nothing
    that was not heard says anything of a unit.
    """

    def __init__(self, home: Home) -> None:
        try:
            from paho.mqtt import client, enums
        except ModuleNotFoundError as missing:
            raise UsageProblem(
                f"the check at home needs the extra \"home\" ({missing.name} is missing): pip install -e '.[home]'"
            ) from None
        self._home = home
        self._where = f"{home.broker.host}:{home.broker.port}"
        name = f"rig-{os.getpid()}-{secrets.token_hex(4)}"  # one of two clients with one name is thrown out
        self._client = client.Client(enums.CallbackAPIVersion.VERSION2, client_id=name)
        self._client.connect_timeout = _CONNECT_S
        if home.broker.user:
            self._client.username_pw_set(home.broker.user, home.broker_password() or None)
        self._client.on_connect = self._connected
        self._client.on_subscribe = self._subscribed
        self._client.on_disconnect = self._gone
        self._client.on_message = self._heard
        self._news = threading.Condition()
        self._messages: deque[Message] = deque(maxlen=_KEPT)
        self._count = 0
        self._ready = False
        self._lost = ""

    def __enter__(self) -> Broker:
        broker = self._home.broker
        try:
            self._client.connect(broker.host, broker.port, _KEEPALIVE_S)
        except (OSError, ValueError) as problem:
            raise BenchBlocked(
                "broker-lost", f"the broker at {self._where} cannot be reached: {_why(problem)}"
            ) from None
        self._client.loop_start()
        try:
            with self._news:
                self._news.wait_for(lambda: self._ready or self._lost, _CONNECT_S)
            if not self._ready:
                why = self._lost or f"no answer within {_CONNECT_S:g} s"
                raise BenchBlocked("broker-lost", f"the broker at {self._where} does not take the rig: {why}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.on_disconnect = None
        with contextlib.suppress(OSError, ValueError):
            self._client.disconnect()
        self._client.loop_stop()

    # -- its own thread --------------------------------------------------------------------------------

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._is_lost(str(reason))
            return
        topics = ("+/+", "+/+/get", f"{self._home.broker.prefix}/#")
        client.subscribe([(topic, 1) for topic in topics])

    def _subscribed(self, client: Any, data: Any, number: int, reasons: Any, properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._is_lost("the rig may not listen to its topics")
            return
        with self._news:
            self._ready = True
            self._news.notify_all()

    def _gone(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._is_lost(str(reason))

    def _is_lost(self, why: str) -> None:
        with self._news:
            self._lost = self._lost or why
            self._news.notify_all()

    def _heard(self, client: Any, data: Any, message: Any) -> None:
        text = message.payload[:_LONGEST].decode("utf-8", "replace")
        with self._news:
            self._count += 1
            self._messages.append(
                Message(self._count, message.topic, text, bool(message.retain), time.monotonic_ns())
            )
            self._news.notify_all()

    # -- for the check ---------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """Number of the last message so far: what comes from here on has a higher one."""
        with self._news:
            return self._count

    def since(self, number: int) -> list[Message]:
        """What was said after that, without what the broker had kept from before."""
        with self._news:
            self._check()
            return [message for message in self._messages if message.number > number and not message.kept]

    def wait_for(self, look: Callable[[list[Message]], Found | None], since: int, seconds: float) -> Found | None:
        """The first thing that `look` finds in what was said after `since`; None after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            seen = self.now
            if (found := look(self.since(since))) is not None:
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            with self._news:
                self._news.wait_for(lambda seen=seen: self._count > seen or self._lost, left)  # type: ignore[misc]

    def publish(self, topic: str, payload: str) -> None:
        """At least once, and not kept by the broker."""
        with self._news:
            self._check()
        self._client.publish(topic, payload, qos=1)

    def _check(self) -> None:
        if self._lost:
            raise BenchBlocked("broker-lost", f"the broker at {self._where} went away: {self._lost}")


def _why(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
