"""Images → expression, pose, landmarks.

`FaceTracker` sees one image; `track_views` sees one moment from several calibrated cameras and triangulates; `pose`
turns landmarks over time into head poses and the person's neutral landmarks, and `texture` makes the poses finer.
Nothing here knows where images come from.
"""

from raflib.tracking.face import ARKIT52, FaceTracker, Observation, default_model
from raflib.tracking.multiview import Sighting, track_views
from raflib.tracking.pose import constant_size, head_poses, landmarks_from_matrix, neutral_face, single_view_camera
from raflib.tracking.texture import HeadMap, grey, map_head

__all__ = [
    "ARKIT52",
    "FaceTracker",
    "HeadMap",
    "Observation",
    "Sighting",
    "constant_size",
    "default_model",
    "grey",
    "head_poses",
    "landmarks_from_matrix",
    "map_head",
    "neutral_face",
    "single_view_camera",
    "track_views",
]
