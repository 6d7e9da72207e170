"""Comparisons beyond the paper for one subject: an avatar for each sampler, driven by each map, and notebook 09.

Trainings run in parallel; steps of `make demo` or an earlier run are not run again. The last lines printed are
notebook 09's tables and the paths of its images.
"""

from __future__ import annotations

from demo import Step, chain, options_of, report, run_plan

from raflib.driving import DRIVES
from raflib.lab.protocol import TRAINING_FRAMES
from raflib.sampler import SAMPLERS

METHODS = [name for name, sampler in SAMPLERS.items() if not getattr(sampler, "search", "")]
"""Samplers that need no further feature space."""


def plan(subject: str, profile: str, threads: int, methods: list[str], drives: list[str]) -> list[list[list[Step]]]:
    """Stages in order: the subject, the drivers, then all avatars, then the comparison."""
    base = {"subject": subject, "profile": profile}
    return [
        [[Step("01_subjects", base)]],
        [[Step("03_coverage", {**base, "own_frames": TRAINING_FRAMES})]],
        [chain(base, method, threads, drives) for method in methods],
        [[Step("09_beyond", base, gathers=True)]],
    ]


def main(arguments: list[str] | None = None) -> int:
    """Command line: see --help."""
    parser = options_of(__doc__)
    parser.add_argument(
        "--methods", nargs="+", default=METHODS, choices=SAMPLERS, help="default all that need no further space"
    )
    parser.add_argument("--drives", nargs="+", default=list(DRIVES), choices=DRIVES, help="default all driving maps")
    options = parser.parse_args(arguments)
    half = max(1, options.cores // 2)
    stages = plan(options.subject, options.profile, half, options.methods, options.drives)
    return run_plan("beyond", stages, options.cores, lambda: report(stages[-1:], "*.md"))


if __name__ == "__main__":
    raise SystemExit(main())
