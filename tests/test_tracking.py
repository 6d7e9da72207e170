"""Tracking: the face tracker, triangulation, head pose. Faces come from the studio, which knows the truth."""

import itertools
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raflib import studio
from raflib.errors import RafError
from raflib.geometry import axis_angle_to_matrix
from raflib.runs import data_root
from raflib.tracking import (
    ARKIT52,
    FaceTracker,
    Observation,
    constant_size,
    default_model,
    grey,
    head_poses,
    landmarks,
    landmarks_from_matrix,
    map_head,
    neutral_face,
    single_view_camera,
    track_views,
)
from raflib.tracking import face as face_module
from raflib.tracking.face import checked_model
from raflib.tracking.multiview import triangulate_robust

SIZE = 256
FRONTAL = "222200037"
pytest.importorskip("mediapipe", reason="mediapipe is not installed")


@pytest.fixture(scope="module")
def tracker():
    with FaceTracker() as tracker:
        yield tracker


@pytest.fixture(scope="module")
def face():
    camera = next(camera for camera in studio.rig(SIZE) if camera.name == FRONTAL)
    return studio.render(studio.Identity("422"), np.zeros(52, np.float32), np.zeros(3, np.float32), camera)[0]


def rotations(pose):
    return axis_angle_to_matrix(torch.from_numpy(np.asarray(pose, np.float64)[:, :3])).numpy()


def relative_angles(found, true):
    """Angles (degrees) between the found and the true rotation from each frame to each later one."""
    found, true = rotations(found), rotations(true)
    first, second = np.array(list(itertools.combinations(range(len(found)), 2))).T
    between = (found[second] @ found[first].transpose(0, 2, 1)) @ (
        true[second] @ true[first].transpose(0, 2, 1)
    ).transpose(0, 2, 1)
    return np.degrees(np.arccos(np.clip((np.trace(between, axis1=1, axis2=2) - 1) / 2, -1, 1)))


# --- tables ---


def test_names_and_tables_are_mediapipes():
    from mediapipe.tasks.python.vision import FaceLandmarksConnections as Connections
    from mediapipe.tasks.python.vision.face_landmarker import Blendshapes

    official = [shape.name.replace("_", "").lower() for shape in sorted(Blendshapes, key=int)][:52]
    assert [name.strip("_").lower() for name in ARKIT52] == official

    def points(connections):
        return {index for connection in connections for index in (connection.start, connection.end)}

    assert set(landmarks.FACE_OVAL) == points(Connections.FACE_LANDMARKS_FACE_OVAL)
    assert set(landmarks.MOUTH) == points(Connections.FACE_LANDMARKS_LIPS)
    assert set(landmarks.LEFT_EYE) == points(Connections.FACE_LANDMARKS_LEFT_EYE)
    assert set(landmarks.RIGHT_EYE) == points(Connections.FACE_LANDMARKS_RIGHT_EYE)


def test_tables_have_no_double_points_and_rigid_ones_do_not_speak():
    for table in (landmarks.RIGID, landmarks.BLEND, landmarks.MOUTH, landmarks.EYES, landmarks.IBUG68):
        assert len(set(table)) == len(table) and min(table) >= 0 and max(table) < landmarks.COUNT
    assert not set(landmarks.RIGID) & set(landmarks.MOUTH)
    assert set(landmarks.FACE_OVAL) <= set(landmarks.BLEND) and len(landmarks.IBUG68) == 68


# --- one image ---


