"""The open capture studio: people made from a name perform NeRSemble's sequences before 16 calibrated cameras.

It is a free substitute for gated face captures, and it gives the truth: facial actions, head pose and geometry of every
frame. Nothing here knows about captures, banks or training; `raflib.sources.studio` builds on it.
"""

from raflib.studio.head_model import ACTIONS
from raflib.studio.identity import Identity
from raflib.studio.motion import head_pose, vertices
from raflib.studio.performance import FREE, SEQUENCES, TRAIN_SEQUENCES, Performance, act
from raflib.studio.render import perform, render, render_views
from raflib.studio.rig import rig
from raflib.studio.true_landmarks import landmarks

VERSION = 2
"""Raised with every change after which performances, images or landmarks come out differently. Caches of
captures and the recipe of a bank are named by it; `tests/test_golden.py` fails when it must be raised."""

__all__ = [
    "ACTIONS", "FREE", "SEQUENCES", "TRAIN_SEQUENCES", "VERSION", "Identity", "Performance", "act", "head_pose",
    "landmarks", "perform", "render", "render_views", "rig", "vertices",
]  # fmt: skip
