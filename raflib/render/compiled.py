"""`njit`: numba's, with a disk cache wherever there is a place for one.

numba refuses to compile at all where it can keep nothing: a read-only installation without a writable home, as in
containers and batch jobs. Here functions are then compiled anew in each process, and one warning says so. A cache that
cannot be read or written later (a full disk, a damaged file) is not used.
"""

from __future__ import annotations

import warnings
from functools import wraps

import numba

_warned = False


def njit(function=None, *, stamp: str | None = None, **options):
    """Decorator: compile on first call and keep on disk. `options` are numba's.

    `stamp` takes the place of the function's file among what makes the kept code out of date.
    """
    if function is None:
        return lambda target: njit(target, stamp=stamp, **options)
    try:
        dispatcher = numba.njit(function, cache=True, **options)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        _warn_once()
        return numba.njit(function, **options)
    cache = dispatcher._cache
    if not hasattr(cache._cache_file, "_source_stamp"):
        raise RuntimeError(f"numba {numba.__version__} keeps its cache's stamp elsewhere; adapt raflib.render.compiled")
    cache._cache_file._source_stamp = stamp or cache._cache_file._source_stamp
    cache.load_overload, cache.save_overload = _loading(cache.load_overload), _saving(cache)
    return dispatcher


def _loading(load):
    """`load`, or nothing where what is kept is damaged: numba unpickles its files without a check."""

    @wraps(load)
    def loaded(*arguments):
        try:
            return load(*arguments)
        except Exception:
            return None

    return loaded


def _saving(cache):
    """The cache's `save_overload`, once more with a new index where the old one is damaged, or not at all."""
    save = cache.save_overload

    @wraps(save)
    def saved(*arguments):
        try:
            try:
                save(*arguments)
            except Exception:
                cache.flush()
                save(*arguments)
        except Exception:
            cache.disable()
            _warn_once()

    return saved


def _warn_once() -> None:
    global _warned
    if not _warned:
        warnings.warn(
            "numba finds no place that it can keep compiled code in, so every process compiles anew (half a minute); "
            "set NUMBA_CACHE_DIR to a folder that can be written",
            stacklevel=4,
        )
    _warned = True
