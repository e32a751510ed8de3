import cv2
import numpy as np
import pytest
import skimage.data

from swath.operators.image.hashing import PerceptualHash, distance, phash

PHOTOS = {
    name: np.ascontiguousarray(getattr(skimage.data, name)()[..., :3])
    for name in ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry")
}


def scaled(pixels, factor):
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def compressed(pixels, quality):
    _, file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(file, cv2.IMREAD_COLOR)


@pytest.mark.parametrize("name", PHOTOS)
def test_same_picture_has_nearly_the_same_hash(name):
    pixels = PHOTOS[name]
    original = phash(pixels)
    for changed in (
        scaled(pixels, 0.5),
        scaled(pixels, 1.7),
        compressed(pixels, 30),
        np.clip(pixels * 0.8 + 10, 0, 255),
    ):
        assert distance(original, phash(changed.astype(np.uint8))) <= 6


def test_different_pictures_have_different_hashes():
    hashes = [phash(pixels) for pixels in PHOTOS.values()]
    assert min(distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) >= 16


def test_hash_is_that_of_the_published_algorithm():
    from PIL import Image
    from scipy.fft import dctn

    pixels = PHOTOS["astronaut"]
    grey = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, dtype=float))[:8, :8]
    reference = np.packbits(low > np.median(low)).tobytes().hex()
    assert distance(phash(pixels), reference) <= 2


@pytest.mark.parametrize("grey", [0, 1, 127, 255])
def test_even_surfaces_have_a_stable_hash_of_16_digits(grey):
    hashes = {phash(np.full((height, width, 3), grey, np.uint8)) for height, width in ((1, 1), (40, 30), (500, 700))}
    assert len(hashes) == 1
    assert len(hashes.pop()) == 16


def test_operator_hands_out_the_hash():
    found = PerceptualHash().run({"pixels": list(PHOTOS.values())}, None)
    assert found == {"phash": [phash(pixels) for pixels in PHOTOS.values()]}
