"""Photos with the headers of drones of several makers, drawn: the packets are written as the makers write them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

SPACES = {
    "drone-dji": "http://www.dji.com/drone-dji/1.0/",
    "drone-parrot": "http://www.parrot.com/drone-parrot/1.0/",
    "Camera": "http://pix4d.com/camera/1.0/",
    "DLS": "http://micasense.com/DLS/1.0/",
    "MicaSense": "http://micasense.com/MicaSense/1.0/",
    "sensefly": "http://ns.sensefly.com/sensefly/1.0/",
    "drone": "http://www.autelrobotics.com/drone/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
}
HEAD = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
TAIL = "</rdf:RDF></x:xmpmeta>"
DJI = {
    "drone-dji:AbsoluteAltitude": "+198.51",
    "drone-dji:RelativeAltitude": "+40.00",
    "drone-dji:GimbalRollDegree": "+0.00",
    "drone-dji:GimbalYawDegree": "-140.00",
    "drone-dji:GimbalPitchDegree": "-89.90",
    "drone-dji:FlightYawDegree": "-138.70",
    "drone-dji:FlightPitchDegree": "-0.10",
    "drone-dji:FlightRollDegree": "-4.00",
}
BERLIN = (52.5, 13.25)


def packet(properties: dict[str, str], elements: bool = False) -> bytes:
    """An XMP packet with the properties as attributes of one description, or as its elements."""
    used = sorted({name.partition(":")[0] for name in properties})
    spaces = " ".join(f'xmlns:{prefix}="{SPACES[prefix]}"' for prefix in used)
    if elements:
        inside = "".join(f"<{name}>{value}</{name}>\n" for name, value in properties.items())
        return f'{HEAD}<rdf:Description rdf:about="" {spaces}>{inside}</rdf:Description>{TAIL}'.encode()
    attributes = " ".join(f'{name}="{value}"' for name, value in properties.items())
    return f'{HEAD}<rdf:Description rdf:about="" {spaces} {attributes}/>{TAIL}'.encode()


def exif(place: tuple[float, float] | None = BERLIN, altitude: float = 100.0, **photo: Any) -> Image.Exif:
    """Exif with a position, and tags of the photo's directory by their names."""
    block = Image.Exif()
    block[Base.Make], block[Base.Model] = "Maker", "Model 1"
    block.get_ifd(IFD.Exif).update({Base[name]: value for name, value in photo.items()})
    if place:
        north, east = place
        block.get_ifd(IFD.GPSInfo).update(
            {
                GPS.GPSLatitudeRef: "N" if north >= 0 else "S",
                GPS.GPSLatitude: (abs(north), 0.0, 0.0),
                GPS.GPSLongitudeRef: "E" if east >= 0 else "W",
                GPS.GPSLongitude: (abs(east), 0.0, 0.0),
                GPS.GPSAltitude: altitude,
            }
        )
    return block


def photo(
    xmp: bytes = b"", header: Image.Exif | None = None, kind: str = "JPEG", size: tuple[int, int] = (200, 100)
) -> bytes:
    """A picture of (width, height) `size` with the packet and the Exif block in its header."""
    file = io.BytesIO()
    picture = Image.fromarray(np.full((size[1], size[0], 3), (90, 120, 60), np.uint8))
    options: dict[str, Any] = {} if header is None else {"exif": header.tobytes()}
    if kind in ("JPEG", "WEBP"):
        options |= {"xmp": xmp} if xmp else {}
    elif kind == "TIFF" and xmp:
        options["tiffinfo"] = {700: xmp}
    picture.save(file, kind, **options)
    content = file.getvalue()
    return _with_png_text(content, xmp) if kind == "PNG" and xmp else content


def _with_png_text(content: bytes, xmp: bytes, compressed: bool = False) -> bytes:
    text = zlib.compress(xmp) if compressed else xmp
    body = b"iTXt" + b"XML:com.adobe.xmp\0" + (b"\1" if compressed else b"\0") + b"\0\0\0" + text
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    at = 8 + 25  # behind the header chunk
    return content[:at] + chunk + content[at:]


def png_with_compressed_text(xmp: bytes) -> bytes:
    """A PNG whose packet is deflated."""
    return _with_png_text(photo(kind="PNG"), xmp, compressed=True)


def jpeg_with_extended_packet(xmp: bytes) -> bytes:
    """A JPEG whose packet is cut over three segments of the extended kind, the last one first."""
    guid, third = b"A" * 32, len(xmp) // 3
    cuts = [(at, xmp[at : at + third] if number < 2 else xmp[at:]) for number, at in enumerate((0, third, 2 * third))]
    segments = b""
    for offset, part in reversed(cuts):
        body = b"http://ns.adobe.com/xmp/extension/\0" + guid + struct.pack(">II", len(xmp), offset) + part
        segments += b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    content = photo()
    return content[:2] + segments + content[2:]
