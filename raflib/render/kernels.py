"""`njit` as this package uses it: numba's, with our options and a disk cache that sees every file of the package.

numba's own cache notices a change of the file a function stands in, not of the files it imports helpers and constants
from, and would go on running the old code. Here every cached kernel carries a hash of all of the package's sources.
"""

import hashlib
from pathlib import Path

import numba

STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def njit(function=None, *, inline: bool = False):
    """Decorator: compile on first call and keep on disk; the global lock is released; `inline` copies into callers."""
    if function is None:
        return lambda target: njit(target, inline=inline)
    dispatcher = numba.njit(function, cache=True, nogil=True, error_model="numpy", forceinline=inline)
    cache_file = dispatcher._cache._cache_file
    if not hasattr(cache_file, "_source_stamp"):
        raise RuntimeError(f"numba {numba.__version__} keeps its cache's stamp elsewhere; adapt raflib.render.kernels")
    cache_file._source_stamp = STAMP
    return dispatcher
