"""`build`: a bank built by one process at a time, and refused before anything is rendered where it cannot succeed."""

from __future__ import annotations

from pathlib import Path

from raflib import studio
from raflib.bank import ExpressionBank
from raflib.errors import RafError, whole
from raflib.openbank import building
from raflib.openbank.filming import names
from raflib.runs import check_writable, folder_lock, remove_leftovers


def build(
    path: str | Path,
    people: int = building.PEOPLE,
    frames: int = building.FRAMES,
    seed: int = 0,
    cores: int | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> ExpressionBank:
    """Render and track `frames` random frames of each of `people`, save the bank at `path`, and return it.

    Each row has `arkit52` features, and `open42` features in `spaces`. A person's rows depend on their name, `frames`
    and `seed` only, so more people only add rows. The file is in half precision.

    Args:
        path: the bank's file (.npz).
        people: how many people, 1 to 999; they are called B001, B002, ….
        frames: frames of each person.
        seed: chooses the frames.
        cores: threads that work side by side (default: all cores of this machine); the result does not depend on it.
        cache: folder that keeps finished people (default `cache_root()/openbank`). They are not made again, unless
            their file is damaged. A killed build goes on from there.
        progress: show a progress bar.

    The bank's `provenance` records the choice of frames, what the features of each space are, the versions, the key,
    how many frames were rendered (`looked_at`) and which share of them showed a face that can be fitted
    (`detection_rate`). Raises RafError for numbers out of range, for more frames than a person performs or shows a face
    in, where the file cannot be written, and while another process (which is named) builds the same bank.
    """
    path, first = Path(path), names(whole("people", people))[0]
    frames, seed = whole("frames", frames, least=1), whole("seed", seed, least=0)
    cores = None if cores is None else whole("cores", cores, least=1)
    if path.is_dir():
        raise RafError(f"{path}: is a folder, expected a file for the bank, such as {path / 'bank.npz'}")
    check_writable(path.parent, "choose another folder", named=path)
    folder = building.folder_of(frames, seed, cache)
    with folder_lock(folder, f"building {path.name}"):
        remove_leftovers(path.parent)
        if not (folder / f"{first}.npz").is_file():
            performed = sum(len(studio.act(first, sequence)) for sequence in studio.SEQUENCES)
            if frames > performed:
                raise RafError(f"frames is {frames}, but {first} performs {performed}; ask for fewer")
        return building.film_bank(path, people, frames, seed, cores, folder, progress)
