"""The open capture studio: people made from a name, filmed by 16 calibrated cameras through NeRSemble's sequences.

A stand-in anyone can have for gated face captures, and one that knows the truth: every frame's facial actions, head
pose and geometry. Nothing here knows about captures, banks or training; `raflib.sources.studio` builds on it.
"""

from raflib.studio.head_model import ACTIONS
from raflib.studio.identity import Identity
from raflib.studio.motion import head_pose, vertices
from raflib.studio.performance import FREE, SEQUENCES, TRAIN_SEQUENCES, Performance, act
from raflib.studio.render import perform, render
from raflib.studio.rig import rig
from raflib.studio.true_landmarks import landmarks

VERSION = 1
"""Raised with every change after which performances, images or landmarks come out differently. Caches of filmed
captures and the recipe of a bank are named by it; `tests/test_golden.py` tells when it is due."""

__all__ = [
    "ACTIONS", "FREE", "SEQUENCES", "TRAIN_SEQUENCES", "VERSION", "Identity", "Performance", "act", "head_pose",
    "landmarks", "perform", "render", "rig", "vertices",
]  # fmt: skip
