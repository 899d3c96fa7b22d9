"""A witness: an oscilloscope on a board's rail, on the network as a raw SCPI socket.

It answers as a Keysight DSOX1102G does, as far as that model's programming guide is repeated by working programs
(pymeasure's class for it): time base, single acquisition, stop, waveform data and preamble. Channel 1 is the rail at
the board, channel 2 is open. Eight bits over the vertical range, nothing beyond it; no bandwidth limit and no noise.
It triggers at once: `:SINGle` takes the record around now, `:STOP` the one that ends now. In roll mode, from 50 ms a
division on, it samples all the while into a memory of its own, and a record begins no earlier than the rolling. Its
seconds are the bench's: a board that lives faster dips shorter.
"""

from __future__ import annotations

import contextlib
import re
import socketserver
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

_POINTS = (100, 250, 500, 1000, 2000, 5000, 10000, 20000, 50000, 62500)
_LEVELS = 256
_HOLE = 9.9e37  # what Keysight's ASCII data has where nothing was sampled
_ASK = 2000  # points asked of a board at once: its own clock goes on in between
_LONGEST_S = 500.0  # full scale, 50 s a division
_ROLL_S = 0.5  # full scale; faster than 50 ms a division it does not roll
_ROLL_POINTS = 50000  # of its memory
_ROLL_LOOK_S = 0.05  # how often the board is asked what its rail did; it remembers 20 s of its own time

Trace = Callable[[float, float, int], list[float | None]]
"""`trace(begin, end, points)`: volts at so many moments (time.monotonic); None where nothing is known."""

# settings: header -> (word, number or switch, value after *RST)
_SETTINGS: dict[str, tuple[tuple[str, ...] | type, str | float | bool]] = {
    "TIMebase:MODE": (("MAIN", "WINDow", "XY", "ROLL"), "MAIN"),
    "TIMebase:RANGe": (float, 1e-3),
    "TIMebase:POSition": (float, 0.0),
    "TIMebase:REFerence": (("LEFT", "CENTer", "RIGHt"), "CENTer"),
    "ACQuire:TYPE": (("NORMal", "AVERage", "HRESolution", "PEAK"), "NORMal"),
    "ACQuire:MODE": (("RTIMe", "SEGMented"), "RTIMe"),
    "WAVeform:POINts:MODE": (("NORMal", "MAXimum", "RAW"), "NORMal"),
    "WAVeform:POINts": (float, 1000.0),
    "WAVeform:SOURce": (("CHANnel1", "CHANnel2"), "CHANnel1"),
    "WAVeform:FORMat": (("BYTE", "ASCii"), "BYTE"),
}
_CHANNEL_SETTINGS: dict[str, tuple[tuple[str, ...] | type, str | float | bool]] = {
    "RANGe": (float, 40.0),
    "OFFSet": (float, 0.0),
    "COUPling": (("DC", "AC"), "DC"),
    "DISPlay": (bool, True),
    "BWLimit": (bool, False),
    "INVert": (bool, False),
    "PROBe": (float, 10.0),
}
for _name, _setting in _CHANNEL_SETTINGS.items():
    _SETTINGS |= {f"CHANnel{channel}:{_name}": _setting for channel in (1, 2)}
_RANGES = {"TIMebase:RANGe": (5e-8, _LONGEST_S), "CHANnel1:RANGe": (8e-3, 400.0), "CHANnel2:RANGe": (8e-3, 400.0)}


class ScopeError(Exception):
    """An entry for the error queue: number and text."""


class Record:
    """An acquisition: from `begin` to `end` (time.monotonic), its trigger at `trigger`."""

    def __init__(self, begin: float, end: float, trigger: float) -> None:
        self.begin, self.end, self.trigger = begin, end, trigger


