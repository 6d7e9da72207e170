"""Captures in other feature spaces: fitted once, cached by what they depend on, and named errors."""

from dataclasses import replace

import numpy as np
import pytest
from face_files import flame_parts, gnm_parts, landmark_rows, write
from synthetic import ball_capture

from raflib import studio
from raflib.capture import Truth
from raflib.errors import RafError
from raflib.lab import spaces
from raflib.lab.spaces import SPACES, in_space, with_space
from raflib.tracking import open_model, read_flame, refit
from raflib.tracking.gnm import LANDMARKS
from raflib.tracking.landmarks import GROUPS, IBUG68

T = 5
SEEN = np.arange(T) != 2  # frames with a face


@pytest.fixture(scope="module")
def capture():
    """A studio person whose exact landmarks stand for tracked ones; the face was lost in frame 2."""
    person, acted = studio.Identity("422"), studio.act("422", "FREE")
    rows = np.linspace(0, len(acted.actions) - 1, T).astype(int)
    points = np.stack([studio.landmarks(person, acted.actions[row], acted.angles[row]) for row in rows])
    lost = np.arange(T) == 2
    own = ball_capture("422", frames=4)
    return replace(
        own, cameras=studio.rig(192)[:3], detected=~lost, groups=GROUPS, neutral=np.zeros((478, 3), np.float32),
        landmarks=np.where(lost[:, None, None], np.nan, points).astype(np.float32),
        expression=np.where(lost[:, None], np.nan, own.expression).astype(np.float32),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "spaces"


def no_fit(*_, **__):
    raise AssertionError("nothing must be fitted")


@pytest.fixture
def quick(monkeypatch):
    """Features without a fit, which depend on the landmarks; the list of what was to be fitted, and how."""
    asked = []

    def features(capture, model, one_view):
        asked.append((model.feature_space, one_view))
        shown = capture.landmarks[:, 0, :1] * np.ones(len(model.expression), np.float32)
        return replace(capture, expression=shown, feature_space=model.feature_space)

    monkeypatch.setattr(spaces, "refit", features)
    return asked


def test_a_capture_keeps_features_that_it_has(capture, monkeypatch, cache):
    monkeypatch.setattr(spaces, "refit", no_fit)
    assert in_space(capture, "") is capture and in_space(capture, "arkit52", "none.pkl") is capture
    other = replace(capture, feature_space="bfm64")
    assert in_space(other, "bfm64") is other and not cache.exists()


def test_the_open_model_is_fitted_once(capture, monkeypatch, cache):
    before = capture.expression.copy()
    fitted = in_space(capture, "open42")
    assert fitted.feature_space == "open42" and fitted.expression.shape == (T, 42)
    np.testing.assert_array_equal(fitted.expression, refit(capture, open_model()).expression)
    assert fitted.detected.tolist() == [True, True, False, True, True] and np.isnan(fitted.expression[2]).all()
    assert fitted.landmarks is capture.landmarks and fitted.frames is capture.frames
    np.testing.assert_array_equal(capture.expression, before)
    monkeypatch.setattr(spaces, "refit", no_fit)
    again = in_space(capture, "open42")
    assert again.expression.dtype == np.float32 and again.expression.tobytes() == fitted.expression.tobytes()
    assert again.fingerprint == fitted.fingerprint != capture.fingerprint
    (file,) = cache.iterdir()
    assert file.name.startswith("422-open42-") and file.suffix == ".npz"
    with pytest.raises(AssertionError, match="nothing must be fitted"):  # another recording of the same name
        in_space(replace(capture, landmarks=capture.landmarks + np.float32(1e-4)), "open42")
    monkeypatch.setattr(spaces, "VERSION", spaces.VERSION + 1)
    with pytest.raises(AssertionError, match="nothing must be fitted"):
        in_space(capture, "open42")


def test_one_camera_does_not_measure_depth(capture, quick):
    single = replace(capture, cameras=capture.cameras[:1])
    in_space(single, "open42")
    truth = Truth(np.zeros((T, 52)), np.zeros((T, 3)), np.zeros((T, 6)), np.zeros((T, 478, 3)))
    in_space(replace(single, truth=truth, recording="studio"), "open42")  # tracked by more cameras than it has
    assert quick == [("open42", True), ("open42", False)]


def test_models_from_files(capture, tmp_path, quick):
    path = write(tmp_path, flame_parts(), "flame2023.pkl")
    flame = in_space(capture, "flame100", path)
    assert flame.feature_space == "flame100" and flame.expression.shape == (T, 100)
    gnm, marks = tmp_path / "gnm_head.npz", tmp_path / LANDMARKS[1]
    np.savez(gnm, **gnm_parts())
    marks.write_text(landmark_rows(IBUG68))
    assert in_space(capture, "gnm383", str(gnm)).expression.shape == (T, 383)
    assert in_space(capture, "flame100", path).expression.tobytes() == flame.expression.tobytes()
    assert quick == [("flame100", False), ("gnm383", False)]
    marks.write_text(landmark_rows(IBUG68) + "\n")  # a file beside the model, too, names the fit
    in_space(capture, "gnm383", gnm)
    (tmp_path / "copy").mkdir()
    in_space(capture, "flame100", write(tmp_path / "copy", flame_parts(), "other.pkl"))  # the same model elsewhere
    assert quick[2:] == [("gnm383", False)]


def test_a_model_of_another_space_is_refused(capture, tmp_path, monkeypatch):
    path = write(tmp_path, flame_parts())
    few = replace(spaces.FROM_FILES["flame100"], read=lambda path: read_flame(path, expression=50))
    monkeypatch.setitem(spaces.FROM_FILES, "flame100", few)
    with pytest.raises(RafError, match=rf"^{path}: its 50 expression components are the space flame50, expected flame"):
        in_space(capture, "flame100", path)


def test_a_damaged_cache_is_named(capture, cache, quick):
    in_space(capture, "open42")
    (file,) = cache.iterdir()
    content, stored = file.read_bytes(), dict(np.load(file))
    file.write_bytes(content[:-30])
    with pytest.raises(RafError, match=rf"^{file}: damaged cache .*; delete this file and try again"):
        in_space(capture, "open42")
    np.savez(file, **{**stored, "expression": stored["expression"] + np.float32(1)})
    with pytest.raises(RafError, match=rf"^{file}: damaged cache \(its content does not match its seal\)"):
        in_space(capture, "open42")
    file.unlink()
    assert in_space(capture, "open42").expression.tobytes() == stored["expression"].tobytes()
    other = replace(capture, landmarks=capture.landmarks + np.float32(1e-3))
    in_space(other, "open42")
    (second,) = set(cache.iterdir()) - {file}
    file.write_bytes(second.read_bytes())  # of another recording
    with pytest.raises(RafError, match=r"damaged cache \(its content does not match its seal\)"):
        in_space(capture, "open42")


def test_errors_name_what_is_needed(capture, tmp_path):
    known = ", ".join(SPACES)
    assert known == "open42, bfm64, flame100, gnm383"
    with pytest.raises(RafError, match=rf"features 'bfm46' are not known; choose one of {known}, .* own \(arkit52\)"):
        in_space(capture, "bfm46")
    with pytest.raises(
        RafError, match=r"bfm64 are fitted with a Basel Face Model; give `model`, the path of your file"
    ):
        in_space(capture, "bfm64")
    with pytest.raises(RafError, match=r"none\.pkl: no such file; features flame100 are fitted with a FLAME model"):
        in_space(capture, "flame100", tmp_path / "none.pkl")
    with pytest.raises(RafError, match="open42 are fitted with the model that ships; leave `model` empty"):
        in_space(capture, "open42", "mine.npz")
    few = replace(capture, landmarks=capture.landmarks[:, :66], neutral=capture.neutral[:66])
    with pytest.raises(RafError, match=r"capture 422: .*open42 are fitted to MediaPipe's 478 landmarks, .* has 66"):
        in_space(few, "open42")


def test_a_fitted_space_lies_beside_the_captures_own(capture, quick, cache):
    both = with_space(capture, "open42")
    fitted = in_space(capture, "open42")
    assert quick == [("open42", False)] and len(list(cache.iterdir())) == 1  # both are of one fit
    assert both.feature_space == "arkit52" and both.expression is capture.expression
    assert both.detected is capture.detected
    np.testing.assert_array_equal(both.spaces["open42"][SEEN], fitted.expression[SEEN])
    assert np.isnan(both.spaces["open42"][~SEEN]).all()
    assert with_space(both, "open42") is both and with_space(both, "arkit52") is both and with_space(both, "") is both
    assert both.fingerprint != capture.fingerprint
    with pytest.raises(RafError, match="features 'bfm46' are not known"):
        with_space(capture, "bfm46")


def test_features_and_a_further_space_change_places_without_a_fit(capture, monkeypatch):
    values = np.ones((T, 42), np.float32)
    values[[2, 4]] = np.nan
    both = replace(capture, spaces={"open42": values, "true52": np.zeros((T, 52), np.float32)})
    monkeypatch.setattr(spaces, "refit", no_fit)
    seen = in_space(both, "open42")
    assert seen.feature_space == "open42" and seen.expression is values and set(seen.spaces) == {"arkit52", "true52"}
    assert seen.detected.tolist() == [True, True, False, True, False]
    np.testing.assert_array_equal(seen.spaces["arkit52"], capture.expression)
    assert in_space(seen, "arkit52").expression.tobytes() == capture.expression.tobytes()


def test_further_spaces_do_not_name_a_fit(capture, quick, cache):
    fitted = in_space(capture, "open42")
    beside = in_space(replace(capture, spaces={"true52": np.zeros((T, 52), np.float32)}), "open42")
    assert len(quick) == 1 and list(beside.spaces) == ["true52"]
    assert beside.expression.tobytes() == fitted.expression.tobytes()
