"""Google Cloud Storage, as far as its XML API is that of S3: a SeaweedFS behind what Google does otherwise.

No emulator that can be installed speaks the XML API, which obstore's client uses: gcp-storage-emulator (PyPI) has its
uploads only and no conditions at all, and fake-gcs-server comes from neither PyPI, npm nor Debian. What differs from S3
is done here: OAuth's tokens for a service account's signature, generations in place of ETags in a write's condition.
What Google's own servers do beyond that, no test here sees.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import uuid
from pathlib import Path
from urllib.parse import quote, urlencode

from tests.servers.process import Server, free_port, listens, start

from swath.infra.s3server import SeaweedFS

SCOPE = "https://www.googleapis.com/auth/devstorage"
MATCH, GENERATION = "x-goog-if-generation-match", "x-goog-generation"
PASSED = ("content-type", "range", "if-match", "if-none-match", "content-length")


class Google(Server):
    """Context manager: the server before `seaweed`, and a service account that it knows."""

    def __init__(self, seaweed: SeaweedFS, directory: Path) -> None:
        self.seaweed, self.directory = seaweed, directory
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables with which Google's users name an account; the server's address is the test's."""
        return {
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.directory / "account.json"),
            "GOOGLE_BASE_URL": self.endpoint,
            "NO_GCE_CHECK": "true",
        }

    def create_bucket(self, name: str) -> str:
        """Makes a bucket, and returns its URI."""
        return self.seaweed.create_bucket(name).replace("s3://", "gs://")

    def start(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account",
            "client_email": "swath@test.iam.gserviceaccount.com",
            "private_key": pem.decode(),
            "private_key_id": "1",
            "project_id": "test",
            "token_uri": f"{self.endpoint}/token",
        }
        (self.directory / "account.json").write_text(json.dumps(account))
        command = [sys.executable, "-P", "-m", "tests.servers.google", str(self.port), self.seaweed.endpoint]
        keys = {"S3_KEY": self.seaweed.access_key, "S3_SECRET": self.seaweed.secret_key}
        environment = os.environ | keys | {"PYTHONPATH": os.getcwd()}
        log = self.directory / "google.log"
        self._process = start(command, lambda: listens(self.port), log, env=environment)


def generation_of(etag: str) -> str:
    """An object's number, from which its ETag (an MD5, perhaps with a count of parts) can be told."""
    digest, _, parts = etag.strip('"').partition("-")
    return str(int(digest, 16) * 100_000 + int(parts or 0))


def etag_of(generation: str) -> str:
    digest, parts = divmod(int(generation), 100_000)
    return f'"{digest:032x}-{parts}"' if parts else f'"{digest:032x}"'


async def serve(port: int, target: str) -> None:
    import aiohttp
    from aiohttp import web
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
    from yarl import URL

    credentials = Credentials(os.environ["S3_KEY"], os.environ["S3_SECRET"])
    tokens: set[str] = set()

    async def token(request: web.Request) -> web.Response:
        assertion = str((await request.post())["assertion"]).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(assertion + "=" * (-len(assertion) % 4)))
        if not claims.get("scope", "").startswith(SCOPE):
            return web.json_response({"error": "invalid_scope"}, status=400)
        tokens.add(made := uuid.uuid4().hex)
        return web.json_response({"access_token": made, "expires_in": 3600, "token_type": "Bearer"})

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in tokens:
            return web.Response(status=401, text="<Error><Code>AuthenticationRequired</Code></Error>")
        headers = {name: value for name, value in request.headers.items() if name.lower() in PASSED}
        if (wanted := request.headers.get(MATCH)) is not None:
            headers |= {"If-None-Match": "*"} if wanted == "0" else {"If-Match": etag_of(wanted)}
        path = quote(request.rel_url.path, safe="/~")
        query = urlencode(sorted(request.query.items()), quote_via=quote)
        url = f"{target}{path}?{query}".rstrip("?")
        body = await request.read()
        asked = AWSRequest(request.method, url, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}, data=body)
        S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(asked)
        signed = headers | {name: value for name, value in asked.headers.items() if name.lower() != "content-length"}
        async with session.request(request.method, URL(url, encoded=True), headers=signed, data=body) as answer:
            kept = ("content-type", "etag", "last-modified", "content-range", "accept-ranges")
            told = {name: value for name, value in answer.headers.items() if name.lower() in kept}
            if "etag" in answer.headers and request.method != "POST":
                told[GENERATION] = generation_of(answer.headers["etag"])
            if request.method == "HEAD":
                told["Content-Length"] = answer.headers.get("Content-Length", "0")
            return web.Response(status=answer.status, headers=told, body=await answer.read())

    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/token", token)
    app.router.add_route("*", "/{path:.*}", handle)
    async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as session:
        runner = web.AppRunner(app, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
