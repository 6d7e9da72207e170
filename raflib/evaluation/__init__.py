"""Scores of trained avatars: image, expression, pose and landmark metrics (tagged), self- and cross-driving."""

from raflib.evaluation.agreement import tracker_agreement, true_actions
from raflib.evaluation.metrics import REGISTRY, Metric, Target, describe, lpips, psnr, register, ssim
from raflib.evaluation.protocols import BENCHMARK, correlations, evaluate, most_frontal, unseen_drivers
from raflib.evaluation.tracked import calibrate, expression_distance, landmark_distance, rotation_distance
from raflib.evaluation.transfer import frames_to_play, transfer_expression, transfer_pose
from raflib.evaluation.truth import Performed, performed, pose_errors

__all__ = [
    "BENCHMARK",
    "REGISTRY",
    "Metric",
    "Performed",
    "Target",
    "calibrate",
    "correlations",
    "describe",
    "evaluate",
    "expression_distance",
    "frames_to_play",
    "landmark_distance",
    "lpips",
    "most_frontal",
    "performed",
    "pose_errors",
    "psnr",
    "register",
    "rotation_distance",
    "ssim",
    "transfer_expression",
    "tracker_agreement",
    "transfer_pose",
    "true_actions",
    "unseen_drivers",
]
