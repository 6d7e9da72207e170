"""The matte of a person: compared with the studio's true alpha before rooms of known colours."""

import numpy as np
import pytest

from raflib import studio
from raflib.errors import RafError
from raflib.images import lanczos
from raflib.runs import data_root
from raflib.tracking import Matte
from raflib.tracking import matte as matte_module
from raflib.tracking.matte import _filled, _one_person, checked_model, without_gaps

pytest.importorskip("cv2", reason="OpenCV is not installed")

SIZE = 192


@pytest.fixture(scope="module")
def matte():
    return Matte()


@pytest.fixture(scope="module")
def people():
    """(on white, true alpha in 0..1) of a person who turns the head, in eight frames."""
    camera = next(camera for camera in studio.rig(SIZE) if camera.name == "222200037")
    identity, performed = studio.Identity("443"), studio.act("443", "FREE")
    rows = np.linspace(0, len(performed.actions) - 1, 8).astype(int)
    poses = [studio.head_pose(identity, angles) for angles in performed.angles[rows]]
    poses = [pose + np.float32([0, 0, 0, 0.05 * k - 0.18, 0, 0]) for k, pose in enumerate(poses)]
    shown = [studio.perform("443", performed.actions[t], p, camera) for t, p in zip(rows, poses, strict=True)]
    return [(image / 255, alpha / 255) for image, alpha in shown]


def room_of(side):
    """A blurred room of `side` × `side` colours, [SIZE,SIZE,3] in 0..1."""
    coarse = np.random.default_rng(0).integers(40, 200, (side, side, 3), dtype=np.uint8)
    return lanczos(coarse, SIZE, SIZE) / 255


@pytest.fixture(scope="module")
def room():
    return room_of(5)


def before(person, room):
    """The person in the room, as a camera with some noise sees them."""
    image, alpha = person
    seen = image - (1 - alpha[..., None]) * (1 - room)
    seen = seen + np.random.default_rng(1).normal(0, 0.01, seen.shape)
    return np.rint(255 * np.clip(seen, 0, 1)).astype(np.uint8)


@pytest.mark.parametrize(("side", "finer", "helps"), [(5, 0.7, 0.98), (24, 0.95, 0.9)])
def test_the_outline_is_finer_than_the_network_and_the_room_helps(matte, people, side, finer, helps):
    """In a calm room the outline is much finer; where colours change often, the known room helps more."""
    room = room_of(side)
    seen = [before(person, room) for person in people]
    learned = matte.empty_room(seen)
    known = np.isfinite(learned).all(-1)
    assert 0.3 < known.mean() < 0.9 and np.abs(learned - room)[known].mean() < 0.01
    errors = []
    for (white, alpha), image in zip(people, seen, strict=True):
        coarse = matte.coarse(image)
        alone, found = matte.cut_out(image)
        helped, better = matte.cut_out(image, learned)
        np.testing.assert_array_equal(matte.alpha(image, learned), better)
        plain = coarse[..., None] * image / 255 + 1 - coarse[..., None]
        errors.append(
            [np.abs(mask - alpha).mean() for mask in (coarse, found / 255, better / 255)]
            + [np.square(made - white).mean() for made in (plain, alone / 255, helped / 255)]
        )
    coarse, found, better, plain, alone, helped = np.mean(errors, 0)
    assert found < finer * coarse and better < helps * found
    assert alone < max(finer, 0.99) * plain and helped < helps * alone


def test_gaps_of_the_room_are_closed(matte, people, room):
    learned = matte.empty_room([before(person, room) for person in people])
    whole, known = without_gaps(learned), np.isfinite(learned).all(-1)
    np.testing.assert_array_equal(whole[known], np.rint(255 * learned[known]))
    edge = whole[1:][known[:-1] & ~known[1:]].astype(int) - whole[:-1][known[:-1] & ~known[1:]]
    assert np.abs(edge).mean() < 10, "colours continue at the gap's border"


def test_another_exposure_changes_little(matte, people, room):
    seen = [before(person, room) for person in people]
    learned = matte.empty_room(seen)
    brighter = np.clip(1.1 * seen[2].astype(float), 0, 255).astype(np.uint8)
    change = np.abs(matte.alpha(brighter, learned).astype(int) - matte.alpha(seen[2], learned))
    assert change.mean() < 2


def test_a_camera_that_moves_has_no_room(matte, people, room):
    shifted = [before(person, np.roll(room, 12 * k, 1)) for k, person in enumerate(people)]
    assert matte.empty_room(shifted) is None
    assert matte.empty_room([before(people[0], room)] * 2) is None, "too few frames"


def test_without_a_person_the_image_is_white(matte):
    image, alpha = matte.cut_out(np.full((64, 64, 3), 90, np.uint8))
    assert (image == 255).all() and not alpha.any()


def test_objects_are_left_out_and_small_holes_are_filled():
    alpha = np.zeros((256, 256), np.float32)
    alpha[60:256, 80:180] = 1
    alpha[120:130, 184:190] = 1  # a lock of hair
    alpha[20:50, 220:250] = 1  # an object in the room
    person = _one_person(alpha)
    assert person[125, 187] == 1 and not person[20:50, 220:250].any()
    alpha[100:110, 100:110] = 0.2  # an earring
    alpha[240:, 100:110] = 0  # open to the image's border
    colour = np.full((256, 256, 3), 0.5, np.float32)
    filled = _filled(alpha, colour, None)
    assert filled[105, 105] == 1 and filled[250, 105] == 0 and filled[10, 10] == 0
    assert _filled(alpha, colour, np.full_like(colour, np.nan))[105, 105] == 1
    assert _filled(alpha, colour, colour + 0.02)[105, 105] == np.float32(0.2), "the room is seen through it"
    assert _filled(alpha, colour, colour + 0.3)[105, 105] == 1


def test_the_model_is_checked(tmp_path, monkeypatch):
    assert checked_model() == data_root() / "selfie_segmentation.tflite"
    monkeypatch.setattr(matte_module, "data_root", lambda: tmp_path)
    with pytest.raises(RafError, match=r"selfie_segmentation\.tflite: the segmentation model is missing; .*restore"):
        Matte()
    other = tmp_path / "other.tflite"
    other.write_bytes(b"x")
    with pytest.raises(RafError, match=r"other\.tflite: not the expected model"):
        Matte(other)


def test_wrong_images_are_named(matte):
    for wrong in (np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(RafError, match=r"Matte: expected uint8 \[H,W,3\]"):
            matte.alpha(wrong)
    with pytest.raises(RafError, match=r"Matte: the room is \(4, 4, 3\)"):
        matte.alpha(np.zeros((8, 8, 3), np.uint8), np.zeros((4, 4, 3), np.float32))
