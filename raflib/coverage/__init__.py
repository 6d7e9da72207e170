"""Does a training set cover the expressions an avatar will be asked for? Table 1's metrics (paper §3, Appendix 0.A).

Pure functions on arrays of expression features. `mmd`, `kl` and `b2t` are the metrics. `training_sets` samples
equal-sized Vanilla and +RAF sets, and `table` measures them. `effective_rank`, `precision_recall`, `beyond`,
`by_sequence`, `by_dimension` and `clip_distance` are further measures for any data. `retrieval` says how near
neighbours truly are, where the truth is known. `sensitivity` measures the same sets by several definitions. `fit_gap`
compares two fits of the same frames. `identity_leakage` says how well features tell whose face it is. All compute in
float64 and block by block, so that 20,000 × 100,000 frames fit in two gigabytes.
"""

from raflib.coverage.clip import ClipDistance, clip_distance
from raflib.coverage.density import TAIL_FLOOR, Projection, log_density, pca
from raflib.coverage.leakage import Leakage, identity_leakage, leakage_table
from raflib.coverage.metrics import b2t, kl, mmd
from raflib.coverage.pairs import median_distance, nearest, nearest_distance
from raflib.coverage.retrieval import Retrieval, over_people, retrieval, retrieval_tables
from raflib.coverage.sensitivity import fit_gap, sensitivity
from raflib.coverage.spread import (
    PrecisionRecall,
    beyond,
    by_dimension,
    by_sequence,
    effective_rank,
    precision_recall,
    spacing,
)
from raflib.coverage.table1 import METRICS, TrainingSets, further, table, training_sets

__all__ = [
    "METRICS",
    "TAIL_FLOOR",
    "ClipDistance",
    "Leakage",
    "PrecisionRecall",
    "Projection",
    "Retrieval",
    "TrainingSets",
    "b2t",
    "beyond",
    "by_dimension",
    "by_sequence",
    "clip_distance",
    "effective_rank",
    "fit_gap",
    "further",
    "identity_leakage",
    "kl",
    "leakage_table",
    "log_density",
    "median_distance",
    "mmd",
    "nearest",
    "nearest_distance",
    "over_people",
    "pca",
    "precision_recall",
    "retrieval",
    "retrieval_tables",
    "sensitivity",
    "spacing",
    "table",
    "training_sets",
]
