"""The captures, people and bank of a notebook, from its parameters `source`, `root`, `features`, `model`, `search`,
`held_out`, `profile` and `bank`.

Notebooks ask a `Recordings` for all of them, so the same notebook runs on the studio and on a folder of real captures.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from tqdm import tqdm

from raflib import studio
from raflib.bank import ExpressionBank
from raflib.capture import Capture, hold_out, most_frontal
from raflib.driving import transfer_pose, transfer_torso
from raflib.errors import RafError
from raflib.geometry import Camera
from raflib.images import lanczos
from raflib.lab.banks import VARIANTS, bank_variant, open_bank
from raflib.lab.protocol import FOLDERS, TRAINING_FRAMES, Roles, own_frames, roles, unseen_drivers
from raflib.lab.spaces import FROM_FILES, MEDIAPIPE, in_space, width_of, with_space
from raflib.openbank import with_true_actions, with_truth
from raflib.reading.names import content_hash, short_name, size_and_time
from raflib.runs import cache_root
from raflib.sampler import SAMPLERS
from raflib.sampler.beyond import TRUE_ACTIONS
from raflib.sources import known_people, open_capture

PER_PERSON = 200
"""Rows of each person in a bank that is built from a folder's people (paper §5)."""
BLANK = 200
"""Grey level that stands for an image that the source does not have."""


