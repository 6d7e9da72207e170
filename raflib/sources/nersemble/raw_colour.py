"""Colour correction of NeRSemble's cameras: polynomials in linear light, one matrix a camera.

An image value v in [0, 1] becomes linear by the sRGB curve (IEC 61966-2-1). The T monomials p(R, G, B) of a list by
Cheung et al. 2004 ("A comparative study of the characterisation of colour cameras by means of neural networks and
polynomial transforms") are multiplied by the camera's matrix M [3,T], and the result passes the curve backwards:
``v' = encode(M p(decode(v)))``, cut to [0, 1]. The official kit does the same; it rounds down, here is rounded to the
nearest level.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

_SECOND = "R G B RG RB GB"
_SQUARES = f"{_SECOND} RR GG BB"
_HALF_CUBIC = f"{_SQUARES} RGB RRG GGB BBR"
_CUBIC = f"{_HALF_CUBIC} RRB GGR BBG RRR GGG BBB"
MONOMIALS = {
    len(words.split()): tuple(words.split())
    for words in (
        "R G B", "R G B 1", "R G B RGB 1", f"{_SECOND} 1", f"{_SECOND} RGB 1", f"{_SQUARES} 1", f"{_SQUARES} RGB 1",
        f"{_SQUARES} RGB RRR GGG BBB 1", f"{_HALF_CUBIC} RRR GGG BBB", f"{_HALF_CUBIC} RRR GGG BBB 1", _CUBIC,
        f"{_CUBIC} 1", f"{_CUBIC} RRGB RGGB RGBB",
        f"{_CUBIC} RRRG RRRB GGGR GGGB BBBR BBBG RRGB RGGB RGBB RRGG RRBB GGBB RRRR GGGG BBBB 1",
    )
}  # fmt: skip
"""The monomials in order, by their number T: "RRG" stands for R² G and "1" for the constant."""
PIXELS = 2**18
"""Pixels that are corrected at a time; it bounds the memory."""
_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)


def corrected(image: UInt8[np.ndarray, "H W 3"], matrix: Float[np.ndarray, "3 T"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image with corrected colours; T is one of the keys of `MONOMIALS`."""
    matrix = matrix.astype(np.float32)
    pixels = image.reshape(-1, 3)
    parts = [_corrected(pixels[start : start + PIXELS], matrix) for start in range(0, len(pixels), PIXELS)]
    return np.concatenate(parts).reshape(image.shape)


def _corrected(pixels: UInt8[np.ndarray, "N 3"], matrix: Float[np.ndarray, "3 T"]) -> UInt8[np.ndarray, "N 3"]:
    channel = dict(zip("RGB", _LINEAR[pixels.T], strict=True))
    linear = np.zeros((3, len(pixels)), np.float32)
    for word, weights in zip(MONOMIALS[matrix.shape[1]], matrix.T, strict=True):
        monomial = np.ones(len(pixels), np.float32)
        for letter in word.replace("1", ""):
            monomial = monomial * channel[letter]
        linear += weights[:, None] * monomial
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** np.float32(1 / 2.4) - 0.055)
    return (encoded * 255 + 0.5).astype(np.uint8).T
