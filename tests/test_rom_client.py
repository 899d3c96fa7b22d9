"""The rig's client, and an independent one where it is installed, against the simulated ROM."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO

import pytest
import serial
from chip_on_wire import EFUSE, ChipOnWire
from waiting import until

from rig.chip.client import NoReply, Refused, Retry, RomClient, Stray, TooManyRetries, crc32
from rig.chip.frames import STATUS
from rig.chip.ids import FLASH_PARTS, chip_name
from rig.sim import firmware
from rig.sim.flash import SIZE, NorFlash

SECTOR = 0x1000
WAIT_S = 30.0  # for a reply, where a tool allows one second
LINK_CHECK = bytes.fromhex("01E0FC0100")


class Clock:
    """The client's: that of all, but a reply that was held back has been waited for after ten looks that found
    nothing on its way. So one that is only late, since this machine has much else to do, can be given its time."""

    def __init__(self, chip: ChipOnWire, port: serial.Serial) -> None:
        self.skipped = 0.0
        self.sleep = time.sleep
        self._chip, self._read, self._held = chip, port.read, False
        port.read = self.read

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped

    def says(self, reply: bytes, instead: bytes) -> bytes:
        """For `twist`: a reply that is not what it was is waited for in vain."""
        self._held = instead != reply
        return instead

    def read(self, size: int) -> bytes:
        if data := self._read(size):
            return data
        with self._chip._lock:
            vain = self._held and self._chip.wire.next_event() == float("inf")
        if vain and not (data := self._read(size)):
            self.skipped += WAIT_S / 10
        return data


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.chip.client._REPLY_S", WAIT_S)


@pytest.fixture
def clock(client: RomClient, chip: ChipOnWire, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(chip, client.port)
    monkeypatch.setattr("rig.chip.client.time", clock)
    return clock


@pytest.fixture
def chip() -> Iterator[ChipOnWire]:
    with ChipOnWire(NorFlash(random.Random(7).randbytes(SIZE))) as chip:
        yield chip


@pytest.fixture
def client(chip: ChipOnWire) -> Iterator[RomClient]:
    with closing(serial.Serial(chip.path, 115200, timeout=0.005)) as port:
        client = RomClient(port)
        client.link(60)
        yield client


def test_every_command(client: RomClient, chip: ChipOnWire) -> None:
    content = bytes(chip.flash.data)
    client.set_baud(921600)
    assert chip.rom.baud == client.port.baudrate == 921600
    assert client.read_register(0x800000) == 0x7231C
    assert client.flash_id() == b"\xeb\x60\x15"
    assert client.efuse() == EFUSE
    assert client.efuse(16, 8) == EFUSE[16:24]
    chip.flash.sr = 0x4204
    assert client.status_register(2) == 0x4204
    assert client.status_register(1) == 0x04
    client.write_status_register(0x0200, 2)
    assert chip.flash.sr == 0x0200
    assert client.read_sector(0x12000) == content[0x12000:0x13000]
    assert client.crc(5, 1001) == crc32(content[5:1006])
    assert client.crc(0, SIZE) == crc32(content)
    client.erase(0x20000, 0x10000)
    client.write_sector(0x21000, content[:SECTOR])
    assert chip.flash.read(0x20000, 0x3000) == b"\xff" * SECTOR + content[:SECTOR] + b"\xff" * SECTOR
    assert chip.flash.read(0x1F000, SECTOR) == content[0x1F000:0x20000]
    client.reboot()
    assert until(lambda: chip.resets == 1)
    assert [retry for retry in client.retries if retry.command != "set-baud"] == []  # its echo may meet a late host
    assert bytes(chip.efuse) == EFUSE
    written = [frame for frame in bytes(chip.heard).split(b"\x01\xe0\xfc") if frame[:2] == b"\x09\x01"]
    assert len(written) == 32 + 8
    assert not any(frame[6] & 2 for frame in written)  # the direction bit: never an efuse write


def test_a_lost_reply_is_asked_for_again_and_recorded(client: RomClient, chip: ChipOnWire, clock: Clock) -> None:
    answers = iter([b"\x04\x0e\x05garbage"])
    chip.twist = lambda reply: clock.says(reply, next(answers, reply))
    started = clock.monotonic()
    assert client.read_register(0x800000) == 0x7231C
    assert client.retries == [Retry("read-reg", None, "no reply")]
    assert clock.monotonic() - started >= WAIT_S
    assert clock.skipped < 1.2 * WAIT_S
    answers = iter([b""])
    client.write_sector(0x1000, bytes(SECTOR))
    assert client.retries[1:] == [Retry("write-4k", 0x1000, "no reply")]


def test_silence_ends_in_no_reply(chip: ChipOnWire) -> None:
    with closing(serial.Serial(chip.path, 115200, timeout=0.005)) as port:
        client = RomClient(port)
        chip.switch(False)
        with pytest.raises(NoReply, match=r"0\.1 s"):
            client.link(0.1)
        chip.switch(True)
        client.link(60)


def test_a_status_that_comes_twice_is_a_refusal(client: RomClient, chip: ChipOnWire) -> None:
    """Once may be a frame that was damaged on its way."""
    once = iter([True])
    chip.twist = lambda reply: reply[:10] + b"\x06" + reply[11:] if reply[2] == 0xFF and next(once, False) else reply
    assert len(client.read_sector(0)) == SECTOR
    refused = Retry("read-4k", 0, STATUS[6])
    assert client.retries == [refused]
    chip.twist = lambda reply: reply[:10] + b"\x06" + reply[11:] if reply[2] == 0xFF else reply
    with pytest.raises(Refused, match="the chip refused read-4k: parameter error or address refused") as caught:
        client.read_sector(0)
    assert caught.value.status == 6
    assert caught.value.request.name == "read-4k"
    assert client.retries == [refused] * 2


def test_a_frame_that_suffered_on_its_way_is_sent_again_and_recorded(client: RomClient, chip: ChipOnWire) -> None:
    statuses = iter([5, 4])

    def twist(reply: bytes) -> bytes:
        return reply[:10] + bytes((next(statuses, reply[10]),)) + reply[11:] if reply[2] == 0xFF else reply

    chip.twist = twist
    client.write_sector(0x1000, bytes(SECTOR))
    assert client.retries == [
        Retry("write-4k", 0x1000, "payload short"),
        Retry("write-4k", 0x1000, "packet length wrong"),
    ]
    statuses = iter([5] * 4)
    with pytest.raises(Refused, match="payload short"):
        client.write_sector(0x1000, bytes(SECTOR))


def test_surplus_link_replies_do_no_harm(client: RomClient, chip: ChipOnWire) -> None:
    surplus = bytes.fromhex("040E0501E0FC0100")
    chip.twist = lambda reply: surplus * 3 + reply + surplus
    for _ in range(3):
        assert client.read_register(0x800000) == 0x7231C
    assert client.retries == []


def test_a_reply_to_another_address_is_not_taken(client: RomClient, chip: ChipOnWire, clock: Clock) -> None:
    wrong = iter([True])

    def twist(reply: bytes) -> bytes:
        if reply[2] != 0xFF or not next(wrong, False):
            return clock.says(reply, reply)
        return clock.says(reply, reply[:11] + b"\x00\x90\x00\x00" + reply[15:])

    chip.twist = twist
    content = chip.flash.read(0x5000, SECTOR)
    assert client.read_sector(0x5000) == content
    assert [retry.address for retry in client.retries] == [0x5000]
    assert client.strays == []  # nothing was changed there


def test_a_program_that_is_answered_for_elsewhere_is_repeated(
    client: RomClient, chip: ChipOnWire, clock: Clock
) -> None:
    wrong = iter([True])

    def twist(reply: bytes) -> bytes:
        if reply[2] != 0xFF or not next(wrong, False):
            return clock.says(reply, reply)
        return clock.says(reply, reply[:11] + b"\x00\x90\x00\x00")

    chip.twist = twist
    client.write_sector(0x5000, bytes(SECTOR))
    assert client.retries == [Retry("write-4k", 0x5000, "no reply")]
    assert client.strays == [Stray("write-4k", 0x9000, SECTOR)]
    assert client.uncertain == 1


def test_an_echo_of_a_change_that_nobody_asked_for_is_kept(client: RomClient, chip: ChipOnWire) -> None:
    client.erase(0x7000, SECTOR)
    wrong = iter([True])

    def twist(reply: bytes) -> bytes:
        if reply[2] != 0xFF or not next(wrong, False):
            return reply
        return reply[:12] + b"\x00\x90\x00\x00" + reply[16:] + reply  # it erased 0x9000, says the first

    chip.twist = twist
    client.erase(0x8000, SECTOR)
    assert client.strays == [Stray("erase", 0x9000, SECTOR)]
    client.begin()
    assert (client.strays, client.retries, client.uncertain) == ([], [], 0)


@pytest.mark.parametrize("copies", [2, 3])
def test_an_answer_that_comes_twice_is_not_that_of_the_next_crc(
    client: RomClient, chip: ChipOnWire, copies: int
) -> None:
    """A CRC's reply does not say of what it is: two blank ranges of one length, and the second is not blank."""
    chip.flash.overwrite(0x3000, b"\xff" * SECTOR + b"\xfe" * SECTOR)
    chip.twist = lambda reply: reply * copies if reply[6] == 0x10 else reply
    blank = crc32(b"\xff" * SECTOR)
    assert client.crc(0x3000, SECTOR, blank) == blank
    assert client.crc(0x4000, SECTOR, blank) == crc32(b"\xfe" * SECTOR)
    assert client.crc(0x5000, SECTOR) == crc32(chip.flash.read(0x5000, SECTOR))
    assert client.crc(0x6000, SECTOR) == crc32(chip.flash.read(0x6000, SECTOR))
    assert client.retries == []