def test_face_is_found_the_same_way_twice(tracker, face):
    first, second = tracker(face), tracker(face)
    assert first.expression.shape == (52,) and first.points.shape == (478, 2) and first.matrix.shape == (4, 4)
    for name in ("expression", "points", "depth", "matrix"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    inside = (first.points > 0) & (first.points < SIZE)
    assert inside.all() and -200 < first.matrix[2, 3] < -10


def test_padded_rows_change_nothing(tracker, face):
    padded = np.full((SIZE, SIZE + 37, 3), 255, np.uint8)
    padded[:, :SIZE] = face
    np.testing.assert_array_equal(tracker(padded[:, :SIZE]).points, tracker(face).points)


def test_no_face_is_none(tracker):
    noise = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    assert tracker(noise) is None
    assert tracker(np.full((200, 300, 3), 128, np.uint8)) is None


def test_small_face_in_a_large_picture(tracker, face):
    x, y, side = 930, 310, 120
    picture = np.full((720, 1280, 3), 200, np.uint8)
    picture[y : y + side, x : x + side] = np.asarray(Image.fromarray(face).resize((side, side)))
    found, near = tracker(picture), tracker(face)
    assert np.abs(found.points - (near.points * side / SIZE + (x, y))).mean() < 2.0  # of 120 pixels
    # The matrix is that of the whole image: it puts the head where the landmarks are.
    focal = 720 / 2 / np.tan(np.radians(63 / 2))
    centre = np.array([640, 360]) + focal * found.matrix[:2, 3] * [1, -1] / -found.matrix[2, 3]
    assert np.abs(centre - found.points.mean(0)).max() < 20


def test_bad_images_are_refused(tracker, face):
    for bad in (face.astype(np.float32), face[..., 0], np.dstack([face, face[..., :1]])):
        with pytest.raises(RafError, match=r"uint8 \[H,W,3\]"):
            tracker(bad)


def test_video_mode_follows_and_unknown_mode_is_refused(face):
    with FaceTracker("video") as follower:
        assert follower(face) is not None and follower(face) is not None
    with pytest.raises(RafError, match="stream"):
        FaceTracker("stream")


def test_the_model_that_ships_is_the_one_that_is_read(monkeypatch, tmp_path):
    assert checked_model() == data_root() / "face_landmarker.task"
    monkeypatch.setenv("RAF_ROOT", str(tmp_path))
    with pytest.raises(RafError, match=f"{tmp_path}/data/face_landmarker.task: .* missing"):
        checked_model()


def test_model_is_checked(tmp_path):
    wrong = tmp_path / "face_landmarker.task"
    with pytest.raises(RafError, match="missing") as missing:
        FaceTracker(model_path=wrong)
    wrong.write_bytes(default_model().read_bytes()[:-1] + b"x")
    with pytest.raises(RafError, match="sha256") as altered:
        FaceTracker(model_path=wrong)
    for error in (missing, altered):
        assert (
            str(wrong) in str(error.value)
            and "data/face_landmarker.task" in str(error.value)
            and "\n" not in str(error.value)
        )


def test_images_without_pixels_are_refused_and_the_tracker_goes_on(tracker, face):
    for shape in ((0, SIZE, 3), (SIZE, 0, 3), (1, 40_000, 3)):
        with pytest.raises(RafError, match=r"uint8 \[H,W,3\].*check the crop"):
            tracker(np.zeros(shape, np.uint8))
    assert tracker(face[:1, :1]) is None and tracker(face) is not None


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGKILL, "SIGKILL.*memory"), (signal.SIGTERM, "SIGTERM.*another program")]
)
def test_a_killed_process_is_named_and_replaced(face, number, words):
    with FaceTracker() as tracker:
        assert tracker(face) is not None
        tracker._process.send_signal(number)
        tracker._process.wait()
        with pytest.raises(RafError, match=words) as error:
            tracker(face)
        assert "installation" not in str(error.value) and "\n" not in str(error.value)
        assert tracker(face) is not None


