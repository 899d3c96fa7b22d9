"""What the bench may ask of a simulated board: one JSON object each, `op` and what belongs to it.

`supply`, `supply-plan`, `sense`; `load-flash`, `reset`, `pull`, `insert`; `fault`, `heal`, `faults`; `poke`, `sag`;
`dump`, `trace`, `status`. All but the supply's two are answered, with {"error": ...} where something is wrong.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rig.sim.board import Board
from rig.sim.power import SetPoint
from rig.sim.sag import ArmedSag

Answer = dict[str, Any]


class Requests:
    """Carries them out on `board`, which has just been brought up to date."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._switched_ns = 0  # when the supply last switched its output

    def handle(self, message: dict[str, Any]) -> Answer | None:
        """Carry out one request; the answer, None where there is none."""
        name = "_do_" + str(message.get("op", "")).replace("-", "_")
        action: Callable[[dict[str, Any]], Answer | None] | None = getattr(self, name, None)
        if action is None:
            return {"error": f"unknown op {message.get('op')!r}"}
        try:
            return action(message)
        except (KeyError, ValueError, OSError) as problem:
            return {"error": f"{message['op']}: {type(problem).__name__}: {problem}"}

    # -- power -----------------------------------------------------------------------------------------

    def _do_supply(self, message: dict[str, Any]) -> None:
        rail = self.board.rail
        if message["on"] != rail.set_point.on:
            self._switched_ns = message.get("ns", time.monotonic_ns())
        rail.set_point = SetPoint(message["on"], message["volts"], message["amps"])

    def _do_supply_plan(self, message: dict[str, Any]) -> None:
        """What the supply plays by itself, each point so many seconds from now."""
        points = [(seconds, SetPoint(on, volts, amps)) for seconds, on, volts, amps in message["points"]]
        self.board.rail.plan(points)

    def _do_sense(self, message: dict[str, Any]) -> Answer:
        volts, amps, mode = self.board.faults.short_reading() or self.board.rail.sense()
        return {"volts": volts, "amps": amps, "mode": mode}

    def _do_sag(self, message: dict[str, Any]) -> Answer:
        """Pull the rail to `volts` for `seconds` of the board's time: now, or as the ROM begins its next "erase" or
        "program" (`at`), after `skip` of them."""
        sag = ArmedSag.asked(message)
        if sag.at:
            self.board.armed = sag
        else:
            self.board.rail.sag(sag.volts, sag.seconds)
        return {"ok": True}

    def _do_trace(self, message: dict[str, Any]) -> Answer:
        """The rail at `points` moments from wall time `begin` to `end`, for a witness."""
        begin, end, points = message["begin"], message["end"], message["points"]
        step = (end - begin) / max(1, points - 1)
        rail = self.board.rail
        times = [rail.model(begin + step * index) for index in range(points)]
        return {"volts": [None if math.isnan(volts) else round(volts, 5) for volts in rail.trace.sampled(times)]}

    # -- hands -----------------------------------------------------------------------------------------

    def _do_load_flash(self, message: dict[str, Any]) -> Answer:
        if self.board.rail.set_point.on:
            return {"error": "the output is on: a board is changed only with its supply off"}
        self.board.change(Path(message["flash"]).read_bytes(), bytes.fromhex(message["efuse"]))
        return {"ok": True}

    def _do_reset(self, message: dict[str, Any]) -> Answer:
        self.board.bridge_cen()
        return {"ok": True}

    def _do_pull(self, message: dict[str, Any]) -> Answer:
        self.board.faults.in_jig(False)
        return {"ok": True}

    def _do_insert(self, message: dict[str, Any]) -> Answer:
        self.board.faults.in_jig(True)
        return {"ok": True}

    def _do_poke(self, message: dict[str, Any]) -> Answer:
        """Damage: overwrite flash bytes behind the chip's back (`offset`, `data`), or make bits read wrong:
        `weak` is a list of [address, mask, probability], or with a fourth `true` for bits that no erase heals.
        `sr` is the status register, `sr_locked` whether the chip can write it."""
        flash = self.board.flash
        if "offset" in message or "weak" not in message:
            flash.overwrite(message["offset"], base64.b64decode(message["data"]))
        for address, mask, probability, *stuck in message.get("weak", []):
            flash.weaken(address, mask, probability, stuck=any(stuck))
        if "sr" in message:
            flash.sr = message["sr"]
        if "sr_locked" in message:
            flash.sr_locked = bool(message["sr_locked"])
        return {"ok": True}

    # -- faults ----------------------------------------------------------------------------------------

    def _do_fault(self, message: dict[str, Any]) -> Answer:
        self.board.faults.begin(message["name"], message.get("options", {}), self.board.now)
        return {"ok": True}

    def _do_heal(self, message: dict[str, Any]) -> Answer:
        """One fault by its name, or all of them."""
        self.board.faults.heal(message.get("name"))
        return {"ok": True}

    def _do_faults(self, message: dict[str, Any]) -> Answer:
        return {"active": self.board.faults.listed()}

    # -- what there is ---------------------------------------------------------------------------------

    def _do_dump(self, message: dict[str, Any]) -> Answer:
        Path(message["path"]).write_bytes(self.board.flash.data)
        return {"ok": True, "efuse": self.board.efuse.hex()}

    def _do_status(self, message: dict[str, Any]) -> Answer:
        board = self.board
        return {
            "phase": board.phase.value,
            "volts": board.rail.volts,
            "on": board.rail.set_point.on,
            "switched_ns": self._switched_ns,
            "resets": board.resets,
            "linked": board.rom.linked,
            "guest_s": board.soc.now_ns / 1e9,
            "erased_sectors": len(board.flash.erases),
            "sr": board.flash.sr,
            "weak_bits": board.flash.weak_bits,
            "mishaps": board.mishaps,
        }