def test_a_row_of_crcs_that_agree_needs_no_fences(client: RomClient, chip: ChipOnWire) -> None:
    client.read_register(0x800000)
    before = chip.heard.count(LINK_CHECK)
    for at in range(0, 8 * SECTOR, SECTOR):
        assert client.crc(at, SECTOR, crc32(chip.flash.read(at, SECTOR)))
    assert chip.heard.count(LINK_CHECK) == before
    client.crc(0, SECTOR)  # nobody said what was expected
    client.crc(SECTOR, SECTOR)
    assert chip.heard.count(LINK_CHECK) > before


def test_an_operation_has_a_limit_of_its_own(client: RomClient, chip: ChipOnWire, clock: Clock) -> None:
    client.most_retries = 2
    turns = itertools.count()
    chip.twist = lambda reply: clock.says(reply, b"" if reply[6] == 3 and next(turns) % 2 == 0 else reply)
    for _ in range(2):
        assert client.read_register(0x800000) == 0x7231C
    with pytest.raises(TooManyRetries, match="more than 2 commands"):
        client.read_register(0x800000)
    assert len(client.retries) == 3


def test_what_makes_no_sense_is_not_sent(client: RomClient, chip: ChipOnWire) -> None:
    heard = len(chip.heard)
    with pytest.raises(ValueError, match="0x1800"):
        client.erase(0x1800, 0x1000)
    with pytest.raises(ValueError, match="0x2000 bytes"):
        client.erase(0x2000, 0x2000)
    with pytest.raises(ValueError, match="4096 bytes"):
        client.write_sector(0, b"short")
    assert len(chip.heard) == heard


