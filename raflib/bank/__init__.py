"""The expression bank (paper §4.2): how it keeps and searches its rows, from thousands to billions of them.

    ExpressionBank.load("bank.npz").search(...)           in memory, exact; up to a million rows
    write_mapped("bank", pieces)                          a folder that `ExpressionBank.load` leaves on the disk, exact;
                                                          up to tens of millions
    build_shards(...), sharded_search(folders, ...)       many such folders with Dask, exact; beyond
    approximate(bank, "ivf" or "hnsw")                    faster and not exact, with measured recall

The table gives seconds of one core for 3,000 queries (one subject) in N rows of 64 features. The first three columns
were measured (`python benchmarks/retrieval.py --scale`; 10 million once). The last two follow from the formulas below:

    rows                            83,000   1 million   10 million  |  100 million   1 billion
    exact search                      0.58         6.2           58  |          620       6,200
    ... on 32 cores, if linear                                       |           19         190
    ivf, build                        0.45         6.5               |    1.2 hours    35 hours
    ivf, search (effort 32)           0.38         1.5               |           15          48
    ... share of nearest rows found   99.8 %      99.3 %             |            ?           ?
    hnsw, build                         11                           |      6 hours    70 hours
    hnsw, search (effort 256)         1.35                           |            ?           ?
    on disk, GB                      0.023        0.27          2.7  |           27         272
    opening, seconds                 0.001        0.04         0.23  |     by shard    by shard
    memory beside the file, MB          45          45          140  |    per shard   per shard
    memory that ivf holds, GB        0.022        0.26               |           26         264
    memory that hnsw holds, GB       0.044        0.53               |           53         528

    exact    2.1e-9 Q N seconds
    ivf      build 3.9e-9 (N^1.5 + 640 N) seconds, search 1.5e-8 Q (effort + 1) N^0.5
    hnsw     build as N log N
    disk     4 (d + 1) + 12 bytes a row, 12 more with head rotations
    memory   ivf 4 d + 8 bytes a row, hnsw 4 d + 272, up to 1.6 times that while they are built

The rows are synthetic (20 actions mixed). The memory beside the file is what a search adds; at 10 million it is all
memory of the process. Building an index costs more than one exact search: together with its search, "ivf" takes 1.4
times as long at 83,000 rows and 1.3 times at a million, and by the formulas more beyond. It pays from the second
subject on. "hnsw" searches more slowly than the exact search at 83,000 rows. A billion rows are a hundred shards of ten
million, each of which takes a minute of one core.
"""

from raflib.bank.approximate import ApproximateSearch, approximate
from raflib.bank.bank import ExpressionBank, MappedBank, write_mapped
from raflib.bank.nearest_people import nearest_people
from raflib.bank.sharded import build_shards, locate, sharded_search

__all__ = [
    "ApproximateSearch",
    "ExpressionBank",
    "MappedBank",
    "approximate",
    "build_shards",
    "locate",
    "nearest_people",
    "sharded_search",
    "write_mapped",
]
