"""How far colours are apart, for eyes of all kinds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Colour = tuple[float, float, float]

# Viénot, Brettel and Mollon (1999), in linear RGB.
SEEN_WITHOUT = {
    "red": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, -0.0), (0.00401, -0.00401, 1.0)),
    "green": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, -0.0), (-0.02234, 0.02234, 1.0)),
}


def themes(style: str) -> dict[str, dict[str, Colour]]:
    """Read the colours of both themes from `light-dark(…, …)` in a style sheet, in linear RGB."""
    pairs = re.findall(r"--([\w-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\)", style)
    return {
        "light": {name: _linear(light) for name, light, _ in pairs},
        "dark": {name: _linear(dark) for name, _, dark in pairs},
    }


def contrast(one: Colour, other: Colour) -> float:
    """Give the contrast of WCAG 2, from 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def distance(one: Colour, other: Colour, matrix: Sequence[Colour] | None = None) -> float:
    """Give how different two colours look (CIE 1976), to everyone or to who lacks a kind of cones."""
    if matrix is not None:
        one, other = _seen(one, matrix), _seen(other, matrix)
    return sum((a - b) ** 2 for a, b in zip(_lab(one), _lab(other), strict=True)) ** 0.5


def _linear(digits: str) -> Colour:
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def _luminance(colour: Colour) -> float:
    red, green, blue = colour
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _seen(colour: Colour, matrix: Sequence[Colour]) -> Colour:
    red, green, blue = (min(1.0, max(0.0, sum(a * b for a, b in zip(row, colour, strict=True)))) for row in matrix)
    return red, green, blue


def _lab(colour: Colour) -> Colour:
    red, green, blue = colour
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    fx, fy, fz = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)