class Roll:
    """The memory of roll mode: `points` samples over `span` seconds, from `begin` on; the newest are kept.

    A thread of its own fills it from `trace` until `end`.
    """

    def __init__(self, trace: Trace, span: float, points: int, stopped: threading.Event) -> None:
        self._trace = trace
        self._step = span / points
        self._stopped = stopped
        self._begin = monotonic()
        self._end: float | None = None
        self._taken = 0  # samples so far, those that were dropped too
        self._samples: deque[float | None] = deque(maxlen=2 * points)  # whoever stops it may ask a little late
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scope-roll", daemon=True)
        self._thread.start()

    def end(self, moment: float) -> None:
        """Nothing later is sampled."""
        self._end = min(moment, self._end or moment)
        self._wake.set()

    def samples(self, begin: float, end: float, points: int) -> list[float | None]:
        """`points` moments from `begin` to `end`, once all of it was sampled; None where nothing was."""
        self._thread.join()
        oldest = self._taken - len(self._samples)
        kept = list(self._samples)
        step = (end - begin) / max(1, points - 1)
        indices = (round((begin + step * at - self._begin) / self._step) - oldest for at in range(points))
        return [kept[index] if 0 <= index < len(kept) else None for index in indices]

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(_ROLL_LOOK_S)
            end = self._end
            try:
                self._take(monotonic() if end is None else end)
            except (RuntimeError, OSError, ValueError):
                return  # its board is gone
            if end is not None:
                return

    def _take(self, until: float) -> None:
        while (due := int((until - self._begin) / self._step) + 1 - self._taken) > 0:
            count = min(_ASK, due)
            first = self._begin + self._taken * self._step
            self._samples += self._trace(first, first + (count - 1) * self._step, count)
            self._taken += count


