"""Configurations round-trip; notebook parameters are strict."""

import json
import re
from dataclasses import asdict, fields
from pathlib import Path

import nbformat
import pytest

from raflib.config import (
    NETWORKS,
    PROFILES,
    AvatarConfig,
    SurfaceConfig,
    TrainConfig,
    to_dict,
    train_config,
    train_config_from_dict,
)
from raflib.errors import RafError
from raflib.lab.parameters import NOTEBOOKS, TrainParameters, notebook_parameters
from raflib.sources import studio, video

ROOT = Path(__file__).parents[1]
DEFAULTS = asdict(TrainParameters())


@pytest.mark.parametrize("profile", PROFILES)
def test_configuration_survives_json(profile):
    config = train_config(profile, seed=3)
    assert train_config_from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_paper_profile_has_the_published_sizes():
    config = train_config("paper")
    avatar = config.avatar
    assert (avatar.feature_dim, avatar.colour_channels, avatar.exp_deform) == (128, 32, (256,) * 5)
    assert (avatar.near, avatar.far, avatar.deform_scale, avatar.attribute_scale) == (0.1, 0.25, 0.3, 0.2)
    assert (config.rate_mlp, config.rate_xyz, config.rate_scale, config.size) == (1e-4, 1e-5, 3e-5, 512)
    assert avatar.body == "rigid" and not avatar.canonical_colour
    assert (avatar.upsampling, avatar.upsampler_capacity, config.zoom) == (4, 32, (0.8, 1.25))
    assert (config.weight_l1, config.weight_fine, config.weight_perceptual, config.perceptual_crop) == (1, 1, 0.1, 512)
    rates = (config.rate_upsampler, config.rate_opacity, config.rate_feature, config.rate_rotation, config.rate_pose)
    assert rates == (1e-4, 1e-4, 1e-5, 1e-5, 1e-5) and config.perceptual_net == "vgg"
    assert (config.epochs, config.steps) == (500, None) and train_config("paper", steps=9).total_steps(100) == 9
    assert (config.betas, config.epsilon, config.warm_up, config.decay) == ((0.9, 0.999), 1e-8, 0, 1)
    assert all(train_config(profile).avatar.upsampling == 1 for profile in ("tiny", "demo"))


def test_the_gpu_profile_has_the_published_networks_and_no_upsampler():
    made, published = train_config("gpu").avatar, train_config("paper").avatar
    assert all(getattr(made, name) == getattr(published, name) for name in (*NETWORKS, "feature_dim"))
    assert (made.upsampling, train_config("gpu").size) == (1, 512)
    for source in (studio, video):
        assert set(PROFILES) <= set(source.PROFILES) and source.PROFILES["gpu"].size >= 512


def test_the_notebook_names_settings_that_exist():
    """Notebook 04 has a table of what differs from the paper; its first column names fields."""
    cells = nbformat.read(ROOT / "notebooks" / "04_train.ipynb", 4).cells
    (text,) = [cell.source for cell in cells if cell.id == "paper-text"]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    known = {entry.name for cls in (AvatarConfig, SurfaceConfig, TrainConfig) for entry in fields(cls)}
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(rows) > 10 and named - {"initialisation"} <= known
    for words in ("6,900 steps", "12,000 steps", "500 epochs"):
        assert words in text
    assert [train_config(name).steps for name in ("demo", "gpu")] == [6_900, 12_000]


def test_an_epoch_shows_every_frame_once():
    """The published code takes one camera of each frame, sampled anew in every epoch, and has a batch of 1."""
    for changes in ({}, {"cameras": 8, "views_per_frame": 4}, {"views_per_frame": 4, "views_per_step": 2}):
        assert train_config("paper", **changes).total_steps(frames=3_000) == 1_500_000


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"zoom": (1.2, 0.8)}, "zoom"),
        ({"zoom": (0.0, 1.0)}, "zoom"),
        ({"cache_gib": -1.0}, "cache_gib"),
        ({"precision": "half"}, "precision"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"epochs": 0}, "epochs"),
        ({"warm_up": -1}, "warm_up"),
    ],
)
def test_impossible_settings_are_named(changes, named):
    with pytest.raises(RafError, match=named):
        train_config("paper", **changes)


