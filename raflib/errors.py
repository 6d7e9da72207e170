"""`RafError`, the error that users read, and checks of arguments that many rooms share.

Every check of user input in `raflib` raises `RafError` with a single line that names the file or value, says what was
expected and what to do about it. Programming errors keep Python's own exceptions.
"""

import math
import operator
from numbers import Real
from typing import SupportsIndex

import numpy as np
from jaxtyping import Float


class RafError(ValueError):
    """Bad input: one line naming the thing, what was expected and what to do."""

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))

    def _render_traceback_(self) -> list[str]:
        """IPython shows this line instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def whole(what: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int, be it Python's, numpy's or torch's. RafError naming `what` for anything else or out of range.

    Booleans are no counts, and neither are floats, not even 2.0.
    """
    try:
        number = None
        if isinstance(value, SupportsIndex) and not isinstance(value, (bool, np.bool_)):
            number = operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        low = "" if least is None else f" of at least {least}" if most is None else f" from {least}"
        high = "" if most is None else f" to {most}" if least is not None else f" of at most {most}"
        raise RafError(f"{what} is {value!r}, expected a whole number{low}{high}")
    return number


def finite(what: str, value: object, least: float | int = -math.inf, most: float | int = math.inf) -> float | int:
    """`value`, a number from `least` to `most`, as Python's own.

    RafError naming `what` for other numbers, NaN, infinity and what is no number.
    """
    if isinstance(value, Real) and not isinstance(value, (bool, np.bool_)):
        number = value if type(value) is int else float(value)
        if math.isfinite(number) and least <= number <= most:
            return number
    ends = [f"at {word} {end:g}" for word, end in (("least", least), ("most", most)) if math.isfinite(end)]
    raise RafError(f"{what} is {value!r}, expected a finite number{' of ' if ends else ''}{' and '.join(ends)}")


def numbers(what: str, values: object, kinds: str = "fiu") -> np.ndarray:
    """`values` as an array of numbers, its type unchanged.

    RafError naming `what` where they are text, booleans, masked, of unequal lengths or no numbers at all. `kinds` are
    numpy's letters of the types allowed.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise RafError(f"{what} has masked entries; leave these rows out")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RafError(f"{what} must be an array of numbers ({error})") from None
    if array.dtype.kind not in kinds and array.size:
        wanted = "whole numbers" if "f" not in kinds else "numbers"
        raise RafError(f"{what} must be {wanted}, got an array of type {array.dtype}; convert it first")
    return array


def as_float32(what: str, values: object) -> Float[np.ndarray, "..."]:
    """`values` as a float32 array; those beyond its range become infinite. RafError as `numbers` raises it."""
    with np.errstate(over="ignore"):
        return numbers(what, values).astype(np.float32)
