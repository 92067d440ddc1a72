"""Avatars: what is an image by its content is kept, and nothing else, whatever it is called."""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import AsyncIterator
from itertools import count
from typing import TYPE_CHECKING

import pytest

from roster.content import Content, content
from roster.database import users
from roster.limits import LARGEST_AVATAR
from roster.main import app
from tenure import override
from tests.roster.test_users import refused

if TYPE_CHECKING:
    from httpx import AsyncClient

    from tenure import Scope

pytestmark = pytest.mark.anyio

names = (f"pictured-{number}" for number in count())
NOBODY = f"/users/{2**63 - 1}/avatar"


def chunk(kind: bytes, data: bytes) -> bytes:
    """Make a part of a PNG."""
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def png(side: int = 1, filling: bytes = b"") -> bytes:
    """Make a grey square, with a comment in it."""
    size = side.to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    parts = [(b"IHDR", size), (b"tEXt", b"Comment\0" + filling), (b"IDAT", zlib.compress(bytes((side + 1) * side)))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts) + chunk(b"IEND", b"")


IMAGES = {
    "image/png": png(),
    "image/gif": b64decode("R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="),
    "image/webp": b64decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA"),
    "image/jpeg": b64decode(
        "/9j/4AAQSkZJRgABAQEAYABgAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5"
        "PTgyPC4zNDL/wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAACf/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AKp//2Q=="
    ),
}
PAGE = b"<!DOCTYPE html><html><head><title>me</title></head><body><script>alert(document.cookie)</script></body></html>"
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(document.cookie)</script></svg>'


@pytest.fixture
async def url(client: AsyncClient) -> str:
    """Add a user, and give where the avatar is."""
    added = await client.post("/users", json={"username": next(names), "email": "new@example.com"})
    return f"{added.headers['location']}/avatar"


@pytest.mark.parametrize("media_type", IMAGES)
async def test_an_image_is_given_back_as_what_it_is(client: AsyncClient, url: str, media_type: str) -> None:
    """Its bytes are answered with the type that they have, not the one that was declared, and no browser may guess."""
    put = await client.put(url, content=IMAGES[media_type], headers={"content-type": "text/html"})
    assert (put.status_code, put.content) == (204, b"")
    answer = await client.get(url)
    assert answer.content == IMAGES[media_type]
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == put.headers["etag"]


@pytest.mark.parametrize(
    ("file", "found"),
    [
        (PAGE, "HTML document"),
        (DRAWING, "SVG Scalable Vector Graphics image data"),
        (b"", "Empty file"),
        (b"hello", "Generic text document"),
        (b"%PDF-1.4\n" + png(), ""),
        (PAGE + png(), ""),
        (png() + PAGE, ""),
        (b"GIF89a/*" + b"*/=1;alert(1);//", ""),
        (b"\x89PNG\r\n\x1a\n", ""),
    ],
    ids=["html", "svg", "nothing", "text", "pdf-png", "html-png", "png-html", "gif-javascript", "signature"],
)
async def test_what_is_no_image_is_refused(client: AsyncClient, url: str, file: bytes, found: str) -> None:
    """What is called an image and holds something else, or two things, is answered 415, which says what was found."""
    await client.put(url, content=png())
    detail = refused(await client.put(url, content=file, headers={"content-type": "image/png"}), 415)["detail"]
    assert detail.startswith("an avatar is a PNG, JPEG, WebP or GIF image, and this looks like: ")
    assert detail.endswith(found)
    assert (await client.get(url)).content == png()


async def test_what_the_model_is_misled_by_is_refused(client: AsyncClient, url: str) -> None:
    """A model says what content looks like; what does not begin as that begins is not taken for it."""

    async def misled(_: bytes) -> Content:
        return Content("gif", "GIF image data")

    with override(app, {content: lambda: misled}):
        refused(await client.put(url, content=PAGE), 415)
        assert (await client.put(url, content=IMAGES["image/gif"])).status_code == 204


async def test_who_has_the_image_is_not_sent_it(client: AsyncClient, url: str) -> None:
    """With the tag of the image that is there the answer is 304, and with that of an earlier one the image."""
    first = (await client.put(url, content=png())).headers["etag"]
    same = await client.get(url, headers={"if-none-match": f'"other", W/{first}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first)
    second = (await client.put(url, content=png(2))).headers["etag"]
    assert second != first
    assert (await client.get(url, headers={"if-none-match": first})).content == png(2)


async def test_an_image_is_bounded(client: AsyncClient, url: str) -> None:
    """One of a mebibyte is kept; one more byte is answered 413, also where its length is not declared before."""
    empty = len(png())
    largest = png(filling=bytes(LARGEST_AVATAR - empty))
    assert (await client.put(url, content=largest)).status_code == 204
    assert (await client.get(url)).content == largest

    async def parts() -> AsyncIterator[bytes]:
        yield largest
        yield b"\0"

    for body in (largest + b"\0", parts()):
        answer = refused(await client.put(url, content=body), 413)
        assert answer["detail"] == "a body has at most 1048576 bytes"
    large = await client.post("/users", content=b" " * (64 * 1024 + 1), headers={"content-type": "application/json"})
    assert refused(large, 413)["detail"] == "a body has at most 65536 bytes"


async def test_a_removed_avatar_is_gone(client: AsyncClient, url: str) -> None:
    """`DELETE` answers 204 once; after that, as before there was one, all are answered 404."""
    refused(await client.get(url), 404)
    await client.put(url, content=png())
    assert (await client.delete(url)).status_code == 204
    for answer in (await client.get(url), await client.delete(url)):
        assert refused(answer, 404)["detail"] == "there is no avatar of a user with this id"


async def test_nobody_has_no_avatar(client: AsyncClient) -> None:
    """Where there is no user, nothing is kept."""
    assert refused(await client.put(NOBODY, content=png()), 404)["detail"] == "there is no user with this id"
    refused(await client.get(NOBODY), 404)
    refused(await client.delete(NOBODY), 404)


async def test_an_avatar_goes_with_its_user(client: AsyncClient, url: str, scope: Scope) -> None:
    """Who is removed leaves no image behind."""
    await client.put(url, content=png(3))
    await client.delete(url.removesuffix("/avatar"))
    count = "SELECT count(*) FROM avatars WHERE image = $1"
    assert await (await scope.get(users)).driver_pool.fetchval(count, png(3)) == 0
