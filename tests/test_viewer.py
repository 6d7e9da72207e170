"""Films: what is written can be read back, and nothing is left behind when it cannot be written."""

import av
import numpy as np
import pytest

from raflib.errors import RafError
from raflib.viewer import write_video


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
