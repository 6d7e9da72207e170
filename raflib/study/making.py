"""Making a study: a self-contained folder of questions with their images.

    study = make_study("runs/my_study", bank, Design(queries=1000, each=3))
    study = make_study("runs/real", bank, Design(), faces=image_folder("frames"))   # a bank with images of its own

Only key.json tells which candidate is which.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image
from tqdm import tqdm

from raflib.bank import ExpressionBank
from raflib.errors import RafError, whole
from raflib.images import lanczos
from raflib.lab.banks import bank_variant
from raflib.reading import damage_named, read_bytes
from raflib.runs import atomic_write
from raflib.study.format import IMAGES, STUDY, Question, Study, Truth, study_id, write_study
from raflib.study.sampling import (
    REFERENCE,
    attention_checks,
    balanced_sides,
    checks_in,
    comparisons,
    rater_lists,
)

Faces = Callable[[ExpressionBank, Int[np.ndarray, " R"]], UInt8[np.ndarray, "R s s 3"]]
"""Square images of rows of a bank."""
CHUNK = 64
"""Images in memory at a time, about."""
ENDINGS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
TITLE = "Which pair of faces matches better?"


@dataclass(frozen=True)
class Design:
    """Size of a study.

    Attributes:
        queries: query images; each is asked in two comparisons in each feature space (the paper has 1,000).
        each: raters who are asked each question.
        length: real questions of one rater, at most.
        size: width and height of the images in pixels.
        seed: of all random choices.
        title: what raters read at the top.
    """

    queries: int = 1000
    each: int = 3
    length: int = 50
    size: int = 256
    seed: int = 0
    title: str = TITLE

    def __post_init__(self) -> None:
        for name, least, most in (("queries", 1, 10**5), ("each", 1, 1000), ("length", 1, 10**4), ("size", 16, 2048)):
            whole(f"study: {name}", getattr(self, name), least, most)
        whole("study: seed", self.seed, 0)


def make_study(
    folder: str | Path,
    bank: ExpressionBank,
    design: Design | None = None,
    queries: ExpressionBank | None = None,
    small: ExpressionBank | None = None,
    spaces: Sequence[str] | None = None,
    faces: Faces | None = None,
    progress: bool = True,
) -> Study:
    """Write a study into `folder` and return it; the study that is there where it has the same questions.

    Args:
        bank: the whole bank, whose nearest rows are judged.
        design: size of the study.
        queries: rows from which query images are chosen, such as a bank of the subjects' frames; default `bank`.
        small: the bank with fewer frames of the same people; default `bank_variant(bank, "small")`.
        spaces: feature spaces to study; default all of the bank.
        faces: images of rows; default rendering the studio's people again. See `image_folder`.
        progress: show a progress bar.

    The same arguments give the same questions, and images that an interrupted call has written are used again. Raises
    RafError where the folder holds another study, the bank has too few people, or an image is missing.
    """
    design, folder, queries = design or Design(), Path(folder), bank if queries is None else queries
    compared = _compared(bank, design, queries, small, list(spaces or (bank.feature_space, *bank.spaces)))
    rng = np.random.default_rng([design.seed, 2])
    compared = [compared[place] for place in rng.permutation(len(compared))]  # so that ids tell nothing
    left = balanced_sides(compared, rng)
    truths = [each.truth(f"q{number:05d}", bool(left[number])) for number, each in enumerate(compared)]
    questions = [_question(truth, queries, bank, design) for truth in truths]
    real, checks = ([truth.id for truth in truths if truth.kind == kind] for kind in ("real", "attention"))
    lists = rater_lists(real, checks, design.each, design.length, rng)
    if (folder / STUDY).exists():
        if (there := Study.load(folder)).id != study_id(design.title, design.seed, design.size, questions, lists):
            raise RafError(f"{folder}: holds another study ({there.id}); choose another folder, or delete this one")
        return there
    shown = [(queries, truth.reference) for truth in truths]
    shown += [(bank, row) for truth in truths for row in (truth.left, truth.right) if row != REFERENCE]
    with tqdm(desc="faces", unit="image", disable=not progress) as bar:
        for held in [bank] if queries is bank else [queries, bank]:
            rows = sorted({row for owner, row in shown if owner is held})
            _write_images(folder, held, np.array(rows), faces or _rendered(design.size), design, bar)
    about = {**asdict(design), "bank": bank.checksum, "query_bank": queries.checksum}
    return write_study(folder, design.title, design.seed, design.size, questions, truths, lists, about)


def image_folder(folder: str | Path) -> Faces:
    """Images of a bank's rows from files: `folder/PERSON/SEQUENCE/FRAME` with the ending .png, .jpg or .webp.

    The function that is returned raises RafError naming the file of a row that is missing, damaged or not square.
    """

    def read(bank: ExpressionBank, rows: Int[np.ndarray, " R"]) -> UInt8[np.ndarray, "R s s 3"]:
        images = []
        for row in rows.tolist():
            place = Path(folder) / str(bank.subjects[row]) / str(bank.sequence[row]) / str(int(bank.frame[row]))
            found = [path for ending in ENDINGS if (path := Path(f"{place}.{ending}")).is_file()]
            path = found[0] if found else Path(f"{place}.png")
            images.append(read_image(path))
        size = max(len(image) for image in images)
        return np.stack([lanczos(image, size, size) for image in images])

    return read


def question_images(study: Study, ids: Sequence[str]) -> list[list[UInt8[np.ndarray, "s s 3"]]]:
    """Left candidate, reference and right candidate of each question."""
    asked = {question.id: question for question in study.questions}
    chosen = [asked[name] for name in ids]
    return [[read_image(study.folder / name) for name in (each.left, each.reference, each.right)] for each in chosen]


def read_image(path: Path) -> UInt8[np.ndarray, "s s 3"]:
    """A square RGB image; RafError naming a file that is missing, damaged, too large or not square."""
    data = read_bytes(path, "image", "give every row of the bank an image", 2**26)
    with damage_named(path, "image", "give every row of the bank an image"):
        image = Image.open(io.BytesIO(data), formats=list(ENDINGS.values()))
        if image.width != image.height or image.width > 8192:
            raise ValueError(f"it has {image.width} × {image.height} pixels, expected a square of at most 8192")
        return np.asarray(image.convert("RGB"))


def _compared(
    bank: ExpressionBank, design: Design, queries: ExpressionBank, small: ExpressionBank | None, spaces: list[str]
) -> list:
    """All comparisons of a study, attention checks last."""
    if design.queries > len(queries):
        raise RafError(f"study: {design.queries} queries asked for, but there are {len(queries)} rows; ask for fewer")
    order = np.random.default_rng([design.seed, 0]).permutation(len(queries))
    chosen = np.sort(order[: design.queries])
    small = bank_variant(bank, "small", design.seed) if small is None else small
    found = [
        each for space in spaces for each in comparisons(bank.in_space(space), queries, chosen, small, design.seed)
    ]
    pool = min(2 * checks_in(min(design.length, len(found))), len(queries))
    return found + attention_checks(bank, queries, order[-pool:], design.seed)


def _image_name(bank: ExpressionBank, row: int, design: Design) -> str:
    """Path of a row's image in the folder of the study: a hash, which tells raters nothing about the row."""
    what = f"{design.seed}|{design.size}|{bank.subjects[row]}|{bank.sequence[row]}|{int(bank.frame[row])}"
    return f"{IMAGES}/{hashlib.sha256(what.encode()).hexdigest()[:20]}.webp"