def test_one_image_that_mediapipe_fails_on_does_not_end_the_tracker(face, tmp_path, monkeypatch):
    """The replacement for MediaPipe fails on black images and dies on grey ones."""
    stand_in = Path(face_module.worker.__file__).read_text()
    stand_in = stand_in.replace("    import mediapipe as mp\n", "    from types import SimpleNamespace as Some\n")
    stand_in = stand_in.replace("landmarkers[stream].detect(image)", "fail(pixels)").replace("mp.Image(", "dict(")
    stand_in = stand_in.replace("_landmarker(model, video=bool(stream))", "None").replace("mp.ImageFormat.SRGB", "0")
    failing = """
def fail(pixels):
    if not pixels.any():
        raise ValueError("no\\nlight")
    if (pixels == 128).all():
        print("grey is too much", file=sys.stderr, flush=True)
        os.abort()
    return Some(face_landmarks=[], face_blendshapes=[], facial_transformation_matrixes=[])

"""
    stand_in = stand_in.replace("def main(", f"from types import SimpleNamespace as Some{failing}\ndef main(")
    (tmp_path / "worker.py").write_text(stand_in)
    monkeypatch.setattr(face_module.worker, "__file__", str(tmp_path / "worker.py"))
    with FaceTracker() as tracker:
        with pytest.raises(RafError, match=r"failed on an image of shape \(256, 256, 3\) \(no light\); leave it out"):
            tracker(np.zeros_like(face))
        assert tracker(face) is None
        with pytest.raises(RafError, match=r"SIGABRT.*grey is too much.*leave this image out"):
            tracker(np.full_like(face, 128))
        assert tracker(face) is None


