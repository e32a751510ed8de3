"""The S3 server of tests and demos comes back after it was killed, with its objects, where its clients left it."""

from __future__ import annotations

from pathlib import Path

import pytest

from swath.infra import storage
from swath.infra.s3server import SeaweedFS


def test_a_killed_server_comes_back_at_its_address_with_its_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SeaweedFS(tmp_path) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        bucket, endpoint = server.create_bucket("kept"), server.endpoint
        storage.write(f"{bucket}/before", b"1")
        server.kill()
        server.start()
        assert server.endpoint == endpoint
        storage.write(f"{server.create_bucket('kept')}/after", b"2")
        assert [storage.read(f"{bucket}/{name}") for name in ("before", "after")] == [b"1", b"2"]
