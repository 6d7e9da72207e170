"""How near are neighbours in truth? The studio's bank searched in each of its spaces, with each weighting.

Neighbours are compared with their queries in what the studio knows: facial actions, head angles, and the rendered face.
Each of these has its own share of the way from a random row to the truly nearest one (`raflib.coverage.retrieval`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from raflib import studio
from raflib.bank import ExpressionBank
from raflib.coverage.retrieval import Retrieval, Turn, over_people, retrieval_tables, taken_in_turn
from raflib.coverage.weightings import AsIs, ByMotion, First, LessPersonMean, PerDeviation, Weighting, WithoutPose
from raflib.lab.spaces import MEDIAPIPE, OPEN
from raflib.openbank import true_motion
from raflib.openbank.filming import frontal_camera
from raflib.sampler.beyond import TRUE_ACTIONS
from raflib.tracking import open_model

FACE_SIZE = 128
"""Width and height of the rendered faces, in pixels."""
KEPT = 10
"""Components that the weighting "first" keeps."""
ACTIONS, HEAD, FACE = "actions", "head pose", "rendered face"
BY = ("space", "weighting", "truth", "people", "k")


def nearness_table(
    bank: ExpressionBank,
    sizes: Iterable[int] = (),
    ks: Iterable[int] = (1, 5),
    queries: int = 50,
    asked: int | None = None,
    faces: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """How near the neighbours found in each space of a studio bank truly are, with each weighting.

    Args:
        bank: people of the studio, its features in one or more spaces.
        sizes: numbers of other people in the bank; all of them by default.
        ks: numbers of neighbours.
        queries: rows of each subject.
        asked: number of people who are the subject in turn, evenly chosen by name; everybody by default.
        faces: queries of each subject whose faces are rendered, with all other people in the bank, 1 neighbour and the
            features as they are; 0 for none.
        seed: of all random choices.
        progress: whether to show a progress bar.

    Returns one row a subject, with the columns `space`, `weighting`, `truth`, `subject`, `people`, `k`, `found`,
    `random`, `nearest` and `share`. Distances are L2 of the 52 actions, L2 of the head's angles in degrees, and for
    faces those of `face_distances`. Raises RafError as `raflib.coverage.retrieval_tables` does.
    """
    actions, angles = true_motion(bank, progress)
    people = bank.people if asked is None else bank.people[:: max(1, len(bank.people) // asked)][:asked]
    largest = len(bank.people) - 1
    sizes = {min(size, largest) for size in sizes} or {largest}
    searched = searches(bank)
    named = {"/".join(key): rows for key, rows in searched.items()}
    truths = {ACTIONS: actions, HEAD: angles}
    table = retrieval_tables(named, truths, bank.subjects, sizes, ks, queries, seed, people)
    parts = [table]
    if faces:
        plain = {f"{space}/{name}": rows for (space, name), rows in searched.items() if name == AsIs.name}
        turns = taken_in_turn(plain, bank.subjects, [max(sizes)], 1, queries, seed, people)
        for turn in tqdm(turns, "rendered faces", len(people), disable=not progress):
            parts.append(_faces_of(turn, faces, actions, angles, seed))
    table = pd.concat(parts, ignore_index=True)
    names = table.search.str.split("/", n=1, expand=True)
    return table.drop(columns="search").assign(space=names[0], weighting=names[1])[
        [*BY[:3], "subject", *BY[3:], *_ENDS]
    ]


_ENDS = ("found", "random", "nearest", "share")


def nearness(table: pd.DataFrame) -> pd.DataFrame:
    """`nearness_table` over subjects (`raflib.coverage.retrieval.over_people`), a row for each of `BY`."""
    return over_people(table, BY).reset_index()


def shares(summary: pd.DataFrame) -> pd.DataFrame:
    """The shares of `nearness` for the largest bank in percent, with intervals, as text: a row for each space and
    weighting, a column for each truth and k."""
    largest = summary[summary.people == summary.people.max()]
    text = [
        f"{100 * row.share:.0f}" + (f" [{100 * row.low:.0f}, {100 * row.high:.0f}]" if np.isfinite(row.low) else "")
        for row in largest.itertuples()
    ]
    wide = largest.assign(text=text).set_index([*BY[:3], "k"]).text.unstack(["truth", "k"], sort=False)
    return wide.fillna("")


def searches(bank: ExpressionBank) -> dict[tuple[str, str], Float[np.ndarray, "N _"]]:
    """The bank's features in every space but that of true actions, with every weighting that suits it, by both names.

    `ByMotion` needs a face model's basis, and `First` needs components in the order of their variance. `WithoutPose`
    needs head rotations.
    """
    found = {}
    for tag in (bank.feature_space, *bank.spaces):
        if tag == TRUE_ACTIONS:
            continue
        known = ExpressionBank(
            bank.in_space(tag).features, bank.subjects, bank.sequence, bank.frame, tag, rotation=bank.rotation
        )
        for weighting in _weightings(known):
            fitted = weighting.fit(known)
            found[tag, weighting.label] = fitted.of_bank(known).spaces[fitted.space]
    return found


def _weightings(bank: ExpressionBank) -> list[Weighting]:
    """The weightings that suit the bank's own features."""
    suited: list[Weighting] = [AsIs(), PerDeviation()]
    if bank.feature_space == OPEN:
        suited.append(ByMotion(open_model().expression))
    if bank.feature_space != MEDIAPIPE and bank.features.shape[1] > KEPT:
        suited.append(First(KEPT))
    if bank.rotation is not None:
        suited.append(WithoutPose())
    return [*suited, LessPersonMean()]


