"""Where the error of an avatar is: by region of the image, by frequency band, and constant or varying over time.

All shares are shares of the squared error of pixel values in [0,1], summed over frames and cameras. The **control** is
the same avatar with the expression held at its training mean, so the difference of the two shows what the expression
explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8
from tqdm import tqdm

from raflib.capture import Capture, most_frontal
from raflib.errors import RafError
from raflib.evaluation.error_splits import (
    BANDS,
    KINDS,
    aligned_grids,
    band_energies,
    kind_energies,
    region_errors,
    sampled,
)
from raflib.evaluation.image_regions import NAMES, has_mask, image_regions
from raflib.evaluation.options import FrameChoice, pick_frames
from raflib.evaluation.scoring import Avatar, check_capture, render
from raflib.images import face_box
from raflib.tracking.landmarks import COUNT

SPLITS = ("train", "free")


@dataclass(frozen=True, eq=False)
class Example:
    """One frame: true image, avatar and control in [0,1], and the region of each pixel (`image_regions.NAMES`)."""

    title: str
    true: Float[np.ndarray, "H W 3"]
    avatar: Float[np.ndarray, "H W 3"]
    control: Float[np.ndarray, "H W 3"]
    labels: UInt8[np.ndarray, "H W"]


@dataclass(frozen=True, eq=False)
class ErrorBudget:
    """The error of an avatar and of its control on training frames ("train") and on held-out ones ("free").

    Attributes:
        method: how the avatar was trained.
        regions: columns `split`, `region`, shares of `pixels` and of squared error (`error`, `control_error`), PSNR in
            dB of the region's pixels (`psnr`, `control_psnr`), and `explained`, the share of the control's squared
            error that the avatar does not have. Regions without a pixel have no row.
        bands: columns `split`, `band`, shares of the squared error of the face crop (`error`, `control_error`), and
            `relative`, the avatar's squared error divided by the true image's sum of squares in the band. At 1, an
            avatar without this band would be as good.
        kinds: columns `split`, `kind`, shares of the squared error of head-aligned face crops (`error`,
            `control_error`).
        frames: number of frames, by split.
        cameras: names of the cameras.
        notes: sentences that say what this recording cannot tell.
        example: the frame whose expression is farthest from the control's; a held-out one where there is one.
    """

    method: str
    regions: pd.DataFrame
    bands: pd.DataFrame
    kinds: pd.DataFrame
    frames: dict[str, int]
    cameras: list[str]
    notes: list[str]
    example: Example = field(repr=False)

    def record(self) -> dict[str, object]:
        """Everything but the example, as `raflib.runs.write_json` takes it: infinite PSNR is NaN."""
        found: dict[str, object] = {name: getattr(self, name) for name in ("method", "frames", "cameras", "notes")}
        for name in ("regions", "bands", "kinds"):
            found[name] = getattr(self, name).replace([np.inf, -np.inf], np.nan).to_dict("records")
        return found


def error_budget(
    run: Avatar,
    capture: Capture,
    frames: FrameChoice = 24,
    cameras: Sequence[int] | None = None,
    progress: bool = True,
) -> ErrorBudget:
    """The error budget of a trained avatar on its own recording.

    Args:
        run: a `raflib.Run`, or anything that has what `raflib.evaluation.scoring.Avatar` says.
        capture: the subject's recording. Without MediaPipe's landmarks or without masks there are fewer regions.
        frames: how many frames of each split, evenly spaced; None for all.
        cameras: indices of cameras; by default the three most frontal.
        progress: show a progress bar.

    Raises RafError for a capture of another person or feature space, an unfinished run, or no frame with a face.
    """
    check_capture("error budget", run, capture)
    chosen = most_frontal(capture.cameras, 3) if cameras is None else [int(c) for c in cameras]
    known = {split: np.flatnonzero(getattr(capture, split) & capture.with_image) for split in SPLITS}
    rows = {split: pick_frames(found, frames) for split, found in known.items()}
    rows = {split: picked for split, picked in rows.items() if len(picked)}
    if not rows or not chosen:
        raise RafError(f"error budget: no camera, or no frame of {capture.subject} with a face; name other ones")
    views = [(int(t), c) for picked in rows.values() for t in picked for c in chosen]
    prefetch = getattr(capture.frames, "prefetch", None)
    if prefetch is not None:
        prefetch(views)
    masked = has_mask(capture.mask(*views[0]))
    tables: dict[str, list[pd.DataFrame]] = {"regions": [], "bands": [], "kinds": []}
    with tqdm(total=len(views), desc="error budget", disable=not progress, leave=False) as bar:
        for split, picked in rows.items():
            sums = _Sums()
            for c in chosen:
                sums.add_view(run, capture, picked, c, masked, bar)
            for name, table in sums.tables().items():
                table.insert(0, "split", split)
                tables[name].append(table)
    joined = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    counts = {split: len(picked) for split, picked in rows.items()}
    names = [capture.cameras[c].name for c in chosen]
    example = _example(run, capture, list(rows.values())[-1], chosen[0], masked)
    return ErrorBudget(
        run.method, **joined, frames=counts, cameras=names, notes=_notes(capture, masked), example=example
    )


class _Sums:
    """Squared errors of one split so far; the first axis is avatar and control."""

    def __init__(self) -> None:
        self.regions, self.pixels = np.zeros((2, len(NAMES))), np.zeros(len(NAMES), int)
        self.bands, self.true_bands = np.zeros((2, len(BANDS))), np.zeros(len(BANDS))
        self.kinds = np.zeros((2, len(KINDS)))

    def add_view(
        self, run: Avatar, capture: Capture, rows: Int[np.ndarray, "F"], c: int, masked: bool, bar: tqdm
    ) -> None:
        """Add the frames `rows` of camera `c`, and move the progress bar."""
        camera = capture.cameras[c]
        crops: tuple[list[np.ndarray], ...] = ([], [], [])
        for t, grid in zip(rows, aligned_grids(capture, rows, camera), strict=True):
            true, renders, labels = _frame(run, capture, int(t), c, masked)
            x, y, width, height = face_box(capture.landmarks[t], camera)
            box = slice(y, y + height), slice(x, x + width)
            for k, image in enumerate(renders):
                errors, counts = region_errors(image - true, labels)
                self.regions[k] += errors
                self.bands[k] += band_energies((image - true)[box])
            self.pixels += counts
            self.true_bands += band_energies(true[box])
            for crop, image in zip(crops, (*renders, true), strict=True):
                crop.append(sampled(image, grid))
            bar.update()
        for k in range(2):
            self.kinds[k] += kind_energies(np.stack(crops[k]), np.stack(crops[2]))

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables of `ErrorBudget` by name, without their column `split`."""
        regions = pd.DataFrame({"region": NAMES, "pixels": self.pixels / self.pixels.sum(), **_shares(self.regions)})
        bands = pd.DataFrame({"band": BANDS, **_shares(self.bands)})
        with np.errstate(divide="ignore", invalid="ignore"):
            regions["psnr"], regions["control_psnr"] = -10 * np.log10(self.regions / (3 * self.pixels))
            regions["explained"] = 1 - self.regions[0] / self.regions[1]
            bands["relative"] = self.bands[0] / self.true_bands
        regions = regions[self.pixels > 0].reset_index(drop=True)
        return {"regions": regions, "bands": bands, "kinds": pd.DataFrame({"kind": KINDS, **_shares(self.kinds)})}


