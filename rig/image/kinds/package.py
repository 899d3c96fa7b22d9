"""Over-the-air packages: Beken's RBL, and Tuya's UG, which is an RBL with 32 bytes of its own before it.

Neither is flash content: the bootloader unpacks the first, Tuya's firmware unwraps the second.
Source: the RBL header as in `rig.image.rbl`; the UG header's sums were checked on one real file.
"""

from __future__ import annotations

import struct
import zlib

from rig.image.identity import Confidence, Evidence, Identity, Kind, Statement, ascii_text, seen
from rig.image.rbl import MAGIC, SIZE, Rbl, parse

UG_MAGIC, UG_END = bytes.fromhex("55aa55aa"), bytes.fromhex("aa55aa55")
UG_SIZE = 32


def ug(data: bytes) -> Identity | None:
    """What a UG file is: its header's sums checked, and the RBL in it. None for any other file."""
    if data[:4] != UG_MAGIC or data[0x1C:UG_SIZE] != UG_END:
        return None
    version = ascii_text(data[4:16])
    length, content_sum, header_sum = struct.unpack_from(">III", data, 16)
    content = data[UG_SIZE:]
    problems = []
    if sum(data[:24]) != header_sum:
        problems.append("its UG header does not agree with its own sum")
    elif len(content) < length:
        problems.append(f"it was cut short: it has {len(content):,} of {length:,} bytes behind its header")
    elif sum(content[:length]) & 0xFFFFFFFF != content_sum:
        problems.append("its content does not agree with the sum in its UG header")
    inner = rbl(content[:length] if not problems else content)
    sums = seen(data, 16, 12, "length, sum of the content, sum of the header")
    statements = [
        Statement("kind", Kind.UG.value, Confidence.CERTAIN, (
            seen(data, 0, 4, "UG package"), seen(data, 0x1C, 4, "end of its header"))),
        Statement("version", version, Confidence.LIKELY, (seen(data, 4, 12, "version in the UG header"),)),
        Statement("sums", problems[0] if problems else "header and content agree with their sums",
                  Confidence.CERTAIN, (sums,)),
    ]  # fmt: skip
    if inner is not None:
        moved = (
            _moved(statement, UG_SIZE) for statement in inner.statements if statement.about in ("header", "sums")
        )
        statements += moved
        problems += [problem for problem in inner.problems if problem not in problems]
    return Identity(
        Kind.UG, "an over-the-air package (UG) for Tuya firmware", version=version or None,
        statements=tuple(statements), problems=tuple(problems), size=len(data),
        inside=((inner.what, inner),) if inner is not None else (),
    )  # fmt: skip


def rbl(data: bytes) -> Identity | None:
    """What an RBL file is: its header and its payload's checksum. None for a file that does not begin with one."""
    if data[:4] != MAGIC:
        return None
    header = parse(data[:SIZE])
    magic = seen(data, 0, 8, "RBL header")
    if header is None:
        problem = "its RBL header does not agree with its own CRC-32" if len(data) >= SIZE else "it was cut short"
        at_fault = seen(data, SIZE - 4, 4, "where its CRC-32 should be") if len(data) >= SIZE else magic
        statements = [
            Statement("kind", Kind.RBL.value, Confidence.LIKELY, (magic,)),
            Statement("header", problem, Confidence.CERTAIN, (at_fault,)),
        ]
        return Identity(
            Kind.RBL, "an over-the-air package (RBL)", statements=tuple(statements), problems=(problem,),
            size=len(data),
        )  # fmt: skip
    problems = _payload(data, header)
    own = seen(data, 0, 8, f"RBL header, encrypted: {header.cipher}, packed: {header.packer}")
    version = f" {header.version}" if header.version else ""
    detail = f"{header.name}{version}, {header.raw_size:,} bytes, encrypted: {header.cipher}, "
    detail += f"packed: {header.packer} to {header.packed_size:,} bytes"
    crc = seen(data, 0x4C, 4, "CRC-32 of the payload")
    return Identity(
        Kind.RBL, f"an over-the-air package (RBL) of the {header.name!r} partition",
        statements=(
            Statement("kind", Kind.RBL.value, Confidence.CERTAIN, (magic,)),
            Statement("header", detail, Confidence.CERTAIN, (own, seen(data, SIZE - 4, 4, "CRC-32 of the header"))),
            Statement("sums", problems[0] if problems else "the payload agrees with its CRC-32",
                      Confidence.CERTAIN, (crc,)),
        ),
        problems=problems, size=len(data),
    )  # fmt: skip


def _payload(data: bytes, header: Rbl) -> tuple[str, ...]:
    there = len(data) - SIZE
    if there < header.packed_size:
        return (f"it was cut short: it has {there:,} of {header.packed_size:,} bytes behind its header",)
    if zlib.crc32(data[SIZE : SIZE + header.packed_size]) != header.crc:
        return ("its payload does not agree with the CRC-32 in its header",)
    return ()


def _moved(statement: Statement, by: int) -> Statement:
    """A statement on a part of a file, told of the whole."""
    evidence = tuple(
        Evidence(item.offset + by if item.offset is not None else None, item.data, item.meaning)
        for item in statement.evidence
    )
    return Statement(statement.about, statement.value, statement.confidence, evidence)
