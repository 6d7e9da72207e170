"""The paper's protocol: evaluated subjects and their drivers (RAF §5)."""

from __future__ import annotations

BENCHMARK = ("388", "422", "443", "445", "475")
EXTERNAL = tuple(f"E{number:02d}" for number in range(1, 11))
"""Subjects of the NeRSemble benchmark (paper, Appendix 0.C), and the external drivers as the studio names them."""


def unseen_drivers(subject: str) -> list[str]:
    """Drivers of `subject` (paper §5): the other benchmark subjects and ten external people."""
    return [name for name in (*BENCHMARK, *EXTERNAL) if name != subject]