class Scope:
    """A simulated oscilloscope on `host`:`port` (0: any). `trace` is the rail it is clipped to."""

    def __init__(self, trace: Trace, *, serial: str = "SIM", host: str = "127.0.0.1", port: int = 0) -> None:
        self._trace = trace
        self.serial = serial
        self._idn = f"KEYSIGHT TECHNOLOGIES,DSOX1102G,{serial},01.20.2019061038"
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._roll: Roll | None = None
        self.reset()
        scope = self

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    for line in self.rfile:
                        answer = scope.line(line.decode("latin-1").strip())
                        if answer:
                            self.wfile.write(answer + b"\n")

        self._thread: threading.Thread | None = None
        self._server = socketserver.ThreadingTCPServer((host, port), Handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.allow_reuse_address = True

    @property
    def resource(self) -> str:
        """Its VISA resource, once started."""
        host, port = self._server.server_address[:2]
        return f"TCPIP::{host!s}::{port}::SOCKET"

    def start(self) -> None:
        self._server.server_bind()
        self._server.server_activate()
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="scope", daemon=True)
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        """Close it; one that was never started, too."""
        self._stopped.set()
        self._end_roll(monotonic())
        if self._thread is not None:
            self._server.shutdown()  # waits for serve_forever, for ever where that was never called
        self._server.server_close()

    def reset(self) -> None:
        """*RST: settings to their defaults, running."""
        self._settings = {header: default for header, (_, default) in _SETTINGS.items()}
        self._errors: deque[str] = deque(maxlen=30)
        self._record: Record | None = None  # None: it runs
        self._set_going()

    # -- the line --------------------------------------------------------------------------------------

    def line(self, text: str) -> bytes:
        """Carry out one line; its answers, joined by `;`."""
        answers: list[bytes] = []
        with self._lock:
            prefix = ""
            for unit in filter(None, (part.strip() for part in text.split(";"))):
                try:
                    header, _, argument = unit.partition(" ")
                    path = header if header[0] in ":*" else prefix + header
                    if header[0] != "*":
                        prefix = path.rpartition(":")[0] + ":"
                    answer = self._carry_out(path.lstrip(":"), argument.strip())
                except ScopeError as problem:
                    self._errors.append(str(problem))
                    continue
                if answer is not None:
                    answers.append(answer if isinstance(answer, bytes) else answer.encode())
        return b";".join(answers)

    def _carry_out(self, header: str, argument: str) -> str | bytes | None:
        asks = header.endswith("?")
        name = header.rstrip("?")
        for pattern, action in self._actions().items():
            if pattern.endswith("?") == asks and _fits(name, pattern.rstrip("?")):
                answer: str | bytes | None = action(argument)
                return answer
        for pattern in _SETTINGS:
            if _fits(name, pattern):
                if asks:
                    return self._ask(pattern)
                self._set(pattern, argument)
                return None
        raise ScopeError('-113,"Undefined header"')

    def _actions(self) -> dict[str, Callable[[str], Any]]:
        return {
            "*IDN?": lambda _: self._idn,
            "*OPC?": lambda _: "1",
            "*RST": lambda _: self.reset(),
            "*CLS": lambda _: self._errors.clear(),
            "SYSTem:PRESet": lambda _: self.reset(),
            "SYSTem:ERRor?": lambda _: self._errors.popleft() if self._errors else '+0,"No error"',
            "RUN": lambda _: self._run(),
            "STOP": lambda _: self._stop_now(),
            "SINGle": lambda _: self._single(),
            "DIGitize": lambda _: self._digitize(),
            "AUToscale": lambda _: self._autoscale(),
            "OPERegister:CONDition?": lambda _: "8" if self._running else "0",
            "TIMebase:SCALe": lambda text: self._set("TIMebase:RANGe", text, factor=10),
            "TIMebase:SCALe?": lambda _: _nr3(self._number("TIMebase:RANGe") / 10),
            "TIMebase?": lambda _: self._timebase(),
            "WAVeform:PREamble?": lambda _: self._preamble(),
            "WAVeform:DATA?": lambda _: self._data(),
            **{
                pattern.replace("#", str(channel)): action
                for channel in (1, 2)
                for pattern, action in self._channel_actions(channel).items()
            },
        }

    def _channel_actions(self, channel: int) -> dict[str, Callable[[str], Any]]:
        vertical = f"CHANnel{channel}:RANGe"
        return {
            "CHANnel#:SCALe": lambda text: self._set(vertical, text, factor=8),
            "CHANnel#:SCALe?": lambda _: _nr3(self._number(vertical) / 8),
            "CHANnel#?": lambda _: self._channel(channel),
        }

    def _number(self, header: str) -> float:
        return float(self._settings[header])

    def _set(self, header: str, text: str, factor: float = 1.0) -> None:
        kind, _ = _SETTINGS[header]
        value: str | float | bool | None
        if isinstance(kind, tuple):
            value = next((word for word in kind if _fits(text, word)), None)
        elif kind is bool:
            value = {"1": True, "ON": True, "0": False, "OFF": False}.get(text.upper())
        else:
            try:
                value = float(text) * factor
            except ValueError:
                value = None
        if value is None:
            raise ScopeError('-224,"Illegal parameter value"')
        if header == "WAVeform:POINts" and value not in _POINTS:
            raise ScopeError('-222,"Data out of range"')
        low, high = _RANGES.get(header, (-1e9, 1e9))
        if isinstance(value, float) and not low <= value <= high:
            raise ScopeError('-222,"Data out of range"')
        if header.startswith("TIMebase"):
            self._turn(header, value)
        self._settings[header] = value
        if header.startswith("TIMebase") and self._record is None:
            self._set_going()

    def _turn(self, header: str, value: str | float | bool) -> None:
        """Refuse a time base too fast to roll."""
        rolls = (value if header == "TIMebase:MODE" else self._settings["TIMebase:MODE"]) == "ROLL"
        span = value if header == "TIMebase:RANGe" else self._settings["TIMebase:RANGe"]
        if rolls and float(span) < _ROLL_S:
            raise ScopeError('-221,"Settings conflict"')

    def _ask(self, header: str) -> str:
        kind, _ = _SETTINGS[header]
        value = self._settings[header]
        if isinstance(kind, tuple):
            return _short(str(value))
        if header == "WAVeform:POINts":
            return str(round(float(value)))
        return str(int(value)) if kind is bool else _nr3(float(value))

    def _timebase(self) -> str:
        ask = self._ask
        return (
            f":TIM:MODE {ask('TIMebase:MODE')};REF {ask('TIMebase:REFerence')};"
            f"MAIN:RANG {ask('TIMebase:RANGe')};POS {ask('TIMebase:POSition')}"
        )

    def _channel(self, number: int) -> str:
        ask = {name: self._ask(f"CHANnel{number}:{name}") for name in _CHANNEL_SETTINGS}
        return (
            f":CHAN{number}:RANG {ask['RANGe']};OFFS {ask['OFFSet']};COUP {ask['COUPling']};IMP ONEM;"
            f'DISP {ask["DISPlay"]};BWL {ask["BWLimit"]};INV {ask["INVert"]};LAB "{number}";UNIT VOLT;'
            f"PROB {ask['PROBe']};PROB:SKEW +0.00E+00;STYP SING"
        )

    # -- acquisition -----------------------------------------------------------------------------------

    @property
    def _running(self) -> bool:
        return self._record is None or monotonic() < self._record.end

    def _run(self) -> None:
        self._record = None
        self._set_going()

    def _set_going(self) -> None:
        """It runs from now on, at its time base of now: what a rolling one had is gone."""
        self._end_roll(monotonic())
        self._roll = None
        if self._settings["TIMebase:MODE"] == "ROLL":
            self._roll = Roll(self._trace, self._number("TIMebase:RANGe"), _ROLL_POINTS, self._stopped)

    def _end_roll(self, moment: float) -> None:
        if self._roll is not None:
            self._roll.end(moment)

    def _stop_now(self) -> None:
        """The record that ends now; a single one under way is cut there. One that stands keeps its own."""
        if self._record is not None and self._roll is not None:
            return
        self._record = self._ending(monotonic())
        self._end_roll(self._record.end)

    def _ending(self, end: float) -> Record:
        span = self._number("TIMebase:RANGe")
        return Record(end - span, end, end - span + self._reference() - self._number("TIMebase:POSition"))

    def _single(self) -> None:
        self._end_roll(monotonic())
        self._roll = None
        now, span = monotonic(), self._number("TIMebase:RANGe")
        begin = now + self._number("TIMebase:POSition") - self._reference()
        self._record = Record(begin, begin + span, now)

    def _reference(self) -> float:
        """Where the reference is, seconds from the left edge."""
        parts = {"LEFT": 0.1, "CENTer": 0.5, "RIGHt": 0.9}
        return self._number("TIMebase:RANGe") * parts[str(self._settings["TIMebase:REFerence"])]

    def _digitize(self) -> None:
        self._single()
        self._complete()

    def _complete(self) -> Record:
        """The record, once all of it has been; of a running scope the one that ends now."""
        record = self._record or self._ending(monotonic())
        self._stopped.wait(max(0.0, record.end - monotonic()))
        return record

    def _autoscale(self) -> None:
        """For a rail: all of it on the screen."""
        self._settings["CHANnel1:RANGe"], self._settings["CHANnel1:OFFSet"] = 4.0, 1.65
        self._settings["TIMebase:RANGe"] = 1e-2

    # -- the waveform ----------------------------------------------------------------------------------

    def _vertical(self) -> tuple[float, float]:
        channel = self._settings["WAVeform:SOURce"]
        return self._number(f"{channel}:RANGe") / _LEVELS, self._number(f"{channel}:OFFSet")

    def _points(self) -> int:
        return round(self._number("WAVeform:POINts"))

    def _preamble(self) -> str:
        record = self._record or self._ending(monotonic())
        step, offset = self._vertical()
        kind = {"BYTE": 0, "ASCii": 4}[str(self._settings["WAVeform:FORMat"])]
        numbers = [(record.end - record.begin) / self._points(), record.begin - record.trigger]
        times = ",".join(map(_nr3, numbers))
        return f"{kind:+d},+0,{self._points():+d},+1,{times},+0,{_nr3(step)},{_nr3(offset)},+128"

    def _data(self) -> bytes:
        record = self._complete()
        step, offset = self._vertical()
        levels = [
            None if volts is None else min(_LEVELS - 1, max(1, round((volts - offset) / step) + 128))
            for volts in self._samples(record)
        ]
        if self._settings["WAVeform:FORMat"] == "BYTE":
            body = bytes(level or 0 for level in levels)
        else:
            values = (_HOLE if level is None else (level - 128) * step + offset for level in levels)
            body = ",".join(f"{value:+.5E}" for value in values).encode()
        return f"#8{len(body):08d}".encode() + body

    def _samples(self, record: Record) -> list[float | None]:
        points = self._points()
        if self._settings["WAVeform:SOURce"] != "CHANnel1":
            return [0.0] * points
        step = (record.end - record.begin) / points
        if self._roll is not None and self._record is not None:
            return self._roll.samples(record.begin, record.end - step, points)
        samples: list[float | None] = []
        while len(samples) < points:
            count = min(_ASK, points - len(samples))
            begin = record.begin + len(samples) * step
            samples += self._trace(begin, begin + (count - 1) * step, count)
        return samples


def _short(word: str) -> str:
    return re.sub("[a-z]", "", word)


def _fits(text: str, pattern: str) -> bool:
    """Whether `text` is `pattern` in its short or long form, node by node, in any case."""
    nodes, wanted = text.upper().split(":"), pattern.split(":")
    return len(nodes) == len(wanted) and all(
        node in (_short(word), word.upper()) for node, word in zip(nodes, wanted, strict=True)
    )


def _nr3(value: float) -> str:
    return f"{value:+.6E}"
