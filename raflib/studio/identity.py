"""`Identity`: a person who is made from the subject's name alone.

Face shape, colours, hair, clothes and a personal expression style are sampled from a generator seeded by the subject
string, so subject "422" is the same person on every machine. Shape comes from the head model's identity space. The
painted texture and the ambient visibility are made for the first image of a person and kept in memory.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property, lru_cache

import numpy as np

from raflib.errors import RafError
from raflib.studio import clothing, hair, shape, strands
from raflib.studio.look import sample_look
from raflib.studio.style import ExpressionStyle
from raflib.studio.texture import Appearance

SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


class Identity:
    """One person. `vertices` [V,3] neutral points (world metres), `pivots` [5,3], `action_gain` [52] that fits the
    model's actions to this face, `look`, `haircut`, `strands` (locks of hair or None), `style`.

    Raises RafError when the subject is not a plain name of up to 32 letters, digits, dots, dashes or underscores.
    """

    def __new__(cls, subject: str | int) -> Identity:
        """The person of that name (a string; a number is refused). The last few are kept in memory."""
        return _remembered(_checked(subject))

    @classmethod
    def _make(cls, subject: str) -> Identity:
        person = object.__new__(cls)
        person.subject = subject
        generator = named_generator("identity", subject)
        attributes = _sample_attributes(generator)
        skin, person.pivots, person.action_gain = shape.sample(generator, attributes)
        person.look = sample_look(generator, attributes)
        person.haircut = hair.sample(generator, attributes["gender"], attributes["african"])
        person.style = ExpressionStyle.sample(named_generator("style", subject))
        person.vertices = clothing.dress(hair.thicken(skin, person.haircut), person.look)
        person.strands = strands.grow(person.vertices, person.haircut, named_generator("hair", subject))
        return person

    def __repr__(self) -> str:
        return f"Identity({self.subject!r})"

    @cached_property
    def appearance(self) -> Appearance:
        """Texture and ambient visibility, made on first use."""
        return Appearance(self.look, self.haircut, self.vertices, self.strands)


def named_generator(*names: str) -> np.random.Generator:
    """A random generator that depends on `names` only."""
    digest = hashlib.sha256("\x1f".join(("raflib studio 1", *names)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


@lru_cache(maxsize=24)
def _remembered(subject: str) -> Identity:
    return Identity._make(subject)


def _checked(subject: object) -> str:
    if not isinstance(subject, str) or not SUBJECT.fullmatch(subject):
        raise RafError(
            f"subject {subject!r}: expected a string of 1-32 letters, digits, '.', '-' or '_' such as '422'; "
            "quote it if it is a number"
        )
    return subject


def _sample_attributes(generator: np.random.Generator) -> dict[str, float]:
    african, asian, caucasian = generator.dirichlet([0.45, 0.45, 0.6])
    masculine = generator.random() < 0.5
    gender = generator.beta(6, 1.3) if masculine else generator.beta(1.3, 6)
    return {
        "gender": float(gender),
        "age": float(generator.uniform(0.6, 0.84)),
        "african": float(african),
        "asian": float(asian),
        "caucasian": float(caucasian),
        "weight": float(generator.uniform(0.35, 0.65)),
    }