@dataclass(frozen=True)
class Recordings:
    """What a notebook reads, by its parameters (see notebooks/README.md). Parameters that it lacks are "" here.

    With `search`, the subjects' captures and the bank carry features of this space beside those of `features`.
    """

    source: str = "studio"
    root: str = ""
    features: str = ""
    model: str = ""
    search: str = ""
    held_out: str = ""
    profile: str = "demo"
    bank: str = ""

    @classmethod
    def of(cls, parameters: Any) -> Recordings:
        """From the parameters of a notebook. A `method` that has no option `search` has a space of its own, or none."""
        names = [field.name for field in fields(cls)]
        made = cls(**{name: getattr(parameters, name) for name in names if hasattr(parameters, name)})
        if not hasattr(parameters, "method") or "search" in SAMPLERS[parameters.method].options():
            return made
        return replace(made, search=getattr(SAMPLERS[parameters.method], "search", ""))

    def open(self, subject: str) -> Capture:
        """The subject's capture, in the feature space `features`, with the sequences `held_out` held out.

        With `search` it carries this space too, and training frames without these features are not detected. It is
        read once, because a source may have to hash all its films.
        """
        if subject not in self._opened:
            self._opened[subject] = self._prepared(self._recorded(subject, self.profile), self.search)
        return self._opened[subject]

    def with_frames(self, subject: str, frames: str) -> Capture:
        """`open`, with the subject's frames that `raflib.lab.protocol.OWN_FRAMES` names; "" is the profile's own."""
        if own_frames(frames, self.profile) == TRAINING_FRAMES:
            return self.open(subject)
        return self._prepared(self._recorded(subject, "coverage"), self.search)

    def driver(self, name: str) -> Capture:
        """The capture of a person who drives the subject's avatar. It may hold less than the subject's."""
        return self._prepared(self._recorded(name, self.profile if self.held_out else "driver"))

    def to_measure(self, subject: str) -> Capture:
        """`open`, for a notebook that compares held-out images with renders; RafError where there are none."""
        return self._measurable(self.open(subject))

    def driver_to_measure(self, name: str) -> Capture:
        """`driver`, for a notebook that compares with the driver's images; RafError where there are none."""
        return self._measurable(self.driver(name))

    def drivers(self, subject: str) -> list[str]:
        """Ids of the people who drive the subject and are not in the bank: the paper's fourteen for the studio, else
        those of `root` that `raflib.lab.protocol.roles` names."""
        return list(self._roles(subject).drivers) if self.source in FOLDERS else unseen_drivers(subject)

    def unseen(self, subject: str) -> list[str]:
        """`drivers`, for a notebook that cannot do without; RafError where there are none."""
        found = self.drivers(subject)
        if not found:
            raise RafError(
                f"{self.root}: holds nobody who could drive {subject} and is not in the bank; add people, at least two "
                "beside the subject"
            )
        return found

    def open_bank(self, subject: str) -> ExpressionBank:
        """The bank that the parameter `bank` names, in the feature space of the subject's capture.

        "" is the bank that ships, and for sources with a `root` a bank of its people, built when it is first needed:
        200 random frames of each (`raflib.lab.protocol.roles` says of whom). Raises RafError where there is none, and
        as `suited` does.
        """
        if self.source not in FOLDERS or self.bank not in ("", *VARIANTS):
            bank = open_bank(self.bank, self.space(subject)[0])
            return self.suited(_with_truth(bank) if self.search == TRUE_ACTIONS else bank, subject)
        whole = self.suited(self._built(subject), subject)
        return bank_variant(whole, self.bank) if self.bank else whole

    def own_rows(self, subject: str) -> ExpressionBank:
        """Random frames of the subject as a bank of one person, made as the bank of a folder's people is.

        Only for sources with a `root`; `faces` shows its rows.
        """
        return ExpressionBank.build(self._of_bank([subject]), PER_PERSON)

    def suited(self, bank: ExpressionBank, subject: str) -> ExpressionBank:
        """`bank` in the feature space of the subject's capture.

        Raises RafError where it holds neither this space nor that of `search`, naming the parameter to change.
        """
        own, held = self.space(subject)[0], (bank.feature_space, *bank.spaces)
        if own not in held:
            raise RafError(
                f"the bank holds {' and '.join(held)} features and the capture of subject {subject} {own}; choose "
                "another `bank`, or other `features`"
            )
        if self.search and self.search not in held:
            raise RafError(
                f"search is {self.search!r}, and the bank holds {' and '.join(held)} features; choose another `bank`, "
                "or another `search`"
            )
        return bank.in_space(own)

    def space(self, subject: str) -> tuple[str, int]:
        """(tag, width) of the features of this subject's capture. A person of the studio is not rendered for it."""
        if self.source not in FOLDERS:
            tag = self.features or MEDIAPIPE
            return tag, width_of(tag)
        capture = self.open(subject)
        return capture.feature_space, capture.expression.shape[1]

    def faces(
        self, bank: ExpressionBank, rows: Sequence[int] | Int[np.ndarray, "R"], size: int
    ) -> UInt8[np.ndarray, "R size size 3"]:
        """The images of rows of a bank, from the front: of the studio's people rendered again, of people in `root`
        read from their recordings. A row whose image the source does not have is grey.

        Raises RafError for rows of people whose images are in neither.
        """
        rows = np.asarray(rows, np.int64)
        if self.source not in FOLDERS or not set(bank.subjects[rows]) <= set(self.people):
            from raflib import openbank

            return openbank.faces(bank, rows, size, progress=False)
        images = np.full((len(rows), size, size, 3), BLANK, np.uint8)
        for name in np.unique(bank.subjects[rows]):
            capture = self._recorded(str(name), self._bank_profile)
            where = {
                key: t for t, key in enumerate(zip(capture.sequence.tolist(), capture.frame.tolist(), strict=True))
            }
            for place in np.flatnonzero(bank.subjects[rows] == name):
                row = rows[place]
                t = where.get((str(bank.sequence[row]), int(bank.frame[row])))
                if t is not None:
                    image = image_of(capture, t)
                    images[place] = lanczos(image, size, size)
        return images

    @cached_property
    def people(self) -> list[str]:
        """Ids of all people in `root`; none for sources without one."""
        return known_people(self.source, self.root) if self.source in FOLDERS else []

    @cached_property
    def _opened(self) -> dict[str, Capture]:
        return {}

    @property
    def _bank_profile(self) -> str:
        return "tiny" if self.profile == "tiny" else "bank"

    def _roles(self, subject: str) -> Roles:
        return roles(subject, self.people)

    def _recorded(self, name: str, profile: str) -> Capture:
        """A capture as its source gives it."""
        return open_capture(self.source, name, profile, root=self.root or None)

    def _prepared(self, capture: Capture, search: str = "") -> Capture:
        capture = self._in_spaces(capture, search)
        return hold_out(capture, self.held_out.split()) if self.held_out else capture

    def _in_spaces(self, capture: Capture, search: str) -> Capture:
        """`capture` with features of the space `features`, and those of the space `search` beside them."""
        features = self.features or capture.feature_space
        if search in ("", features):
            return in_space(capture, features, self._model(features))
        for tag in (features, search):
            capture = with_truth(capture) if tag == TRUE_ACTIONS else with_space(capture, tag, self._model(tag))
        capture = in_space(capture, features)
        beside = capture.spaces[search]
        lost = capture.train & ~np.isfinite(beside).all(1)
        return replace(capture, detected=capture.detected & ~lost, spaces={search: beside})

    def _model(self, tag: str) -> str:
        """The face model of the space `tag` where it is a file."""
        return self.model if tag in FROM_FILES else ""

    def _measurable(self, capture: Capture) -> Capture:
        compared = capture.free & capture.with_image
        if not compared.any():
            names = sorted(set(capture.sequence[capture.train].tolist()))
            some = " ".join(names[:: max(1, len(names) // 2)][:2])
            raise RafError(
                f"capture {capture.subject} of source {self.source}: no held-out frame has an image to compare with; "
                f'hold out training sequences instead, such as held_out="{some}"'
            )
        return replace(capture, detected=capture.train | compared)

    def _built(self, subject: str) -> ExpressionBank:
        """The bank of the people in `root`, from the cache where it was built before."""
        names = self._roles(subject).bank
        if not names:
            raise RafError(
                f"{self.root}: holds nobody beside {subject} for a bank; add people, or give the path of a bank of the "
                "same feature space as parameter bank"
            )
        name = f"{self.source}-{short_name(Path(self.root).resolve().name)}-{self._key(names)}"
        return _kept(name, lambda: ExpressionBank.build(self._of_bank(names), PER_PERSON))

    def _of_bank(self, names: Iterable[str]) -> Iterator[Capture]:
        for name in tqdm(names, desc="people of the bank", unit="person"):
            yield self._in_spaces(self._recorded(name, self._bank_profile), self.search)

    def _key(self, names: Iterable[str]) -> str:
        """Changes with the people, with name, size and time of any of their files, and with the feature spaces."""
        from raflib.sources._tracked import films_tracked_by

        model = content_hash(self.model) if self.model else ""
        about = [self.source, self._bank_profile, self.features, model, PER_PERSON, films_tracked_by(1)]
        about += [self.search] if self.search else []
        digest = hashlib.sha256(repr((about, list(names))).encode())
        for path in (path for name in names for path in _files_of(Path(self.root), name)):
            digest.update(f"\n{path.relative_to(self.root)} {size_and_time(path)}".encode())
        return digest.hexdigest()[:16]


def _with_truth(bank: ExpressionBank) -> ExpressionBank:
    """`bank` with the true actions of its studio people, from the cache where they were looked up before."""
    return _kept(f"{TRUE_ACTIONS}-{bank.checksum[:16]}-{studio.VERSION}", lambda: with_true_actions(bank))


def _kept(name: str, make: Callable[[], ExpressionBank]) -> ExpressionBank:
    """The bank `name` of the cache, made and saved there where it is not in it yet."""
    path = cache_root() / "banks" / f"{name}.npz"
    if path.is_file():
        return ExpressionBank.load(path)
    bank = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    bank.save(path)
    return bank


def image_of(capture: Capture, t: int | np.integer, c: int | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """The image of frame `t` from camera `c`, the most frontal one by default; a grey one where the source has none."""
    c = most_frontal(capture.cameras, 1)[0] if c is None else c
    if capture.with_image[t] or not capture.detected[t]:
        return capture.image(int(t), c)
    camera = capture.cameras[c]
    return np.full((camera.height, camera.width, 3), BLANK, np.uint8)


class Driven(NamedTuple):
    """Head poses, scales, the torso (None: it rests) and true images (none where the truth is not known)."""

    pose: Float[np.ndarray, "F 6"]
    scale: Float[np.ndarray, "F"]
    torso: Float[np.ndarray, "F 6"] | None
    true: list[UInt8[np.ndarray, "H W 3"]]


def driven(target: Capture, driver: Capture, rows: Int[np.ndarray, "F"], camera: Camera) -> Driven:
    """How the target's head and torso move in these rows of the driver, and true images from one of its cameras.

    As in `raflib.evaluation`, the pose is the true one where the source knows how the target performs the driver's
    rows, else the driver's motion around the target's mean (`raflib.driving.transfer_pose`), and there are no true
    images. A person who drives the own avatar has pose and images of the recording.
    """
    if driver is target:
        view = [own.name for own in target.cameras].index(camera.name)
        images = [target.image(int(t), view) for t in rows]
        return Driven(target.pose[rows], target.scale[rows], target.torso_at(rows), images)
    if target.truth is None or driver.truth is None or target.truth.perform is None:
        return Driven(*transfer_pose(driver, target, rows), transfer_torso(driver, target, rows), [])
    true = target.truth.perform(target, driver, rows, [camera])
    return Driven(true.pose, true.scale, None, list(true.images[:, 0]))


def _files_of(root: Path, person: str) -> list[Path]:
    """All files of a person, sorted; a person's folder lies in `root` or one folder below."""
    folders = [path for path in (root / person, *root.glob(f"*/{person}")) if path.is_dir()]
    found = (Path(place) / name for folder in folders for place, _, names in os.walk(folder) for name in names)
    return sorted(found)
