"""scripts/left_out.py: which frames are left out, and how settings are read."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from synthetic import ball_capture

from raflib.config import train_config
from raflib.errors import RafError

SPEC = importlib.util.spec_from_file_location("left_out", Path(__file__).parents[1] / "scripts" / "left_out.py")
left_out = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(left_out)


def test_sequences_left_out_are_held_out_and_free_is_not_seen():
    capture = ball_capture()
    names = sorted(set(capture.sequence[capture.train]))
    one = left_out.leave_out(capture, names[:1])
    np.testing.assert_array_equal(one.free, capture.train & (capture.sequence == names[0]))
    np.testing.assert_array_equal(one.train, capture.train & (capture.sequence != names[0]))
    assert not (one.detected & capture.free).any() and capture.free.any()
    with pytest.raises(RafError, match="no sequence EXP-99"):
        left_out.leave_out(capture, ["EXP-99"])


def test_settings_of_training_and_avatar_are_read_as_json():
    config = left_out.changed(
        train_config("tiny"), ["steps=7", "avatar.exp_linear=false", "avatar.exp_deform=[8, 4]", "zoom=[0.9, 1.1]"]
    )
    assert config.steps == 7 and not config.avatar.exp_linear
    assert config.avatar.exp_deform == (8, 4) and config.zoom == (0.9, 1.1)
    for wrong, message in (("stepz=7", "no setting 'stepz'"), ("steps=many", "value as in JSON"), ("steps", "JSON")):
        with pytest.raises(RafError, match=message):
            left_out.changed(train_config("tiny"), [wrong])
