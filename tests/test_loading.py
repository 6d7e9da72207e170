"""The image cache keeps as many images as fit, reads the others ahead, and changes none."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from synthetic import ball_capture

from raflib.capture import choose_cameras
from raflib.config import train_config
from raflib.errors import RafError
from raflib.training.cache import ImageCache
from raflib.training.data import AHEAD, TrainingImages

SHAPE = (4, 4, 3)
GIB = 2**30


class Source:
    """Images filled with their index; it records which thread read which image."""

    def __init__(self):
        self.read = []

    def __call__(self, index):
        self.read.append((index, threading.current_thread() is threading.main_thread()))
        return np.full(SHAPE, index, np.uint8)


def test_what_fits_is_kept_and_read_once():
    source = Source()
    cache = ImageCache(source, 5, SHAPE, limit=3 * 48 + 47)
    assert cache.kept == 3 and cache.held_bytes == 3 * 48
    assert source.read == [(0, True), (1, True), (2, True)]
    for index in (2, 0, 1, 2):
        assert (cache.get(index) == index).all()
    assert len(source.read) == 3
    assert (cache.get(4) == 4).all() and (cache.get(4) == 4).all()
    assert [index for index, _ in source.read[3:]] == [4, 4]
    cache.close()


def test_upcoming_pictures_are_read_once_by_the_other_thread():
    source = Source()
    cache = ImageCache(source, 10, SHAPE, limit=0)
    order = [3, 1, 7, 7, 2, 9]
    for place, index in enumerate(order):
        assert (cache.get(index, order[place + 1 : place + 4]) == index).all()
    assert sorted(index for index, _ in source.read) == sorted(order) and not any(main for _, main in source.read)
    assert (cache.get(5, [6]) == 5).all() and (cache.get(0) == 0).all()  # 6 was announced but never read
    cache.close()


@pytest.fixture(scope="module")
def capture():
    return ball_capture(frames=6, size=48, cameras=2)


def pictures_of(capture, gib, upsampling=1, together=1):
    config = train_config("tiny", size=48 // upsampling, views_per_frame=2, views_per_step=together, cache_gib=gib)
    config = replace(config, avatar=replace(config.avatar, upsampling=upsampling))
    return TrainingImages(capture, choose_cameras(capture, 2), config)


@pytest.mark.parametrize(("upsampling", "together"), [(1, 1), (1, 2), (2, 1)])
def test_pictures_are_the_same_whatever_the_memory(capture, upsampling, together):
    one = 48 * 48 * 3
    every, some, none = (pictures_of(capture, gib, upsampling, together) for gib in (4.0, 5.5 * one / GIB, 0.0))
    assert (every.cache.kept, some.cache.kept, none.cache.kept) == (12, 5, 0)
    assert some.cache.held_bytes <= 5.5 * one
    for step in [*range(30), 100, 3, 4]:  # past two epochs, a jump and back
        shots = [images.shot(step) for images in (every, some, none)]
        assert shots[0].images.shape == (together, 48, 48, 3) and shots[0].cameras[0].width == 48 // upsampling
        for shot in shots[1:]:
            assert shot.t == shots[0].t and (shot.images == shots[0].images).all()
    assert len(none.cache._waiting) <= AHEAD * together
    for images in (every, some, none):
        images.close()


class Broken:
    """Frames of a capture, one of which cannot be read."""

    def __init__(self, frames, t):
        self.frames, self.t = frames, t

    def image(self, t, c):
        if t == self.t:
            raise OSError("broken data stream when reading image file")
        return self.frames.image(t, c)

    def mask(self, t, c):
        return self.frames.mask(t, c)

    def path(self, t, c):
        return f"somewhere/{t:06d}_{c}.png"


def test_a_picture_that_cannot_be_read_ahead_is_named_when_its_step_comes(capture):
    images = pictures_of(replace(capture, frames=Broken(capture.frames, 3)), 0.0)
    seen = 0
    with pytest.raises(RafError, match=r"somewhere/000003_\d\.png \(frame EXP-1-head/3, camera cam\d\).*broken data"):
        for step in range(len(images)):
            assert images.shot(step).t != 3
            seen += 1
    assert images.pairs[images._group(seen)[0]][0] == 3
    images.close()
    with pytest.raises(RafError, match=r"somewhere/000003"):
        pictures_of(replace(capture, frames=Broken(capture.frames, 3)), 4.0)
