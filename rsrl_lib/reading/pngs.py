"""A PNG without what viewers pass over: Pillow refuses pictures for their texts and profiles.

Traded away: animation; the picture is the one that a viewer without it shows.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from rsrl_lib.files import File, InputError

HEAD = b"\x89PNG\r\n\x1a\n"
CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
READ = (b"tRNS", b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt")
LARGEST = 1 << 20
"""Bytes of a text or a profile, unpacked; a larger one is passed over."""
GREY, RGB, PALETTE = 0, 2, 3


def bare(stream: BinaryIO, path: File) -> tuple[bytes, dict[str, bytes]]:
    """A PNG of header, palette, transparency and pixels alone, and its `exif`, `xmp` and
    `icc_profile`, each where it is whole and not too large.

    Raises `ValueError` where damage is in what the picture cannot do without, and `InputError` for
    one transparent colour of three times 16 bits (PNG, third edition, 5.3, 11.2, 11.3 and 13.1).
    """
    chunks = _chunks(stream)
    kind, data = next(chunks, (b"", b""))
    if kind != b"IHDR" or len(data) != 13:
        raise ValueError("broken PNG file: no header")
    width, height, depth, colour = struct.unpack_from(">LLBB", data)
    kept = [HEAD, _chunk(kind, data)]
    metadata = {}
    colours = 0
    room = 2 * height * (8 * width + 16) + LARGEST  # twice what 64 bits a pixel take
    for kind, data in chunks:
        if kind == b"PLTE":
            colours = len(data) // 3
        elif kind == b"tRNS":
            data = _transparency(data, depth, colour, colours)
            if len(data) == 6 and depth == 16:
                raise InputError(
                    f"{path} has one transparent colour of 16-bit samples, of which 8 bits are "
                    "read; save it with an alpha channel, or with 8 bits a sample."
                )
        elif kind == b"IDAT":
            room -= len(data)
            if room < 0:
                raise ValueError("broken PNG file: more data than pixels")
        else:
            metadata = _metadata(kind, data) | metadata
            continue
        if data:
            kept.append(_chunk(kind, data))
    if colour == PALETTE and not colours:
        raise ValueError("broken PNG file: no palette")
    kept.append(_chunk(b"IEND", b""))
    metadata.setdefault("exif", metadata.pop("old exif", b""))
    return b"".join(kept), metadata


def _chunk(kind: bytes, data: bytes) -> bytes:
    length = struct.pack(">L", len(data))
    return length + kind + data + _checksum(kind, data)


def _checksum(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", zlib.crc32(kind + data))


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of the chunks that are of use here, and whole."""
    stream.seek(len(HEAD))
    has_pixels = False
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">L4s", head)
        if not kind.isalpha():
            if has_pixels:
                return
            raise ValueError(f"broken PNG file: no chunk is called {kind!r}")
        is_critical = kind[:1].isupper()
        if is_critical and kind not in CRITICAL:
            raise ValueError(f"a PNG of a private kind, with {kind.decode()}")
        if not is_critical and (kind not in READ or length > LARGEST):
            stream.seek(length + 4, io.SEEK_CUR)
            continue
        data = stream.read(length)
        checksum = stream.read(4)
        if kind == b"IEND":
            return
        if checksum == _checksum(kind, data):
            yield kind, data
        elif is_critical:
            fault = "truncated" if len(checksum) < 4 else "wrong checksum"
            raise ValueError(f"broken PNG file: {fault} in {kind.decode()}")
        has_pixels |= kind == b"IDAT"


def _transparency(data: bytes, depth: int, colour: int, colours: int) -> bytes:
    """The transparent colours as Pillow takes them; nothing where they are passed over."""
    if colour == PALETTE:
        return data if len(data) <= colours else b""
    length = {GREY: 2, RGB: 6}.get(colour)
    if len(data) != length:
        return b""
    most = (1 << depth) - 1
    values = np.frombuffer(data, ">u2") & most  # the other bits say nothing
    if depth < 8:
        values = values * (255 // most)  # Pillow widens the pixels, and not this
    return values.astype(">u2").tobytes()


def _metadata(kind: bytes, data: bytes) -> dict[str, bytes]:
    """What of EXIF, XMP or a profile is in a chunk."""
    name, _, rest = data.partition(b"\0")
    try:
        if kind == b"eXIf":
            return {"exif": data}
        if kind == b"iCCP":
            return {"icc_profile": _unpacked(rest[1:])}
        if kind == b"iTXt" and name == b"XML:com.adobe.xmp":
            _language, _keyword, text = rest[2:].split(b"\0", 2)
            is_packed = rest[0]
            return {"xmp": _unpacked(text) if is_packed else text}
        # ImageMagick's, in lines of hexadecimal digits.
        if name == b"Raw profile type exif":
            text = _unpacked(rest[1:]) if kind == b"zTXt" else rest
            lines = text.decode().split("\n")
            return {"old exif": bytes.fromhex("".join(lines[3:]))}
    except (ValueError, IndexError, zlib.error):
        pass  # as viewers do
    return {}


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    whole = unpacking.decompress(data, LARGEST)
    if not unpacking.eof:
        raise ValueError("too large, or cut")
    return whole