def test_an_upsampler_has_a_factor_of_2_or_4():
    for change in ({"upsampling": 3}, {"upsampler_capacity": 0}):
        with pytest.raises(RafError, match=next(iter(change))):
            AvatarConfig(**change)
    with pytest.raises(RafError, match="compile"):
        train_config("demo", compile=True)


def test_unknown_profile_or_setting_is_named():
    with pytest.raises(RafError, match=r"huge.*tiny, demo, gpu, paper"):
        train_config("huge")
    with pytest.raises(RafError, match="stepz"):
        train_config("demo", stepz=3)


def test_foreign_checkpoint_fields_are_listed():
    values = to_dict(train_config("tiny"))
    values["avatar"]["wings"] = 2
    with pytest.raises(RafError, match="wings"):
        train_config_from_dict(values)


def test_a_number_means_the_three_digit_subject():
    assert notebook_parameters({**DEFAULTS, "subject": 74}, "04_train").subject == "074"
    assert notebook_parameters({**DEFAULTS, "subject": "074"}, "04_train").subject == "074"


def test_a_mistyped_name_injected_by_papermill_is_an_error():
    cells = ["subject = '422'", '# Parameters\nmehtod = "raf"\n']
    with pytest.raises(RafError, match="no parameter mehtod"):
        notebook_parameters({**DEFAULTS, "In": cells, "mehtod": "raf"}, "04_train")
    cells[1] = '# Parameters\nmethod = "raf"\n'
    assert notebook_parameters({**DEFAULTS, "In": cells, "own_variable": 1}, "04_train").method == "raf"


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", "many"), ("steps", 1.5), ("p", "half"), ("method", "rfa"), ("profile", "demmo"), ("seed", True)],
)
def test_a_wrong_value_is_named(name, value):
    with pytest.raises(RafError, match=f"parameter {name}"):
        notebook_parameters({**DEFAULTS, name: value}, "04_train")


@pytest.mark.parametrize(
    ("notebook", "values", "message"),
    [
        ("04_train", {"seed": "0"}, "parameter seed must be int, got str"),
        ("04_train", {"method": "rafe"}, "parameter method is 'rafe'; choose one of.*raf_pose"),
        ("05_evaluate", {"drive": "slow"}, "parameter drive is 'slow'; choose one of direct, relative"),
        ("01_subjects", {"subject": 4.22}, "parameter subject must be str"),
        ("01_subjects", {"subject": "all"}, "parameter subject is 'all'; give one id"),
        ("03_coverage", {"subject": "All"}, "parameter subject is 'All'; write 'all'"),
    ],
)
def test_a_wrong_value_comes_with_what_was_expected(notebook, values, message):
    with pytest.raises(RafError, match=message):
        notebook_parameters({**asdict(NOTEBOOKS[notebook]()), **values}, notebook)


def test_a_missing_parameter_is_named():
    with pytest.raises(RafError, match="parameter seed is not set"):
        notebook_parameters({k: v for k, v in DEFAULTS.items() if k != "seed"}, "04_train")


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_parameter_is_a_plain_literal(notebook):
    assert all(type(f.default) in (str, int, float, bool) for f in fields(NOTEBOOKS[notebook]))


def test_every_setting_is_explained_beside_it():
    lines = (ROOT / "raflib" / "config.py").read_text().splitlines()
    for cls in (AvatarConfig, SurfaceConfig, TrainConfig):
        for entry in fields(cls):
            told = [line for line in lines if line.startswith(f"    {entry.name}: ") and "  # " in line]
            assert told, f"{cls.__name__}.{entry.name}: no comment with its meaning and unit"