def test_names_of_chips_and_flashes() -> None:
    assert chip_name(0x7231C) == "BK7231N"
    assert chip_name(0x1234) == "unknown chip 0x1234"
    assert FLASH_PARTS[b"\xeb\x60\x15"].name == "TH25Q16HB"
    assert all(part.size == 0x200000 for part in FLASH_PARTS.values())


def test_bk7231tools_takes_the_simulated_rom_for_a_chip() -> None:
    """The judge: somebody else's client, used by hobbyists on real modules."""
    judge = pytest.importorskip("bk7231tools.serial", reason="bk7231tools is not installed")
    data = random.Random(3).randbytes(0x1000) + b"\xff" * 0x1000 + random.Random(4).randbytes(0x1000)
    with ChipOnWire(NorFlash(firmware.factory_dump(1), sr=0x4004)) as chip:
        before = bytes(chip.flash.data)
        tool = judge.BK7231Serial(port=chip.path, baudrate=921600, link_timeout=3.0)
        try:
            tool.connect()
            assert tool.protocol_type.name == "FULL"
            assert tool.chip_type.name == "BK7231N"
            assert tool.flash_size == SIZE
            assert tool.flash_read_bytes(0x10000, 0x2345) == before[0x10000:0x12345]
            for _ in tool.program_flash(io=BytesIO(data), io_size=len(data), start=0x130000, crc_check=True):
                pass
        finally:
            tool.close()
        assert chip.flash.sr & 0x407C == 0
        assert bytes(chip.flash.data) == before[:0x130000] + data + before[0x133000:]
        assert chip.efuse == EFUSE
