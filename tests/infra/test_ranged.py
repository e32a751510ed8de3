"""Files read by ranges, from local disk and from S3."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Buckets
from tests.faults.proxy import Proxy

from swath.infra import storage
from swath.infra.ranged import HEAD_BYTES, KEPT_BYTES
from swath.schemas.errors import StorageUnavailable

CONTENT = np.random.default_rng(0).integers(0, 255, 3_000_000, np.uint8).tobytes()


@pytest.fixture(params=["local", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An object with that content."""
    root = f"file://{tmp_path}" if request.param == "local" else request.getfixturevalue("s3").bucket()
    storage.write(f"{root}/a b#1.bin", CONTENT)
    return f"{root}/a b#1.bin"


def test_it_reads_what_lies_there_from_anywhere(uri: str) -> None:
    with storage.open_ranged(uri) as file:
        assert file.size == len(CONTENT)
        assert file.seek(-10, 2) == len(CONTENT) - 10
        assert file.read() == CONTENT[-10:]
        assert file.read(1) == b""
        assert file.seek(HEAD_BYTES - 5) == file.tell() == HEAD_BYTES - 5
        assert file.read(100) == CONTENT[HEAD_BYTES - 5 : HEAD_BYTES + 95]
        assert file.seek(-50, 1) == HEAD_BYTES + 45
        assert file.read(200_000) == CONTENT[HEAD_BYTES + 45 : HEAD_BYTES + 200_045]
        ranges = [(10, 20), (1_000_000, 70_000), (2_999_990, 100), (5_000_000, 10)]
        found = file.get_byte_ranges(*zip(*ranges, strict=True))
        assert found == [CONTENT[start : start + size] for start, size in ranges]
        assert pickle.loads(pickle.dumps(file)).read(10) == CONTENT[:10]


def test_it_asks_the_store_for_little_more_than_is_read(s3: Buckets) -> None:
    uri = f"{s3.bucket()}/a.bin"
    storage.write(uri, CONTENT)
    file = storage.open_ranged(uri)
    assert file.bytes_read == HEAD_BYTES
    file.get_byte_ranges([100_000, 900_000], [50_000, 60_000])
    assert file.bytes_read == HEAD_BYTES + 110_000
    file.get_byte_ranges([900_000, 110_000], [60_000, 20_000])  # of what it still has
    assert file.bytes_read == HEAD_BYTES + 110_000
    for start in range(2_000_000, 2_000_400, 4):
        file.seek(start)
        assert file.read(4) == CONTENT[start : start + 4]
    assert file.bytes_read <= HEAD_BYTES + 110_000 + 2 * 16_384
    assert len(CONTENT) < KEPT_BYTES


def test_an_object_that_is_gone_or_replaced_is_not_found(s3: Buckets) -> None:
    bucket = s3.bucket()
    with pytest.raises(FileNotFoundError):
        storage.open_ranged(f"{bucket}/none.bin")
    storage.write(f"{bucket}/empty.bin", b"")
    assert storage.open_ranged(f"{bucket}/empty.bin").read() == b""
    storage.write(f"{bucket}/a.bin", CONTENT)
    file = storage.open_ranged(f"{bucket}/a.bin")
    storage.write(f"{bucket}/a.bin", CONTENT[::-1])
    file.seek(1_000_000)
    with pytest.raises(FileNotFoundError, match="was replaced while"):
        file.read(100_000)


def test_a_store_that_does_not_answer_is_unavailable(s3: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"{s3.bucket()}/a.bin"
    storage.write(uri, CONTENT)
    monkeypatch.setenv("SWATH_STORAGE_ATTEMPTS", "2")
    with Proxy(s3.server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        file = storage.open_ranged(uri)
        proxy.weather = "gone"
        with pytest.raises(StorageUnavailable):
            file.get_byte_ranges([100_000, 900_000], [50_000, 60_000])
        proxy.weather = "fair"
        assert file.get_byte_ranges([900_000], [60_000]) == [CONTENT[900_000:960_000]]
