"""Names of NeRSemble: cameras, sequences, and who and what the public benchmarks hold.

All cameras are known by their serial numbers. The frontal one, `FRONTAL`, is the training camera of the monocular
benchmark. Sequence names are those of the dataset's second version.
"""

from __future__ import annotations

SERIALS = (
    "220700191", "221501007", "222200036", "222200037", "222200038", "222200039", "222200040", "222200041",
    "222200042", "222200043", "222200044", "222200045", "222200046", "222200047", "222200048", "222200049",
)  # fmt: skip
"""The 16 cameras."""
FRONTAL = "222200037"
"""The camera in front of the face."""

BACKGROUND = "BACKGROUND"
"""One image a camera of the empty room, no recording of a person."""
SEQUENCES = (
    "GLASSES", "EXP-1-head", "EXP-2-eyes", "EXP-3-cheeks+nose", "EXP-4-lips", "EXP-5-mouth", "EXP-6-tongue-1",
    "EXP-7-tongue-2", "EXP-8-jaw-1", "EXP-9-jaw-2", "HAIR", "FREE", "EMO-1-shout+laugh", "EMO-2-surprise+fear",
    "EMO-3-angry+sad", "EMO-4-disgust+happy", "SEN-01-cramp_small_danger", "SEN-02-same_phrase_thirty_times",
    "SEN-03-pluck_bright_rose", "SEN-04-two_plus_seven", "SEN-05-glow_eyes_sweet_girl", "SEN-06-problems_wise_chief",
    "SEN-07-fond_note_fried", "SEN-08-clothes_and_lodging", "SEN-09-frown_events_bad", "SEN-10-port_strong_smokey",
)  # fmt: skip
"""All sequences of a person in the dataset's order, without the background."""
SKIPPED = ("GLASSES", "EXP-6-tongue-1", "EXP-7-tongue-2")
"""Sequences that avatars are not trained on, as in public preprocessing: features describe no glasses and no tongue."""
RAW_FPS, BENCHMARK_FPS = 73.0, 24.3
"""Frames a second of the cameras, and of the monocular benchmark, which keeps every third frame."""

MONO, NVS, RAW = "mono_flame_avatar", "nvs", "raw"
"""Layouts: the monocular benchmark and the novel-view one, by the names of their folders, and the dataset itself."""
MONO_PEOPLE = ("393", "404", "461", "477", "486")
MONO_HELD_OUT = ("EMO-1-shout+laugh", "FREE", "SEN-09-frown_events_bad", "SEN-10-port_strong_smokey")
"""Sequences of which the monocular benchmark gives the tracks only. A submission shows them."""
MONO_TRAIN = tuple(name for name in SEQUENCES if name not in (*SKIPPED, "HAIR", *MONO_HELD_OUT))
"""The 18 sequences of the monocular benchmark that may be trained on."""
MONO_HELD_OUT_SERIALS = ("222200046", "220700191", "222200039")
"""Cameras left, in the middle and right of which no image is given."""
MONO_SERIALS = (FRONTAL, *MONO_HELD_OUT_SERIALS)
"""The cameras that a submission shows."""
MONO_SIZE = 512
"""Pixels a side of the monocular benchmark's images."""

NVS_SEQUENCE = {"388": "GLASSES", "422": "EXP-2-eyes", "443": "FREE", "445": "EXP-6-tongue-1", "475": "HAIR"}
"""The one sequence of each person of the novel-view benchmark."""
NVS_HELD_OUT_SERIALS = ("222200046", "222200037", "222200039")
NVS_SERIALS = tuple(serial for serial in SERIALS if serial not in NVS_HELD_OUT_SERIALS)
"""The 13 cameras of the novel-view benchmark whose images are given."""
