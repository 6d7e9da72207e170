"""All settings: a frozen dataclass for each stage, and named profiles.

Profiles: `tiny` runs in seconds and proves that the code path works; `demo` is sized for a laptop CPU and gives numbers
worth reading; `gpu` trains networks of the published sizes on 512² images in about ten minutes on one data-centre GPU;
`paper` holds the settings of the published avatar (Xu et al. 2024; RAF §5) and needs a GPU and days.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from raflib.errors import RafError, finite, whole

PROFILES = ("tiny", "demo", "gpu", "paper")
SEEDS = (0, 2**32 - 1)
"""Smallest and largest seed: what NumPy and PyTorch both take, also multiplied by a number of steps."""
MANY = 10**9
NETWORKS = ("exp_color", "pose_color", "exp_attributes", "pose_attributes", "exp_deform", "pose_deform")
"""Fields of `AvatarConfig` with the hidden widths of the six networks."""
WIDTH = (1, 4096)
RANGES: dict[str, tuple[float, float]] = {
    "points": (1, 10**7), "mouth_points": (0, 10**7), "expression_dim": WIDTH, "feature_dim": WIDTH,
    "colour_channels": (3, 512), "frequencies": (0, 32), "pose_frequencies": (0, 32), "upsampler_capacity": WIDTH,
    **dict.fromkeys((*NETWORKS, "hidden"), WIDTH),
    "near": (0, MANY), "far": (0, MANY), "initial_opacity": (1e-6, 1 - 1e-6), "initial_spread": (1e-6, MANY),
    "face_share": (0, 1), "blur": (0, MANY), "pose_gain": (-MANY, MANY),
    "grid": (4, 1024), "focus": (1, 100), "batch": (1, MANY), "refresh": (1, MANY), "opacity": (1e-6, 1),
    "size": (1, 16_384), "steps": (0, MANY), "cameras": (1, MANY), "views_per_frame": (1, MANY),
    "views_per_step": (1, MANY), "favour_expressive": (0, 1), "seed": SEEDS, "decay": (1e-12, 1e12),
    "perceptual_every": (1, MANY), "perceptual_crop": (1, 16_384), "checkpoint_every": (1, MANY),
    "epochs": (1, 10**6), "betas": (0, 1 - 1e-6),
}  # fmt: skip
"""Smallest and largest value of numeric fields, the same in all stages; fields not listed are 0 or more and finite."""


def check_ranges(config: Any) -> None:
    """RafError naming the first numeric field of a configuration that is of another type, not finite or out of range.

    Numbers of other libraries become Python's own, so that a configuration can be written as JSON.
    """
    for entry in fields(config):
        kind, value = str(entry.type), getattr(config, entry.name)
        low, high = RANGES.get(entry.name, (0, math.inf))
        most = None if math.isinf(high) else int(high)
        name = f"{type(config).__name__}.{entry.name}"
        if kind == "float":
            value = finite(name, value, low, high)
        elif kind == "int" or (kind == "int | None" and value is not None):
            value = whole(name, value, int(low), most)
        elif kind == "tuple[float, float]":
            if len(value) != 2:
                raise RafError(f"{name} is {value!r}; expected two numbers")
            value = tuple(finite(name, item, low, high) for item in value)
        elif kind == "tuple[int, ...]":
            value = tuple(whole(name, item, int(low), most) for item in value)
        else:
            continue
        object.__setattr__(config, entry.name, value)


INITIALISATIONS = ("simple", "guided")
"""Where Gaussians start: at points from masks and landmarks, or on a surface that is learned first."""


@dataclass(frozen=True)
class AvatarConfig:
    """Sizes of the avatar. Defaults are the published model's (Xu et al. 2024).

    Tuples are hidden widths of the six MLPs. `exp_linear` replaces the three that see the expression: what an
    expression changes at a Gaussian is then the Gaussian's feature times a matrix that is linear in the expression, as
    with blendshapes. A step of the demo takes two thirds of the time that small MLPs need. `body` "rigid" carries every
    Gaussian with the head, as published; "blend" learns per Gaussian how far it follows the head, so that the shoulders
    move less, or with the torso where the recording follows it. `canonical_colour` gives each Gaussian a colour that
    the networks then change, instead of networks alone. With `expression_norm` the networks see the expression less its
    training mean, scaled to that RMS norm over the training frames, in any feature space; `pose_gain` multiplies the
    translation. With `live_blend`, blend weights and encodings follow the Gaussians' positions at every step and pass
    gradients to them; without, they are renewed now and then, which is a tenth cheaper with small MLPs. A share
    `face_share` of the Gaussians starts on the surface of the face landmarks; `blur` is the renderer's (pixels²), part
    of how the avatar looks. `upsampling` 4 or 2 ends in a network that makes an image as many times larger of the
    rendered channels, with `upsampler_capacity` channels before its last layer; 1 shows the first three as they are.
    """

    points: int = 30_000  # number of Gaussians
    mouth_points: int = 3_000  # how many of them start in the mouth; published 3,000
    expression_dim: int = 52  # channels of the expression feature; `fit` takes the capture's; published 64 (BFM)
    feature_dim: int = 128  # learned feature of a Gaussian, seen through tanh
    colour_channels: int = 32  # rendered channels, the first three are RGB
    frequencies: int = 4  # of the positional encoding of positions
    pose_frequencies: int = 4  # of the positional encoding of the head pose
    exp_linear: bool = False  # a linear decoder of the expression in place of the three exp_… MLPs
    exp_color: tuple[int, ...] = (256, 256)  # hidden widths: colour from feature and expression
    pose_color: tuple[int, ...] = (128,)  # hidden widths: colour from feature and head pose
    exp_attributes: tuple[int, ...] = (256, 256, 256)  # hidden widths: scale, rotation, opacity from expression
    pose_attributes: tuple[int, ...] = (128, 128)  # hidden widths: the same from head pose
    exp_deform: tuple[int, ...] = (256, 256, 256, 256, 256)  # hidden widths: displacement from position and expression
    pose_deform: tuple[int, ...] = (256, 256)  # hidden widths: displacement from position and head pose
    near: float = 0.1  # dm² (squared distance to the nearest landmark): below, the expression alone moves a Gaussian
    far: float = 0.25  # dm²: beyond, the head pose alone moves it
    deform_scale: float = 0.3  # dm: displacement of a network output of 1
    attribute_scale: float = 0.2  # log scale, quaternion and opacity logit per network output of 1
    initial_opacity: float = 0.3  # 0 to 1
    initial_spread: float = 1.0  # initial size over the distance to the nearest Gaussians
    expression_norm: float = 0.0  # RMS norm over training frames to which the expression is centred and scaled; 0: not
    pose_gain: float = 1.0  # factor on the translation (metres) before the MLPs
    live_blend: bool = True  # blend weights follow positions at every step
    body: str = "rigid"  # "rigid" (published) or "blend": shoulders follow less than the head
    canonical_colour: bool = False  # each Gaussian has a colour of its own, which the MLPs change
    face_share: float = 0.0  # share of Gaussians that start on the face landmarks' surface
    blur: float = 0.3  # pixels², added to a splat's 2-D covariance
    upsampling: int = 4  # factor of the upsampler: 4 (published), 2, or 1 for none
    upsampler_capacity: int = 32  # channels before its last layer

    def __post_init__(self):
        check_ranges(self)
        if self.upsampling not in (1, 2, 4):
            raise RafError(f"AvatarConfig.upsampling is {self.upsampling!r}; choose 1, 2 or 4")
        if self.body not in ("rigid", "blend"):
            raise RafError(f"AvatarConfig.body is {self.body!r}; choose 'rigid' or 'blend'")
        if self.near >= self.far:
            raise RafError(f"AvatarConfig.near is {self.near!r}; expected less than far, {self.far!r}")


@dataclass(frozen=True)
class SurfaceConfig:
    """The geometry-guided start of an avatar, stage 1 of Xu et al. 2024: a signed distance field meshed and rendered.

    The grid has `grid` cells along each axis, `focus` times finer around the face landmarks. The field (hidden widths
    `hidden`; none keeps values at the grid points) is first fitted to what masks and landmarks suggest (`fit_steps` of
    `batch` grid points), then trained on images of `size` pixels for `steps`; the mesh is connected anew every
    `refresh` steps. Rates are Adam's, decayed geometrically to `decay` of themselves. Splats are `spread` × as wide as
    vertices are apart, the Gaussians put there `cover` × their distance, with `opacity`; both are `flatness` of that
    along the normal. Grid, hidden widths and weights are the published ones, the others ours.
    """

    grid: int = 128  # cells along each axis; published 128
    focus: float = 1.0  # how much finer the grid is around the landmarks
    hidden: tuple[int, ...] = (256, 256, 256, 256, 256)  # of the distance field; (): values at grid points
    frequencies: int = 4  # of its positional encoding
    fit_steps: int = 2_000  # steps that fit it to masks and landmarks
    batch: int = 8_192  # grid points of such a step
    steps: int = 20_000  # steps on images
    size: int = 256  # pixels of the rendered images
    refresh: int = 8  # steps between two extractions of the mesh
    rate_fit: float = 1e-3  # Adam's rate while fitting
    rate_field: float = 1e-4  # Adam's rate of the field
    rate_mlp: float = 1e-4  # Adam's rate of the avatar's networks
    decay: float = 1.0  # rate at the end over rate at the start
    opacity: float = 0.3  # of the surface splats and of the Gaussians put there
    spread: float = 0.6  # splat size over distance of vertices
    cover: float = 0.9  # size of a Gaussian over its distance to the next
    flatness: float = 0.1  # thickness along the normal over size
    weight_rgb: float = 0.1  # L1 of colour
    weight_silhouette: float = 0.1  # 1 − IoU of the mask
    weight_landmarks: float = 1.0  # landmark distances (dm)
    weight_offset: float = 1e-2  # squared displacement (dm²)
    weight_distance: float = 0.1  # |signed distance| at the landmarks (dm)
    weight_laplacian: float = 100.0  # uniform Laplacian of the mesh

    def __post_init__(self):
        check_ranges(self)


@dataclass(frozen=True)
class TrainConfig:
    """How an avatar is trained. Rates are Adam's, decayed geometrically to `decay` of themselves over all steps.

    `steps` is the number of training steps. None follows `epochs`, which are counted as in the published code: an epoch
    shows each training frame once, in one step (`total_steps`).
    `size` is the rendered one in pixels; images are `avatar.upsampling` times as large. `cameras` are chosen "spread"
    over the rig or nearest to the front ("frontal"). A step looks at one frame through `views_per_step` of its
    `views_per_frame` cameras: the networks run once for all of them. The landmark term comes alone first, for
    `landmark_steps`, then beside every step with `weight_landmarks`. Before an upsampler, render and image are scaled
    by a factor within `zoom`. At most `cache_gib` GiB of images stay in memory; it changes no result. `precision`
    "bfloat16" computes upsampler and perceptual network in that, `compile` compiles the upsampler; both are for CUDA.
    `surface` starts the Gaussians on a learned surface; None starts them where masks and landmarks say
    (`raflib.training.start.initialise`).
    """

    avatar: AvatarConfig = field(default_factory=AvatarConfig)  # sizes of the avatar
    surface: SurfaceConfig | None = None  # a learned start, or None
    size: int = 512  # rendered pixels; images are `avatar.upsampling` times larger
    steps: int | None = None  # training steps; None: as many as `epochs` make
    epochs: int = 500  # where steps is None: how often each training frame is shown; published 500
    cameras: int = 16  # how many cameras are used
    camera_choice: str = "spread"  # "spread" over the rig or "frontal"
    views_per_frame: int = 16  # cameras sampled for each frame
    views_per_step: int = 1  # of these, how many one step renders
    favour_expressive: float = 0.0  # 0: frames equally often, 1: in proportion to their distance from the mean
    seed: int = 0  # of weights, order of images and sampler
    rate_mlp: float = 1e-4  # six MLPs; published
    rate_upsampler: float = 1e-4  # published
    rate_xyz: float = 1e-5  # positions (dm); published
    rate_feature: float = 1e-5  # published
    rate_rotation: float = 1e-5  # quaternions; published
    rate_scale: float = 3e-5  # log scales; published
    rate_opacity: float = 1e-4  # opacity logits; published
    rate_colour: float = 1e-4  # colours of `canonical_colour`
    rate_body: float = 1e-2  # how far a Gaussian follows the head
    rate_pose: float = 1e-5  # per-frame pose corrections; published
    rate_background: float = 5e-3  # the image behind the person
    decay: float = 1.0  # rate at the end over rate at the start; published: no decay
    warm_up: int = 0  # steps over which the rates rise from zero; published: none
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's memory of gradients and of their squares; published
    epsilon: float = 1e-8  # added to the root of Adam's squared gradients; published
    weight_decay: float = 0.0  # of the matrix of `avatar.exp_linear`, a share of the rate; published: none
    zoom: tuple[float, float] = (0.8, 1.25)  # smallest and largest factor of the augmentation; published
    weight_l1: float = 1.0  # L1 of the rendered channels
    weight_fine: float = 1.0  # L1 of the upsampled image
    weight_face: float = 0.0  # extra weight inside the face box
    weight_gradient: float = 0.0  # L1 of image gradients
    weight_perceptual: float = 0.1  # perceptual distance; published 0.1
    weight_landmarks: float = 0.0  # landmark distances (dm)
    landmark_steps: int = 0  # steps of that term alone, before the first image
    perceptual_net: str = "vgg"  # "vgg" (published) or "alex"
    perceptual_every: int = 1  # steps between two perceptual terms, which then count that often
    perceptual_crop: int = 512  # pixels of the square it sees; published 512
    relocate_every: int = 0  # steps between two relocations of useless Gaussians; 0: never
    checkpoint_every: int = 2_000  # steps
    cache_gib: float = 2.5  # GiB of images in memory; changes no result
    precision: str = "float32"  # "bfloat16" for upsampler and perceptual network, on CUDA
    compile: bool = False  # compile the upsampler, on CUDA

    def __post_init__(self):
        check_ranges(self)
        if self.camera_choice not in ("spread", "frontal"):
            raise RafError(f"TrainConfig.camera_choice is {self.camera_choice!r}; choose 'spread' or 'frontal'")
        if self.perceptual_net not in ("vgg", "alex"):
            raise RafError(f"TrainConfig.perceptual_net is {self.perceptual_net!r}; choose 'vgg' or 'alex'")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise RafError(f"TrainConfig.zoom is {self.zoom!r}; expected two scales above 0, the smaller first")
        if not 1 <= self.views_per_step <= self.views_per_frame:
            raise RafError(
                f"TrainConfig.views_per_step is {self.views_per_step!r}; expected 1 to views_per_frame, "
                f"{self.views_per_frame}"
            )
        if self.precision not in ("float32", "bfloat16"):
            raise RafError(f"TrainConfig.precision is {self.precision!r}; choose 'float32' or 'bfloat16'")
        if self.compile and self.avatar.upsampling == 1:
            raise RafError("TrainConfig.compile is for the upsampler, and avatar.upsampling is 1; leave it off")

    def total_steps(self, frames: int) -> int:
        """The number of training steps on a capture of `frames` training frames: `steps`, or `epochs` · `frames`."""
        return self.epochs * frames if self.steps is None else self.steps


_DEMO_AVATAR = AvatarConfig(
    points=12_000, mouth_points=600, feature_dim=32, colour_channels=3,
    exp_linear=True, pose_color=(16,), pose_attributes=(16,), pose_deform=(32,),
    initial_spread=0.5, expression_norm=2.0, pose_gain=10.0, live_blend=False, body="blend",
    canonical_colour=True, frequencies=6, pose_frequencies=1,
    deform_scale=0.1, attribute_scale=0.5, face_share=0.5, blur=0.1, upsampling=1,
)  # fmt: skip
_DEMO = TrainConfig(
    avatar=_DEMO_AVATAR, size=192, steps=6_900, cameras=8, camera_choice="frontal", views_per_frame=2, views_per_step=2,
    favour_expressive=1.0,
    rate_mlp=6e-3, rate_xyz=8e-3, rate_feature=1e-2, rate_rotation=2e-2, rate_scale=4e-2, rate_opacity=0.12,
    rate_colour=2e-2, rate_body=3e-2, rate_pose=0.0, decay=0.02, warm_up=50, betas=(0.9, 0.99), epsilon=1e-15,
    weight_decay=1.0,
    weight_face=15.0, weight_gradient=1.5, weight_landmarks=0.5, landmark_steps=300,
    weight_perceptual=0.05, perceptual_net="alex", perceptual_every=64, perceptual_crop=96, relocate_every=200,
)  # fmt: skip
_TINY_AVATAR = replace(_DEMO_AVATAR, points=1_500, mouth_points=100)
_GPU_AVATAR = replace(
    _DEMO_AVATAR, points=40_000, mouth_points=3_000,
    **{name: getattr(AvatarConfig(), name) for name in ("feature_dim", "exp_linear", "deform_scale", *NETWORKS)},
)  # fmt: skip
# 12,000 steps are ten minutes at 20 steps a second. This speed is an assumption for one A100 or better, not measured.
_GPU = replace(
    _DEMO, avatar=_GPU_AVATAR, size=512, steps=12_000, views_per_frame=4, rate_mlp=5e-4, weight_decay=0.0,
    landmark_steps=1_000, perceptual_net="vgg", perceptual_every=8, perceptual_crop=256, weight_perceptual=0.1,
)  # fmt: skip
_TRAIN = {
    "tiny": replace(
        _DEMO, avatar=_TINY_AVATAR, size=64, steps=60, cameras=4, perceptual_crop=64,
        relocate_every=30, checkpoint_every=25, landmark_steps=20,
    ),
    "demo": _DEMO,
    "gpu": _GPU,
    "paper": TrainConfig(),
}  # fmt: skip
_DEMO_SURFACE = SurfaceConfig(
    grid=24, focus=3.0, hidden=(), steps=100, size=96, refresh=8, rate_field=2e-3, rate_mlp=4e-3, decay=0.1,
    opacity=0.8,
)  # fmt: skip
_GUIDED: dict[str, dict[str, Any]] = {
    "tiny": {"surface": replace(_DEMO_SURFACE, grid=16, steps=20, size=48)},
    "demo": {"surface": _DEMO_SURFACE, "steps": 6_790},  # fewer, so that either start takes as long
    "gpu": {"surface": replace(_DEMO_SURFACE, grid=48, steps=500, size=192)},
    "paper": {"surface": SurfaceConfig()},
}
_OWN = {"tiny": "simple", "demo": "simple", "gpu": "simple", "paper": "guided"}


def train_config(profile: str, initialisation: str = "", **changes: Any) -> TrainConfig:
    """The profile's training configuration with some fields changed; unknown profiles and fields are errors.

    `initialisation` is "simple" or "guided" (sets `surface`, and the steps that make up for its time); "" is the
    profile's own.
    """
    if profile not in _TRAIN:
        raise RafError(f"profile {profile!r} is not known; choose one of {', '.join(PROFILES)}")
    unknown = set(changes) - {f.name for f in fields(TrainConfig)}
    if unknown:
        raise RafError(f"training has no setting {', '.join(sorted(unknown))}; see raflib.config.TrainConfig")
    start = initialisation or _OWN[profile]
    if start not in INITIALISATIONS:
        raise RafError(f"initialisation is {start!r}; choose one of {', '.join(INITIALISATIONS)}")
    return replace(_TRAIN[profile], **{**(_GUIDED[profile] if start == "guided" else {}), **changes})


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain values that JSON can hold."""
    return asdict(config)


def train_config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Inverse of `to_dict`; a checkpoint of other fields is an error that lists them."""
    plain = dict(values)
    for name, cls in (("avatar", AvatarConfig), ("surface", SurfaceConfig)):
        if plain.get(name) is not None:
            plain[name] = _from_fields(cls, plain[name])
    return _from_fields(TrainConfig, plain)


def _from_fields(cls: type, values: Mapping[str, Any]) -> Any:
    expected = {f.name for f in fields(cls)}
    if set(values) != expected:
        odd = ", ".join(sorted(set(values) ^ expected))
        raise RafError(f"stored {cls.__name__} differs in the fields {odd}; it was written by another version")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
