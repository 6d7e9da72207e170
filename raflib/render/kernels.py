"""`njit` as this package uses it: with our options, and a disk cache that sees every file of the package.

numba's own cache notices a change of the file a function stands in, not of the files it imports helpers and constants
from, and would go on running the old code. Here every cached kernel carries a hash of all of the package's sources.
"""

import hashlib
from pathlib import Path

from raflib.render import compiled

STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def njit(function=None, *, inline: bool = False):
    """Decorator: compile on first call and keep on disk; the global lock is released; `inline` copies into callers."""
    return compiled.njit(function, stamp=STAMP, nogil=True, error_model="numpy", forceinline=inline)