def _write_images(
    folder: Path, bank: ExpressionBank, rows: Int[np.ndarray, " R"], faces: Faces, design: Design, bar: tqdm
) -> None:
    """Write the images of rows that have none yet, person by person."""
    bar.total = (bar.total or 0) + len(rows)
    missing = np.array([row for row in rows.tolist() if not (folder / _image_name(bank, row, design)).is_file()])
    bar.update(len(rows) - len(missing))
    if not len(missing):
        return
    missing = missing[np.argsort(np.asarray(bank.subjects)[missing], kind="stable")]
    for part in np.array_split(missing, -(-len(missing) // CHUNK)):
        images = faces(bank, part)
        if len(images) != len(part):
            raise RafError(f"study: {len(images)} images for {len(part)} rows; `faces` must return one for each")
        for row, image in zip(part.tolist(), images, strict=True):
            with atomic_write(folder / _image_name(bank, row, design)) as path:
                Image.fromarray(lanczos(image, design.size, design.size)).save(path, "WEBP", quality=92, method=4)
        bar.update(len(part))


def _question(truth: Truth, queries: ExpressionBank, bank: ExpressionBank, design: Design) -> Question:
    reference = _image_name(queries, truth.reference, design)
    left, right = (
        reference if row == REFERENCE else _image_name(bank, row, design) for row in (truth.left, truth.right)
    )
    return Question(truth.id, reference, left, right)


def _rendered(size: int) -> Faces:
    """The studio's people, rendered again."""

    def render(bank: ExpressionBank, rows: Int[np.ndarray, " R"]) -> UInt8[np.ndarray, "R s s 3"]:
        from raflib import openbank

        return openbank.faces(bank, rows, size, progress=False)

    return render
