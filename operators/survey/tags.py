"""What a camera wrote beside one band's pixels, Exif and XMP, as numbers."""

from __future__ import annotations

import math
import re

from PIL.ExifTags import IFD, Base

from swath.operators.survey.header import Directory, exif_block
from swath.operators.survey.xmp_packet import properties

BLACK_LEVEL = 50714
"""Of DNG, in the first directory: a number, or those of the sensor's pattern of pixels."""


class Tags:
    """The tags of one file; what is missing or broken is not there."""

    def __init__(self, content: bytes) -> None:
        self.xmp = properties(content)
        block = exif_block(content)
        self._main = Directory(block)
        offset = self._main.values(IFD.Exif)
        self._photo = Directory(block, offset[0], IFD.Exif) if len(offset) == 1 else Directory()

    def text(self, *names: str) -> str | None:
        """The first of these properties that is there (`camera:BandName`)."""
        return next((self.xmp[name].strip() for name in names if self.xmp.get(name, "").strip()), None)

    def numbers(self, *names: str) -> list[float]:
        """The finite numbers of a property, between commas, semicolons or spaces; [] where one is none."""
        words = re.split(r"[,;\s]+", self.text(*names) or "")
        try:
            numbers = [_number(word) for word in words if word]
        except (ValueError, ZeroDivisionError):
            return []
        return numbers if all(map(math.isfinite, numbers)) else []

    def number(self, *names: str) -> float | None:
        """The one number of a property; of several properties, that of the first that has one."""
        found = (self.numbers(name) for name in names)
        return next((numbers[0] for numbers in found if len(numbers) == 1), None)

    def exif(self, *tags: int) -> float | None:
        """The number of the first of these tags that has one; of several numbers, such as black levels, their mean."""
        for tag in tags:
            for directory in (self._photo, self._main):
                if numbers := directory.numbers(tag):
                    return sum(numbers) / len(numbers)
        return None

    def exif_text(self, tag: int) -> str:
        """The text of a tag; empty where it has none."""
        value = next(iter(self._main.values(tag)), "")
        return value.partition("\0")[0].strip()[:200] if isinstance(value, str) else ""

    @property
    def wavelength(self) -> float | None:
        """Nanometres of the middle of the band."""
        found = self.number("camera:CentralWavelength", "camera:CentralWaveLength", "drone-dji:CentralWavelength")
        if found is None and (words := re.match(r"\s*(\d{3,4})\s*\(", self.text("drone-dji:BandFreq") or "")):
            found = float(words[1])
        return found if found and found > 0 else None

    @property
    def exposure_s(self) -> float | None:
        """Seconds; a DJI's own tag is in microseconds."""
        micro = self.number("drone-dji:ExposureTime")
        seconds = micro / 1e6 if micro else self.exif(Base.ExposureTime)
        return seconds if seconds and seconds > 0 else None


def _number(word: str) -> float:
    above, slash, below = word.partition("/")
    return float(above) / float(below) if slash else float(above)