def face_distances(
    subject: str,
    actions: Float[np.ndarray, "Q 52"],
    angles: Float[np.ndarray, "Q 3"],
    others: Float[np.ndarray, "Q m 52"],
) -> Float[np.ndarray, "Q m"]:
    """How much the subject's rendered face changes when it performs others' actions, at the same head angles.

    It is the mean absolute difference of the frontal images over the pixels of the person, in grey levels from 0 to
    255. So identity, head pose, camera and light are equal, and only the true expression differs.
    """
    person, camera = studio.Identity(subject), frontal_camera(FACE_SIZE)
    distances = np.empty(others.shape[:2])
    for q, (own, turned) in enumerate(zip(actions, angles, strict=True)):
        image, cover = studio.render(person, own, turned, camera)
        shown = cover > 0
        for m, other in enumerate(others[q]):
            changed = studio.render(person, other, turned, camera)[0]
            distances[q, m] = np.abs(changed[shown].astype(np.int16) - image[shown]).mean()
    return distances


def _faces_of(
    turn: Turn, count: int, actions: Float[np.ndarray, "N 52"], angles: Float[np.ndarray, "N 3"], seed: int
) -> pd.DataFrame:
    """Rows of `nearness_table` for one subject's rendered faces: found, random, and nearest in true actions."""
    from scipy.spatial.distance import cdist

    some: Int[np.ndarray, " q"] = np.arange(len(turn.own))[:: max(1, len(turn.own) // count)][:count]
    own = turn.own[some]
    random = np.random.default_rng([seed, *turn.subject.encode()]).choice(turn.others, len(own))
    nearest = turn.others[cdist(actions[own], actions[turn.others]).argmin(1)]
    columns = [rows[some, 0] for rows in turn.found.values()]
    away = face_distances(
        turn.subject, actions[own], angles[own], actions[np.stack([random, nearest, *columns], axis=1)]
    ).mean(0)
    about = {"truth": FACE, "subject": turn.subject, "people": turn.people, "k": 1}
    told = [Retrieval(found, away[0], away[1]) for found in away[2:].tolist()]
    return pd.DataFrame(
        [{**about, "search": name, **vars(one), "share": one.share} for name, one in zip(turn.found, told, strict=True)]
    )
