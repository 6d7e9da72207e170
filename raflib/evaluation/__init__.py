"""Scores of trained avatars: image, expression, pose and landmark metrics (tagged), self- and cross-driving."""

from raflib.evaluation.calibrate import calibrate
from raflib.evaluation.correlation import correlations
from raflib.evaluation.error_budget import ErrorBudget, error_budget
from raflib.evaluation.evaluate import evaluate
from raflib.evaluation.metrics.base import (
    REGISTRY,
    SLOW,
    Metric,
    Target,
    describe,
    measurable_here,
    missing_weights,
    register,
    regressed,
)
from raflib.evaluation.metrics.image import lpips, psnr, ssim
from raflib.evaluation.metrics.mediapipe import expression_distance, landmark_distance, rotation_distance
from raflib.evaluation.options import CONDITIONS, EvaluateOptions, pick_frames
from raflib.evaluation.scoring import KEYS

__all__ = [
    "CONDITIONS",
    "KEYS",
    "REGISTRY",
    "SLOW",
    "ErrorBudget",
    "EvaluateOptions",
    "Metric",
    "Target",
    "calibrate",
    "correlations",
    "describe",
    "error_budget",
    "evaluate",
    "expression_distance",
    "landmark_distance",
    "lpips",
    "measurable_here",
    "missing_weights",
    "pick_frames",
    "psnr",
    "register",
    "regressed",
    "rotation_distance",
    "ssim",
]
