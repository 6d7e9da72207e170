"""Many shards give the same results as one bank, with every scheduler."""

import dask
import numpy as np
import pytest
from test_bank_folder import make_piece

from raflib.bank import write_mapped
from raflib.bank.sharded import build_shards, locate, sharded_search
from raflib.errors import RafError

GROUPS = [["P3", "P1"], ["P9"], ["P2", "P5", "P4"]]


def build(person):
    return make_piece([person], rows=3 if person == "P9" else 25, width=4, decimals=0)


@pytest.fixture
def folders(tmp_path):
    with dask.config.set(scheduler="synchronous"):
        yield build_shards(tmp_path / "shards", GROUPS, build)


@pytest.fixture
def bank(tmp_path, folders):
    return write_mapped(tmp_path / "one", map(build, [person for group in GROUPS for person in group]))


def queries_of(bank):
    draw = np.random.default_rng(2)
    owners = draw.integers(len(bank), size=70)
    features = bank.features[owners] + np.float32(0.5) * draw.integers(-1, 2, size=(70, 4)).astype(np.float32)
    return features, bank.subjects[owners].tolist()


@pytest.mark.parametrize("k", [1, 4, 60])
@pytest.mark.parametrize("exclude", ["P9", "nobody", None, "each"])
def test_shards_answer_as_one_bank(folders, bank, k, exclude):
    queries, owners = queries_of(bank)
    exclude = owners if exclude == "each" else exclude
    expected = bank.search(queries, k, exclude)
    found = sharded_search(folders, queries, k, exclude)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    assert k == 1 or (np.diff(expected[0]) == 0).any()  # there are ties


def test_rows_are_located_in_their_shard(folders, bank):
    rows = np.arange(len(bank)).reshape(2, -1)
    shard, row = locate(folders, rows)
    assert (np.bincount(shard.ravel()) == [50, 3, 75]).all()
    for where, line, whole in zip(shard.ravel(), row.ravel(), rows.ravel(), strict=True):
        assert bank.subjects[whole] in GROUPS[where] and 0 <= line < 75
    with pytest.raises(RafError, match="expected 0 to 127"):
        locate(folders, np.array([128]))


def test_an_interrupted_build_goes_on(tmp_path, folders):
    asked = []

    def once_more(person):
        asked.append(person)
        return build(person)

    before = [(folder / "bank.json").read_bytes() for folder in folders]
    for path in folders[1].iterdir():
        path.unlink()
    folders[1].rmdir()
    assert build_shards(tmp_path / "shards", GROUPS, once_more) == folders
    assert asked == ["P9"] and before == [(folder / "bank.json").read_bytes() for folder in folders]
    with pytest.raises(RafError, match="shard_00000: was built for other people"):
        build_shards(tmp_path / "shards", [["P1", "P3"]], build)


def test_errors_name_what_is_wrong(tmp_path, folders, bank):
    queries = np.zeros((2, 4), np.float32)
    write_mapped(tmp_path / "other", [make_piece(["Q1"], width=4, space="bfm64")])
    for call, word in [
        (lambda: build_shards(tmp_path / "x", [["A"], ["B", "A"]], build), "'A' is in two groups"),
        (lambda: build_shards(tmp_path / "x", [["A"], []], build), "without people"),
        (lambda: sharded_search([], queries), "no folder"),
        (lambda: sharded_search([*folders, folders[1]], queries), "'P9' is in"),
        (lambda: sharded_search([*folders, tmp_path / "other"], queries), "bfm64"),
        (lambda: sharded_search([*folders, tmp_path / "absent"], queries), "absent"),
        (lambda: sharded_search(folders, queries, k=126, exclude="P9"), "the bank has 125 rows without 'P9'"),
        (lambda: sharded_search(folders, queries, k=0), "k is 0"),
        (lambda: sharded_search(folders, queries[:, :3]), "width 3"),
        (lambda: sharded_search(folders, queries, feature_space="bfm64"), "bfm64"),
        (lambda: sharded_search(folders, queries, exclude=["P9"]), "names 1 subjects"),
    ]:
        with pytest.raises(RafError, match=word) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [False, True])
def test_a_cluster_builds_and_searches_the_same(tmp_path, bank, processes):
    from distributed import Client, LocalCluster

    queries, owners = queries_of(bank)
    here = {"host": "127.0.0.1", "protocol": "tcp", "dashboard_address": None}
    options = {"processes": processes, "n_workers": 1 if processes else 2, "threads_per_worker": 1, **here}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        folders = build_shards(tmp_path / "far", GROUPS, build, client)
        found = sharded_search(folders, queries, 5, owners, client)
    for mine, expected in zip(found, bank.search(queries, 5, owners), strict=True):
        np.testing.assert_array_equal(mine, expected)
