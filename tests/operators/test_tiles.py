"""What is computed tile by tile is what would be computed at once."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from swath.operators.image.tiles import tiles


@pytest.mark.parametrize("shape", [(1, 1), (40, 64), (64, 200), (131, 97), (65, 63)])
@pytest.mark.parametrize("halo", [0, 5, 20])
def test_tiles_with_a_halo_give_what_the_whole_gives(shape: tuple[int, int], halo: int) -> None:
    picture = np.random.default_rng(1).random(shape)
    kernel = np.ones((2 * halo + 1, 2 * halo + 1))

    def seen(part: np.ndarray) -> np.ndarray:
        return cv2.filter2D(part, -1, kernel, borderType=cv2.BORDER_CONSTANT)

    joined, covered = np.full(shape, np.nan), np.zeros(shape, int)
    for tile in tiles(*shape, 64, halo):
        assert picture[tile.outer].shape == (min(64, shape[0]), min(64, shape[1]))
        joined[tile.inner] = seen(picture[tile.outer])[tile.crop]
        covered[tile.inner] += 1
    assert (covered == 1).all()
    assert joined == pytest.approx(seen(picture), abs=1e-9)


def test_a_halo_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="raise the tile's size"):
        tiles(100, 100, 64, 32)
