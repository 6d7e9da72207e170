"""Images → expression, pose, landmarks.

`FaceTracker` sees one image, and `Matte` separates the person in it from the room. `track_views` sees one moment from
several calibrated cameras and triangulates. `head_pose` turns landmarks over time into head poses and the person's
neutral landmarks; `head_map` makes the poses finer, and `torso` follows the torso in one view. Linear face models
(`open_model`, `read_basel`, `read_flame`, `read_gnm`) turn landmarks into identity, expression and pose (`fit_views`,
`fit_points`, `refit`). Nothing here knows where images come from.
"""

from raflib.tracking.basel import read_basel
from raflib.tracking.face import ARKIT52, FaceTracker, Observation, default_model
from raflib.tracking.face_model import Landmarks, LinearFaceModel, open_model, read_model, write_model
from raflib.tracking.flame import read_flame
from raflib.tracking.gnm import read_gnm
from raflib.tracking.head_map import HeadMap, grey, map_head
from raflib.tracking.head_pose import constant_size, head_poses, landmarks_from_matrix, neutral_face, single_view_camera
from raflib.tracking.matte import Matte
from raflib.tracking.morphable import FaceFit, fit_points, fit_views, refit
from raflib.tracking.multiview import Sighting, track_views

VERSION = 1
"""Raised with every change after which features, landmarks or poses of the same images come out differently. Caches of
tracks and the recipe of a bank are named by it; `tests/test_golden.py` fails when it must be raised."""

__all__ = [
    "ARKIT52",
    "FaceFit",
    "FaceTracker",
    "HeadMap",
    "Landmarks",
    "LinearFaceModel",
    "Matte",
    "Observation",
    "Sighting",
    "constant_size",
    "default_model",
    "fit_points",
    "fit_views",
    "grey",
    "head_poses",
    "landmarks_from_matrix",
    "map_head",
    "neutral_face",
    "open_model",
    "read_basel",
    "read_flame",
    "read_gnm",
    "read_model",
    "refit",
    "single_view_camera",
    "track_views",
    "write_model",
]
