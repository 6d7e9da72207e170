"""scripts/left_out.py: how settings are read."""

import importlib.util
from pathlib import Path

import pytest

from raflib.config import train_config
from raflib.errors import RafError

SPEC = importlib.util.spec_from_file_location("left_out", Path(__file__).parents[1] / "scripts" / "left_out.py")
left_out = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(left_out)


def test_settings_of_training_and_avatar_are_read_as_json():
    config = left_out.changed(
        train_config("tiny"), ["steps=7", "avatar.exp_linear=false", "avatar.exp_deform=[8, 4]", "zoom=[0.9, 1.1]"]
    )
    assert config.steps == 7 and not config.avatar.exp_linear
    assert config.avatar.exp_deform == (8, 4) and config.zoom == (0.9, 1.1)
    for wrong, message in (("stepz=7", "no setting 'stepz'"), ("steps=many", "value as in JSON"), ("steps", "JSON")):
        with pytest.raises(RafError, match=message):
            left_out.changed(train_config("tiny"), [wrong])
