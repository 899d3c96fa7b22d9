"""The wire tap: a pseudo-terminal for the flasher, the real port for the board, and a thread between.

A flasher never opens the board's port itself. The tap passes bytes, follows the flasher's baud, lets the guard
decide on every frame, times every command of every flasher the same way, and calls `on_link` at the tool's
first link check, so that the board gets its power just when somebody is asking for it: the ROM's window is
shorter than a tool's start-up. Until then the port's TX is held in break, for an idle-high TX back-powers a
board so that it never resets. A reset by the tool's modem lines, which a pseudo-terminal does not have, is heard
beside the bytes (`lines`) and becomes what `on_pulse` makes of it: a power-cycle. A frame that the guard stops is
answered with the chip's own refusal. `damage` makes bytes go wrong on request. `on_command` hears of each command
when the board has all of it: what a supply study waits for.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import serial

from rig.chip.client import LINK_BAUD
from rig.chip.frames import Header, Request, RequestScanner, Short
from rig.errors import BenchBlocked, RigError
from rig.uart.arrivals import Arrivals, Told
from rig.uart.damage import Damage, Damager
from rig.uart.guard import Guard, Refusal, answer
from rig.uart.lines import LineWatch
from rig.uart.port import open_port
from rig.uart.recorder import Recorder
from rig.uart.speed import LOST as _LOST
from rig.uart.speed import PortSpeed
from rig.uart.trace import Command, save_json, save_trace

_IDLE_S = 0.05
_GAP_S = 0.25  # a frame whose rest does not come in this time is over
_LINK_FRAME = Request(Short.LINK_CHECK).encode()
_QUIET_S = 0.03  # a reply that has begun goes on within less, USB adaptors' 16 ms included
_TURN_S = 3.0  # a write that a hung adaptor does not take ends sooner
_JOIN_S = 5.0  # a slow supply switches on in a second or two
_MOST_HELD = 0x10000  # bytes kept for a flasher that does not read; more is a running firmware's chatter


class Tap:
    """Between `path` (for the flasher) and `port_path` (the board). Start and stop it, or use `with`."""

    def __init__(
        self,
        port_path: str,
        guard: Guard,
        *,
        on_link: Callable[[], object] = lambda: None,
        on_refusal: Callable[[Refusal], None] = lambda refusal: None,
    ) -> None:
        self.guard = guard
        self._recorder = Recorder()
        self.error: RigError | None = None
        self._on_link = on_link
        self._on_refusal = on_refusal
        self.on_pulse: Callable[[], bool] = lambda: False  # power-cycles and arms; False: there was nothing to do
        # name, address and time.monotonic_ns of each command, once the board has all of it (see `arrivals`). In the
        # tap's thread: it must return at once, and ask nothing of the tap
        self.on_command: Told | None = None
        self._port = open_port(port_path, LINK_BAUD)
        self.port_path = port_path
        try:
            self._port.fileno()
        except OSError:
            self._port.close()
            raise BenchBlocked(
                "port-lost", f"the flash port {port_path} cannot be watched: name a serial device or socket://"
            ) from None
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        attributes = termios.tcgetattr(self._slave)
        attributes[4] = attributes[5] = termios.B115200
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._wake_r, self._wake_w = os.pipe()
        self._scanner = RequestScanner(self._header, self._end)
        self._lock = threading.RLock()  # the thread's turn, or a change of what it does
        self._armed = False
        self._held = False
        self._closing = False
        self._speed = PortSpeed(self._port, self._slave, self._wake_r)
        self._damager: Damager | None = None
        self._to_board = bytearray()  # held back on request, until the first of these moments
        self._board_at = self._host_at = 0.0
        self.arrivals = Arrivals(self._port)
        self._last_byte = 0.0
        self._to_host = bytearray()
        self._owed = bytearray()  # refusals that wait for the end of a reply, until this moment
        self._owed_at = 0.0
        self._linkers: list[threading.Thread] = []
        self._linking = threading.Lock()  # starting one of them, or calling them off; never held for long
        self._course = self._armed_in = 0  # what was armed in an earlier course may not switch on
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)
        self._lines = LineWatch(self._pulse)

    @property
    def commands(self) -> list[Command]:
        """Every command so far, in the order they passed."""
        return self._recorder.commands

    @property
    def unasked(self) -> bytes:
        """What the board said since its last command was answered, the last 4 KiB of it: nobody asked for that."""
        with self._turn():
            return bytes(self._recorder.unasked)

    @property
    def strays(self) -> int:
        """Bytes since the tap began that nobody asked for and that are no reply of a ROM."""
        with self._turn():
            return self._recorder.strays

    @property
    def lines(self) -> str:
        """Where the flasher's RTS and DTR are heard: see `rig.uart.lines.environment`."""
        return self._lines.address

    def __enter__(self) -> Tap:
        self._lines.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the port. Nothing switches on any more."""
        self._closing = True
        self.keep_off()
        self._lines.close()
        os.write(self._wake_w, b"x")
        if self._thread.is_alive():
            self._thread.join(_TURN_S)
        if self._thread.is_alive():
            return  # stuck in the driver: its descriptors must not become another file's under it
        with contextlib.suppress(*_LOST):
            self._port.reset_output_buffer()  # else closing waits for what a hung adaptor does not take
        for fd in (self._master, self._slave, self._wake_r, self._wake_w):
            os.close(fd)
        self._port.close()

    def arm(self, course: int | None = None) -> bool:
        """The board is off and discharged: hold TX low; the next link check switches it on.

        With the `course` that `hold` gave: False, and nothing done, if somebody wanted the board off since.
        """
        with self._turn() as ours:
            if not ours or course not in (None, self._course):
                return False
            termios.tcflush(self._slave, termios.TCIOFLUSH)
            self._to_host.clear()
            self._owed.clear()
            self._forget_frames()
            self._break(True)
            self._drop_input()
            self._speed.forget()
            self._armed, self._held = True, False
            self._armed_in = self._course if course is None else course
            return True

    def disarm(self) -> None:
        """Someone else switches the board on (a boot, not a link): release TX, pass bytes as they come."""
        with self._turn() as ours:
            if ours:
                self._armed = self._held = False
                self._break(False)

    def hold(self) -> int:
        """The board is going off: TX low, nothing passes, and no link check switches it on. For `arm`."""
        with self._turn():  # what can be done is done even if it does not come to be ours
            self._armed, self._held = False, True
            self.arrivals.forget()
            self._break(True)
        return self.keep_off()

    def keep_off(self) -> int:
        """No link check switches on from now until `arm`. Never waits for the port; returns when no switching on
        is under way, or it takes longer than a supply may take."""
        self._armed = False
        with self._linking:
            self._course = course = self._course + 1
            linkers, self._linkers = self._linkers, []
        deadline = time.monotonic() + _JOIN_S
        for linker in linkers:
            linker.join(max(0.0, deadline - time.monotonic()))
        return course

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """The lock, or after a while False and an error: whoever wants the board off must not wait for a port."""
        ours = self._lock.acquire(timeout=_TURN_S)
        if not ours and self.error is None:
            self.error = self._lost(serial.SerialTimeoutException())
        try:
            yield ours
        finally:
            if ours:
                self._lock.release()

    def check(self) -> None:
        """Raise what went wrong in the tap's thread (a lost port, a supply that failed to switch on)."""
        if self.error is not None:
            raise self.error
        if self._thread.ident is not None and not self._thread.is_alive() and not self._closing:
            raise BenchBlocked("crashed", "the thread between flasher and board died; its traceback is on stderr")

    def section(self, title: str) -> None:
        """What passes from here on belongs to `title`: a heading of the trace, with sums of its own."""
        with self._turn():
            self._recorder.section(title)

    def damage(self, *damages: Damage) -> None:
        """From now on do this to what passes, counting commands from here; nothing: let all pass unharmed."""
        with self._turn():
            self._damager = Damager(damages, self.guard.rule) if damages else None

    def save_trace(self, path: Path) -> None:
        """Every command so far, one JSON object a line."""
        save_json(path, self.commands)

    def write_trace(self, path: Path) -> None:
        """Every command so far and where the time went, for a person; as JSON lines if the file's name ends in
        .jsonl. Raises OSError."""
        save_trace(path, self.commands, self._recorder.sections)

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                board = self._port.fileno()
                waiting = [self._master] if self._to_host and time.monotonic() >= self._host_at else []
                ready, _, _ = select.select([self._master, board, self._wake_r], waiting, [], self._wait())
                if self._wake_r in ready:
                    return
                with self._lock:
                    if self._armed:  # a flasher that opens its port sets the speed, then asks for a link
                        self._speed.follow()
                    if self._master in ready:
                        self._from_host()
                    self._release()
                    self._arrived()
                    if not self._to_board:  # what is held back was written at the speed of then
                        self._speed.follow()
                        self._speed.be_ahead()
                    if board in ready:
                        self._from_board()
                    self._push()
                    if self._master in ready:
                        self._last_byte = time.monotonic()  # not before: what a slow write kept waiting is no gap
        except _LOST as problem:
            self.error = self._lost(problem)

    def _wait(self) -> float:
        if self._speed.watching:
            return 0.001
        now = time.monotonic()
        held: list[tuple[float, object]] = [(self._board_at, self._to_board), (self._owed_at, self._owed)]
        if (due := self.arrivals.due) is not None:
            held.append((due, True))
        if self._host_at > now:  # what is due there waits until the flasher's side takes it, and not in turns
            held.append((self._host_at, self._to_host))
        return max(0.0, min([_IDLE_S, *(at - now for at, data in held if data)]))

    def _from_host(self) -> None:
        try:
            data = os.read(self._master, 0x4000)
        except BlockingIOError:
            return
        if time.monotonic() - self._last_byte > _GAP_S and not self._to_board:
            self._forget_frames()
        if self._speed.ahead:  # it asks for something: by now it has changed its speed or will not
            self._speed.follow()
            self._speed.as_flasher()
        armed = self._armed
        passed = self._scanner.feed(data)
        if self._armed or self._held:
            return
        if armed:  # only now it is not: what stood before the link check was for nobody
            passed = passed[passed.index(_LINK_FRAME) :]
        if self._damager is not None:
            passed, hold = self._damager.to_chip(passed)
            if hold:
                self._board_at = max(self._board_at, time.monotonic() + hold)
        if self._to_board or time.monotonic() < self._board_at:
            self._to_board += passed
        else:
            self._write(passed)

    def _release(self) -> None:
        """To the board what was held back, when its time has come."""
        if self._to_board and time.monotonic() >= self._board_at:
            held, self._to_board = bytes(self._to_board), bytearray()
            self._write(held, held=True)

    def _write(self, data: bytes, *, held: bool = False) -> None:
        """To the board, now or (`held`) at last."""
        began = time.monotonic_ns()
        self._port.write(data)
        if self.on_command is not None:  # nobody wakes up for what nobody waits for
            self.arrivals.written(began, held=held)
        else:
            self.arrivals.forget_frames()

    def _arrived(self) -> None:
        try:
            self.arrivals.tell(self.on_command)
        except Exception as problem:  # noqa: BLE001 - nobody else sees what ends this thread
            text = f"what waits for a command failed: {type(problem).__name__}: {problem}"
            self.error = BenchBlocked("crashed", text)

    def _forget_frames(self) -> None:
        """What was half seen is over."""
        self._scanner.reset()
        self.arrivals.forget_frames()
        self._to_board.clear()
        self._board_at = self._host_at = 0.0
        if self._damager is not None:
            self._damager.reset()

    def _from_board(self) -> None:
        board = self._port.fileno()
        try:
            data = os.read(board, 0x4000)
        except BlockingIOError:
            return
        if not data:
            if select.select([board], [], [], 0)[0]:
                raise serial.SerialException("end of file")
            return  # arm() dropped what select had seen
        before = self._recorder.replied
        if self._recorder.reply(data, self._port.baudrate) and self._damager is not None:
            self._damager.given_up()
        if self._armed or self._held:
            return
        if self._damager is not None:
            data, hold = self._damager.to_host(data, before)
            if hold:
                self._host_at = time.monotonic() + hold
        self._to_host += data
        del self._to_host[:-_MOST_HELD]
        self._owed_at = time.monotonic() + _QUIET_S

    def _push(self) -> None:
        """To the flasher what its side takes; the rest waits."""
        if self._owed and time.monotonic() >= self._owed_at:
            self._to_host += self._owed
            self._owed.clear()
        if self._to_host and time.monotonic() >= self._host_at:
            try:
                done = os.write(self._master, self._to_host)
            except BlockingIOError:
                return
            del self._to_host[:done]

    def _header(self, header: Header) -> bool:
        refusal = self.guard.decide(header)
        midway = self._recorder.midway
        command = self._recorder.begins(header, self._port.baudrate, refusal.rule if refusal else None)
        if refusal is not None:
            self._tell(refusal)
            if not (self._armed or self._held):  # a board without power answers nothing
                self._owed += answer(header)
                self._owed_at = time.monotonic() + (_QUIET_S if midway else 0.0)  # never into a reply
            return False
        self.arrivals.begins(command.begun_ns)
        if self._damager is not None:
            self._damager.begin(command)
        if self._armed and not header.long and header.code == Short.LINK_CHECK:
            self._link_seen()
        return True

    def _tell(self, refusal: Refusal) -> None:
        try:
            self._on_refusal(refusal)
        except (RigError, OSError) as problem:  # the journal refused: not the port's fault
            self.error = problem if isinstance(problem, RigError) else BenchBlocked("crashed", str(problem))

    def _end(self, header: Header) -> None:
        self._recorder.sent()
        if not (self._armed or self._held):
            self.arrivals.ends(header)
        if not header.long and header.code == Short.SET_BAUD:
            baud, delay_ms = struct.unpack("<IB", header.head)
            self._speed.asked(baud, delay_ms / 1000)

    def _link_seen(self) -> None:
        """Power for the board, in a thread of its own: a slow supply must not hold up the link checks."""
        self._armed = False
        self._break(False)
        linker = threading.Thread(target=self._switch_on, args=(self._armed_in,), name="power-on", daemon=True)
        with self._linking:
            self._linkers.append(linker)
            linker.start()

    def _switch_on(self, course: int) -> None:
        if course != self._course or self._closing:
            return
        try:
            self._on_link()
        except RigError as problem:
            self.error = problem
        except Exception as problem:  # noqa: BLE001 - nobody else sees what ends this thread
            self.error = BenchBlocked("supply-lost", f"switching on failed: {type(problem).__name__}: {problem}")

    def _pulse(self) -> None:
        """The flasher's reset lines went on and off; it waits for what comes of it. In the watch's thread."""
        begun = time.monotonic_ns()
        try:
            name = "reset-pulse" if self.on_pulse() else "reset-pulse-while-off"
        except RigError as problem:
            self.error, name = problem, "reset-pulse"
        except Exception as problem:  # noqa: BLE001 - nobody else sees what ends this thread
            text = f"power-cycling for a tool failed: {type(problem).__name__}: {problem}"
            self.error, name = BenchBlocked("crashed", text), "reset-pulse"
        with self._turn():
            self._recorder.pulse(name, begun)

    def _drop_input(self) -> None:
        try:
            self._port.reset_input_buffer()
        except _LOST as problem:
            self.error = self._lost(problem)

    def _break(self, on: bool) -> None:
        try:
            self._port.break_condition = on
        except _LOST as problem:
            self.error = self._lost(problem)

    def _lost(self, problem: Exception) -> BenchBlocked:
        if isinstance(problem, serial.SerialTimeoutException):
            return BenchBlocked("port-lost", f"the flash port {self.port_path} takes no bytes: its adaptor hangs")
        return BenchBlocked("port-lost", f"the flash port {self.port_path} went away: {problem}")
