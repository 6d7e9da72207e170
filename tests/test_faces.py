"""Faces of bank rows: the frame that the row names, and a clear word where there is none."""

import numpy as np
import pytest

from raflib import openbank, studio
from raflib.bank import ExpressionBank
from raflib.errors import RafError


def bank(sequences=("EMO-1-shout+laugh", "FREE", "EMO-1-shout+laugh"), frames=(60, 5, 10), space="arkit52"):
    return ExpressionBank(np.eye(3, 52), ["B002", "B001", "B002"], list(sequences), list(frames), space)


def test_a_face_is_the_frame_that_its_row_names():
    acted = studio.act("B002", "EMO-1-shout+laugh")
    camera = next(camera for camera in studio.rig(64) if camera.name == "222200037")
    expected = studio.render(studio.Identity("B002"), acted.actions[10], acted.angles[10], camera)[0]
    together = openbank.faces(bank(), [2, 0, 1], size=64, cores=2, progress=False)
    assert together.shape == (3, 64, 64, 3)
    assert np.array_equal(together[0], expected)
    assert np.array_equal(together[2], openbank.face(bank(), 1, size=64))
    assert not np.array_equal(together[0], together[1])


@pytest.mark.parametrize(
    ("given", "row", "message"),
    [
        (bank(), 3, "row 3 is not in the bank, expected 0 to 2"),
        (bank(), -1, "row -1 is not in the bank"),
        (bank(frames=(60, 99_999, 10)), 1, "B001: performs no frame 99999 of sequence 'FREE'"),
        (bank(sequences=("talk", "FREE", "FREE")), 0, "B002: performs no frame 60 of sequence 'talk'"),
        (bank(space="flame100"), 0, "flame100 features, expected arkit52"),
    ],
)
def test_rows_without_a_face_are_refused(given, row, message):
    with pytest.raises(RafError, match=message):
        openbank.face(given, row)
