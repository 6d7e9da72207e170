"""Scores of trained avatars: image, expression, pose and landmark metrics (tagged), self- and cross-driving."""

from raflib.evaluation.calibrate import calibrate
from raflib.evaluation.evaluate import correlations, evaluate
from raflib.evaluation.metrics.base import REGISTRY, Metric, Target, describe, register
from raflib.evaluation.metrics.image import lpips, psnr, ssim
from raflib.evaluation.metrics.mediapipe import expression_distance, landmark_distance, rotation_distance

__all__ = [
    "REGISTRY",
    "Metric",
    "Target",
    "calibrate",
    "correlations",
    "describe",
    "evaluate",
    "expression_distance",
    "landmark_distance",
    "lpips",
    "psnr",
    "register",
    "rotation_distance",
    "ssim",
]