def _shares(sums: Float[np.ndarray, "2 n"]) -> dict[str, Float[np.ndarray, "n"]]:
    """Shares of the avatar's error and of the control's; NaN for one that has no error at all."""
    with np.errstate(invalid="ignore"):
        avatar, control = sums / sums.sum(1, keepdims=True)
    return {"error": avatar, "control_error": control}


def _frame(
    run: Avatar, capture: Capture, t: int, c: int, masked: bool
) -> tuple[Float[np.ndarray, "H W 3"], Float[np.ndarray, "2 H W 3"], UInt8[np.ndarray, "H W"]]:
    """Frame `t` of camera `c`: true image, avatar and control, and labels."""
    camera, image = capture.cameras[c], capture.image(t, c)
    labels = image_regions(image, capture.mask(t, c) if masked else None, capture.landmarks[t], camera)
    expression = np.stack([capture.expression[t], run.control_expression]).astype(np.float32)
    pose, scale = (np.repeat(values[t : t + 1], 2, 0).astype(np.float32) for values in (capture.pose, capture.scale))
    made = render(run, expression, pose, scale, [camera, camera], capture.torso_at([t, t]))
    return image.astype(np.float32) / 255, made, labels


def _example(run: Avatar, capture: Capture, rows: Int[np.ndarray, "F"], c: int, masked: bool) -> Example:
    t = int(rows[np.linalg.norm(capture.expression[rows] - run.control_expression, axis=1).argmax()])
    true, (avatar, control), labels = _frame(run, capture, t, c, masked)
    return Example(f"{capture.sequence[t]}, frame {capture.frame[t]}", true, avatar, control, labels)


def _notes(capture: Capture, masked: bool) -> list[str]:
    notes = []
    if capture.landmarks.shape[1] != COUNT:
        notes.append(f"The recording has {capture.landmarks.shape[1]} landmarks, so facial features have no regions.")
    if not masked:
        notes.append("The recording has no mask, so hair, cloth and background are all surroundings.")
    return notes
