"""What a check says, and the checks that are known by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from raflib.capture import Capture
from raflib.errors import RafError

if TYPE_CHECKING:
    from raflib.check.sample import Sample

ERROR, WARNING = "error", "warning"
"""Severities, the worst first: what makes results wrong, and what may be intended."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a capture.

    Attributes:
        kind: the name of the check that found it, such as "out_of_step".
        severity: "error" or "warning".
        text: one sentence that says what is wrong and what to do.
        figure: makes an image that shows it; None where it cannot be seen.
        image: the file of that image, once it is written.
    """

    kind: str
    severity: str
    text: str
    figure: Callable[[], Image.Image] | None = field(default=None, repr=False)
    image: Path | None = None

    def __post_init__(self) -> None:
        if self.severity not in (ERROR, WARNING):
            raise RafError(f"problem {self.kind}: severity must be {ERROR!r} or {WARNING!r}, got {self.severity!r}")


Check = Callable[[Capture, "Sample"], list[Problem]]
"""(capture, what is looked at) -> the problems that it found."""
CHECKS: dict[str, Check] = {}
"""All checks by name, in the order in which they were registered."""


def register(check: Check) -> Check:
    """Add a function `check_<name>` to `CHECKS` under its name; RafError where another function has the name."""
    name = check.__name__.removeprefix("check_")
    known = CHECKS.get(name, check)
    if (known.__module__, known.__qualname__) != (check.__module__, check.__qualname__):
        raise RafError(f"{check.__module__}: the check {name!r} exists in {known.__module__}; choose another name")
    CHECKS[name] = check
    return check
