"""Archives: what a zip or gzip file holds, found without trusting any size it claims.

Looked into are at most a few files and a few MiB of them, each unpacked no further than a flash is large, so that a
file made to unpack without end ends here. An archive in an archive is named and not opened.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

from rig.image.identity import Confidence, Evidence, Identity, Kind, Statement, seen

Identify = Callable[[bytes], Identity]

GZIP = b"\x1f\x8b\x08"
_ZIP_FILE, _ZIP_ENTRY, _ZIP_END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_MOST_FILES = 8  # looked into
_MOST_NAMES = 64  # read of a zip's directory
_MOST_BYTES = 4 << 20  # unpacked in all: the largest flash seen on these modules
_MOST_PACKED = 16 << 20  # read in all: entries of a zip may share their bytes
_NAME_SHOWN = 60


def archive(data: bytes, identify: Identify | None) -> Identity | None:
    """What an archive holds, each file told by `identify` (None: it is not opened); None for any other file."""
    of, files = _files(data)
    if not of:
        return None
    inside: list[tuple[str, Identity]] = []
    problems: list[str] = []
    if files is not None and identify is not None:
        for name, content, problem in files(data, _MOST_BYTES):
            if problem:
                problems.append(problem)
            if content:
                inside.append((name, identify(content)))
    held = ", ".join(f"{name}: {found.what}" for name, found in inside[:2])
    more = f" and {len(inside) - 2} more" if len(inside) > 2 else ""
    what = f"a {of} archive: unpack it first" + (f" (it holds {held}{more})" if held else "")
    evidence = (seen(data, 0, 4, of),)
    statements = [Statement("kind", Kind.ARCHIVE.value, Confidence.CERTAIN, evidence)]
    statements += [
        Statement("inside", f"{name}: {found.what}", Confidence.CERTAIN, (Evidence(None, b"", f"{name} unpacked"),))
        for name, found in inside
    ]
    return Identity(
        Kind.ARCHIVE, what, statements=tuple(statements), problems=tuple(problems), size=len(data),
        inside=tuple(inside),
    )  # fmt: skip


Files = Callable[[bytes, int], Iterator[tuple[str, bytes, str | None]]]


def _files(data: bytes) -> tuple[str, Files | None]:
    if data[:3] == GZIP:
        return "gzip", _gzip
    if data[:4] in (_ZIP_FILE, _ZIP_END):
        return "zip", _zip
    if data[:4] == b"7z\xbc\xaf":
        return "7z", None
    if data[:4] == b"Rar!":
        return "rar", None
    return ("xz", None) if data[:6] == b"\xfd7zXZ\0" else ("", None)


def _gzip(data: bytes, room: int) -> Iterator[tuple[str, bytes, str | None]]:
    content, whole = _inflated(data, room, 31)
    name = "its content"
    if len(data) > 10 and data[3] & 8:
        start = 10
        if data[3] & 4 and len(data) > 12:
            start += 2 + struct.unpack_from("<H", data, 10)[0]
        name = _name(data[start : start + 255].split(b"\0")[0])
    yield name, content, None if whole or len(content) >= room else "it was cut short, or is damaged"


def _zip(data: bytes, room: int) -> Iterator[tuple[str, bytes, str | None]]:
    budget = _MOST_PACKED
    for count, (name, start, method, packed, size) in enumerate(_entries(data)):
        budget -= packed
        if count >= _MOST_FILES or room <= 0 or budget < 0:
            return
        head = data[start : start + 30]
        if len(head) < 30 or head[:4] != _ZIP_FILE:
            yield name, b"", f"{name} in it is damaged"
            continue
        lengths = struct.unpack_from("<HH", head, 26)
        start += 30 + sum(lengths)
        stored = data[start : start + packed]
        content, whole = stored[:room], len(stored) == packed
        if method == 8:
            content, whole = _inflated(stored, room, -15)
        elif method:
            content = b""
        room -= len(content)
        damaged = method in (0, 8) and room > 0 and not (whole and len(content) == size)
        yield name, content, f"{name} in it is damaged or cut short" if damaged else None


def _entries(data: bytes) -> Iterator[tuple[str, int, int, int, int]]:
    """(name, offset of its header, method, packed size, size) out of the directory at the end, files only."""
    end = data.rfind(_ZIP_END, max(0, len(data) - 66_000))
    if end < 0 or len(data) < end + 22:
        return
    at = struct.unpack_from("<I", data, end + 16)[0]
    for _ in range(_MOST_NAMES):
        head = data[at : at + 46]
        if len(head) < 46 or head[:4] != _ZIP_ENTRY:
            return
        method = struct.unpack_from("<H", head, 10)[0]
        packed, size = struct.unpack_from("<II", head, 20)
        name, extra, note = struct.unpack_from("<HHH", head, 28)
        title = _name(data[at + 46 : at + 46 + name])
        if not title.endswith("/"):
            yield title, struct.unpack_from("<I", head, 42)[0], method, packed, size
        at += 46 + name + extra + note


def _inflated(packed: bytes, room: int, bits: int) -> tuple[bytes, bool]:
    """(what unpacks, at most `room` bytes; whether it came to its own end)."""
    unpacker = zlib.decompressobj(bits)
    content = bytearray()
    try:
        # In portions: what comes before damage is still of use.
        for start in range(0, len(packed), 1 << 16):
            content += unpacker.decompress(packed[start : start + (1 << 16)], room - len(content))
            if unpacker.eof or len(content) >= room:
                break
    except zlib.error:
        return bytes(content), False
    return bytes(content), unpacker.eof


def _name(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace").replace("\\", "/")
    shown = "".join(char if char.isprintable() else "?" for char in text)[-_NAME_SHOWN:]
    return shown or "a file without a name"
