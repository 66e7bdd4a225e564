"""Picture files of kinds that Pillow does not write, by the bytes of their standards."""

import struct
import zlib

import numpy as np

TYPES = {"B": 1, "s": 2, "H": 3, "L": 4, "U": 7, "Q": 16, "b": 6, "h": 8, "l": 9, "f": 11, "d": 12}


def ramp(samples=1, height=31, width=47):
    """Samples 0..1 (height, width, samples) that differ in every row, column and sample."""
    down, across = np.mgrid[:height, :width]
    bands = [across * (5 - n) + down * (2 + n) + 40 * n for n in range(samples)]
    return np.stack(bands, -1) / (5 * width + 4 * height + 80)


def whole(values, bits):
    """Values 0..1 as whole numbers of so many bits."""
    return np.round(values * ((1 << bits) - 1)).astype(np.uint64)


def packed(row, bits, order):
    """A row of numbers as bytes; numbers that are no whole bytes follow each other bit by bit."""
    if row.dtype.kind in "fi":
        return row.astype(f"{order}{row.dtype.kind}{bits // 8}").tobytes()
    if bits % 8 == 0:
        return row.astype(f"{order}u{bits // 8}").tobytes()
    places = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    return np.packbits((row[:, None] >> places & 1).astype(np.uint8)).tobytes()


def tiff(
    samples,
    bits,
    colour,
    *,
    kind=1,
    order="<",
    big=False,
    planes=1,
    further=(),
    deflate=False,
    rows=None,
    tile=None,
    tags=None,
):
    """A TIFF of samples (height, width, n); `tags` are more of them: number -> letter, values."""
    height, width, count = samples.shape
    parts = [samples] if planes == 1 else [samples[..., n : n + 1] for n in range(count)]
    down, across = tile or (rows or height, width)
    chunks = []
    for part in parts:
        for top in range(0, height, down):
            for left in range(0, width, across):
                block = part[top : top + down, left : left + across]
                if tile:
                    missing = [(0, down - block.shape[0]), (0, across - block.shape[1]), (0, 0)]
                    block = np.pad(block, missing, mode="edge")
                data = b"".join(packed(line.ravel(), bits, order) for line in block)
                chunks.append(zlib.compress(data) if deflate else data)
    known = {256: ("L", [width]), 257: ("L", [height]), 258: ("H", [bits] * count)}
    known |= {259: ("H", [8 if deflate else 1]), 262: ("H", [colour]), 277: ("H", [count])}
    known |= {284: ("H", [planes]), 339: ("H", [kind] * count)}
    known |= {338: ("H", list(further))} if further else {}
    places, sizes = (324, 325) if tile else (273, 279)
    known |= {322: ("L", [across]), 323: ("L", [down])} if tile else {278: ("L", [down])}
    known |= {places: ("L", [0] * len(chunks)), sizes: ("L", [len(chunk) for chunk in chunks])}
    return _file(known | (tags or {}), places, chunks, order, big)


def _file(tags, places, chunks, order, big):
    """Head, directory, values that do not fit into it, then the pixels."""
    count, pointer, room = ("Q", "Q", 8) if big else ("H", "L", 4)
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HL", 42, 8)
    head = (b"II" if order == "<" else b"MM") + head

    def stored(letter, values):
        if letter in "sU":
            return bytes(values)
        return struct.pack(f"{order}{len(values)}{letter}", *values)

    directory = struct.calcsize(order + count) + len(tags) * (12 + 8 * big) + room
    place = len(head) + directory
    outside = {tag: stored(*value) for tag, value in tags.items()}
    outside = {tag: data for tag, data in outside.items() if len(data) > room}
    pixels = place + sum(map(len, outside.values()))
    starts = pixels + np.cumsum([0, *map(len, chunks)])[:-1]
    tags = tags | {places: ("L", starts.tolist())}
    entries, values = b"", b""
    for tag, (letter, numbers) in sorted(tags.items()):
        data = stored(letter, numbers)
        if tag in outside:
            values += data
            data = struct.pack(order + pointer, place + len(values) - len(data))
        entries += struct.pack(f"{order}HH{pointer}", tag, TYPES[letter], len(numbers))
        entries += data.ljust(room, b"\0")
    number = struct.pack(order + count, len(tags))
    return head + number + entries + bytes(room) + values + b"".join(chunks)


def chunk(kind, data, checksum=None):
    """A chunk of a PNG, with a wrong checksum where one is given."""
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", checksum)


def png(samples, bits, colour, *before, after=()):
    """A PNG of whole numbers (height, width, n), with chunks before and after its pixels."""
    height, width, _ = samples.shape
    header = struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, 0)
    lines = b"".join(b"\0" + packed(line.ravel(), bits, ">") for line in samples)
    pixels = chunk(b"IDAT", zlib.compress(lines))
    parts = [chunk(b"IHDR", header), *before, pixels, *after, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
