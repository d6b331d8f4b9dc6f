"""Colour profiles by the specification ICC.1:2001-04, for files that tests make."""

import struct

__all__ = ["ADOBE_RGB", "DISPLAY_P3", "GREY", "rgb_profile"]


def _fixed(*numbers: float) -> bytes:
    """s15Fixed16Number."""
    return struct.pack(f">{len(numbers)}i", *(round(one * 65536) for one in numbers))


def _profile(space: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    text = name.encode() + b"\0"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    whole = {b"desc": described, b"cprt": b"text\0\0\0\0none\0"} | tags
    whole[b"wtpt"] = b"XYZ \0\0\0\0" + _fixed(0.9642, 1.0, 0.8249)
    place, table, content = 128 + 4 + 12 * len(whole), b"", b""
    for tag, data in whole.items():
        table += tag + struct.pack(">II", place + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    head = struct.pack(">II", 0x02400000, 0x6D6E7472) + space + b"XYZ "
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += _fixed(0.9642, 1.0, 0.8249) + bytes(48)
    size = 8 + len(head) + 4 + len(table) + len(content)
    return struct.pack(">II", size, 0) + head + struct.pack(">I", len(whole)) + table + content


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def rgb_profile(name: str, primaries: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    """A display: XYZ of the light of red, green and blue, adapted to D50, and a power law."""
    tags = {}
    for letter, light in zip(b"rgb", primaries, strict=True):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(*light)
        tags[bytes([letter]) + b"TRC"] = _curve(gamma)
    return _profile(b"RGB ", name, tags)


ADOBE_RGB = rgb_profile(
    "Adobe RGB (1998)",
    ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
    563 / 256,
)
DISPLAY_P3 = rgb_profile(
    "Display P3",
    ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)),
    2.2,
)
GREY = _profile(b"GRAY", "Gray Gamma 1.8", {b"kTRC": _curve(1.8)})
