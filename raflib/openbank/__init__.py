"""The open expression bank: 200 random frames of each of 415 studio people, as the tracker reads them (paper §4.2, §5),
with features in two spaces: the tracker's scores and the open face model's coefficients.

`build` makes it on all cores, and a killed build goes on where it was. `verify` renders and tracks a few rows again.
`face` and `faces` return images of rows.
"""

from raflib.openbank.building import FRAMES, PEOPLE
from raflib.openbank.faces import face, faces
from raflib.openbank.filming import names
from raflib.openbank.guarded import build
from raflib.openbank.tracker import (
    pose_errors,
    tracker_agreement,
    true_actions,
    true_motion,
    with_true_actions,
    with_truth,
)
from raflib.openbank.verifying import TOLERANCE, Verification, verify

__all__ = [
    "FRAMES",
    "PEOPLE",
    "TOLERANCE",
    "Verification",
    "build",
    "face",
    "faces",
    "names",
    "pose_errors",
    "tracker_agreement",
    "true_actions",
    "true_motion",
    "verify",
    "with_true_actions",
    "with_truth",
]
