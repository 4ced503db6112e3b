"""Small ICC profiles: red and blue exchanged, linear light, grayscale."""

from __future__ import annotations


def icc(*tags: tuple[bytes, bytes], space: bytes = b"RGB ") -> bytes:
    """A small ICC profile (version 2) with these tags."""
    table, data = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, body in tags:
        table += name + (start + len(data)).to_bytes(4, "big") + len(body).to_bytes(4, "big")
        data += body + bytes(-len(body) % 4)
    size = (start + len(data)).to_bytes(4, "big")
    head = size + bytes(4) + b"\x02\x10\0\0mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += b"\0\0\xf6\xd6\0\1\0\0\0\0\xd3\x2d"  # D50
    return head.ljust(128, b"\0") + len(tags).to_bytes(4, "big") + table + data


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(round(v * 65536).to_bytes(4, "big", signed=True) for v in values)


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(value * 256).to_bytes(2, "big")


RED, GREEN, BLUE = (0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139)  # of sRGB, D50
WHITE = (b"wtpt", xyz(0.9642, 1.0, 0.8249))


def rgb_profile(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], exponent: float) -> bytes:
    curves = [(name, gamma(exponent)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return icc(WHITE, (b"rXYZ", xyz(*red)), (b"gXYZ", xyz(*green)), (b"bXYZ", xyz(*blue)), *curves)


SWAPPED = rgb_profile(BLUE, GREEN, RED, 2.2)  # red and blue are exchanged
LINEAR = rgb_profile(RED, GREEN, BLUE, 1.0)
GRAY = icc(WHITE, (b"kTRC", gamma(1.0)), space=b"GRAY")
