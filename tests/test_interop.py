"""Public checkpoints are read and written unchanged, with the same meaning; splat files hold the rendered Gaussians."""

import importlib.util
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData
from synthetic import ball_capture

from raflib import export_gha
from raflib.avatar import GaussianAvatar, Upsampler, interop
from raflib.avatar.axes import turned
from raflib.avatar.interop import NETWORKS, POINTS
from raflib.avatar.official import check_tensors, read_official
from raflib.avatar.ply import write_ply
from raflib.config import AvatarConfig, train_config
from raflib.errors import RafError
from raflib.geometry import Camera, matrix_to_quaternion, quaternion_to_matrix
from raflib.render import Gaussians, rasterize
from raflib.sources import gha

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
OUTPUTS = ("means", "quaternions", "scales", "opacities", "features")
HIDDEN = {
    "exp_color": (256, 256), "pose_color": (128,), "exp_attributes": (256, 256, 256), "pose_attributes": (128, 128),
    "exp_deform": (256,) * 5, "pose_deform": (256, 256),
}  # fmt: skip


def plain_module():
    spec = importlib.util.spec_from_file_location("_plain_avatar", BENCHMARKS / "_plain_avatar.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def widths(name, expression=64, feature=128, channels=32, octaves=4):
    """Input, hidden and output widths of a published network."""
    position, pose = 3 * (1 + 2 * octaves), 6 * (1 + 2 * octaves)
    points = position if name.endswith("deform") else feature
    code = expression if name.startswith("exp") else pose
    last = {"color": channels, "attributes": 8, "deform": 3}[name.split("_")[1]]
    return (points + code, *HIDDEN[name], last)


def official(points=400, seed=0, **sizes):
    """A random checkpoint of the published shapes: a unit-sized head with 66 landmarks on its front."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    on_sphere = torch.nn.functional.normalize(random(points, 3), dim=1)
    front = torch.nn.functional.normalize(random(66, 3) * 0.6 - torch.tensor([0, 0, 1.0]), dim=1)
    state = {
        "xyz": on_sphere, "feature": random(points, sizes.get("feature", 128)), "landmarks_3d_neutral": front,
        "scales": -3 + 0.3 * random(points, 3), "rotation": random(points, 4), "opacity": random(points, 1),
    }  # fmt: skip
    for name in NETWORKS:
        dims = widths(name, **sizes)
        for i in range(len(dims) - 1):
            width = dims[i] + (dims[0] if i == len(dims) // 2 else 0)
            state[f"{name}_mlp.conv{i}.weight"] = random(dims[i + 1], width, 1) / width**0.5
            state[f"{name}_mlp.conv{i}.bias"] = 0.1 * random(dims[i + 1])
    return state


def frames(batch=2, expression=64):
    generator = torch.Generator().manual_seed(5)
    pose = 0.2 * torch.randn(batch, 6, generator=generator)
    return torch.randn(batch, expression, generator=generator), pose, torch.linspace(0.9, 1.1, batch)


def test_a_checkpoint_goes_in_and_out_bit_by_bit():
    state = official()
    avatar = GaussianAvatar.from_official(state)
    assert avatar.config == replace(AvatarConfig(), points=400, mouth_points=400, expression_dim=64)
    again = avatar.to_official()
    assert set(again) == set(state)
    assert all(torch.equal(again[key], state[key]) for key in state)
    twin = GaussianAvatar.from_official(again)
    for name in OUTPUTS:
        assert torch.equal(getattr(avatar(*frames()), name), getattr(twin(*frames()), name)), name


@pytest.mark.parametrize("sizes", [{}, {"expression": 10, "feature": 16, "channels": 3, "octaves": 2}])
def test_a_checkpoint_means_what_it_meant_there(sizes):
    """In its own axes, which are turned by half a circle about x."""
    state = official(**sizes)
    plain = plain_module().PlainAvatar(state, {n: widths(n, **sizes) for n in NETWORKS}, sizes.get("octaves", 4))
    avatar = GaussianAvatar.from_official(state)
    expression, pose, scale = frames(expression=sizes.get("expression", 64))
    half_turn = torch.tensor([1.0, -1.0, -1.0])
    means, rotations, scales, opacities, features = plain(expression, pose, scale)
    ours = avatar(expression, pose * half_turn.repeat(2), scale)
    assert 0 < len(avatar.blend(avatar.xyz).near) < 400 and 0 < len(avatar.blend(avatar.xyz).far) < 400
    own_rotations = quaternion_to_matrix(torch.nn.functional.normalize(ours.quaternions, dim=-1))
    back = half_turn[:, None] * own_rotations * half_turn
    pairs = [(means, ours.means * half_turn), (rotations, back), (scales, ours.scales), (opacities, ours.opacities)]
    pairs.append((features, ours.features))
    for theirs, mine in pairs:
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)

    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(value.shape, generator=generator) for value, _ in pairs]
    for side in (0, 1):
        sum((w * pair[side]).sum() for w, pair in zip(weights, pairs, strict=True)).backward()
    theirs = turned({name: p.grad for name, p in plain.named_parameters()}, interop.sizes(state))
    for name, own in POINTS.items():
        gradient = getattr(avatar, own).grad
        assert (gradient - theirs[name]).norm() <= 1e-4 * theirs[name].norm(), name
    for name in NETWORKS:
        gradient = getattr(avatar, name).point_in.weight.grad
        expected = theirs[f"{name}_mlp.conv0.weight"][:, : gradient.shape[1], 0]
        assert (gradient - expected).norm() <= 1e-4 * expected.norm(), name


def test_an_avatar_of_the_public_code_fits_a_folder_of_its_preprocessing(tmp_path):
    """What the folder's own files show with the public avatar is what `raflib` shows after reading both."""
    state = official(expression=52)
    folder = export_gha(ball_capture("422", frames=3), tmp_path / "422")
    capture = gha.open("422", root=tmp_path)
    name = sorted(path.name for path in (folder / "params").iterdir())[0]
    params = np.load(folder / "params" / name / "params.npz")
    camera = np.load(folder / "cameras" / name / f"camera_{capture.cameras[0].name}.npz")
    plain = plain_module().PlainAvatar(state, {n: widths(n, expression=52) for n in NETWORKS})
    given = (torch.from_numpy(params[key]) for key in ("exp_coeff", "pose", "scale"))
    with torch.no_grad():
        means, rotations, *rest = plain(*given)
        theirs = Gaussians(means, matrix_to_quaternion(rotations), *rest)
        ours = GaussianAvatar.from_official(state)(*(
            torch.from_numpy(values[:1]) for values in (capture.expression, capture.pose, capture.scale)
        ))  # fmt: skip
        extrinsic, intrinsic = torch.eye(4)[None], torch.from_numpy(camera["intrinsic"])[None].float()
        extrinsic[0, :3] = torch.from_numpy(camera["extrinsic"])
        expected = rasterize(theirs, (extrinsic, intrinsic), capture.cameras[0].width)
        shown = rasterize(ours, capture.cameras[:1], capture.cameras[0].width)
    assert expected[1].max() > 0.5, "the head is in the image"
    for mine, other in zip(shown, expected, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_bad_checkpoints_are_named_with_everything_that_is_wrong():
    state = official(points=20)
    odd = {key: value for key, value in state.items() if key not in ("opacity", "exp_deform_mlp.conv3.bias")}
    with pytest.raises(RafError, match=r"missing keys exp_deform_mlp\.conv3\.bias, opacity; unknown keys what\.ever"):
        GaussianAvatar.from_official({**odd, "what.ever": torch.zeros(1)})
    with pytest.raises(RafError, match=r"rotation is \[20, 3\], expected \[20, 4\]; pose_deform_mlp\.conv2"):
        bad = {"rotation": torch.zeros(20, 3), "pose_deform_mlp.conv2.weight": torch.zeros(3, 9, 1)}
        GaussianAvatar.from_official({**state, **bad})
    with pytest.raises(RafError, match=r"expected rank: opacity, xyz"):
        GaussianAvatar.from_official({**state, "xyz": state["xyz"].long(), "opacity": torch.zeros(20)})
    with pytest.raises(RafError, match=r"leaves 26 columns for an encoding"):
        GaussianAvatar.from_official({**state, "exp_deform_mlp.conv0.weight": torch.zeros(256, 90, 1)})
    with pytest.raises(RafError, match="missing keys"):
        GaussianAvatar.from_official({})


def test_what_a_checkpoint_says_of_itself_is_bounded(tmp_path):
    state = official(points=20)
    with pytest.raises(RafError, match="has a layer 30000000, and not those before") as error:
        GaussianAvatar.from_official({"exp_color_mlp.conv30000000.weight": torch.zeros(1, 1, 1)})
    assert len(str(error.value)) < 500
    with pytest.raises(RafError, match=r"unknown keys .* and 1980 more") as error:
        GaussianAvatar.from_official({**state, **{f"{i:04}" + "x" * 999: torch.zeros(1) for i in range(2000)}})
    assert len(str(error.value)) < 10_000
    for change, words in (
        ({"xyz": torch.full((20, 3), torch.nan)}, "xyz holds NaN"),
        ({"xyz": torch.zeros(1, 1).expand(20, 3)}, "holds fewer numbers"),
        ({"xyz": state["xyz"].to_sparse()}, "no plain tensor"),
        ({f"exp_color_mlp.conv{i}.bias": torch.zeros(10**6) for i in range(2)}, "ask for layers of"),
    ):
        with pytest.raises(RafError, match=words):
            GaussianAvatar.from_official({**state, **change})
    for wrong in ([1], None, {1: torch.zeros(1)}):
        with pytest.raises(RafError, match="expected a dict of named tensors"):
            check_tensors(wrong)
    with pytest.raises(RafError, match="no plain tensor"):
        check_tensors({"xyz": [1.0]})
    with pytest.raises(RafError, match="holds NaN"):
        Upsampler.from_official({key: value * torch.nan for key, value in Upsampler(32, 2).to_official().items()})


def test_files_of_checkpoints_are_read_within_bounds(tmp_path):
    path, state = tmp_path / "gaussianhead_latest", official(points=20)
    torch.save(state, path)
    read = read_official(path)
    assert list(read) == list(state) and all(torch.equal(read[key], state[key]) for key in state)
    whole = path.read_bytes()
    place = whole.index(state["xyz"].numpy().tobytes())
    for content, words in (
        (whole[:-100], "damaged"), (b"", "damaged"), (whole[: place + 1] + b"\0\0\0" + whole[place + 4 :], "CRC-32"),
    ):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(RafError, match=words) as error:
            read_official(path)
        assert str(error.value).startswith(f"{path}: ")
    for value, options in (([1, 2], {}), (state, {"_use_new_zipfile_serialization": False}), ({"a": Path}, {})):
        torch.save(value, path, **options)
        with pytest.raises(RafError, match="damaged official checkpoint"):
            read_official(path)
    torch.save(state, path)
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in file.namelist():
            packed.writestr(name, file.read(name))
    with pytest.raises(RafError, match=r"packed: damaged .*as torch never packs"):
        read_official(tmp_path / "packed")
    torch.save(Upsampler(32, 2).to_official(), path)
    with pytest.raises(
        RafError, match=r"latest: damaged official checkpoint \(.*missing keys .*Upsampler\.from_official"
    ):
        GaussianAvatar.from_official(path)
    with pytest.raises(RafError, match="no such official checkpoint"):
        read_official(tmp_path / "none")


def test_splat_files_of_what_cannot_be_shown_are_refused(tmp_path):
    path = tmp_path / "head.ply"
    good = {
        "means": torch.rand(1, 4, 3), "quaternions": torch.rand(1, 4, 4), "scales": torch.rand(1, 4, 3),
        "opacities": torch.rand(1, 4), "features": torch.rand(1, 4, 3),
    }  # fmt: skip
    write_ply(path, Gaussians(**good))
    before = path.read_bytes()
    for name, value in (
        ("means", torch.nan), ("quaternions", 0.0), ("quaternions", torch.inf), ("scales", torch.inf), ("scales", -0.1),
        ("opacities", 1.5), ("opacities", torch.nan), ("features", torch.nan),
    ):  # fmt: skip
        with pytest.raises(RafError, match=rf"head\.ply: \d+ of \d+ numbers of the Gaussians' {name}"):
            write_ply(path, Gaussians(**good | {name: torch.full_like(good[name], value)}))
    assert path.read_bytes() == before
    avatar = GaussianAvatar.from_official(official(points=30))
    with pytest.raises(RafError, match=r"head\.ply: "):
        avatar.export_ply(path, torch.zeros(64), torch.full((6,), torch.nan), 0.1)


def test_the_readmes_lines_work(tmp_path, monkeypatch):
    readme = (BENCHMARKS.parent / "raflib" / "README.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "from_official" in block)
    monkeypatch.chdir(tmp_path)
    torch.save(official(points=200), "gaussianhead_latest")
    torch.manual_seed(0)
    torch.save(Upsampler(32, 2).to_official(), "supres_latest")
    expression, pose, scale = frames()
    extrinsic, intrinsic = np.eye(4), np.array([[600.0, 0, 256], [0, 600, 256], [0, 0, 1]])
    extrinsic[2, 3] = 4.0
    names = {"expression": expression, "pose": pose, "scale": scale}
    names["cameras"] = [Camera(str(k), extrinsic, intrinsic, 512, 512) for k in range(2)]
    with torch.no_grad():
        exec(code, names)
    assert names["image"].shape == (2, 2048, 2048, 3) and names["alpha"].max() > 0.1
    assert (tmp_path / "head.ply").is_file()


def test_an_avatar_that_departs_from_the_published_one_says_how():
    avatar = GaussianAvatar.from_official(official(points=30))
    avatar.config = replace(train_config("demo").avatar)
    with pytest.raises(RafError, match=r"body = 'blend', canonical_colour = True, expression_norm = 2.0"):
        avatar.to_official()


def test_splat_files_hold_the_posed_gaussians(tmp_path):
    avatar = GaussianAvatar.from_official(official(points=50))
    expression, pose, scale = frames(batch=1)
    with pytest.raises(RafError, match="pass scale, in metres"):
        avatar.export_ply(tmp_path / "head.ply", expression[0], pose[0])
    avatar.export_ply(tmp_path / "head.ply", expression[0], pose[0], float(scale))
    vertices = PlyData.read(tmp_path / "head.ply")["vertex"].data
    assert vertices.dtype.names == (
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
        *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    )

    def column(*names):
        return torch.from_numpy(np.stack([vertices[name] for name in names], -1))[None]

    read = Gaussians(
        column("x", "y", "z"),
        column("rot_0", "rot_1", "rot_2", "rot_3"),
        column("scale_0", "scale_1", "scale_2").exp(),
        column("opacity").sigmoid()[..., 0],
        0.5 + 0.28209479177387814 * column("f_dc_0", "f_dc_1", "f_dc_2"),
    )
    with torch.no_grad():
        drawn = avatar(expression, pose, scale)
    colours = drawn.features[..., :3].clamp(0, 1)
    coloured = Gaussians(drawn.means, drawn.quaternions, drawn.scales, drawn.opacities, colours)
    eye = torch.eye(4)[None]
    eye[0, 2, 3] = 4.0
    cameras = (eye, torch.tensor([[[60.0, 0, 32], [0, 60, 32], [0, 0, 1]]]))
    ours, theirs = (rasterize(g, cameras, 64)[0] for g in (coloured, read))
    assert (ours < 0.9).any()
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(read.means, drawn.means)
    with pytest.raises(RafError, match=r"one set of Gaussians .* got 2 with 32"):
        write_ply(tmp_path / "two.ply", avatar(*frames(batch=2)))
    assert [p.name for p in tmp_path.iterdir()] == ["head.ply"]
