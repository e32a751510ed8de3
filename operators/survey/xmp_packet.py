"""The properties in the XMP packets of a picture file, which anybody may have written."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any
from xml.parsers import expat

from swath.operators.survey.header import LARGEST_VALUE, xmp_packets

Properties = Mapping[str, str]
"""`vocabulary:Name` to the text; the vocabulary is `drone-dji`, `camera` ..., whatever prefix the packet has for it."""

DEEPEST, MOST = 32, 4096
"""Levels of elements, and properties, that are read of one packet."""
_NAMESPACES = {
    **{name: name for name in ("drone-dji", "drone-parrot", "drone-autel", "camera", "dls", "sensefly")},
    **{"xap": "xmp", "exif": "exif", "photoshop": "photoshop"},
}
"""The last word of a namespace's URI, without its version, to what we call it; others go by their prefix."""
_BROKEN = re.compile(rb"""([A-Za-z][\w-]{0,40}:[A-Za-z]\w{0,60})\s*=\s*["']([^"'<>]{0,200})["']""")


def properties(content: bytes) -> Properties:
    """The simple properties of all XMP packets of a file; of arrays, the elements with a space between them.

    Where a name stands twice the first counts. A packet with a document type is not read: only those define entities.
    """
    found: dict[str, str] = {}
    for packet in xmp_packets(content):
        for name, value in _Packet(packet.strip(b"\0 \r\n\t")).values.items():
            found.setdefault(name, value)
    return found


class _Packet:
    """Reads one packet, with as little of XML as it needs: no document type, no entities, nothing from elsewhere."""

    def __init__(self, packet: bytes) -> None:
        self.values: dict[str, str] = {}
        self._vocabularies: dict[str, str] = {}
        self._open: list[str] = []
        self._text: list[str] = []
        self._refused = False
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(packet, True)
        except (expat.ExpatError, _Refused, LookupError, ValueError):  # an encoding nobody knows is a LookupError
            if not self._refused and not self.values:
                self._guess(packet)

    def _refuse(self, *_: Any) -> None:
        self._refused = True
        raise _Refused

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) == DEEPEST or len(self.values) > MOST:
            self._refuse()
        for name, uri in attributes.items():
            if name.startswith("xmlns:"):
                word = re.sub(r"/[\d.]*/?$", "", uri).rpartition("/")[2].lower()
                self._vocabularies[name[6:]] = _NAMESPACES.get(word, name[6:].lower())
        self._open.append(tag)
        self._text = []
        for name, value in attributes.items():
            self._keep(name, value)

    def _characters(self, text: str) -> None:
        self._text.append(text)

    def _end(self, _: str) -> None:
        text = "".join(self._text).strip()
        owner = next((name for name in reversed(self._open) if not name.startswith(("rdf:", "x:"))), None)
        if text and owner:
            self._keep(owner, text, more=self._open[-1] == "rdf:li")
        self._open.pop()
        self._text = []

    def _keep(self, name: str, value: str, more: bool = False) -> None:
        prefix, _, local = name.partition(":")
        if not local or prefix in ("xmlns", "rdf", "xml", "x"):
            return
        name = f"{self._vocabularies.get(prefix, prefix.lower())}:{local}"
        if name not in self.values:
            self.values[name] = value[:LARGEST_VALUE]
        elif more:
            self.values[name] = f"{self.values[name]} {value}"[:LARGEST_VALUE]

    def _guess(self, packet: bytes) -> None:
        """Attributes of a packet that is no XML; some makers write one twice, or forget to declare a namespace."""
        for found in itertools.islice(_BROKEN.finditer(packet), MOST):
            name, value = (part.decode("utf-8", "replace") for part in found.groups())
            self._keep(name, value)


class _Refused(Exception):
    pass
