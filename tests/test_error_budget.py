"""The error budget: regions cover every pixel once, the parts of each split add up, planted errors are found."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from raflib import report
from raflib.capture import Capture
from raflib.errors import RafError
from raflib.evaluation import error_budget
from raflib.evaluation.error_splits import BANDS, KINDS, band_energies, kind_energies, region_errors
from raflib.evaluation.image_regions import FEATURES, NAMES, has_mask, image_regions
from raflib.geometry import Camera
from raflib.reading import read_json
from raflib.runs import write_json
from raflib.tracking.landmarks import COUNT, FACE_OVAL, GROUPS

SIZE = 128
SKIN, HAIR, CLOTH = (220, 170, 140), (40, 30, 30), (40, 80, 200)
CENTRES = {"brows": ((50, 48), (78, 48)), "eyelids": ((50, 56), (78, 56)), "lips": ((64, 82),)}
RADII = {"brows": (9, 2), "eyelids": (9, 5), "eyeballs": (6, 3), "lips": (13, 7), "mouth interior": (9, 4)}


def camera(name="front"):
    """A camera that shows the plane z = 0 at one pixel per unit."""
    extrinsic = np.eye(4)
    extrinsic[2, 3] = 1
    return Camera(name, extrinsic, np.eye(3), SIZE, SIZE)


def landmarks(mouth=1.0):
    """The 478 landmarks of a flat face, in pixels: ellipses for the features, an oval, the rest inside of it.

    `mouth` is the opening of the mouth.
    """
    points = np.tile([64.0, 68.0], (COUNT, 1))
    points[:, 0] += np.linspace(-8, 8, COUNT)
    points[list(FACE_OVAL)] = ellipse((64, 64), (32, 40), len(FACE_OVAL), -np.pi / 2)
    for name, outlines in FEATURES.items():
        centres = CENTRES[{"eyeballs": "eyelids", "mouth interior": "lips"}.get(name, name)]
        for outline, centre in zip(outlines, centres, strict=True):
            width, height = RADII[name]
            points[list(outline)] = ellipse(
                centre, (width, height * (mouth if name == "mouth interior" else 1)), len(outline)
            )
    return np.concatenate([points, np.zeros((COUNT, 1))], 1)


def ellipse(centre, radii, count, start=np.pi):
    angle = start + np.arange(count) * 2 * np.pi / count
    return np.array(centre) + np.array(radii) * np.stack([np.cos(angle), np.sin(angle)], 1)


def head():
    """(image, mask): a face under dark hair, with a neck and a blue shirt, on white."""
    x, y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    image, mask = np.full((SIZE, SIZE, 3), 255, np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    hair = np.hypot((x - 64) / 40, (y - 50) / 42) < 1
    parts = ((hair, HAIR), ((abs(x - 64) < 14) & (y > 90), SKIN), (y > 116, CLOTH))
    for where, colour in (*parts, (np.hypot((x - 64) / 32, (y - 64) / 40) < 1, SKIN)):
        image[where], mask[where] = colour, 255
    return image, mask


def label(labels, x, y):
    return NAMES[labels[y, x]]


def test_every_pixel_has_the_region_that_it_shows():
    image, mask = head()
    labels = image_regions(image, mask, landmarks(), camera())
    shown = {
        (64, 82): "mouth interior", (64, 77): "lips", (50, 56): "eyeballs", (50, 52): "eyelids", (78, 48): "brows",
        (64, 68): "rest of face", (64, 110): "ears and neck", (64, 14): "hair", (30, 50): "hair", (64, 124): "cloth",
        (24, 50): "silhouette", (23, 50): "silhouette", (5, 5): "background", (0, 124): "cloth",
    }  # fmt: skip
    assert {place: label(labels, *place) for place in shown} == shown
    sums, counts = region_errors(np.ones((SIZE, SIZE, 3)), labels)
    assert counts.sum() == SIZE**2 and np.array_equal(sums, 3 * counts)
    assert set(np.unique(labels)) == {NAMES.index(name) for name in NAMES[:11]}


def test_a_closed_mouth_has_no_interior_and_closed_eyes_are_lids():
    labels = image_regions(*head(), landmarks(mouth=0.0), camera())
    assert label(labels, 64, 82) == "lips" and NAMES.index("mouth interior") not in labels


def test_without_a_mask_or_the_landmarks_there_are_fewer_regions():
    image, mask = head()
    labels = image_regions(image, None, landmarks(), camera())
    assert label(labels, 64, 82) == "mouth interior" and label(labels, 64, 14) == label(labels, 5, 5) == "surroundings"
    assert not {"hair", "cloth", "background", "silhouette"} & {NAMES[k] for k in np.unique(labels)}
    labels = image_regions(image, mask, landmarks()[:60], camera())
    assert {NAMES[k] for k in np.unique(labels)} == {"person", "silhouette", "background"}
    assert set(np.unique(image_regions(image, None, landmarks()[:60], camera()))) == {NAMES.index("surroundings")}
    assert has_mask(mask) and not has_mask(np.full_like(mask, 255))


def test_sizes_and_lost_landmarks_are_errors():
    image, mask = head()
    with pytest.raises(RafError, match="give one size"):
        image_regions(image, mask[:-1], landmarks(), camera())
    lost = landmarks()
    lost[3] = np.nan
    with pytest.raises(RafError, match="leave this frame out"):
        image_regions(image, mask, lost, camera())


@pytest.mark.parametrize(("wavelength", "band"), [(64, "above 32"), (20, "16 to 32"), (12, "8 to 16"), (3, "below 4")])
def test_a_sinusoid_is_in_its_band_and_no_energy_is_lost(wavelength, band):
    wave = np.sin(2 * np.pi * np.arange(96) / wavelength)[None, :, None] * np.ones((80, 1, 3))
    energies = band_energies(wave)
    assert energies.sum() == pytest.approx(np.square(wave).sum())
    assert energies[BANDS.index(band)] > 0.85 * energies.sum()
    noise = np.random.default_rng(0).normal(1, 1, (33, 70, 3))
    energies = band_energies(noise)
    assert energies.sum() == pytest.approx(np.square(noise).sum())
    assert energies[0] == pytest.approx(33 * 70 * np.square(noise.mean((0, 1))).sum())


def test_kinds_of_planted_errors():
    rng = np.random.default_rng(0)
    truths = rng.uniform(0.2, 0.8, (10, 16, 12, 3))
    signs = np.tile([1.0, -1.0], 5)[:, None, None, None]
    planted = {
        "constant": truths + rng.normal(0, 0.1, truths.shape[1:]),
        "brightness": truths * (1 + 0.1 * signs),
        "varying": truths + 0.1 * signs * rng.choice([-1, 1], truths.shape),
    }
    for kind, renders in planted.items():
        energies = kind_energies(renders, truths)
        assert energies.sum() == pytest.approx(np.square(renders - truths).sum())
        assert energies[KINDS.index(kind)] > 0.85 * energies.sum(), kind


class Frames:
    """One image of the head for all frames, moved by `shifts` pixels to the right."""

    def __init__(self, shifts, masked=True):
        self.shifts, self.masked = shifts, masked

    def image(self, t, c):
        return np.roll(head()[0], self.shifts[t], 1)

    def mask(self, t, c):
        mask = np.roll(head()[1], self.shifts[t], 1)
        return mask if self.masked else np.full_like(mask, 255)


def recording(frames=6, masked=True):
    shifts = np.arange(frames) % 4
    points = landmarks() + np.stack([shifts, 0 * shifts, 0 * shifts], 1)[:, None]
    expression = np.zeros((frames, 52), np.float32)
    expression[:, 0] = shifts
    sequence = np.where(np.arange(frames) < frames // 2, "EXP-1-head", "FREE")
    return Capture(
        subject="422", feature_space="arkit52", cameras=[camera()], expression=expression,
        pose=np.zeros((frames, 6), np.float32), scale=np.ones(frames, np.float32), landmarks=points,
        neutral=landmarks(), groups=GROUPS, sequence=sequence, frame=np.arange(frames),
        detected=np.ones(frames, bool), frames=Frames(shifts, masked),
    )  # fmt: skip


class WrongMouth:
    """An avatar that is right but for a brighter mouth; its control has twice this error."""

    subject, feature_space, method, config = "422", "arkit52", "vanilla", SimpleNamespace(seed=0)
    control_expression = np.full(52, -1, np.float32)

    def render(self, expression, pose, scale, cameras):
        labels = image_regions(*head(), landmarks(), camera())
        images = []
        for row in expression:
            control = row[0] < 0
            image = head()[0] / np.float32(255)
            image[labels == NAMES.index("mouth interior")] -= 0.4 if control else 0.2
            images.append(np.roll(image, 0 if control else int(row[0]), 1))
        images[1] = np.roll(images[1], int(expression[0, 0]), 1)  # the pose, which both have
        return np.stack(images).astype(np.float32)


@pytest.fixture(scope="module")
def budget():
    return error_budget(WrongMouth(), recording(), frames=3, progress=False)


def test_a_planted_error_is_found(budget):
    assert budget.frames == {"train": 3, "free": 3} and budget.cameras == ["front"] and not budget.notes
    for table in (budget.regions, budget.bands, budget.kinds):
        sums = table.groupby("split")[["error", "control_error"]].sum()
        np.testing.assert_allclose(sums, 1)
    assert budget.regions.groupby("split")["pixels"].sum().to_list() == pytest.approx([1, 1])
    mouth = budget.regions.set_index(["split", "region"]).xs("mouth interior", level=1)
    np.testing.assert_allclose(mouth["error"], 1, atol=1e-6)
    np.testing.assert_allclose(mouth["psnr"], -20 * np.log10(0.2), atol=1e-4)
    np.testing.assert_allclose(mouth["explained"], 0.75, atol=1e-5)
    assert np.isinf(budget.regions.set_index("region").loc["hair", "psnr"]).all()


def test_an_error_that_moves_with_the_head_is_constant(budget):
    kinds = budget.kinds.set_index(["kind", "split"])["error"]
    assert (kinds["constant"] > 0.99).all()


def test_the_record_is_plain_json(budget, tmp_path):
    write_json(tmp_path / "budget.json", budget.record())
    kept = read_json(tmp_path / "budget.json")
    assert kept["frames"] == budget.frames and len(kept["regions"]) == len(budget.regions)
    assert {row["psnr"] for row in kept["regions"] if row["region"] == "cloth"} == {None}


def test_what_a_recording_cannot_tell_is_said(tmp_path):
    video = error_budget(WrongMouth(), recording(masked=False), frames=1, progress=False)
    assert "no mask" in video.notes[0] and "surroundings" in set(video.regions["region"])
    whole = recording()
    fewer = replace(
        whole, landmarks=whole.landmarks[:, :60], neutral=whole.neutral[:60], groups=dict.fromkeys(GROUPS, (0, 30, 59))
    )
    other = error_budget(WrongMouth(), fewer, frames=1, progress=False)
    assert "60 landmarks" in other.notes[0] and set(other.regions["region"]) == {"person", "silhouette", "background"}
    for kind in (video, other):
        assert kind.regions.groupby("split")["error"].sum().to_list() == pytest.approx([1, 1])
    assert np.asarray(report.error_budget_figure(other).convert("L")).std() > 5


def test_other_peoples_captures_and_unfinished_runs_are_refused():
    run = WrongMouth()
    with pytest.raises(RafError, match="but the capture of 443"):
        error_budget(run, replace(recording(), subject="443"))
    run.finished = False
    with pytest.raises(RafError, match=r"error budget: run 422/.* after some of all steps; train it to the end"):
        error_budget(run, recording())


def test_the_figure_is_as_wide_as_a_notebook(budget, tmp_path):
    image = report.error_budget_figure(budget, tmp_path / "budget.png")
    assert (tmp_path / "budget.png").stat().st_size > 0 and 1200 < image.width < 1500
