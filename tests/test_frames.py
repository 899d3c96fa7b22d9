"""Frames of the download protocol: worked examples byte for byte, and streams cut anywhere with noise between."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.chip.frames import PREFIX, Header, Reply, ReplyParser, Request, RequestScanner

SECTOR = bytes(range(256)) * 16

# (request, its bytes on the wire, the reply, its bytes). Source: wire traces of bk7231tools and ltchiptool.
EXAMPLES = {
    "link": (Request(0x00), "01E0FC0100", Reply(0x01, b"\0"), "040E0501E0FC0100"),
    "baud": (
        Request(0x0F, bytes.fromhex("00100E0014")), "01E0FC060F00100E0014",
        Reply(0x0F, bytes.fromhex("00100E0014")), "040E0901E0FC0F00100E0014",
    ),
    "crc": (
        Request(0x10, bytes.fromhex("0000000000010000")), "01E0FC09100000000000010000",
        Reply(0x10, bytes.fromhex("456EBE1E")), "040E0801E0FC10456EBE1E",
    ),
    "read-reg": (
        Request(0x03, bytes.fromhex("00008000")), "01E0FC050300008000",
        Reply(0x03, bytes.fromhex("000080001C230700")), "040E0C01E0FC03000080001C230700",
    ),
    "write-reg": (
        Request(0x01, bytes.fromhex("7400800001000000")), "01E0FC09017400800001000000",
        Reply(0x01, bytes.fromhex("7400800001000000")), "040E0C01E0FC017400800001000000",
    ),
    "boot-version": (
        Request(0x11), "01E0FC0111",
        Reply(0x11, b"BK7231S_1.0.5 \0"), "040E1301E0FC11" + b"BK7231S_1.0.5 \0".hex(),
    ),
    "spi-op": (
        Request(0x0E, bytes.fromhex("9F000000"), True), "01E0FCFFF405000E9F000000",
        Reply(0x0E, bytes.fromhex("00EB6015"), True, 0), "040EFF01E0FCF406000E0000EB6015",
    ),
    "read-sr": (
        Request(0x0C, b"\x05", True), "01E0FCFFF402000C05",
        Reply(0x0C, bytes.fromhex("057C"), True, 0), "040EFF01E0FCF404000C00057C",
    ),
    "write-sr, 16 bit": (
        Request(0x0D, bytes.fromhex("010000"), True), "01E0FCFFF404000D010000",
        Reply(0x0D, bytes.fromhex("010000"), True, 0), "040EFF01E0FCF405000D00010000",
    ),
    "write-sr, 8 bit": (
        Request(0x0D, bytes.fromhex("0100"), True), "01E0FCFFF403000D0100",
        Reply(0x0D, bytes.fromhex("0100"), True, 0), "040EFF01E0FCF404000D000100",
    ),
    "erase 4K": (
        Request(0x0F, bytes.fromhex("2000102100"), True), "01E0FCFFF406000F2000102100",
        Reply(0x0F, bytes.fromhex("2000102100"), True, 0), "040EFF01E0FCF407000F002000102100",
    ),
    "erase 64K": (
        Request(0x0F, bytes.fromhex("D800000200"), True), "01E0FCFFF406000FD800000200",
        Reply(0x0F, bytes.fromhex("D800000200"), True, 0), "040EFF01E0FCF407000F00D800000200",
    ),
    "write-4k": (
        Request(0x07, bytes.fromhex("00102100") + SECTOR, True), "01E0FCFFF405100700102100" + SECTOR.hex(),
        Reply(0x07, bytes.fromhex("00102100"), True, 0), "040EFF01E0FCF40600070000102100",
    ),
    "read-4k": (
        Request(0x09, bytes.fromhex("00002000"), True), "01E0FCFFF405000900002000",
        Reply(0x09, bytes.fromhex("00002000") + SECTOR, True, 0), "040EFF01E0FCF40610090000002000" + SECTOR.hex(),
    ),
    "read-4k refused": (
        Request(0x09, bytes.fromhex("00000000"), True), "01E0FCFFF405000900000000",
        Reply(0x09, bytes.fromhex("0000000000"), True, 6), "040EFF01E0FCF4070009060000000000",
    ),
    "write-256": (
        Request(0x06, bytes.fromhex("001E2100") + SECTOR[:256], True),
        "01E0FCFFF4050106001E2100" + SECTOR[:256].hex(),
        Reply(0x06, bytes.fromhex("001E210000"), True, 0), "040EFF01E0FCF407000600001E210000",
    ),
}  # fmt: skip
SIZES = {"link": 5, "read-4k": 12, "write-4k": 4108, "baud": 10}

requests = st.one_of(
    st.builds(Request, st.integers(0, 255), st.binary(max_size=40)),
    st.builds(Request, st.integers(0, 255), st.binary(max_size=600), st.just(True)),
)
replies = st.one_of(
    st.builds(Reply, st.integers(0, 255), st.binary(max_size=40)),
    st.builds(Reply, st.integers(0, 255), st.binary(max_size=600), st.just(True), st.integers(0, 255)),
)
quiet = settings(derandomize=True, deadline=None, max_examples=150)


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    marks = [0, *sorted(point % (len(data) + 1) for point in at), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


class Decider:
    """Collects what a scanner says; refuses the codes in `refused`."""

    def __init__(self, refused: frozenset[int] = frozenset()) -> None:
        self.headers: list[Header] = []
        self.ended: list[Header] = []
        self.refused = refused
        self.scanner = RequestScanner(self._decide, self.ended.append)

    def _decide(self, header: Header) -> bool:
        self.headers.append(header)
        return header.code not in self.refused


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_examples_are_built_byte_for_byte(name: str) -> None:
    request, request_hex, reply, reply_hex = EXAMPLES[name]
    assert request.encode() == bytes.fromhex(request_hex)
    assert reply.encode() == bytes.fromhex(reply_hex)
    assert len(request.encode()) == SIZES.get(name, len(request.encode()))


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_examples_are_read_byte_for_byte(name: str) -> None:
    request, request_hex, reply, reply_hex = EXAMPLES[name]
    parser = ReplyParser()
    assert parser.feed(bytes.fromhex(reply_hex)) == [reply]
    assert parser.skipped == 0
    decider = Decider()
    assert decider.scanner.feed(bytes.fromhex(request_hex)) == bytes.fromhex(request_hex)
    (header,) = decider.headers
    assert decider.ended == [header]
    assert (header.code, header.long, header.size) == (request.code, request.long, len(request.encode()))
    assert header.head == request.payload[:9]


def test_the_scanner_knows_each_command_s_name_and_address() -> None:
    seen = {}
    for name, (request, *_) in EXAMPLES.items():
        decider = Decider()
        decider.scanner.feed(request.encode())
        seen[name] = (decider.headers[0].name, decider.headers[0].address)
    assert seen["erase 64K"] == ("erase", 0x20000)
    assert seen["write-4k"] == ("write-4k", 0x211000)
    assert seen["read-reg"] == ("read-reg", 0x800000)
    assert seen["crc"] == ("check-crc", 0)
    assert seen["link"] == ("link-check", None)
    assert seen["read-sr"] == ("read-sr", None)
    decider = Decider()
    decider.scanner.feed(Request(0x1F, b"", True).encode() + Request(0x42).encode())
    assert [header.name for header in decider.headers] == ["long-1f", "short-42"]


def test_a_frame_is_decided_on_before_its_body_is_there() -> None:
    decider = Decider()
    frame = EXAMPLES["write-4k"][0].encode()
    assert decider.scanner.feed(frame[:16]) == b""
    assert decider.headers == []
    assert decider.scanner.feed(frame[16:17]) == frame[:17]
    assert decider.headers[0].size == 4108
    assert decider.scanner.feed(frame[17:4107]) == frame[17:4107]
    assert decider.ended == []
    assert decider.scanner.feed(frame[4107:]) == frame[4107:]
    assert decider.ended == decider.headers


@quiet
@given(st.lists(replies, max_size=5), st.lists(st.binary(max_size=20)), st.lists(st.integers(0, 5000)))
def test_replies_survive_any_cutting_and_noise(wanted: list[Reply], noise: list[bytes], at: list[int]) -> None:
    clean = [bytes(byte for byte in piece if byte != 0x04) for piece in noise]
    stream = b"".join(
        (clean[index] if index < len(clean) else b"") + reply.encode() for index, reply in enumerate(wanted)
    )
    parser = ReplyParser()
    found = [reply for piece in cut(stream, at) for reply in parser.feed(piece)]
    assert found == wanted
    assert parser.skipped == sum(len(piece) for piece in clean[: len(wanted)])


@quiet
@given(replies, replies, st.integers(0, 6))
def test_reading_what_is_missing_never_takes_the_next_reply(first: Reply, second: Reply, taken: int) -> None:
    stream, parser, found = first.encode() + second.encode(), ReplyParser(), list[Reply]()
    parser.feed(stream[:taken])
    while not found:
        asked = parser.missing
        found = parser.feed(stream[taken : taken + asked])
        taken += asked
    assert found == [first]
    assert taken == len(first.encode())


def test_noise_that_looks_like_the_start_of_a_long_reply_does_not_swallow_what_follows() -> None:
    parser = ReplyParser()
    wanted = Reply(0x01, b"\0")
    assert parser.feed(bytes.fromhex("040EFF01E0FC00FFFF") + wanted.encode()) == [wanted]
    assert parser.feed(bytes.fromhex("040E04040E03") + wanted.encode()) == [wanted]


@quiet
@given(st.lists(requests, max_size=5), st.lists(st.integers(0, 3000)))
def test_requests_survive_any_cutting(wanted: list[Request], at: list[int]) -> None:
    stream = b"".join(request.encode() for request in wanted)
    decider = Decider()
    passed = b"".join(decider.scanner.feed(piece) for piece in cut(stream, at))
    assert passed == stream
    assert [(h.code, h.long, h.size) for h in decider.headers] == [(r.code, r.long, len(r.encode())) for r in wanted]
    assert decider.ended == decider.headers


@quiet
@given(
    st.lists(st.tuples(st.binary(max_size=12), requests), max_size=6),
    st.frozensets(st.integers(0, 255), max_size=120),
    st.lists(st.integers(0, 4000)),
)
def test_of_a_refused_frame_no_byte_passes_and_of_the_others_none_is_lost(
    parts: list[tuple[bytes, Request]], refused: frozenset[int], at: list[int]
) -> None:
    pieces = [(bytes(b for b in noise if b != 0x01), request) for noise, request in parts]
    stream = b"".join(noise + request.encode() for noise, request in pieces)
    wanted = b"".join(
        noise.translate(None, PREFIX) + (b"" if r.code in refused else r.encode()) for noise, r in pieces
    )
    decider = Decider(refused)
    assert b"".join(decider.scanner.feed(piece) for piece in cut(stream, at)) == wanted
    assert [header.code for header in decider.ended] == [r.code for _, r in pieces if r.code not in refused]


@quiet
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([b"\x01", b"\x01\xe0", b"\x01\xe0\xfc", b"\xe0\xfc", b"\xfc", b"\xff", b"\x00", b"\xf4"]),
            requests.map(Request.encode),
        ),
        max_size=12,
    ),
    st.frozensets(st.integers(0, 255), max_size=200),
    st.lists(st.integers(0, 2000)),
)
def test_no_refused_frame_comes_out_whatever_goes_in(
    pieces: list[bytes], refused: frozenset[int], at: list[int]
) -> None:
    decider = Decider(refused)
    passed = b"".join(decider.scanner.feed(piece) for piece in cut(b"".join(pieces), at))
    second = Decider()
    second.scanner.feed(passed)
    assert [header for header in second.headers if header.code in refused] == []


def test_a_frame_is_not_made_of_what_stands_around_a_refused_one() -> None:
    forbidden = Request(0x01, bytes.fromhex("7400800003000000")).encode()
    bait = Request(0x70, b"SEAN").encode()
    for split in (1, 2):
        decider = Decider(frozenset({0x01, 0x70}))
        passed = decider.scanner.feed(forbidden[:split] + bait + forbidden[split:])
        assert b"\x01\xe0\xfc" not in passed


@pytest.mark.parametrize("start", ["01E0FC00", "01E0FCFF01", "01E0FCFFF40000"])
def test_a_length_no_frame_has_does_not_pass_as_one(start: str) -> None:
    decider = Decider()
    passed = decider.scanner.feed(bytes.fromhex(start) + bytes(300))
    assert b"\x01\xe0\xfc" not in passed
    link = Request(0x00).encode()
    assert decider.scanner.feed(link).endswith(link)


def test_text_between_frames_passes() -> None:
    decider = Decider()
    assert decider.scanner.feed(b"reboot\r\n") == b"reboot\r\n"


def test_reset_forgets_half_a_frame() -> None:
    decider = Decider()
    link = Request(0x00).encode()
    decider.scanner.feed(EXAMPLES["write-4k"][0].encode()[:100])
    decider.scanner.reset()
    assert decider.scanner.feed(link) == link
    assert [header.name for header in decider.headers] == ["write-4k", "link-check"]
