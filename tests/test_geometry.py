"""The conventions hold: rotations round-trip, cameras project as defined, alignment and triangulation are inverse."""

import numpy as np
import pytest
import torch
from synthetic import ring_of_cameras

from raflib.errors import RafError
from raflib.geometry import (
    Camera,
    axis_angle_to_matrix,
    compose_pose,
    farthest_row,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    nearest_rotation,
    quaternion_multiply,
    quaternion_to_matrix,
    rigid_align,
    transform_points,
    triangulate,
)


@pytest.fixture
def rotations():
    generator = torch.Generator().manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(64, 3, generator=generator, dtype=torch.float64), dim=-1)
    return axis * torch.linspace(0, 3.1, 64, dtype=torch.float64)[:, None]


def test_axis_angle_round_trip_and_matches_the_exponential(rotations):
    matrix = axis_angle_to_matrix(rotations)
    x, y, z = rotations.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    torch.testing.assert_close(matrix, torch.linalg.matrix_exp(cross))
    torch.testing.assert_close(matrix_to_axis_angle(matrix), rotations, atol=1e-7, rtol=0)


def test_rotation_gradient_is_finite_at_zero():
    zero = torch.zeros(3, requires_grad=True)
    axis_angle_to_matrix(zero)[0, 1].backward()
    torch.testing.assert_close(zero.grad, torch.tensor([0.0, 0.0, -1.0]))


def test_quaternions_are_wxyz_and_compose_like_matrices(rotations):
    matrix = axis_angle_to_matrix(rotations)
    quaternion = matrix_to_quaternion(matrix)
    half = rotations.norm(dim=-1) / 2
    torch.testing.assert_close(quaternion[:, 0], half.cos())
    torch.testing.assert_close(quaternion_to_matrix(3 * quaternion), matrix)
    product = quaternion_multiply(quaternion[:32], quaternion[32:])
    torch.testing.assert_close(quaternion_to_matrix(product), matrix[:32] @ matrix[32:])


def test_pixel_centres_lie_at_one_half():
    camera = Camera("c", np.eye(4), np.array([[100.0, 0, 32], [0, 100.0, 24], [0, 0, 1]]), 64, 48)
    np.testing.assert_allclose(camera.project(np.array([0.0, 0.0, 2.0])), [32, 24])
    np.testing.assert_allclose(camera.project(np.array([0.1, -0.1, 2.0])), [37, 19])
    assert np.isnan(camera.project(np.array([0.0, 0.0, -1.0]))).all()
    np.testing.assert_allclose(camera.resized(128).project(np.array([0.1, -0.1, 2.0])), [74, 38])
    np.testing.assert_allclose(camera.cropped(10, 5, 20, 20).project(np.array([0.1, -0.1, 2.0])), [27, 14])


def test_a_bad_camera_is_named():
    with pytest.raises(RafError, match=r"cam7.*extrinsic"):
        Camera("cam7", np.full((4, 4), np.nan), np.eye(3), 8, 8)


def test_alignment_recovers_a_similarity_and_refuses_mirrors():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(30, 3))
    rotation = axis_angle_to_matrix(torch.tensor([0.3, -1.0, 0.4], dtype=torch.float64)).numpy()
    found, shift, scale = rigid_align(source, 1.7 * source @ rotation.T + [1, 2, 3], with_scale=True)
    np.testing.assert_allclose(found, rotation, atol=1e-12)
    np.testing.assert_allclose(shift, [1, 2, 3], atol=1e-12)
    assert scale == pytest.approx(1.7)
    mirrored, _, _ = rigid_align(source, source * [-1, 1, 1])
    assert np.linalg.det(mirrored) == pytest.approx(1.0)


def test_the_nearest_rotation_is_the_polar_factor_and_never_a_mirror(rotations):
    """R · S with S symmetric and positive has R nearest, and so it has where S mirrors its weakest axis."""
    generator = np.random.default_rng(0)
    turns = axis_angle_to_matrix(rotations).numpy()
    root = generator.normal(size=(64, 3, 3))
    stretch = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(3)
    np.testing.assert_allclose(nearest_rotation(turns @ stretch), turns, atol=1e-9)
    np.testing.assert_allclose(nearest_rotation(turns @ np.diag([3.0, 2.0, -1.0])), turns, atol=1e-9)


def test_triangulation_inverts_projection_and_ignores_weightless_views():
    rng = np.random.default_rng(1)
    points = rng.uniform(-0.1, 0.1, (20, 3))
    cameras = ring_of_cameras(4, 256)
    pixels = np.stack([camera.project(points) for camera in cameras])
    np.testing.assert_allclose(triangulate(pixels, cameras), points, atol=1e-9)
    pixels[2] += 50
    weights = np.ones((4, 20))
    weights[2] = 0
    np.testing.assert_allclose(triangulate(pixels, cameras, weights), points, atol=1e-9)
    weights[1:, 3] = 0
    lonely = triangulate(pixels, cameras, weights)
    assert np.isnan(lonely[3]).all() and np.isfinite(lonely[4]).all()
    with pytest.raises(RafError, match="4 views of points but 3 cameras"):
        triangulate(pixels, cameras[:3])


def test_composed_pose_applies_inner_first():
    generator = torch.Generator().manual_seed(2)
    inner, outer = torch.randn(2, 1, 6, generator=generator, dtype=torch.float64) * 0.5
    points = torch.randn(1, 7, 3, generator=generator, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    twice = transform_points(transform_points(points, inner, one), outer, one)
    torch.testing.assert_close(transform_points(points, compose_pose(outer, inner), one), twice)


def test_the_farthest_row_is_far_from_all_chosen_ones():
    points = np.array([[0.0, 0], [1, 0], [5, 0], [5, 4], [0, 4], [0, 4]])
    assert farthest_row(points, [0]) == 3
    assert farthest_row(points, [0, 3]) == 2, "of equally far rows the first"
    assert farthest_row(points, [0, 3], np.array([1, 5, 2])) == 5
