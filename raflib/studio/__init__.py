"""The open capture studio: people made from a name, filmed by 16 calibrated cameras through NeRSemble's sequences.

A stand-in anyone can have for gated face captures, and one that knows the truth: every frame's facial actions, head
pose and geometry. Nothing here knows about captures, banks or training; `raflib.sources.studio` builds on it.
"""

from raflib.studio.identity import Identity
from raflib.studio.landmarks import landmarks
from raflib.studio.model import ACTIONS
from raflib.studio.motion import head_pose, vertices
from raflib.studio.performance import FREE, SEQUENCES, TRAIN_SEQUENCES, Performance, act
from raflib.studio.render import perform, render
from raflib.studio.rig import rig

__all__ = [
    "ACTIONS", "FREE", "SEQUENCES", "TRAIN_SEQUENCES", "Identity", "Performance", "act", "head_pose", "landmarks",
    "perform", "render", "rig", "vertices",
]  # fmt: skip
