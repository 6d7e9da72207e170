"""The ablation's banks: their rules, repeatable random parts, and names that open them or are refused."""

import numpy as np
import pytest

from raflib.bank import ExpressionBank
from raflib.errors import RafError
from raflib.lab import banks as variants
from raflib.lab.banks import SHIPPED, VARIANTS, bank_suffix, bank_variant, open_bank


def crowd(people=7, frames=15, seed=0):
    """People whose means lie along the third dimension, in the order of their names, and differ a little elsewhere."""
    draw = np.random.default_rng(seed)
    features = draw.normal(0, 0.1, (people, frames, 4)) + draw.normal(0, 0.2, (people, 1, 4))
    features[:, :, 2] += 3 * np.arange(people)[:, None]
    names = np.repeat([f"P{i}" for i in range(people)], frames)
    rows = draw.permutation(people * frames)  # a bank need not be sorted by person
    frame = np.tile(np.arange(frames), people)
    return ExpressionBank(features.reshape(-1, 4)[rows], names[rows], ["FREE"] * len(rows), frame[rows], "toy")


def moments(bank):
    return list(zip(bank.subjects.tolist(), bank.frame.tolist(), bank.features[:, 0].tolist(), strict=True))


def test_half1_is_whole_people_drawn_by_seed():
    bank = crowd()
    half = bank_variant(bank, "half1")
    assert len(half.people) == 4 and len(half) == 4 * 15
    assert moments(half) == [moment for moment in moments(bank) if moment[0] in half.people]
    assert {bank_variant(bank, "half1", seed).people for seed in range(6)} != {half.people}
    assert bank_variant(bank, "half1").checksum == half.checksum


def test_half2_is_the_upper_half_along_the_means():
    bank = crowd()
    assert bank_variant(bank, "half2").people == ("P3", "P4", "P5", "P6")
    assert bank_variant(bank, "half2", seed=5).people == ("P3", "P4", "P5", "P6")


def test_small_is_everybody_with_few_frames_of_their_own():
    bank = crowd()
    small = bank_variant(bank, "small")
    assert small.people == bank.people and len(small) == 7 * variants.FEW
    assert set(moments(small)) < set(moments(bank))
    fewer = bank_variant(bank.restrict(exclude="P3"), "small")
    assert moments(fewer) == [moment for moment in moments(small) if moment[0] != "P3"]
    assert moments(bank_variant(bank, "small", seed=1)) != moments(small)
    assert len(bank_variant(crowd(frames=3), "small")) == 21


@pytest.mark.parametrize("name", VARIANTS)
def test_provenance_tells_the_rule(name):
    bank = crowd()
    told = bank_variant(bank, name, seed=3).provenance
    assert told["variant"] == name and told["rule"] == VARIANTS[name] and told["seed"] == "3"
    assert bank.checksum.startswith(told["variant_of"])


def test_unknown_names_and_single_people_are_refused():
    with pytest.raises(RafError, match=r"'half3'.*half1, half2, small"):
        bank_variant(crowd(), "half3")
    with pytest.raises(RafError, match="half2: the bank holds 1 person"):
        bank_variant(crowd(people=1), "half2")


def test_open_bank_knows_the_shipped_one_its_variants_and_files(tmp_path):
    whole, half = open_bank(), open_bank("half2")
    assert len(whole.people) == 415 and len(half.people) == 208
    assert half.provenance["variant_of"] == whole.checksum[:16]
    crowd().save(tmp_path / "mine.npz")
    assert open_bank(tmp_path / "mine.npz").checksum == open_bank(str(tmp_path / "mine.npz")).checksum
    with pytest.raises(RafError, match=r"'halv1' is neither a variant \(half1, half2, small\) nor a file"):
        open_bank("halv1")
    (tmp_path / "broken.npz").write_bytes(b"no")
    with pytest.raises(RafError, match=r"broken\.npz: damaged"):
        open_bank(tmp_path / "broken.npz")


def test_a_bank_of_two_spaces_opens_in_either_with_the_same_rows(tmp_path, monkeypatch):
    both = crowd().with_space("open42", np.random.default_rng(0).normal(size=(len(crowd()), 3)))
    both.save(tmp_path / SHIPPED)
    monkeypatch.setattr(variants, "data_root", lambda: tmp_path)
    for name in ("", "half2", tmp_path / SHIPPED):
        own, other = open_bank(name, "toy"), open_bank(name, "open42")
        assert (own.feature_space, *own.spaces) == ("toy", "open42") == (*other.spaces, other.feature_space)
        assert np.array_equal(own.subjects, other.subjects)
        assert np.array_equal(own.features, other.spaces["toy"])
    with pytest.raises(RafError, match="no bank of the feature space bfm64"):
        open_bank("small", "bfm64")
    assert open_bank(tmp_path / SHIPPED, "bfm64").feature_space == "toy"


def test_suffixes_tell_banks_apart(tmp_path):
    for i, folder in enumerate(("a", "b")):
        crowd(seed=i).save(tmp_path / folder / "bank.npz")
    names = ["", "half1", "half2", "small", tmp_path / "a" / "bank.npz", str(tmp_path / "b" / "bank.npz")]
    suffixes = [bank_suffix(name) for name in names]
    assert suffixes[:4] == ["", "_half1", "_half2", "_small"] and len(set(suffixes)) == 6
    assert all(suffix.startswith("_bank-") for suffix in suffixes[4:])
    assert bank_suffix("half1", method="vanilla") == bank_suffix(method="vanilla", top_k=5) == ""
    assert bank_suffix("half1", top_k=5) == "_half1_top5" and bank_suffix(top_k=5) == "_top5"
    with pytest.raises(RafError, match="nor a file"):
        bank_suffix(tmp_path / "c.npz")
