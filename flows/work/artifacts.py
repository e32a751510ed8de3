"""Where what operators keep beside the table goes."""

from __future__ import annotations

from collections.abc import Mapping

from swath.flows.work.clock import Clock
from swath.infra import storage
from swath.operators.core.base import Artifact
from swath.operators.core.chain import Journal, Row


class Keeper:
    """Stores artifacts under a name made from item and fingerprint, so that storing one twice is harmless."""

    def __init__(self, prefix: str, fingerprints: Mapping[str, str], journal: Journal, clock: Clock) -> None:
        self.prefix, self.fingerprints, self.journal, self.clock = prefix, fingerprints, journal, clock

    def __call__(self, row: Row, step: str, artifact: Artifact) -> str:
        self.journal.rest()  # waiting for the store is nothing an item can be blamed for
        name = f"{row['item_id']}-{self.fingerprints[step]}{artifact.suffix}"
        uri = storage.join(self.prefix, row["item_id"][:2], name)
        with self.clock.at("store"):
            storage.write(uri, artifact.content)
        return uri
