"""Polygons that were traced chunk by chunk are those that are traced in one."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
import shapely

from swath.flows.survey.joining import Joiner
from swath.flows.survey.layers import traced
from swath.flows.survey.stitching import stitched
from swath.flows.survey.windows import Rectangle, chunks


def normal(shapes: list[tuple[int, Any]]) -> list[tuple[int, str]]:
    return sorted((value, shapely.normalize(shapely.simplify(shape, 0)).wkt) for value, shape in shapes)


@pytest.mark.parametrize(("blur", "share"), [(3, 0.4), (0, 0.42)])
def test_parts_are_joined_to_what_one_look_at_the_whole_finds(blur: float, share: float) -> None:
    noise = np.random.default_rng(5).random((140, 190)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    values = np.digitize(smooth, np.quantile(smooth, [share, 0.8])).astype(np.uint8)
    joiner = Joiner(partial(stitched, side=64))
    found = []
    for row in chunks(190, 140, 64):
        for place in row:
            for value, shape in traced(values[place.top : place.bottom, place.left : place.right], [], place):
                joiner.add(value, shape)
        found += joiner.settle(row[0].bottom if row[0].bottom < 140 else None)
    assert all(shape.is_valid for _, shape in found)
    assert normal(found) == normal(list(traced(values, [], Rectangle(0, 0, 190, 140))))
