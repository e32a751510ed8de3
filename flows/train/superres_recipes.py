"""How the shipped weights of super-resolution were made, from public domain and CC0 pictures and from drawn ones.

    python -m swath.flows.train.superres_recipes NAME --data FOLDER --folder WORK --seconds N --output FILE

NAME is super_res_x2, super_res_x4 or super_res_text_x2; FOLDER holds `sr_train_cc0`, `drone_seneca` and `geotiff/naip`.
scikit-image must be installed: some of its pictures are trained on, others are held out. Goes on from WORK.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image

from swath.flows.train.drawn_pictures import text_block
from swath.flows.train.fit import FitOptions
from swath.flows.train.superres import save_superres, train_superres
from swath.flows.train.superres_data import Source, SuperResOptions
from swath.operators.core.base import Pixels
from swath.operators.image.codec import Decode
from swath.schemas.errors import ConfigurationError

RECIPES = {
    "super_res_x2": SuperResOptions(scale=2),
    "super_res_x4": SuperResOptions(scale=4, patch=32, drawn=50),
    "super_res_text_x2": SuperResOptions(degradation="real", drawn=20, drawn_share=0.05, text=300, text_share=0.95),
}
TRAINED_ON_SKIMAGE = ("camera", "brick", "grass", "gravel", "retina", "hubble_deep_field")
"""All CC0 or public domain by scikit-image's own documentation."""
HELD_OUT = ("astronaut", "chelsea", "coffee", "rocket")
NAIP = ("*_20090818.tif", "*_20120731.tif")
"""The flights that are trained on; that of 2017 is held out."""
LICENCE = "Apache-2.0; trained on pictures that are CC0, public domain or drawn by Swath"
TRAINED_ON = (
    "Caliterra and Seneca drone photos (CC0), NAIP 2009 and 2012 (public domain), pictures of scikit-image (CC0), "
    "drawn pictures and text"
)


def sources(data: Path) -> list[Source]:
    """The pictures that the shipped weights were trained on, in a folder like `../shared/data`."""
    naip = [path for pattern in NAIP for path in sorted((data / "geotiff/naip").glob(pattern))]
    found = [
        Source(_pictures(sorted((data / "sr_train_cc0").glob("*.webp"))), 0.25, (1.0, 1.6)),
        Source(_pictures(sorted((data / "drone_seneca/images").glob("*.jpg"))), 0.27, (2.0, 3.0, 5.0)),
        Source(_pictures(naip), 0.07),
        Source(_of_skimage(TRAINED_ON_SKIMAGE), 0.08, (1.0, 2.0)),
    ]
    if not naip:
        raise ConfigurationError(f"{data} has no geotiff/naip; name the folder with the pictures in --data")
    return found


def _pictures(paths: list[Path]) -> Iterator[Pixels]:
    for path in paths:
        yield Decode().process({"bytes": path.read_bytes(), "page": None}, None)["pixels"]


def _of_skimage(names: tuple[str, ...]) -> Iterator[Pixels]:
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    for name in names:
        yield np.asarray(Image.open(next(folder.glob(f"{name}.*"))).convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(RECIPES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for the checkpoint and the curve")
    parser.add_argument("--seconds", type=float, required=True, help="of the whole training")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--start", type=Path, help="weights to begin with, of any scale")
    parser.add_argument(
        "--keep-start", type=float, default=0.0, metavar="SHARE", help="of --start in the end's weights"
    )
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file")
    given = parser.parse_args()
    options = RECIPES[given.name]
    fitting = FitOptions(
        seconds=given.seconds, learning_rate=given.learning_rate, warmup=0.01, ema=0.995, evaluate_every=500
    )
    start = None
    if given.start:
        from swath.operators.models.files import state_dict

        start = state_dict(given.start)
    if options.text_share > 0.5:
        rng = np.random.default_rng(10_000)
        given_sources, held_out = [], [text_block(rng, 384) for _ in range(4)]
    else:
        given_sources, held_out = sources(given.data), list(_of_skimage(HELD_OUT))
    fitted = train_superres(
        given_sources,
        held_out,
        options,
        fitting,
        given.folder,
        start,
        lambda line: print(json.dumps(line), flush=True),
    )
    trained_on = TRAINED_ON if given_sources else "drawn text"
    if start is not None and given.keep_start:
        mean = {name: end.lerp(start[name].float(), given.keep_start) for name, end in fitted.state.items()}
        fitted = replace(fitted, state=mean, figures={})  # which were those without it
    save_superres(given.output, fitted, options, licence=LICENCE, trained_on=trained_on, date=str(date.today()))


if __name__ == "__main__":
    main()
