"""Images → expression, pose, landmarks.

`FaceTracker` sees one image; `track_views` sees one moment from several calibrated cameras and triangulates; `pose`
turns landmarks over time into head poses and the person's neutral landmarks. Nothing here knows where images come from.
"""

from raflib.tracking.face import ARKIT52, FaceTracker, Observation, default_model
from raflib.tracking.multiview import Sighting, track_views
from raflib.tracking.pose import constant_size, landmarks_from_matrix, neutral_and_poses, single_view_camera

__all__ = [
    "ARKIT52",
    "FaceTracker",
    "Observation",
    "Sighting",
    "constant_size",
    "default_model",
    "landmarks_from_matrix",
    "neutral_and_poses",
    "single_view_camera",
    "track_views",
]
