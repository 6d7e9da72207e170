"""Stage 1: watertight meshes with true gradients, a surface that silhouettes and landmarks shape, Gaussians on it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import RADIUS, ball_capture, dying_at, training

from raflib.avatar import GaussianAvatar
from raflib.config import PROFILES, SurfaceConfig, to_dict, train_config, train_config_from_dict
from raflib.errors import RafError
from raflib.geometry import quaternion_to_matrix
from raflib.runs import load_tensors
from raflib.sampler import Vanilla
from raflib.training import fit
from raflib.training.data import TrainingImages
from raflib.training.landmark_term import LandmarkGuide
from raflib.training.start import guided, initialise
from raflib.training.start.distance import first_distances, head_grid
from raflib.training.start.field import NetworkField, TableField
from raflib.training.start.surface import Surface, flat
from raflib.training.start.tetrahedra import TetrahedralGrid, uniform_laplacian, vertex_normals, vertex_spacing

SMALL = SurfaceConfig(
    grid=12, hidden=(), steps=40, size=32, refresh=4, rate_field=1e-2, rate_mlp=4e-3, opacity=0.8, focus=1.5
)
CONFIG = train_config(
    "tiny", size=48, steps=20, views_per_frame=2, checkpoint_every=8, relocate_every=10, weight_perceptual=0.0,
    favour_expressive=0.0, landmark_steps=5, surface=SMALL,
)  # fmt: skip
CONFIG = replace(CONFIG, avatar=replace(CONFIG.avatar, points=400, mouth_points=20))
VIEWS = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def capture():
    """The ball with landmarks on its front alone: a face is an open surface."""
    ball = ball_capture()
    front = np.flatnonzero(ball.neutral[:, 2] < -0.3)
    groups = {name: tuple(range(len(front))) for name in ball.groups} | {"lips": (0, 1, 2, 3)}
    return replace(ball, landmarks=ball.landmarks[:, front], neutral=ball.neutral[front], groups=groups)


def stage(capture, config):
    """Return avatar, images and landmark guide, as a training gives them to stage 1."""
    torch.manual_seed(0)
    avatar = GaussianAvatar(config.avatar, initialise(capture, config.avatar, VIEWS))
    condition = Vanilla().bind(capture.expression, capture.subject, capture.feature_space)
    return avatar, TrainingImages(capture, VIEWS, config), LandmarkGuide(avatar, capture, condition)


def learned(capture, config=CONFIG):
    avatar, images, guide = stage(capture, config)
    return avatar, guided.learn_surface(avatar, capture, images, guide, config, VIEWS, progress=False)


# --- marching tetrahedra --------------------------------------------------------------------------------------------


def graded(cells):
    """A grid around the unit ball whose spacing varies by three along each axis."""
    axis = torch.linspace(-1, 1, cells + 1)
    return TetrahedralGrid(*(1.3 * (0.5 * axis + 0.5 * axis**3) + shift for shift in (0.02, -0.03, 0.01)))


@pytest.mark.parametrize("grid", [TetrahedralGrid.regular([-1.3] * 3, [1.2] * 3, 20), graded(24)])
def test_a_ball_becomes_a_closed_surface_facing_outwards(grid):
    mesh = grid.march(grid.points.norm(dim=1) - 1, grid.points)
    faces, count = mesh.faces, len(mesh.vertices)
    directed = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, uses = torch.unique(directed, dim=0, return_counts=True)
    edges, shared = torch.unique(directed.sort(1).values, dim=0, return_counts=True)
    assert (uses == 1).all() and (shared == 2).all()  # each edge has two triangles, with opposite directions
    assert count - len(edges) + len(faces) == 2 and len(faces.unique()) == count
    assert len(torch.unique(mesh.vertices, dim=0)) == count  # one vertex a crossing edge
    assert ((vertex_normals(mesh.vertices, faces) * mesh.vertices).sum(1) > 0.97).all()
    torch.testing.assert_close(mesh.features, mesh.vertices, atol=1e-6, rtol=0)
    area = vertex_spacing(mesh.vertices, faces).square().sum()
    assert area == pytest.approx(4 * np.pi, rel=0.03)


def test_vertices_and_volume_converge_quadratically():
    errors, volumes = [], []
    for cells in (10, 20, 40):
        grid = TetrahedralGrid.regular([-1.3] * 3, [1.2] * 3, cells)
        mesh = grid.march(grid.points.norm(dim=1) - 1)
        errors.append(float((mesh.vertices.norm(dim=1) - 1).abs().max()))
        a, b, c = mesh.vertices[mesh.faces].unbind(1)
        volumes.append(abs(float((torch.linalg.cross(a, b) * c).sum() / 6) - 4 / 3 * np.pi))
    for values in (errors, volumes):
        assert values[0] / values[1] > 3 and values[1] / values[2] > 3
    assert errors[2] < 0.5 * (2.5 / 40) ** 2


def test_gradients_are_true():
    axes = [torch.linspace(0, 1, 3, dtype=torch.float64) for _ in range(3)]
    grid = TetrahedralGrid(*axes)
    generator = torch.Generator().manual_seed(3)
    distance = grid.points.norm(dim=1) - 0.7 + 0.05 * torch.randn(27, generator=generator, dtype=torch.float64)
    points = grid.points + 0.05 * torch.randn(27, 3, generator=generator, dtype=torch.float64)
    features = torch.randn(27, 2, generator=generator, dtype=torch.float64)

    def parts(*given):
        mesh = grid.march(given[0], given[1], given[2])
        return mesh.vertices, mesh.features, uniform_laplacian(mesh.vertices, mesh.faces)

    torch.autograd.gradcheck(parts, [v.requires_grad_() for v in (distance, features, points)])


def test_a_sign_that_changed_leaves_the_vertex_at_the_end_of_its_edge():
    grid = TetrahedralGrid.regular([0.0] * 3, [1.0] * 3, 2)
    distance = grid.points[:, 2] - 0.3
    found = grid.topology(distance < 0)
    mesh = found.mesh(distance[found.ends] - 0.4, grid.points[found.ends], grid.points[found.ends])
    assert (mesh.vertices[:, 2] > 0.499).all() and (mesh.vertices[:, 2] <= 0.5).all()


def test_grids_and_fields_without_a_surface_are_refused():
    grid = TetrahedralGrid.regular([0.0] * 3, [1.0] * 3, 2)
    with pytest.raises(RafError, match="does not change its sign"):
        grid.march(torch.ones(27))
    with pytest.raises(RafError, match="not a number"):
        grid.march(torch.full((27,), float("nan")))
    with pytest.raises(RafError, match="27 points"):
        grid.march(torch.ones(26))
    with pytest.raises(RafError, match="along y"):
        TetrahedralGrid(torch.arange(3.0), torch.zeros(3), torch.arange(3.0))


def test_points_are_located_in_their_cubes():
    grid = graded(6)
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    rows, weight = grid.locate(points)
    torch.testing.assert_close((grid.points[rows] * weight[..., None]).sum(1), points, atol=1e-5, rtol=0)
    rows, weight = grid.locate(torch.tensor([[9.0, -9.0, 0.0]]))
    assert (grid.points[rows] * weight[..., None]).sum(1)[0, :2].tolist() == pytest.approx([1.32, -1.33], abs=1e-5)
    assert grid.border.sum() == 7**3 - 5**3


def test_the_laplacian_of_a_flat_regular_mesh_is_zero_inside():
    side = torch.arange(36).view(6, 6)
    a, b, c, d = (part.reshape(-1) for part in (side[:-1, :-1], side[1:, :-1], side[1:, 1:], side[:-1, 1:]))
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    vertices = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0))
    vertices = torch.nn.functional.pad(vertices, (0, 1)) @ torch.linalg.qr(torch.randn(3, 3)).Q
    laplacian = uniform_laplacian(torch.cat([vertices, torch.ones(1, 3)]), faces)
    torch.testing.assert_close(laplacian[side[1:-1, 1:-1].reshape(-1)], torch.zeros(16, 3), atol=1e-5, rtol=0)
    assert laplacian[side[0, 1:-1]].norm(dim=1).min() > 0.1 and (laplacian[-1] == 0).all()


# --- the surface ----------------------------------------------------------------------------------------------------


def test_splats_are_flat_along_the_normal():
    normals = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    normals = torch.cat([normals, torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])])
    quaternion, size = flat(normals, torch.full((53,), 0.2), 0.1)
    along = (quaternion_to_matrix(quaternion)[:, :, 2] * normals).sum(1)
    torch.testing.assert_close(along.abs(), torch.ones(53))
    torch.testing.assert_close(size, torch.tensor([0.2, 0.2, 0.02]).expand(53, 3))


def test_first_distances_follow_masks_and_landmarks(capture):
    grid = head_grid(capture, replace(SMALL, grid=20), VIEWS)
    distance, colour = first_distances(capture, grid, VIEWS)
    truth = grid.points.norm(dim=1) - RADIUS
    assert (distance[grid.border] > 0).all()
    front = (grid.points[:, :2].norm(dim=1) < 0.6) & (grid.points[:, 2] < 0)
    assert (distance - truth)[front & (truth.abs() < 0.3)].abs().mean() < 0.12
    assert colour[(truth < 0)].min() >= 0 and colour.max() <= 1
    x = grid.axes[0].diff()
    assert x.max() / x.min() == pytest.approx(1.5, rel=0.35)  # finer around the face


def test_one_view_starts_from_a_skull(capture):
    grid = head_grid(capture, SMALL, [1])
    distance, _ = first_distances(capture, grid, [1])
    mesh = grid.march(distance)
    assert mesh.vertices.isfinite().all() and len(mesh.vertices) > 100


def test_a_capture_without_masks_is_named(capture):
    class Blank:
        image = staticmethod(capture.frames.image)

        def mask(self, t, c):
            return np.zeros((48, 48), np.uint8)

    empty = replace(capture, frames=Blank())
    with pytest.raises(RafError, match=r"900.*no point"):
        first_distances(empty, head_grid(empty, SMALL, VIEWS), VIEWS)


def test_the_network_is_fitted_to_the_first_distances(capture):
    config = replace(SMALL, hidden=(32, 32), fit_steps=150, batch=512, rate_fit=1e-2)
    grid = head_grid(capture, config, VIEWS)
    distance, colour = first_distances(capture, grid, VIEWS)
    torch.manual_seed(0)
    field = NetworkField(grid, config, 8, 3)
    assert [layer.in_features for layer in field.layers] == [27, 32, 32 + 27]
    landmarks = torch.from_numpy(capture.neutral)
    field.start(distance, colour, landmarks, torch.Generator().manual_seed(0))
    agree = (field.distances() < 0) == (distance < 0)
    assert agree.float().mean() > 0.95
    rows = torch.arange(len(distance))[distance.abs() < 0.2]
    found, shift, feature, painted = field.at_grid(rows)
    assert (found - distance[rows]).abs().mean() < 0.06 and shift.abs().max() < 0.2 and feature.shape[1] == 8
    assert (painted - colour[rows]).abs().mean() < 0.2


def test_published_field_sizes(capture):
    avatar = train_config("paper").avatar
    assert (SurfaceConfig().grid, SurfaceConfig().hidden) == (128, (256,) * 5)
    field = NetworkField(TetrahedralGrid.regular([0.0] * 3, [1.0] * 3, 2), SurfaceConfig(), avatar.feature_dim, 0)
    shapes = [(layer.in_features, layer.out_features) for layer in field.layers]
    assert shapes == [(27, 256), (256, 256), (256, 256), (256 + 27, 256), (256, 256), (256, 132)]


def test_a_table_keeps_values_and_is_linear_between(capture):
    grid = TetrahedralGrid.regular([-1.0] * 3, [1.0] * 3, 4)
    field = TableField(grid, 6, 3)
    field.start(grid.points[:, 0] * 0.3, grid.points, torch.zeros(1, 3), torch.Generator().manual_seed(0))
    distance, _, feature, colour = field.at(torch.tensor([[0.1, 0.2, -0.3]]))
    torch.testing.assert_close(distance, torch.tensor([0.03]))
    torch.testing.assert_close(colour, torch.tensor([[0.1, 0.2, -0.3]]))
    assert feature.shape == (1, 6) and feature.abs().max() > 0


def test_pictures_shape_the_surface(capture, monkeypatch):
    """The silhouette term falls, and the sides of the surface come nearer to the ball than those of the hull."""

    def values(parts):
        return {name: float(value.detach()) for name, value in parts.items()}

    seen, total = [], guided.total
    monkeypatch.setattr(guided, "total", lambda parts, config: seen.append(values(parts)) or total(parts, config))
    _, surface = learned(capture, replace(CONFIG, surface=replace(SMALL, steps=80)))
    assert set(seen[0]) == {"rgb", "silhouette", "landmarks", "offset", "distance", "laplacian"}
    for name, share in (("rgb", 0.8), ("silhouette", 0.9), ("distance", 1.0)):
        first, last = (np.mean([parts[name] for parts in rows]) for rows in (seen[:10], seen[-10:]))
        assert last < share * first, name
    mesh = surface.mesh()
    side = (mesh.vertices[:, 2].abs() < 0.4) & (mesh.vertices[:, 1].abs() < 0.5)
    assert (mesh.vertices[side].norm(dim=1) - RADIUS).abs().mean() < 0.12


@pytest.mark.parametrize(
    ("linear", "lent"), [(False, {"exp_color", "exp_deform", "pose_color", "pose_deform"}),
                         (True, {"exp_linear", "pose_color", "pose_deform"})]
)  # fmt: skip
def test_the_avatar_lends_the_networks_that_move_and_colour(capture, linear, lent):
    config = replace(CONFIG, avatar=replace(CONFIG.avatar, exp_linear=linear))
    avatar, images, guide = stage(capture, config)
    before = {name: value.clone() for name, value in avatar.state_dict().items()}
    guided.learn_surface(avatar, capture, images, guide, config, VIEWS, progress=False)
    changed = {
        name.split(".")[0] for name, value in avatar.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == lent


def test_gaussians_are_planted_on_the_surface(capture):
    config = replace(CONFIG, avatar=replace(CONFIG.avatar, face_share=0.5, far=0.1, near=0.05))
    avatar, surface = learned(capture, config)
    before = avatar.xyz.detach().clone()
    guided.plant(avatar, surface, torch.from_numpy(capture.neutral))
    count = config.avatar.points - config.avatar.mouth_points
    torch.testing.assert_close(avatar.xyz[count:], before[count:])
    mesh = surface.mesh()
    assert torch.cdist(avatar.xyz[:count], mesh.vertices).min(1).values.max() < 0.25
    near = torch.cdist(avatar.xyz[:count], avatar.landmarks_neutral).min(1).values.square() < 0.1
    assert near.float().mean() == pytest.approx(0.5, abs=0.1)
    opacity = avatar.opacity_logit.detach().sigmoid()
    assert opacity[:count].mean() == pytest.approx(0.8) and opacity[-1] < 0.5
    thin = (avatar.log_scale[:count, 2] - avatar.log_scale[:count, 0]).exp()
    torch.testing.assert_close(thin, torch.full((count,), SMALL.flatness))
    colours = avatar.colour[:count].detach()
    assert colours.std() > 0.02 and colours.min() > -0.5 and colours.max() < 1.5
    assert avatar._blend.near_encoded.shape[0] == len(avatar._blend.near)


def test_few_gaussians_lie_where_no_camera_looks(capture):
    avatar, surface = learned(capture, replace(CONFIG, avatar=replace(CONFIG.avatar, face_share=0.0)))
    back = torch.tensor([[0.0, 0.0, 1.0]])
    assert surface.seen(back, back) == 0 and surface.seen(-back, -back) == 1
    landmarks = torch.from_numpy(capture.neutral)

    def behind():
        return sum((guided.plant(avatar, surface, landmarks, seed)[:, 2] > 0.5).sum() for seed in range(10))

    few = behind()
    surface.eyes.clear()
    assert few < 0.3 * behind() and behind() > 50


def test_colours_are_those_of_the_views_that_face_the_surface(capture):
    avatar, surface = learned(capture)
    normals = guided.plant(avatar, surface, torch.from_numpy(capture.neutral))
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(len(normals)))
    assert ((normals * avatar.xyz[: len(normals)]).sum(1) > 0).float().mean() > 0.95
    guided.paint(avatar, normals, capture, VIEWS)
    colour = avatar.colour.detach()[: len(normals)]
    front = normals[:, 2] < -0.9  # green is 0.5 · (0.4 + 0.5 · cosine) everywhere on the ball
    assert colour[front, 1].mean() == pytest.approx(0.45, abs=0.05)
    assert avatar.colour[len(normals) :].std(0).max() < 1e-6


def test_the_published_avatar_starts_on_a_surface_too(capture):
    published = replace(
        train_config("paper").avatar, points=300, mouth_points=30, feature_dim=16, colour_channels=8, upsampling=1,
        exp_color=(16,), pose_color=(16,), exp_attributes=(16,), pose_attributes=(16,), exp_deform=(16,) * 5,
        pose_deform=(16, 16),
    )  # fmt: skip
    surface = replace(SMALL, hidden=(24, 24), fit_steps=40, batch=256, steps=6)
    config = replace(CONFIG, avatar=published, surface=surface)
    avatar, found = learned(capture, config)
    guided.plant(avatar, found, torch.from_numpy(capture.neutral))
    assert avatar.colour is None and avatar.follow_logit is None
    assert all(value.isfinite().all() for value in avatar.state_dict().values())
    assert avatar.feature.std() > 0


def test_larger_pictures_than_the_training_has_are_refused(capture):
    with pytest.raises(RafError, match="64 pixels"):
        learned(capture, replace(CONFIG, surface=replace(SMALL, size=64)))


def test_a_configuration_without_a_surface_and_a_surface_without_a_mesh_are_refused(capture):
    with pytest.raises(RafError, match="surface: the configuration has none"):
        learned(capture, replace(CONFIG, surface=None))
    avatar = GaussianAvatar(CONFIG.avatar, initialise(capture, CONFIG.avatar, VIEWS))
    with pytest.raises(RafError, match="surface: it has no mesh yet"):
        Surface(avatar, head_grid(capture, SMALL, VIEWS, 0), SMALL, 0.0).mesh()


# --- in a training --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(capture, tmp_path_factory):
    return fit(capture, Vanilla(), CONFIG, tmp_path_factory.mktemp("runs") / "guided", progress=False)


def test_a_training_starts_on_the_surface(capture, trained):
    assert trained.config == CONFIG and trained.log["psnr"].iloc[-1] > 10
    stored = load_tensors(trained.path / "checkpoint.safetensors")[1]["config"]
    assert train_config_from_dict(stored).surface == SMALL
    assert trained.info["seconds"] > 0


def test_a_killed_training_resumes_to_the_same_bits(capture, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Trainer, "one_step", dying_at(12))
    with pytest.raises(KeyboardInterrupt):
        fit(capture, Vanilla(), CONFIG, tmp_path / "killed", progress=False)
    monkeypatch.undo()

    def twice(*given):
        raise AssertionError("stage 1 ran again")

    monkeypatch.setattr(training, "start_on_surface", twice)
    resumed = fit(capture, Vanilla(), CONFIG, tmp_path / "killed", progress=False)
    for name, value in trained.avatar.state_dict().items():
        assert torch.equal(value, resumed.avatar.state_dict()[name]), name


def test_a_training_of_no_steps_shows_the_start(capture, tmp_path):
    runs = [
        fit(capture, Vanilla(), replace(CONFIG, steps=0, surface=surface), tmp_path / str(surface is None), threads=1)
        for surface in (None, replace(SMALL, steps=60))
    ]
    signals = capture.expression[:1], capture.pose[:1], capture.scale[:1], [capture.cameras[1]]
    truth = capture.image(0, 1) / 255
    simple, learnt = (float(np.abs(run.render(*signals)[0] - truth).mean()) for run in runs)
    assert learnt < 0.7 * simple


def test_the_simple_start_is_another_configuration(capture, trained):
    with pytest.raises(RafError, match="another config"):
        fit(capture, Vanilla(), replace(CONFIG, surface=None), trained.path, progress=False)


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_know_both_starts(profile):
    simple, learnt = (train_config(profile, initialisation=choice) for choice in ("simple", "guided"))
    assert simple.surface is None and isinstance(learnt.surface, SurfaceConfig)
    assert learnt.avatar == simple.avatar and train_config(profile) in (simple, learnt)
    assert train_config(profile, "guided", steps=7).steps == 7
    assert train_config_from_dict(json.loads(json.dumps(to_dict(learnt)))) == learnt
    assert learnt.surface.size <= learnt.size


def test_an_unknown_start_or_field_is_named():
    with pytest.raises(RafError, match=r"'meshed'.*simple, guided"):
        train_config("demo", initialisation="meshed")
    values = to_dict(CONFIG)
    values["surface"]["holes"] = 1
    with pytest.raises(RafError, match=r"SurfaceConfig.*holes"):
        train_config_from_dict(values)
