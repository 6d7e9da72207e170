"""The avatar follows Xu et al. 2024: split layers equal joined ones, blending by distance, rigid motion, gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import RADIUS, ball_capture

from raflib.avatar import GaussianAvatar
from raflib.avatar import fused_mlp as blocks
from raflib.avatar.networks import ConditionedMLP, LinearDecoder, encode
from raflib.config import AvatarConfig, train_config
from raflib.errors import RafError
from raflib.geometry import axis_angle_to_matrix, matrix_to_quaternion, quaternion_multiply
from raflib.training.landmark_term import LandmarkGuide, unposed
from raflib.training.relocate import relocate
from raflib.training.start import initialise

ROWS = 64
"""Points per block in tests with small blocks."""
TINY = replace(train_config("tiny").avatar, points=300, mouth_points=20)
DECODERS = {"linear": {"exp_linear": True}, "networks": {"exp_linear": False}}
"""What turns expressions into changes: one linear decoder, or the published three networks."""


@pytest.fixture(scope="module")
def capture():
    return ball_capture()


@pytest.fixture(params=DECODERS)
def avatar(capture, request):
    torch.manual_seed(0)
    config = replace(TINY, **DECODERS[request.param])
    made = GaussianAvatar(config, initialise(capture, config, [0, 1, 2, 3]))
    if config.exp_linear:  # as after some training; it starts at zero
        torch.nn.init.normal_(made.exp_linear.bases.weight, std=0.02)
    return made


def frame(capture, rows=1):
    values = (capture.expression, capture.pose, capture.scale)
    return tuple(torch.from_numpy(np.ascontiguousarray(v[:rows], dtype=np.float32)) for v in values)


def joined_mlp(mlp: ConditionedMLP, points, code):
    """A plain implementation of the architecture: join point and code, and join them again at the middle layer."""
    both = torch.cat([points, code.expand(len(points), -1)], 1)
    weight = torch.cat([mlp.point_in.weight, mlp.code_in.weight], 1)
    hidden = both @ weight.T + mlp.point_in.bias
    for index, layer in enumerate(mlp.layers, start=1):
        hidden = torch.nn.functional.leaky_relu(hidden)
        if index == mlp.skip:
            weight = torch.cat([layer.weight, mlp.point_skip.weight, mlp.code_skip.weight], 1)
            hidden = torch.cat([hidden, both], 1) @ weight.T + layer.bias
        else:
            hidden = layer(hidden)
    return hidden.tanh() if mlp.bounded else hidden


@pytest.mark.parametrize("hidden", [(16,), (16, 12), (16, 12, 10), (8, 8, 8, 8, 8)])
def test_split_layers_equal_the_joined_architecture(hidden):
    torch.manual_seed(1)
    mlp = ConditionedMLP(5, 7, hidden, 3, bounded=len(hidden) == 5).double()
    points, code = torch.randn(9, 5).double(), torch.randn(2, 7).double()
    out = mlp(points, code)
    for row in range(2):
        torch.testing.assert_close(out[row], joined_mlp(mlp, points, code[row : row + 1]))
    dims = 2 + len(hidden)
    assert mlp.skip == dims // 2


@pytest.mark.parametrize(("count", "batch"), [(2 * ROWS + 7, 1), (ROWS + 1, 3), (ROWS // 5, 12)])
def test_blocks_of_points_and_frames_change_nothing(count, batch, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 16 * ROWS)
    torch.manual_seed(2)
    mlp = ConditionedMLP(5, 7, (16, 12, 10), 3, bounded=True).double()
    points, code = torch.randn(count, 5).double(), torch.randn(batch, 7).double()
    points.requires_grad_(), code.requires_grad_()
    weights = torch.randn(batch, count, 3).double()
    leaves = [points, code, *mlp.parameters()]
    for _ in range(2):  # the second step uses the memory of the first one again
        value = mlp(points, code)
        plain = torch.stack([joined_mlp(mlp, points, row[None]) for row in code])
        torch.testing.assert_close(value, plain)
        with torch.no_grad():
            assert torch.equal(mlp(points, code), value)
        ours, theirs = (torch.autograd.grad((v * weights).sum(), leaves) for v in (value, plain))
        for mine, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, expected)


def test_memory_of_hidden_values_is_used_again_and_only_once():
    mlp = ConditionedMLP(5, 7, (16, 12), 3)
    points, code = torch.randn(9, 5), torch.randn(1, 7)
    first = mlp(points, code)
    second = mlp(points + 1, code)  # the memory of the first step is still in use
    expected = torch.autograd.grad(mlp(points, code).sum(), mlp.point_in.weight)[0]
    gradient = torch.autograd.grad(first.sum(), mlp.point_in.weight, retain_graph=True)[0]
    assert torch.equal(gradient, expected)
    held = [value.data_ptr() for value in mlp.scratch._free]
    mlp(points, code)
    assert held and not mlp.scratch._free
    with pytest.raises(RuntimeError, match="call backward once"):
        first.sum().backward()
    second.sum().backward()


def test_encoding_sizes():
    assert encode(torch.zeros(2, 3), 4).shape == (2, 27) and encode(torch.zeros(2, 6), 4).shape == (2, 54)
    torch.testing.assert_close(
        encode(torch.tensor([0.3]), 2), torch.tensor([0.3, np.sin(0.3), np.cos(0.3), np.sin(0.6), np.cos(0.6)]).float()
    )


def test_paper_sizes_are_the_published_ones(capture):
    config = replace(AvatarConfig(), expression_dim=64, points=50, mouth_points=10)
    small = replace(config, points=300)
    canonical = initialise(capture, small, [0, 1, 2, 3])
    canonical = replace(canonical, expression_mean=torch.zeros(64))
    model = GaussianAvatar(small, canonical)
    names = ("exp_color", "pose_color", "exp_attributes", "pose_attributes", "exp_deform", "pose_deform")
    networks = [getattr(model, name) for name in names]
    widths = [mlp.point_in.in_features + mlp.code_in.in_features for mlp in networks]
    assert widths == [192, 182, 192, 182, 91, 81]
    assert model.colour is None and model.follow_logit is None


def test_blend_weights_follow_squared_distance(avatar):
    squared = torch.cdist(avatar.xyz, avatar.landmarks_neutral).min(1).values ** 2
    weight = ((0.25 - squared) / 0.15).clamp(0, 1)
    full = torch.zeros(len(weight))
    full[avatar._blend.near] = avatar._blend.by_expression[:, 0]
    torch.testing.assert_close(full, weight)
    full = torch.zeros(len(weight))
    full[avatar._blend.far] = avatar._blend.by_pose[:, 0]
    torch.testing.assert_close(full, 1 - weight)


@torch.no_grad()
def test_the_blend_moves_with_the_avatar(avatar, capture):
    values = frame(capture)
    before = avatar(*values)
    assert avatar.to(torch.float64)._blend.far_encoded.dtype == torch.float64 and avatar._blend.far.dtype == torch.int64
    torch.testing.assert_close(avatar.to(torch.float32)(*values).means, before.means)


def test_expression_moves_only_points_near_landmarks(avatar, capture):
    avatar.move(slice(1), avatar.xyz[:1] + 3.0)  # far from every landmark
    expression, pose, scale = frame(capture)
    one, two = avatar(expression, pose, scale), avatar(expression + 0.5, pose, scale)
    moved = (one.means - two.means).norm(dim=-1)[0]
    near = torch.zeros(len(moved), dtype=bool)
    near[avatar._blend.near] = True
    assert not near[0] and near.float().mean() > 0.5
    assert ((moved > 0) == near).all()


def test_loading_refreshes_the_blend(avatar, capture):
    state = {name: value.clone() for name, value in avatar.state_dict().items()}
    state["xyz"][0] += 3.0  # far from every landmark
    assert 0 in avatar._blend.near
    avatar.load_state_dict(state)
    assert 0 not in avatar._blend.near and torch.equal(avatar.blend_points, state["xyz"])


def test_rigid_body_follows_the_head_exactly(capture):
    config = replace(TINY, body="rigid")
    torch.manual_seed(0)
    model = GaussianAvatar(config, initialise(capture, config, [0, 1, 2, 3]))
    with torch.no_grad():
        for mlp in (model.pose_color, model.pose_attributes, model.pose_deform):
            for parameter in mlp.parameters():
                parameter.zero_()
    expression, _pose, scale = frame(capture)
    turn = torch.tensor([[0.2, -0.3, 0.1, 0.01, 0.02, -0.03]])
    still, turned = model(expression, torch.zeros(1, 6), scale), model(expression, turn, scale)
    rotation = axis_angle_to_matrix(turn[:, :3])
    torch.testing.assert_close(turned.means, still.means @ rotation.mT + turn[:, None, 3:], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(still.scales, turned.scales)
    head = matrix_to_quaternion(rotation)[:, None].expand_as(still.quaternions)
    torch.testing.assert_close(quaternion_multiply(head, still.quaternions), turned.quaternions, atol=1e-5, rtol=1e-5)


def test_batch_equals_single_frames(avatar, capture):
    expression, pose, scale = frame(capture, 3)
    together = avatar(expression, pose, scale)
    for row in range(3):
        alone = avatar(expression[row : row + 1], pose[row : row + 1], scale[row : row + 1])
        for name in ("means", "quaternions", "scales", "opacities", "features"):
            torch.testing.assert_close(getattr(together, name)[row], getattr(alone, name)[0], atol=1e-6, rtol=1e-5)


def test_every_parameter_gets_a_gradient(avatar, capture):
    gaussians = avatar(*frame(capture))
    sum(
        getattr(gaussians, n).square().sum() for n in ("means", "quaternions", "scales", "opacities", "features")
    ).backward()
    empty = [name for name, p in avatar.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert empty == []


@torch.no_grad()
def test_a_linear_decoder_gives_each_gaussian_its_feature_times_one_matrix():
    decoder = LinearDecoder(4, 6, 3)
    features, codes = torch.randn(7, 4), torch.randn(2, 6)
    assert not decoder(codes).any()  # the untrained avatar is its canonical self
    torch.nn.init.normal_(decoder.bases.weight)
    torch.nn.init.normal_(decoder.bases.bias)
    values = features @ decoder(codes)
    for b, code in enumerate(codes):
        matrix = (decoder.bases.weight @ code + decoder.bases.bias).view(4, 3)
        for n, feature in enumerate(features):
            torch.testing.assert_close(values[b, n], sum(feature[k] * matrix[k] for k in range(4)))
    torch.testing.assert_close((2 * features) @ decoder(codes), 2 * values)


@torch.no_grad()
def test_parts_of_the_change_by_expression_are_what_the_whole_has(avatar, capture):
    code = avatar.code(frame(capture, 2)[0])
    near = avatar._blend.near
    whole = avatar.by_expression(avatar.feature[near], avatar._blend.near_encoded, code)
    moved = avatar.displacement(avatar.feature[near], avatar._blend.near_encoded, code)
    torch.testing.assert_close(moved, whole[..., :3])
    torch.testing.assert_close(avatar.colour_change(avatar.feature[near], code), whole[..., 11:])
    assert moved.abs().max() > 0


def test_wrong_expression_width_is_named(avatar, capture):
    _expression, pose, scale = frame(capture)
    with pytest.raises(RafError, match=r"64 channels.*trained on 52"):
        avatar(torch.zeros(1, 64), pose, scale)


def test_hull_lies_on_the_ball(capture):
    canonical = initialise(capture, replace(TINY, face_share=0.0), [0, 1, 2, 3])
    radius = canonical.xyz[: TINY.points - TINY.mouth_points].norm(dim=1)
    assert radius.median() == pytest.approx(RADIUS, abs=0.25) and radius.min() > 0.3
    assert canonical.xyz.shape == (TINY.points, 3)


def test_numbers_of_gaussians_that_cannot_be_trained_are_named(capture):
    for points, mouth, words in (
        (3, 0, r"AvatarConfig\.points is 3, expected at least 4"),
        (20, 21, r"AvatarConfig\.mouth_points is 21, expected at most points, 20"),
    ):
        with pytest.raises(RafError, match=words):
            initialise(capture, replace(TINY, points=points, mouth_points=mouth), [0, 1, 2, 3])
    least = initialise(capture, replace(TINY, points=4, mouth_points=0), [0, 1, 2, 3])
    assert torch.isfinite(least.log_scale).all()


@pytest.mark.parametrize("width", [1, 31])
def test_an_odd_number_of_features_can_be_trained(capture, width):
    config = replace(TINY, feature_dim=width, exp_linear=False)
    made = GaussianAvatar(config, initialise(capture, config, [0, 1, 2, 3]))
    made(*frame(capture)).features.sum().backward()
    assert made.feature.shape == made.feature.grad.shape == (TINY.points, width)


def test_a_share_of_the_gaussians_lies_on_the_face(capture):
    front = np.flatnonzero(capture.neutral[:, 2] < -0.3)  # a face is an open surface, as the ball's front is
    groups = {name: tuple(range(len(front))) for name in capture.groups} | {"lips": (0, 1, 2, 3)}
    landmarks, neutral = capture.landmarks[:, front], capture.neutral[front]
    face = replace(capture, landmarks=landmarks, neutral=neutral, groups=groups)
    canonical = initialise(face, replace(TINY, face_share=0.5), [0, 1, 2, 3])
    count = TINY.points - TINY.mouth_points
    assert canonical.xyz.shape == (TINY.points, 3)
    on_face = canonical.xyz[count // 2 : count]
    assert (on_face[:, 2] < -0.2).all() and on_face.norm(dim=1).min() > 0.8 and on_face.norm(dim=1).max() < 1.1
    hull = torch.cdist(canonical.xyz[: count // 2], torch.from_numpy(neutral)).min(1).values
    assert hull.min() > 0.15 - 1e-6  # silhouettes leave the face to its landmarks


def talking(capture, moving):
    """The capture with landmarks `moving` that fall by up to 0.2 dm with the first expression channel."""
    landmarks = capture.landmarks.copy()
    rotation = axis_angle_to_matrix(torch.from_numpy(capture.pose[:, :3])).numpy()
    down = 0.1 * 0.2 * capture.expression[:, 0, None] * rotation[:, :, 1]
    landmarks[:, moving] += down[:, None]
    return replace(capture, landmarks=landmarks)


def test_landmarks_teach_the_displacement_network(avatar, capture):
    # A linear decoder moves what has similar features alike: four lips alone are too few of sixty landmarks.
    lips = list(range(len(capture.neutral))) if avatar.config.exp_linear else list(capture.groups["lips"])
    capture = talking(capture, lips)
    rows = np.flatnonzero(capture.train)
    moved = unposed(capture, rows) - torch.from_numpy(capture.neutral)
    torch.testing.assert_close(
        moved[:, lips, 1], torch.from_numpy(0.2 * capture.expression[rows, :1]).repeat(1, len(lips))
    )
    still = [row for row in range(len(capture.neutral)) if row not in lips]
    torch.testing.assert_close(moved[:, still], torch.zeros(len(rows), len(still), 3), atol=1e-5, rtol=0)

    guide = LandmarkGuide(avatar, capture, lambda t, generator: torch.from_numpy(capture.expression)[t])
    generator = torch.Generator().manual_seed(1)
    before = guide.distances(64, generator)[:, lips].mean()
    taught = {id(parameter) for parameter in avatar.expression_networks[0].parameters()}
    others = [(p, p.detach().clone()) for p in avatar.parameters() if id(p) not in taught]
    guide.fit(150, 4e-3, seed=0, progress=False)
    assert guide.distances(64, generator)[:, lips].mean() < 0.3 * before
    for parameter, old in others:
        torch.testing.assert_close(parameter, old, atol=0, rtol=0)


def test_landmarks_are_asked_of_what_conditions_the_frame(avatar, capture):
    asked = []

    def condition(t, generator):
        asked.append(t)
        return torch.zeros(len(t), 52)

    LandmarkGuide(avatar, capture, condition).distances(8, torch.Generator().manual_seed(0))
    assert set(asked[0].tolist()) <= set(np.flatnonzero(capture.train))


def test_relocation_moves_dead_gaussians_beside_living_ones(avatar, capture):
    optimiser = torch.optim.Adam([avatar.xyz, avatar.opacity_logit], lr=1e-3)
    avatar(*frame(capture)).means.square().sum().backward()
    optimiser.step()
    with torch.no_grad():
        avatar.opacity_logit[:10] = -6
    before = avatar.xyz.detach().clone()
    moved = relocate(avatar, optimiser, torch.Generator().manual_seed(0))
    assert moved == 10
    assert (avatar.opacity_logit[:10].sigmoid() > 0.1).all() and (avatar.xyz[:10] != before[:10]).any(1).all()
    torch.testing.assert_close(avatar.xyz[10:], before[10:])
    assert relocate(avatar, optimiser, torch.Generator().manual_seed(0)) == 0