def test_a_process_that_cannot_start_and_a_closed_tracker_say_so(face, tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.setattr(face_module.worker, "__file__", str(tmp_path / "worker.py"))
    tracker = FaceTracker()
    with pytest.raises(RafError, match=r"exit status 1, last words: .*libGL\.so\.1.*check its installation"):
        tracker(face)
    tracker.close()
    with pytest.raises(RafError, match="closed"):
        tracker(face)
    tracker.close()


# --- several views ---


def cloud(seed=0):
    """A face-like cloud of 478 points at the rig's centre (metres)."""
    return np.random.default_rng(seed).normal(0, 1, (478, 3)) * [0.04, 0.05, 0.03]


def views(points, noise=0.5, seed=1):
    cameras = studio.rig(SIZE)[3:7]
    jitter = np.random.default_rng(seed).normal(0, noise, (len(cameras), 478, 2))
    return np.stack([camera.project(points) for camera in cameras]) + jitter, cameras


def test_triangulation_leaves_out_a_bad_view():
    points = cloud()
    seen, cameras = views(points)
    good, used, error = triangulate_robust(seen, cameras)
    assert used.all() and error < 0.02 and np.linalg.norm(good - points, axis=1).mean() < 1.5e-3

    seen[2] = seen[2] * 0.7 + 60
    kept, used, _ = triangulate_robust(seen, cameras)
    assert used.tolist() == [True, True, False, True]
    assert np.linalg.norm(kept - points, axis=1).mean() < 2e-3


def test_two_views_that_disagree_give_nothing():
    seen, cameras = views(cloud())
    seen, cameras = seen[[0, 2]], [cameras[0], cameras[2]]  # side by side: heights must agree
    assert triangulate_robust(seen, cameras)[1].all()
    seen[1, :, 1] += 60
    landmarks_, used, _ = triangulate_robust(seen, cameras)
    assert landmarks_ is None and not used.any()


def observation(points, expression=0.0):
    return Observation(np.full(52, expression, np.float32), points, np.zeros(478, np.float32), np.eye(4))


def test_track_views_needs_the_frontal_view_and_another():
    seen, cameras = views(cloud())
    by_number = {view: observation(points, view / 10) for view, points in enumerate(seen)}

    def look(*numbers):
        pictures = [np.full((1, 1, 3), view if view in numbers else 99, np.uint8) for view in range(4)]
        return track_views(pictures, cameras, lambda picture: by_number.get(int(picture[0, 0, 0])), frontal=1)

    sighting = look(0, 1, 3)
    assert sighting.expression[0] == np.float32(0.1) and sighting.views.tolist() == [True, True, False, True]
    assert look(0, 2, 3) is None and look(1) is None
    by_number[1] = observation(seen[1] * 0.5 + 100)
    assert look(0, 1, 2, 3) is None  # the frontal view itself is wrong
    with pytest.raises(RafError, match="3 images, 4 cameras"):
        track_views([np.zeros((1, 1, 3), np.uint8)] * 3, cameras, by_number.get, 0)


# --- head pose ---


def performance(frames=40, seed=3):
    """Return landmarks [T,478,3] and true poses [T,6] of a talking, turning cloud."""
    generator = np.random.default_rng(seed)
    head = cloud()
    head -= head[list(landmarks.RIGID)].mean(0)
    pose = np.concatenate([generator.normal(0, 0.15, (frames, 3)), generator.normal(0, 0.01, (frames, 3))], 1)
    moving = np.repeat(head[None], frames, 0)
    moving[:, list(landmarks.MOUTH)] += generator.normal(0, 0.005, (frames, len(landmarks.MOUTH), 3))
    moving += generator.normal(0, 2e-4, moving.shape)
    return np.einsum("tij,tlj->tli", rotations(pose), moving) + pose[:, None, 3:], pose


def test_poses_of_a_known_motion():
    points, true = performance()
    detected = np.ones(40, bool)
    detected[[4, 17]] = False
    points[17] = np.nan
    neutral, pose, scale = neutral_face(points, head_poses(points, detected), 0.1)
    assert neutral.shape == (478, 3) and pose.dtype == np.float32 and (scale == np.float32(0.1)).all()
    assert np.isnan(pose[~detected]).all() and np.isfinite(pose[detected]).all()
    assert np.median(relative_angles(pose[detected], true[detected])) < 0.2
    rebuilt = np.einsum("tij,lj->tli", rotations(pose[detected]), 0.1 * neutral) + pose[detected][:, None, 3:]
    rigid = list(landmarks.RIGID)
    assert np.abs(rebuilt - points[detected])[:, rigid].max() < 2e-3
    assert np.abs(neutral[rigid].mean(0)).max() < 1e-5
    mean = rotations(pose[detected]).mean(0)
    assert np.degrees(np.arccos((np.trace(mean) / np.linalg.norm(mean, 2) - 1) / 2)) < 15  # upright on average


def test_smoothing_stays_within_a_sequence():
    points, _ = performance(frames=9)
    detected, frame = np.ones(9, bool), np.array([0, 1, 2, 3, 0, 1, 2, 5, 6])
    sequence = np.array(["a"] * 4 + ["b"] * 5)
    raw = head_poses(points, detected)
    smooth = head_poses(points, detected, sequence, frame)
    changed = np.abs(raw - smooth).max(1) > 1e-7
    assert set(np.flatnonzero(changed)) <= {1, 2, 5} and changed.any()
    np.testing.assert_allclose(smooth[1], np.median(raw[:3], axis=0), atol=1e-6)


def test_pose_needs_frames():
    with pytest.raises(RafError, match="2 frames"):
        head_poses(np.zeros((5, 478, 3)), np.array([True, True, False, False, False]))


def test_single_view_landmarks_project_back(tracker, face):
    found = tracker(face)
    points = landmarks_from_matrix(found, SIZE)
    camera = single_view_camera(SIZE, 0.0)
    np.testing.assert_allclose(camera.project(points), found.points, atol=1e-3)
    assert 0.1 < np.ptp(points[:, 0]) < 0.25  # a face is some 15 cm wide
    grown = np.stack([points, points * 1.1, points])
    steady = constant_size(grown, np.array([True, True, True]))
    np.testing.assert_allclose(camera.project(steady[1]), found.points, atol=1e-3)
    np.testing.assert_allclose(np.ptp(steady[1], axis=0), np.ptp(steady[0], axis=0), rtol=1e-6)


def test_pose_of_studio_heads_is_right(tracker):
    """Four views, three frames of every sequence: median rotation error between frames below 2 degrees from
    landmarks and below 0.6 from texture, translation below 3 mm."""
    identity = studio.Identity("422")
    shots = []
    for number, sequence in enumerate(studio.SEQUENCES):
        performed = studio.act("422", sequence)
        for third in range(3):
            frame = len(performed.actions) * (5 * third + number % 5 + 1) // 16
            shots.append((performed.actions[frame], performed.angles[frame]))
    serials = (FRONTAL, "222200036", "222200039", "222200049")
    cameras = [camera for camera in studio.rig(SIZE) if camera.name in serials]
    frontal = [camera.name for camera in cameras].index(FRONTAL)
    points, true, greys = [], [], []
    for actions, angles in shots:
        pictures = [image for image, _ in studio.render_views(identity, actions, angles, cameras)]
        sighting = track_views(pictures, cameras, tracker, frontal)
        assert sighting is not None
        points.append(sighting.landmarks)
        greys.append(np.stack([grey(picture) for picture in pictures]))
        true.append(studio.head_pose(identity, angles))
    neutral, pose, _ = neutral_face(np.array(points), head_poses(np.array(points), np.ones(len(shots), bool)), 0.1)
    true = np.array(true, np.float64)
    assert np.median(relative_angles(pose, true)) < 2, np.median(relative_angles(pose, true))
    assert np.median(relative_angles(0 * true, true)) > 4  # the heads did turn
    # The canonical origin is another point of the head than the truth's: compare where that point really goes.
    origin = np.median([r.T @ (t - s) for r, s, t in zip(rotations(true), true[:, 3:], pose[:, 3:], strict=True)], 0)
    moved = np.einsum("tij,j->ti", rotations(true), origin) + true[:, 3:]
    assert np.median(np.linalg.norm(moved - pose[:, 3:], axis=1)) < 3e-3
    assert np.isfinite(neutral).all()

    # With the head's texture the error is several times smaller, also from a rough start in images outside the map.
    pictures = np.stack(greys)
    known, unseen = np.arange(len(shots)) % 5 != 4, np.arange(len(shots)) % 5 == 4
    rough = pose.astype(np.float64)
    head_map, fine, refined = map_head(pictures[known], cameras, np.array(points)[known], rough[known], progress=False)
    assert refined.all() and np.median(relative_angles(fine, true[known])) < 0.6
    located, found = head_map.locate(pictures[unseen], rough[unseen], cameras)
    assert found.all()
    both = np.concatenate([fine, located]), np.concatenate([true[known], true[unseen]])
    assert np.median(relative_angles(*both)) < 0.5 * np.median(relative_angles(pose, true))

    # About another origin, the same corners are at the same places in the world.
    shift = np.array([0.01, -0.02, 0.03])
    elsewhere = fine.astype(np.float64)
    elsewhere[:, 3:] += rotations(fine) @ shift
    np.testing.assert_allclose(head_map.about(fine, elsewhere).points, head_map.points - shift, atol=1e-6)


def test_a_head_map_says_what_it_needs():
    cameras = [camera for camera in studio.rig(64) if camera.name in (FRONTAL, "222200036")]
    pictures, poses = np.zeros((5, 2, 64, 64), np.uint8), np.full((5, 6), np.nan)
    with pytest.raises(RafError, match="5 poses and 2 cameras need grey images"):
        map_head(pictures[:, :1], cameras, np.zeros((5, 478, 3)), poses)
    with pytest.raises(RafError, match="a face was found in 0 frames but 4 are needed"):
        map_head(pictures, cameras, np.zeros((5, 478, 3)), poses)
    face = np.random.default_rng(0).normal(0, 0.03, (5, 478, 3))
    with pytest.raises(RafError, match="no texture"):
        map_head(pictures, cameras, face, np.zeros((5, 6)))
    noise = np.random.default_rng(0).integers(0, 255, pictures.shape, np.uint8)
    _, kept, refined = map_head(noise, cameras, face, np.zeros((5, 6)))
    assert not refined.all()  # a frame without a result keeps its first pose
    np.testing.assert_array_equal(kept[~refined], 0)
