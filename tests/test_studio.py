"""The open capture studio: the same people everywhere, exact cameras, actions that move their region, true poses."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from raflib import studio
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.studio import head_model as head
from raflib.studio import jit, zbuffer

SIZE = 128
STILL = np.zeros(3)
REST = np.zeros(52, np.float32)


@pytest.fixture(scope="module")
def person():
    return studio.Identity("422")


@pytest.fixture(scope="module")
def frontal():
    return next(camera for camera in studio.rig(SIZE) if camera.name == "222200037")


def actions(**values: float) -> np.ndarray:
    row = REST.copy()
    for name, value in values.items():
        row[studio.ACTIONS.index(name)] = value
    return row


def digest(person, camera) -> str:
    performance = studio.act(person.subject, "EMO-4-disgust+happy")
    image, mask = studio.render(person, performance.actions[40], performance.angles[40], camera)
    parts = (person.vertices, performance.actions, performance.angles, image, mask)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def test_kept_kernels_are_out_of_date_after_a_change_of_any_file_of_the_studio():
    from raflib.studio.shade import shade

    files = sorted(Path(jit.__file__).parent.glob("*.py"))
    assert hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest() == jit.STAMP
    stamps = {kernel._cache._cache_file._source_stamp for kernel in (shade, zbuffer.fill, zbuffer.openness)}
    assert stamps == {jit.STAMP}


def test_model_file_matches_its_provenance():
    import json

    from raflib import runs

    path = runs.data_root() / "head_model.npz"
    recorded = json.loads(path.with_suffix(".json").read_text())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == recorded["sha256"]
    assert path.stat().st_size < 6e6 and recorded["licence"].startswith("CC0")


def test_damaged_model_is_named(tmp_path):
    broken = tmp_path / "head_model.npz"
    broken.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(RafError, match=r"head_model\.npz: damaged head model"):
        head.read_head_model(broken)
    with pytest.raises(RafError, match=r"missing\.npz: no such head model"):
        head.read_head_model(tmp_path / "missing.npz")


def test_same_person_in_another_process(person, frontal):
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_studio as t; from raflib import studio;"
        "print(t.digest(studio.Identity('422'), next(c for c in studio.rig(t.SIZE) if c.name == '222200037')))"
    )
    from raflib import runs

    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=runs.project_root())
    assert done.stdout.split()[-1] == digest(person, frontal)


def test_people_differ(frontal):
    people = [studio.Identity(name) for name in ("422", "388", "B001", "E01")]
    assert studio.Identity("422") is people[0]
    skull = head.head_model().head
    for index, first in enumerate(people):
        for second in people[:index]:
            assert np.linalg.norm(first.vertices[skull] - second.vertices[skull], axis=1).mean() > 1.5e-3
            assert np.abs(first.style.mixing - second.style.mixing).sum() > 1
            pictures = [studio.render(one, REST, STILL, frontal)[0].astype(int) for one in (first, second)]
            assert np.abs(pictures[0] - pictures[1]).mean() > 4
    assert studio.Identity("074").vertices is not studio.Identity("74").vertices


def test_projected_points_land_on_their_pixels(person):
    """A camera with odd axes, offset principal point and unequal focal lengths: the silhouette is where it must be."""
    base = next(camera for camera in studio.rig(200) if camera.name == "222200045")
    intrinsic = base.intrinsic + np.array([[30, 0, 13.3], [0, -20, -21.7], [0, 0, 0]])
    camera = Camera("odd", base.extrinsic, intrinsic, 210, 180)
    pose = actions(jawOpen=0.4, mouthSmileLeft=0.5)
    angles = np.array([12.0, -6.0, 4.0])
    _, mask = studio.render(person, pose, angles, camera)
    pixels = camera.project(studio.vertices(person, pose, angles))
    inside = ((pixels >= 1) & (pixels < [209, 179])).all(1)
    seen = mask[pixels[inside, 1].astype(int), pixels[inside, 0].astype(int)]
    assert inside.sum() > 2000 and (seen > 0).mean() > 0.997
    # A shift of the principal point by whole pixels shifts the image and nothing else.
    shifted = Camera("shifted", base.extrinsic, intrinsic + np.array([[0, 0, 7], [0, 0, 0], [0, 0, 0]]), 210, 180)
    _, moved = studio.render(person, pose, angles, shifted)
    assert (moved[:, 7:] == mask[:, :-7]).mean() > 0.998


def test_several_cameras_see_what_each_sees_alone(person):
    pose, angles = actions(jawOpen=0.6, browDownLeft=1), np.array([9.0, -4.0, 2.0])
    cameras = [studio.rig(size)[place] for size, place in ((64, 2), (96, 5), (64, 15))]
    together = studio.render_views(person, pose, angles, cameras)
    assert len(together) == 3
    for camera, (image, mask) in zip(cameras, together, strict=True):
        alone = studio.render(person, pose, angles, camera)
        assert np.array_equal(image, alone[0]) and np.array_equal(mask, alone[1]), camera.name


def test_an_eye_is_where_its_points_project(person):
    camera = next(camera for camera in studio.rig(256) if camera.name == "222200039")
    image, _ = studio.render(person, actions(eyeWideLeft=1, eyeWideRight=1), STILL, camera)
    from raflib.studio.shape import eye_centres

    for centre in eye_centres(studio.vertices(person, REST, STILL)):
        front = centre + np.array([0, 0, -0.014])
        column, row = camera.project(front).astype(int)
        assert image[row - 1 : row + 2, column - 1 : column + 2].mean() < 90  # the pupil


def test_mask_agrees_with_the_picture(person, frontal):
    image, mask = studio.render(person, REST, STILL, frontal)
    assert image.dtype == mask.dtype == np.uint8 and image.shape == (SIZE, SIZE, 3) and mask.shape == (SIZE, SIZE)
    assert (image[mask == 0] == 255).all()
    assert (image[mask == 255].min(-1) < 250).mean() > 0.98
    assert 0.25 < (mask > 127).mean() < 0.8
    edge = (mask > 0) & (mask < 255)
    assert 0 < edge.mean() < 0.05
    assert mask[:3].max() == 0, "hair must not touch the top of the picture"


@pytest.mark.parametrize(
    ("name", "millimetres"), [("jawOpen", 15), ("browInnerUp", 2), ("mouthSmileLeft", 3), ("eyeBlinkRight", 4)]
)
def test_actions_move_their_region(person, name, millimetres):
    shift = (studio.vertices(person, actions(**{name: 1}), STILL) - person.vertices) * 1000
    size = np.linalg.norm(shift, axis=1)
    assert size.max() > millimetres
    most = (size > 0.5 * size.max()) & (person.vertices[:, 2] < -0.056)  # not the inside of the mouth
    x, y = person.vertices[most, 0], person.vertices[most, 1]
    if name == "jawOpen":
        assert shift[most, 1].mean() > 10 and y.mean() > 0.04  # the chin goes down
    elif name == "browInnerUp":
        assert shift[most, 1].mean() < 0 and y.mean() < -0.015
    elif name == "mouthSmileLeft":
        assert x.min() > 0 and shift[most, 1].mean() < 0
    else:
        assert x.max() < 0 and (np.abs(y + 0.012) < 0.02).all()


def test_lips_meet_and_lids_close(person):
    from raflib.studio.shape import mouth

    for name in ("422", "388", "443", "B000", "B001", "B002"):
        points = studio.Identity(name).vertices
        gap = points[mouth().lower, 1] - points[mouth().upper, 1]
        assert np.abs(gap).max() < 2.5e-3, name


def test_head_pose_is_the_heads_motion(person):
    from scipy.spatial.transform import Rotation

    assert not studio.head_pose(person, STILL).any()
    rigid = head.head_model().head
    for angles in ([25, 12, 8], [-20, -10, 5], [3, 0, -8]):
        pose = studio.head_pose(person, np.array(angles, float))
        expected = Rotation.from_rotvec(pose[:3]).apply(person.vertices) + pose[3:]
        shown = studio.vertices(person, REST, np.array(angles, float))
        assert np.abs(expected - shown)[rigid].max() < 1e-4
    turned = studio.vertices(person, REST, np.array([20.0, 0, 0]))
    nose = person.vertices[:, 2].argmin()
    assert turned[nose, 0] > person.vertices[nose, 0] + 0.01  # positive yaw: towards the subject's left
    raised = studio.vertices(person, REST, np.array([0, 10.0, 0]))
    assert raised[nose, 1] < person.vertices[nose, 1] - 0.005


def test_performances():
    assert studio.FREE in studio.SEQUENCES and studio.FREE not in studio.TRAIN_SEQUENCES
    assert len(set(studio.SEQUENCES)) == len(studio.SEQUENCES)
    for sequence in studio.SEQUENCES:
        shown = studio.act("B002", sequence)
        assert shown.actions.shape == (len(shown), 52) and shown.angles.shape == (len(shown), 3)
        assert shown.actions.dtype == shown.angles.dtype == np.float32
        assert shown.actions.min() >= 0 and shown.actions.max() <= 1
        assert (np.abs(shown.angles) <= [25, 12, 8]).all()
        assert np.abs(np.diff(shown.actions, axis=0)).max() < 0.75, f"{sequence} jumps"
        assert (300 if sequence == "FREE" else 100) <= len(shown) <= (301 if sequence == "FREE" else 150)
    slow, fast = studio.act("B002", "FREE", fps=25), studio.act("B002", "FREE", fps=50)
    np.testing.assert_array_equal(slow.actions, fast.actions[::2])
    jaw = studio.ACTIONS.index("jawOpen")
    assert studio.act("B002", "EXP-8-jaw-1").actions[:, jaw].max() > 0.5
    other = studio.act("B003", "EXP-8-jaw-1")
    assert np.abs(other.actions[:100] - studio.act("B002", "EXP-8-jaw-1").actions[:100]).max() > 0.1


def test_free_goes_beyond_training():
    """A FREE frame lies farther from the training frames than they lie from each other (true actions)."""
    rows = {name: studio.act("B004", name, fps=6).actions for name in (*studio.TRAIN_SEQUENCES, "FREE")}
    train = [rows[name] for name in studio.TRAIN_SEQUENCES]

    def nearest(queries, pool):
        return np.sqrt(((queries[:, None] - pool[None]) ** 2).sum(-1)).min(1).mean()

    others = [nearest(part, np.concatenate([p for p in train if p is not part])) for part in train]
    assert nearest(rows["FREE"], np.concatenate(train)) > 1.4 * np.mean(others)


def test_rig():
    cameras = studio.rig(96)
    assert len({camera.name for camera in cameras}) == 16
    frontal = next(camera for camera in cameras if camera.name == "222200037")
    np.testing.assert_array_equal(frontal.extrinsic[:3, :3], np.eye(3))
    for camera in cameras:
        np.testing.assert_allclose(camera.project(np.zeros(3)), [48, 48], atol=1e-9)
        yaw = np.degrees(np.arctan2(camera.centre[0], -camera.centre[2]))
        assert abs(yaw) <= 50.001
    assert any(camera.centre[1] < -0.2 for camera in cameras) and any(camera.centre[1] > 0.2 for camera in cameras)


def test_anybody_performs_what_another_person_did(frontal):
    driver, target = studio.act("443", "EMO-4-disgust+happy"), studio.Identity("388")
    pose = studio.head_pose(studio.Identity("443"), driver.angles[30])
    image, mask = studio.perform("388", driver.actions[30], pose, frontal)
    same, same_mask = studio.render(target, driver.actions[30], driver.angles[30], frontal)
    assert np.abs(image.astype(int) - same).max() <= 2 and np.abs(mask.astype(int) - same_mask).max() <= 2
    assert np.abs(image.astype(int) - studio.render(target, REST, STILL, frontal)[0]).mean() > 1
    with pytest.raises(RafError, match="pose: expected 6 finite numbers"):
        studio.perform("388", driver.actions[30], driver.angles[30], frontal)


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, -12, 8), (-20, 10, -7), (3, 12, 1)])
def test_angles_come_back_from_their_rotation(angles):
    from scipy.spatial.transform import Rotation

    from raflib.studio.motion import angles_of, rotation

    turned = Rotation.from_matrix(rotation(np.array(angles, float))).as_rotvec()
    np.testing.assert_allclose(angles_of(turned), angles, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: studio.Identity("no/such name"), "subject 'no/such name'"),
        (lambda: studio.Identity(422), "subject 422"),
        (lambda: studio.act("422", "SMILE"), "sequence 'SMILE'"),
        (lambda: studio.act("422", "FREE", fps=0), "fps 0"),
        (lambda: studio.rig(3), "rig size 3"),
        (lambda: studio.vertices(studio.Identity("422"), np.zeros(51), STILL), "actions"),
        (lambda: studio.head_pose(studio.Identity("422"), np.array([0, np.nan, 0])), "angles"),
    ],
)
def test_bad_input_is_one_line_that_names_it(call, words):
    with pytest.raises(RafError) as caught:
        call()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_every_cut_stays_on_the_head_and_leaves_the_face_free():
    """Hair is outside the head, inside the image, and in front of the eyes only with a fringe."""
    from dataclasses import replace

    from raflib.studio import hair, strands

    person = studio.Identity("422")
    for name, cut in hair.CUTS.items():
        locks = strands.grow(person.vertices, replace(cut, part=0.02), np.random.default_rng(3))
        assert (locks is None) == (name == "shaved")
        if locks is None:
            continue
        assert np.isfinite(locks.points).all() and locks.triangles.max() == len(locks.points) - 1
        np.testing.assert_allclose(np.linalg.norm(locks.normals, axis=1), 1, atol=1e-4)
        assert locks.points[:, 1].min() > -0.175 and np.abs(locks.points[:, 0]).max() < 0.2
        x, y, z = locks.points.T
        eyes = (np.abs(x) < 0.045) & (np.abs(y + 0.012) < 0.010) & (z < -0.05)
        assert eyes.sum() <= (0.02 * len(x) if cut.fringe else 0.002 * len(x)), name
        radii = strands.radius_map(person.vertices)
        sunk = np.linalg.norm(
            strands._outside(locks.points.astype(float), np.zeros(len(x)), radii) - locks.points, axis=1
        )
        assert np.quantile(sunk, 0.98) < 0.006, name


def test_haircuts_and_beards_are_worn_by_whom_they_suit():
    people = [studio.Identity(f"T{number:03d}") for number in range(60)]
    cuts = [one.haircut.name for one in people]
    assert len(set(cuts)) >= 8 and max(map(cuts.count, set(cuts))) < 20
    bearded = [one for one in people if one.look.beard > 0]
    assert 5 < len(bearded) < 40 and all(one.look.gender > 0.55 for one in bearded)


def test_folds_follow_the_actions_that_draw_them(person):
    from raflib.studio import wrinkles

    rest = wrinkles.depths(REST, 0.6)
    for name, group in (("browInnerUp", "forehead"), ("browDownLeft", "frown"), ("mouthSmileLeft", "cheekLeft")):
        gained = wrinkles.depths(actions(**{name: 1}), 0.6) - rest
        assert gained[wrinkles.GROUPS.index(group)] > 0.15, name
        other = wrinkles.GROUPS.index("cheekRight")
        assert gained[other] == 0, "one side's muscle folds its own side"
    assert (wrinkles.depths(REST, 0.84) > rest).all(), "age leaves folds"
    maps = wrinkles.maps(4).astype(int)
    groove, bulge = -maps.min((0, 1)), maps.max((0, 1))
    assert maps.shape[2] == len(wrinkles.GROUPS) and (groove > 30).all()
    assert (bulge > 5).all() and (bulge < 30).all(), "a strong bulge would shine on dark skin"


def test_the_skull_is_higher_and_the_neck_slimmer_while_the_face_stays():
    from raflib.studio import shape
    from raflib.studio.head_model import CHAIN, EYE_LEVEL, head_model

    model = head_model()
    moved, up = shape.proportions(model.mean) - model.mean, EYE_LEVEL - model.mean[:, 1]
    assert np.allclose(moved[up.argmax()], [0, -shape.CROWN, 0], atol=1e-5)
    face = model.head & (up < 0.055)
    assert face.sum() > 1000 and np.abs(moved[face]).max() < 2e-5, "landmarks and actions of the face keep their places"
    neck = (up > -0.155) & (up < -0.14) & (model.weights[:, CHAIN - 1] < 0.01)
    assert neck.any() and (np.abs(moved[neck, 0]) <= shape.SLIMMER * np.abs(model.mean[neck, 0]) + 1e-6).all()
    assert (moved[neck, 0] * model.mean[neck, 0] < 0).mean() > 0.9


@pytest.mark.parametrize("hairline", ["shaved", "crop"])
def test_the_hairline_is_a_distance_without_jumps(hairline):
    """Between neighbouring points of the scalp the distance to the hairline changes by little more than their own."""
    from raflib.studio import hair
    from raflib.studio.head_model import SKIN, head_model

    model = head_model()
    edges = model.triangles[model.part == SKIN][:, :2]
    growth = hair.growth(model.mean, hair.CUTS[hairline])
    length = np.linalg.norm(model.mean[edges[:, 0]] - model.mean[edges[:, 1]], axis=1)
    near = np.abs(growth[edges]).min(1) < 0.02
    slope = (np.abs(np.diff(growth[edges], axis=1)[:, 0]) / length)[near]
    assert near.sum() > 500 and np.quantile(slope, 0.999) < 1.6


def test_a_raised_brow_darkens_the_forehead_in_lines(frontal):
    """Folds are visible: with raised brows, forehead rows differ more from each other than without the folds."""
    from raflib.studio import wrinkles

    camera = frontal.resized(256)
    person = studio.Identity("443")
    shown = actions(browInnerUp=1, browOuterUpLeft=1, browOuterUpRight=1)
    places = camera.project(studio.vertices(person, shown, STILL))
    forehead = np.linalg.norm(head.head_model().mean - [0, -0.055, -0.1], axis=1) < 0.012
    column, row = places[forehead].mean(0).astype(int)
    patch = np.s_[row - 10 : row + 10, column - 12 : column + 12]
    folded = studio.render(person, shown, STILL, camera)[0][patch].mean((1, 2))
    mixing = wrinkles._MIXING.copy()
    try:
        wrinkles._MIXING[:] = 0
        smooth = studio.render(person, shown, STILL, camera)[0][patch].mean((1, 2))
    finally:
        wrinkles._MIXING[:] = mixing
    assert np.abs(np.diff(folded, 2)).mean() > 2 * np.abs(np.diff(smooth, 2)).mean()


def test_cloth_and_beards_stand_off_the_skin():
    from dataclasses import replace

    from raflib.studio import clothing

    person, model = studio.Identity("422"), head.head_model()
    dressed = clothing.dress(model.mean, person.look)
    moved = np.linalg.norm(dressed - model.mean, axis=1)
    below = clothing.below_neckline(model.mean, person.look)
    skin = model.part == head.SKIN
    skin_points = np.isin(np.arange(len(moved)), np.unique(model.triangles[skin]))
    torso = skin_points & (model.mean[:, 1] > 0.16)
    assert np.median(moved[torso & (below > 0.006)]) == pytest.approx(clothing.CLOTH, rel=0.05)
    assert moved[(below < -0.004) & (model.mean[:, 1] > 0.12)].max() < 1e-6
    bearded = replace(person.look, beard=1.0)
    grown = np.linalg.norm(clothing.dress(model.mean, bearded) - model.mean, axis=1)
    assert grown[(below < -0.004) & skin_points].max() == pytest.approx(clothing.BEARD, rel=0.05)
    lips = np.abs(model.mean - [0, 0.062, -0.11]).max(1) < 0.006
    assert grown[lips].max() < 1e-6, "a beard must not seal the mouth"
