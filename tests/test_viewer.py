"""Films: a written film can be read again, and a failed write leaves no file."""

from dataclasses import replace

import av
import numpy as np
import pytest
from synthetic import ball_capture

from raflib.errors import RafError
from raflib.lab.films import show_video
from raflib.report.mp4 import film_name, write_video


def moving(count, height=65, width=96):
    """A grey ramp that gets brighter, float in [0,1]."""
    ramp = np.linspace(0, 0.5, width)[None, :, None] * np.ones((height, 1, 3))
    return [ramp + 0.5 * i / count for i in range(count)]


def test_a_film_can_be_read_back(tmp_path):
    frames = moving(10)
    path = write_video(tmp_path / "film.mp4", frames, fps=25)
    with av.open(str(path)) as container:
        read = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 25
    assert len(read) == 10
    assert read[0].shape == (64, 96, 3)
    for frame, seen in zip(frames, read, strict=True):
        assert np.abs(seen / 255 - frame[:64]).mean() < 0.02


def test_no_frames_and_changing_sizes_leave_nothing(tmp_path):
    with pytest.raises(RafError, match=r"empty\.mp4: no frames"):
        write_video(tmp_path / "empty.mp4", [])
    with pytest.raises(RafError, match="frame 1 is"):
        write_video(tmp_path / "sizes.mp4", [np.zeros((64, 64, 3), np.uint8), np.zeros((32, 64, 3), np.uint8)])
    assert list(tmp_path.iterdir()) == []


def played(path):
    """Return the start of each frame in seconds, and the length of a film."""
    with av.open(str(path)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
        return times, container.duration / av.time_base


def test_frames_are_shown_at_their_times(tmp_path):
    times = [7.0, 7.1, 7.2, 9.0, 9.05]
    seen, length = played(write_video(tmp_path / "film.mp4", moving(5), times=times))
    np.testing.assert_allclose(seen, np.array(times) - 7, atol=1e-4)
    assert length == pytest.approx(2.05 + 0.1, abs=1e-3)  # the last frame stays as long as most others
    for rate, seconds in ((10, 4.0), (30_000 / 1001, 40 * 1001 / 30_000), (120, 1 / 3)):
        _, length = played(write_video(tmp_path / "film.mp4", moving(40), fps=rate))
        assert length == pytest.approx(seconds, abs=2e-3)


@pytest.mark.parametrize(
    ("frames", "options", "words"),
    [
        (np.full((2, 8, 8, 3), 100), {}, "frame 0: int64, expected uint8"),
        (np.full((2, 8, 8, 3), 100, np.uint16), {}, "frame 0: uint16, expected uint8"),
        (np.full((2, 8, 8, 3), 100.0), {}, r"from 100 to 100, expected \[0,1\]"),
        (np.full((2, 8, 8, 3), np.nan), {}, r"from nan to nan, expected \[0,1\]"),
        (np.zeros((2, 8, 8, 4)), {}, r"shape \(8, 8, 4\), expected \[H,W,3\]"),
        (np.zeros((2, 1, 8, 3)), {}, "at least 2 by 2"),
        (np.zeros((2, 8, 8, 3)), {"fps": 0}, "0 frames a second"),
        (np.zeros((2, 8, 8, 3)), {"fps": float("nan")}, "nan frames a second"),
        (np.zeros((2, 8, 8, 3)), {"times": [0.0, 0.0]}, "frame 1 is not after frame 0"),
        (np.zeros((2, 8, 8, 3)), {"times": [0.0, float("inf")]}, "not finite"),
        (np.zeros((2, 8, 8, 3)), {"times": [0.0]}, "more frames than the 1 times"),
        (np.zeros((2, 8, 8, 3)), {"times": [0.0, 1.0, 2.0]}, "2 frames for 3 times"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, frames, options, words):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"an older film")
    with pytest.raises(RafError, match=words) as error:
        write_video(path, frames, **options)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"an older film"]


def test_grey_frames_and_any_name_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("12:30.mp4", f"{'片' * 80}.mp4"):
        path = write_video(name, [np.full((32, 32), 100, np.uint8)] * 3)
        with av.open(f"file:{path.absolute()}") as container:
            assert abs(next(container.decode(video=0)).to_ndarray(format="rgb24").mean() - 100) < 3


def test_two_drivers_of_one_name_have_two_films():
    me, driver = ball_capture("me", frames=6, cameras=1), ball_capture("talk", frames=6, cameras=1)
    other = replace(driver, expression=driver.expression + 0.1)
    names = {
        film_name(me, driver, "fitted", 20.0),
        film_name(me, other, "fitted", 20.0),
        film_name(me, driver, "fitted", 5.0),
        film_name(me, driver, "direct", 20.0),
    }
    assert len(names) == 4 and all(name.startswith("me_driven_by_talk_") for name in names)
    long = film_name(replace(me, subject="片" * 90), replace(driver, subject="a/../b" * 90), "fitted", 20.0)
    assert len(long.encode()) < 200 and "/" not in long


def test_a_film_is_shown_in_the_notebook(tmp_path, monkeypatch):
    path = write_video(tmp_path / "film.mp4", moving(3))
    html = show_video(path)._repr_html_()
    assert "<video" in html and "base64," in html
    monkeypatch.setattr("raflib.lab.films.EMBEDDED_BYTES", 10)
    monkeypatch.chdir(tmp_path)
    assert 'src="film.mp4"' in show_video(path)._repr_html_()
    with pytest.raises(RafError, match=r"none\.mp4: no such film"):
        show_video(tmp_path / "none.mp4")
