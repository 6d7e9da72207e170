"""One person's folder of NeRSemble's second version: which videos it has, and which of them make a capture.

    {person:03d}/calibration/{camera_params,color_calibration}.json
    {person:03d}/sequences/{SEQUENCE}/images/cam_{serial}.mp4
    {person:03d}/sequences/BACKGROUND/image_{serial}.jpg

A sequence needs a video from the frontal camera. A camera needs a video of every sequence that is used. What is
left out for that is noted. Videos of one sequence run together, so a sequence is as long as its shortest video.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from raflib.capture import HELD_OUT
from raflib.errors import RafError
from raflib.sources._video_info import MAX_PIXELS, open_film
from raflib.sources.nersemble.names import BACKGROUND, FRONTAL, SEQUENCES, SKIPPED
from raflib.sources.nersemble.raw_calibration import CAMERAS, COLOURS, REMEDY
from raflib.sources.nersemble.raw_films import packet_times

SHORTEST = 0.9
"""A video with a smaller share of the frames of its sequence's longest video counts as damaged."""
ENDS = 2**16
"""Bytes at a video's beginning and end that are hashed: an .mp4 has its tables of frame sizes there."""

Films = dict[str, dict[str, Path]]
"""The videos by sequence and serial number."""


@dataclass(frozen=True)
class Held:
    """The videos that make a capture.

    Attributes:
        films: the used videos by sequence, training sequences first, and serial number.
        serials: the cameras that every sequence has, sorted.
        notes: a sentence about each thing that is missing or left out.
    """

    films: Films
    serials: tuple[str, ...]
    notes: tuple[str, ...]


def person_folder(root: str | Path | None, subject: str) -> Path:
    """The folder of a person ("74" and "074" are one). RafError naming the path when there is none."""
    if root is None:
        raise RafError("source nersemble: give `root`, the folder into which `nersemble-data download` wrote")
    if not subject.isascii() or not subject.isdigit():
        raise RafError(f"subject {subject!r} is no participant of NeRSemble; expected a number such as '422'")
    folder = Path(root) / f"{int(subject):03d}"
    if not (folder / "sequences").is_dir():
        raise RafError(f"{folder / 'sequences'}: no such folder; download participant {int(subject)} into {root}")
    return folder


def short(sequence: str) -> str:
    """A sequence's name without its title: "SEN-07" of "SEN-07-fond_note_fried"; releases spell some titles anew."""
    return "-".join(sequence.split("-")[:2])


def held_videos(folder: Path, known: Iterable[str], choose: Callable[[Films], Films] = lambda films: films) -> Held:
    """The videos of the person in `folder` by cameras whose calibration is `known`.

    `choose` leaves out sequences that are not used; cameras need videos of the others only. Raises RafError naming the
    folder when no sequence has a video from the frontal camera.
    """
    wanted = [name for name in SEQUENCES if name not in SKIPPED]
    skipped, place = {short(name) for name in (*SKIPPED, BACKGROUND)}, [short(name) for name in wanted]
    found: Films = {}
    for path in sorted((folder / "sequences").iterdir()):
        if short(path.name) not in skipped and (path / "images").is_dir():
            found[path.name] = {film.stem[4:]: film for film in sorted((path / "images").glob("cam_*.mp4"))}
    notes, known = [], set(known)
    if missing := [name for name in wanted if short(name) not in map(short, found)]:
        notes.append(f"sequences {', '.join(missing)} are not there")
    if empty := [name for name, films in found.items() if FRONTAL not in films]:
        notes.append(f"sequences {', '.join(empty)} are left out: they have no video of the frontal camera {FRONTAL}")
    films = {name: found[name] for name in found if name not in empty}
    if not films or FRONTAL not in known:
        raise RafError(
            f"{folder}: no video of the frontal camera {FRONTAL} with its calibration; download it with "
            f"`nersemble-data download … --camera {FRONTAL}`"
        )
    order = sorted(films, key=lambda name: (name == HELD_OUT, place.index(short(name)) if short(name) in place else 99))
    films = choose({name: films[name] for name in order})
    if not films:
        return Held({}, (), tuple(notes))
    everywhere = set.intersection(*(set(films[name]) for name in films))
    if unknown := sorted(everywhere - known):
        notes.append(f"cameras {', '.join(unknown)} are left out: {folder / CAMERAS} does not hold them")
    for serial in sorted(set.union(*(set(films[name]) for name in films)) - everywhere):
        lacking = [name for name in films if serial not in films[name]]
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        notes.append(f"camera {serial} is left out: it has no video of {shown}")
    serials = tuple(sorted(everywhere & known))
    return Held({name: {s: films[name][s] for s in serials} for name in films}, serials, tuple(notes))


def content_of(folder: Path, films: Mapping[str, Mapping[str, Path]]) -> str:
    """A digest that changes with the calibration, the background images and the videos, without reading all of them.

    Of a video its size, beginning and end are hashed. RafError naming a file that cannot be read.
    """
    digest = hashlib.sha256()
    plates = sorted((folder / "sequences" / BACKGROUND).glob("image_*.jpg"))
    for path in (folder / CAMERAS, folder / COLOURS, *plates, *(films[name][s] for name in films for s in films[name])):
        digest.update(f"|{path.relative_to(folder)}".encode())
        try:
            with path.open("rb") as stream:
                size = path.stat().st_size
                digest.update(f"|{size}|".encode() + stream.read(ENDS))
                if path.suffix != ".mp4":
                    digest.update(stream.read())
                elif size > ENDS:
                    stream.seek(-ENDS, 2)
                    digest.update(stream.read())
        except OSError as error:
            raise RafError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from None
    return digest.hexdigest()


def film_size(path: Path) -> tuple[int, int, int]:
    """(frames, width, height) of a video; frames that the file promises but does not hold are not counted.

    No frame is decoded. RafError naming the file when it is no video or shows images of a size that is not allowed.
    """
    with open_film(path, REMEDY) as (container, stream):
        width, height = stream.codec_context.width, stream.codec_context.height
        if not 0 < width * height <= MAX_PIXELS:
            raise RafError(f"{path}: images of {width}×{height} pixels are not read here; {REMEDY}")
        return len(packet_times(container, stream)), width, height


def lengths(films: Films) -> tuple[dict[str, int], tuple[int, int], list[str]]:
    """(frames of each sequence, the images' width and height, notes for the user) of the `films` that are used.

    Raises RafError naming a video that is damaged, far shorter than the others of its sequence, or of another size.
    """
    counts: dict[str, int] = {}
    size, first, notes = None, None, []
    with tqdm(total=sum(map(len, films.values())), desc="checking videos", unit="video", delay=5, leave=False) as bar:
        for sequence, videos in films.items():
            frames = {}
            for path in videos.values():
                frames[path], *shape = film_size(path)
                size, first = size or tuple(shape), first or path
                if tuple(shape) != size:
                    raise RafError(
                        f"{path}: images of {shape[0]}×{shape[1]} pixels, those of {first} have {size[0]}×{size[1]}; "
                        f"{REMEDY}"
                    )
                bar.update()
            least, most = min(frames.values()), max(frames.values())
            for path, count in frames.items():
                if count <= SHORTEST * most - 1 or count == 0:
                    raise RafError(
                        f"{path}: holds {count} frames but another camera {most}; {REMEDY}, or delete it to leave this "
                        "camera out"
                    )
            if least < most:
                shorter = [path.stem for path, count in frames.items() if count == least]
                notes.append(
                    f"{sequence}: {', '.join(shorter)} has {least} frames, others up to {most}; {least} are used"
                )
            counts[sequence] = least
    return counts, size, notes
