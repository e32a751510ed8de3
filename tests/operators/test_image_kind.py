"""What kind of image it is, by the shipped weights, and how a mixed folder is routed by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image
from tests.operators.kit import item, jpeg, png, step, through, tiny_classifier

from swath.flows.demo.documents import draw_invoice, draw_receipt
from swath.operators.core.base import Pixels
from swath.operators.image.codec import Decode
from swath.operators.image.image_kind import ImageKind
from swath.operators.image.quality import AssessQuality
from swath.operators.models.reference import find_model
from swath.schemas.errors import ModelError

WHEEL = Path(skimage.__file__).parent / "data"


def photo(name: str) -> Pixels:
    """One of scikit-image's pictures; (H, W, 3) uint8."""
    return np.asarray(Image.open(WHEEL / name).convert("RGB"))


@pytest.fixture(scope="module")
def mixed() -> dict[str, bytes]:
    random = np.random.default_rng(2)
    return {
        "receipt.jpg": jpeg(draw_receipt(random)[0]),
        "invoice.png": png(draw_invoice(random)[0]),
        "coffee.jpg": jpeg(photo("coffee.png")),
        "motorcycle.jpg": jpeg(photo("motorcycle_left.png")),
        "logo.png": png(photo("logo.png")),
    }


def test_only_documents_go_on_and_the_others_are_left_out_not_rejected(mixed: dict[str, bytes]) -> None:
    documents_only = step(AssessQuality(), when="kind == 'document' AND kind_score > 0.3")
    rows = list(
        through(
            [item(index, content) for index, content in enumerate(mixed.values())],
            Decode(),
            ImageKind().settled(),
            documents_only,
        )
    )
    assert [row["kind"] for row in rows] == ["document", "document", "photo", "photo", "drawing"]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["reject_reason"] for row in rows} == {None}
    assert [row.get("quality_verdict") is not None for row in rows] == [True, True, False, False, False]
    assert ["assess_quality" in row["seconds"] for row in rows] == [True, True, False, False, False]


def test_a_kind_that_is_not_sure_enough_is_left_open(mixed: dict[str, bytes]) -> None:
    operator = ImageKind(threshold=1, temperature=5)
    prepared = [operator.prepare({"pixels": photo("coffee.png")})]
    found = operator.run({"prepared": prepared}, operator.load())
    assert found["kind"] == [None]
    assert 0.25 < found["kind_score"][0] < 1


def test_the_shipped_model_says_what_it_is_and_is_small() -> None:
    file = find_model("swath:image_kind")
    assert file.info.classes == ("document", "photo", "aerial", "drawing")
    assert (file.info.task, file.info.architecture) == ("classification", "swath.image_kind")
    assert file.info.licence
    assert file.info.trained_on
    assert file.path.stat().st_size < 1_200_000
    assert file.path.with_suffix(".md").is_file()


def test_a_model_without_names_is_refused() -> None:
    with pytest.raises(ModelError, match="does not name its classes"):
        ImageKind(model=str(tiny_classifier())).check()
