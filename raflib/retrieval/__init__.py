"""How a bank finds and keeps its rows, from thousands to billions of them.

    ExpressionBank.load("bank.npz").search(...)           in memory, exact; to a million rows
    write_mapped("bank", pieces)                          a folder that `ExpressionBank.load` leaves on the disk, exact;
                                                          to tens of millions
    build_shards(...), sharded_search(folders, ...)       many such folders with Dask, exact; beyond
    approximate(bank, "ivf" or "hnsw")                    faster and not exact, its recall measured

Names are loaded when first used, so that a bank needs neither faiss nor Dask until it is asked for them.
"""

from importlib import import_module

_WHERE = {
    "ApproximateSearch": "indexes",
    "MappedBank": "mapped",
    "approximate": "indexes",
    "build_shards": "sharded",
    "locate": "sharded",
    "sharded_search": "sharded",
    "write_mapped": "mapped",
}
__all__ = sorted(_WHERE)


def __getattr__(name):
    if name in _WHERE:
        return getattr(import_module(f"raflib.retrieval.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'raflib.retrieval' has no attribute {name!r}")


def __dir__():
    return __all__
