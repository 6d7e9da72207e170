"""The studio's images and the tracker's values are those of the last change of their `VERSION`.

Caches of rendered captures are named by those versions. If a test here fails, images or tracks have changed: raise
`raflib.studio.VERSION` or `raflib.tracking.VERSION` and run `python tests/test_golden.py`, which writes
`tests/golden.npz` again. The tolerance allows for differences of rounding between machines.
"""

from pathlib import Path

import numpy as np

from raflib import studio, tracking

PATH = Path(__file__).with_name("golden.npz")
SUBJECT, SIZE = "422", 96
SHOTS = {"EMO-1-shout+laugh": 40, "SEN-04-two_plus_seven": 60, "FREE": 150}
CAMERAS = ("222200037", "222200036", "222200039")


def filmed() -> dict[str, np.ndarray]:
    """Return a few frames of one person: true actions, head angles, landmarks, images, and the tracker's values."""
    identity = studio.Identity(SUBJECT)
    cameras = [camera for camera in studio.rig(SIZE) if camera.name in CAMERAS]
    large = [camera for camera in studio.rig(256) if camera.name in CAMERAS]
    frontal = [camera.name for camera in large].index(CAMERAS[0])
    found = {name: [] for name in ("actions", "angles", "landmarks", "images", "masks", "expression", "tracked")}
    with tracking.FaceTracker() as tracker:
        for sequence, frame in SHOTS.items():
            acted = studio.act(SUBJECT, sequence)
            moment = acted.actions[frame], acted.angles[frame]
            found["actions"].append(moment[0])
            found["angles"].append(moment[1])
            found["landmarks"].append(studio.landmarks(identity, *moment))
            images, masks = zip(*studio.render_views(identity, *moment, cameras), strict=True)
            found["images"].append(images)
            found["masks"].append(masks)
            seen = [image for image, _ in studio.render_views(identity, *moment, large)]
            sighting = tracking.track_views(seen, large, tracker, frontal)
            found["expression"].append(sighting.expression)
            found["tracked"].append(sighting.landmarks)
    return {name: np.array(values) for name, values in found.items()}


def test_the_studio_and_the_tracker_do_what_their_versions_say():
    kept, now = dict(np.load(PATH)), filmed()
    assert int(kept.pop("studio")) == studio.VERSION and int(kept.pop("tracking")) == tracking.VERSION
    assert kept.keys() == now.keys()
    for name in ("actions", "angles", "landmarks"):
        np.testing.assert_allclose(now[name], kept[name], atol=1e-5, err_msg=f"studio: {name}")
    for name in ("images", "masks"):
        difference = np.abs(now[name].astype(int) - kept[name])
        assert difference.mean() < 0.02, f"studio: {name} differ by {difference.mean():.3f} levels on average"
    np.testing.assert_allclose(now["expression"], kept["expression"], atol=5e-3, err_msg="tracking: expression")
    np.testing.assert_allclose(now["tracked"], kept["tracked"], atol=2e-4, err_msg="tracking: landmarks")


if __name__ == "__main__":
    values = {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in filmed().items()}
    np.savez_compressed(PATH, studio=studio.VERSION, tracking=tracking.VERSION, **values)
