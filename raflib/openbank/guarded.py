"""`build` of a bank, guarded: what can be refused is refused before anything is filmed, and two builds do not meet."""

from __future__ import annotations

import tempfile
from pathlib import Path

from raflib import studio
from raflib.bank import ExpressionBank
from raflib.errors import RafError, whole
from raflib.openbank import building
from raflib.openbank.people import names
from raflib.runs import cache_root, folder_lock, remove_leftovers


def build(
    path: str | Path,
    people: int = building.PEOPLE,
    frames: int = building.FRAMES,
    seed: int = 0,
    cores: int | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> ExpressionBank:
    """`building.build` with the same arguments and result; one process at a time makes a bank of one recipe.

    What a killed build left half-written is removed. Raises RafError as `building.build` does and, before anything is
    filmed, for a negative seed, for more frames than the first person performs, where the file cannot be written, and
    while another process builds the same bank (it is named).
    """
    path, first = Path(path), names(whole("people", people))[0]
    frames, seed = whole("frames", frames, least=1), whole("seed", seed, least=0)
    cores = None if cores is None else whole("cores", cores, least=1)
    _check_writable(path)
    folder = (cache_root() / "openbank" if cache is None else Path(cache)) / building.recipe(frames, seed)
    with folder_lock(folder, f"building {path.name}"):
        remove_leftovers(path.parent)
        if not (folder / f"{first}.npz").is_file():
            performed = sum(len(studio.act(first, sequence)) for sequence in studio.SEQUENCES)
            if frames > performed:
                raise RafError(f"frames is {frames}, but {first} performs {performed}; ask for fewer")
        return building.build(path, people, frames, seed, cores, cache, progress)


def _check_writable(path: Path) -> None:
    if path.is_dir():
        raise RafError(f"{path}: is a folder, expected a file for the bank, such as {path / 'bank.npz'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return
    except OSError as error:
        raise RafError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
