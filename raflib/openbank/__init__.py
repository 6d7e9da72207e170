"""The open expression bank: 200 random frames of each of 415 studio people, as the tracker reads them (paper §4.2, §5).

`build` makes it, on all cores and with nothing lost when it is killed; `verify` films a few rows of one again; `face`
and `faces` show rows.
"""

from raflib.openbank.building import FRAMES, PEOPLE
from raflib.openbank.faces import face, faces
from raflib.openbank.guarded import build
from raflib.openbank.tracker import pose_errors, tracker_agreement, true_actions
from raflib.openbank.verifying import TOLERANCE, Verification, verify

__all__ = [
    "FRAMES",
    "PEOPLE",
    "TOLERANCE",
    "Verification",
    "build",
    "face",
    "faces",
    "pose_errors",
    "tracker_agreement",
    "true_actions",
    "verify",
]
