"""The monocular benchmark's zip file, written for a person whose held-out sequences have tracks alone."""

import io
import zipfile

import av
import numpy as np
import pytest
from nersemble_layout import CODES, performed, write_mono
from test_nersemble_benchmark import Steady

import raflib
from raflib.errors import RafError
from raflib.report import submission
from raflib.sources.nersemble import mono
from raflib.sources.nersemble.driving import driving_of, submission_cameras
from raflib.sources.nersemble.mono import TRACKS
from raflib.sources.nersemble.names import MONO_HELD_OUT, MONO_SERIALS

LENGTHS = {"FREE": 5, "EMO-1-shout+laugh": 1, "SEN-09-frown_events_bad": 2, "SEN-10-port_strong_smokey": 1}
LOST = 3
"""Row of FREE whose track holds NaN."""


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("benchmark")
        patch.setenv("RAF_CACHE", str(root / "cache"))
        patch.setattr(mono, "FaceTracker", Steady)
        person = write_mono(root, "404", {"EXP-1-head": 4, **LENGTHS}, 64, LENGTHS)
        path = person / "sequences" / "FREE" / TRACKS
        with np.load(path) as stored:
            arrays = dict(stored)
        arrays["neck"][LOST] = np.nan
        np.savez(path, **arrays)
        return raflib.open_capture("nersemble", "404", "tiny", root)


class Painter:
    """Stands in for a trained run: white, with a square whose grey level follows the first code."""

    finished, subject = True, "404"

    def __init__(self, capture, fails_at=None):
        self.info, self.calls, self.fails_at = {"recording": capture.fingerprint}, 0, fails_at

    def render(self, expression, pose, scale, cameras):
        self.calls += 1
        if self.calls == self.fails_at:
            raise KeyboardInterrupt
        assert np.isfinite(pose).all() and np.isfinite(scale).all()
        images = np.ones((len(expression), cameras[0].height, cameras[0].width, 3), np.float32)
        images[:, 100:200, 100:200] = level(expression)[:, None, None, None]
        return images


def level(expression):
    return 0.5 + 0.3 * np.tanh(expression[:, 0])


def films(path):
    """{name: frames [T,H,W,3]} of a zip file."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        found = {}
        for name in archive.namelist():
            with av.open(io.BytesIO(archive.read(name))) as film:
                assert float(film.streams.video[0].average_rate) == pytest.approx(24.3, rel=1e-3) or "FREE" not in name
                found[name] = np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])
        return found


def test_a_submission_has_every_film_of_the_tracks_length(capture, tmp_path):
    with pytest.warns(UserWarning, match="without 393, 461, 477, 486; the leaderboard wants all people"):
        path = raflib.export_submission(Painter(capture), tmp_path / "mine.zip", capture, progress=False)
    assert path == tmp_path / "mine.zip" and list(tmp_path.iterdir()) == [path]
    found = films(path)
    assert set(found) == {f"404/{name}/cam_{serial}.mp4" for name in MONO_HELD_OUT for serial in MONO_SERIALS}
    for name, frames in found.items():
        assert frames.shape == (LENGTHS[name.split("/")[1]], 512, 512, 3)
        assert frames[:, :90].min() >= 250, "white around"
    actions, _ = performed("404", "FREE", LENGTHS["FREE"])
    wanted = 255 * level((actions @ CODES)[[0, 1, 2, 2, 4]])
    shown = found["404/FREE/cam_222200046.mp4"][:, 120:180, 120:180].mean((1, 2, 3))
    np.testing.assert_allclose(shown, wanted, atol=2)


def test_the_avatar_is_driven_in_the_frame_it_was_trained_in(capture):
    driving, cameras = driving_of(capture), submission_cameras(capture)
    assert list(driving) == list(MONO_HELD_OUT) and [camera.name for camera in cameras] == list(MONO_SERIALS)
    free = capture.sequence == "FREE"
    for t in np.flatnonzero(free & capture.detected):
        name, row = mono.original(int(capture.frame[t]))
        for field in ("expression", "pose", "scale"):
            np.testing.assert_array_equal(getattr(driving[name], field)[row], getattr(capture, field)[t])
    np.testing.assert_allclose(cameras[0].intrinsic, capture.cameras[0].intrinsic)
    np.testing.assert_array_equal(driving["FREE"].pose[LOST], driving["FREE"].pose[LOST - 1])


@pytest.mark.filterwarnings("ignore:.*leaderboard")
def test_nothing_is_written_half(capture, tmp_path, monkeypatch):
    path = tmp_path / submission.NAME
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        raflib.export_submission([Painter(capture, fails_at=3)], tmp_path, [capture], progress=False)
    monkeypatch.setattr(submission, "write_video", _one_frame_short(submission.write_video))
    with pytest.raises(RafError, match=r"404/FREE/cam_222200037\.mp4 has 4 frames of .* expected 5 of 512 by 512"):
        raflib.export_submission([Painter(capture)], tmp_path, [capture], progress=False)
    assert path.read_bytes() == b"older" and list(tmp_path.iterdir()) == [path]


def _one_frame_short(write_video):
    def write(path, frames, *given, **options):
        frames = list(frames)
        return write_video(path, frames[:-1] if len(frames) == LENGTHS["FREE"] else frames, *given, **options)

    return write


@pytest.mark.filterwarnings("ignore:.*leaderboard")
def test_what_cannot_be_submitted_is_named(capture, tmp_path):
    def refused(words, run=None, given=capture):
        with pytest.raises(RafError, match=words):
            raflib.export_submission(run or Painter(capture), tmp_path / "a.zip", given, progress=False)

    unfinished, other = Painter(capture), Painter(capture)
    unfinished.finished, other.info = False, {"recording": "0"}
    refused("no capture of subject 404", given=[])
    refused("the run of 404 is not finished", unfinished)
    refused("was trained on another recording", other)
    refused("give one run for each person", [Painter(capture)] * 2)
    folder = capture.frames.person / "sequences"
    (folder / "FREE").rename(folder / "away")
    refused("no tracks of FREE; download these sequences")
    (folder / "away").rename(folder / "FREE")
    assert not list(tmp_path.iterdir())
