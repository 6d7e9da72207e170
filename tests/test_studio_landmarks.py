"""True landmarks of studio heads: on the mesh, moving with it, and where the tracker looks for them."""

import numpy as np
import pytest

from raflib import studio
from raflib.errors import RafError
from raflib.runs import data_root
from raflib.studio.head_model import EYE, INDEX, SKIN, head_model
from raflib.studio.true_landmarks import SHIPPED, binding, read_binding
from raflib.tracking.landmarks import EYES, IRISES, LEFT_EYE, LIPS_INNER, NOSE_BRIDGE, RIGHT_EYE

STILL = np.zeros(3)


def shown(**actions):
    values = np.zeros(52, np.float32)
    for name, value in actions.items():
        values[INDEX[name]] = value
    return values


@pytest.fixture(scope="module")
def person():
    return studio.Identity("D01")


def test_landmarks_are_points_of_the_mesh(person):
    bound, model = binding(), head_model()
    corners = bound.used[bound.corners]
    triangles = {tuple(sorted(triangle)) for triangle in model.triangles[np.isin(model.part, (SKIN, EYE))].tolist()}
    assert all(tuple(sorted(corner)) in triangles for corner in corners.tolist())
    assert (bound.shares >= -1e-6).all() and np.abs(bound.shares.sum(1) - 1).max() < 1e-5
    assert np.isin(corners[list(IRISES)], model.points_of(EYE)).all()
    assert not np.isin(corners[: min(IRISES)], model.points_of(EYE)).any()
    for actions, angles in ((shown(), STILL), (shown(jawOpen=0.7, mouthSmileLeft=0.4), np.array([20.0, -10, 5]))):
        mesh = studio.vertices(person, actions, angles)
        wanted = np.einsum("lc,lcd->ld", bound.shares, mesh[corners])
        np.testing.assert_allclose(studio.landmarks(person, actions, angles), wanted, atol=1e-6)


def test_landmarks_move_with_what_they_are_on(person):
    rest = studio.landmarks(person, shown(), STILL)

    def moved(**actions):
        return np.linalg.norm(studio.landmarks(person, shown(**actions), STILL) - rest, axis=1) * 1000

    upper, lower = LIPS_INNER[1:10], LIPS_INNER[11:]
    assert moved(jawOpen=0.6)[list(lower)].min() > 2 * moved(jawOpen=0.6)[list(upper)].max()
    lids = moved(eyeBlinkLeft=1.0)
    assert lids[list(LEFT_EYE[3:6])].min() > 4 and lids[list(RIGHT_EYE)].max() < 0.1
    gaze = moved(eyeLookOutLeft=0.8, eyeLookInRight=0.8)
    assert gaze[[468, 473]].min() > 2 and gaze[list(NOSE_BRIDGE)].max() < 0.1 and np.median(gaze[list(EYES)]) < 1


def test_left_mirrors_right():
    """On the mean head, which is symmetric, every landmark has a partner within a millimetre on the other side."""
    bound, model = binding(), head_model()
    points = np.einsum("lc,lcd->ld", bound.shares, model.mean[bound.used[bound.corners]])
    distance = np.linalg.norm(points[:, None] - points[None] * [-1, 1, 1], axis=2)
    assert distance.min(1).max() < 1e-3


def test_wrong_input_is_named(person, tmp_path):
    with pytest.raises(RafError, match="actions"):
        studio.landmarks(person, np.zeros(51), STILL)
    with pytest.raises(RafError, match="angles"):
        studio.landmarks(person, shown(), np.zeros(2))
    path = tmp_path / "landmarks.npz"
    with pytest.raises(RafError, match=r"landmarks\.npz: no such landmark binding"):
        read_binding(path)
    path.write_bytes((data_root() / SHIPPED).read_bytes()[:3000])
    with pytest.raises(RafError, match=r"landmarks\.npz: damaged landmark binding"):
        read_binding(path)
    with np.load(data_root() / SHIPPED) as file:
        stored = {name: file[name] for name in file.files}
    np.savez(path, **(stored | {"points": 12}))
    with pytest.raises(RafError, match="12 points but the head model has"):
        read_binding(path)


@pytest.mark.slow
def test_the_tracker_sees_them_there(person):
    """In the frontal image of a smile, tracked points are within a few pixels of the true ones."""
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    from raflib.tracking import FaceTracker

    actions = shown(mouthSmileLeft=0.8, mouthSmileRight=0.8)
    camera = next(camera for camera in studio.rig(256) if camera.name == "222200037")
    with FaceTracker() as tracker:
        seen = tracker(studio.render(person, actions, STILL, camera)[0]).points
    true = camera.project(studio.landmarks(person, actions, STILL))
    assert np.median(np.linalg.norm(seen - true, axis=1)) < 3
