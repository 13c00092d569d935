"""Fetching images: only when allowed, only from the public internet, only so much and so long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from cortex.config.settings import Config, ImagesConfig
from cortex.errors import BadRequest
from cortex.serving.http.image_fetcher import ImageFetcher, public_address
from cortex.wire.inference import InferenceRequest, Text
from cortex.wire.status import Capabilities, Limits, ModelCard, ModelStatus
from tests.serving.conftest import Serve
from tests.serving.fake_backend import FakeBackend

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 50
PUBLIC = {"pics.example": ["93.184.216.34"], "mixed.example": ["93.184.216.34", "10.0.0.1"]}


def png(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "image/png; charset=x"}, content=PNG)


def fetcher(handler: Callable[[httpx.Request], httpx.Response] = png, **config: object) -> ImageFetcher:
    async def resolve(host: str, _: int) -> list[str]:
        return PUBLIC.get(host, ["127.0.0.1"])

    limits = ImagesConfig(fetch=True, **config)  # type: ignore[arg-type]
    return ImageFetcher(limits, httpx.MockTransport(handler), resolve)


async def test_a_public_image_is_fetched_with_its_type() -> None:
    images = await fetcher().fetch(["https://pics.example/a.png"])
    assert images["https://pics.example/a.png"].data == PNG
    assert images["https://pics.example/a.png"].mime == "image/png"


async def test_the_checked_address_is_the_one_connected_to() -> None:
    """A second look-up could give another address, so there is none; the host still names itself."""
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return png(request)

    await fetcher(handler).fetch(["https://pics.example:8443/a.png"])
    assert asked[0].url.host == "93.184.216.34"
    assert asked[0].headers["host"] == "pics.example:8443"
    assert asked[0].extensions["sni_hostname"] == "pics.example"


@pytest.mark.parametrize("url", ["http://localhost/a", "http://internal.example/a", "https://mixed.example/a"])
async def test_private_hosts_are_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="not on the public internet"):
        await fetcher().fetch([url])


V4 = ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"]
V6 = ["::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::"]


@pytest.mark.parametrize("address", [*V4, *V6])
def test_no_private_address_passes_for_public(address: str) -> None:
    assert not public_address(address)


def test_public_addresses_pass() -> None:
    assert public_address("93.184.216.34")
    assert public_address("2606:4700::1111")


async def test_redirects_are_checked_like_first_urls() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": "http://metadata.internal/secret"})

    with pytest.raises(BadRequest, match="not on the public internet"):
        await fetcher(handler).fetch(["https://pics.example/a"])


async def test_redirects_end() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": "https://pics.example/again"})

    with pytest.raises(BadRequest, match="too many redirects"):
        await fetcher(handler).fetch(["https://pics.example/a"])


async def test_size_is_bounded() -> None:
    with pytest.raises(BadRequest, match="larger than 20 bytes"):
        await fetcher(max_bytes=20).fetch(["https://pics.example/a"])


async def test_what_is_no_image_is_refused() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/html"}, content=b"<html>")

    with pytest.raises(BadRequest, match="not an image"):
        await fetcher(handler).fetch(["https://pics.example/a"])


async def test_an_error_of_the_images_server_is_the_callers_to_read() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(404)

    with pytest.raises(BadRequest, match="answered 404"):
        await fetcher(handler).fetch(["https://pics.example/a"])


async def test_time_is_bounded() -> None:
    async def never(host: str, _: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    slow = ImageFetcher(ImagesConfig(fetch=True, timeout_s=0.05), httpx.MockTransport(png), never)
    with pytest.raises(BadRequest, match=r"did not arrive within 0\.05 s"):
        await slow.fetch(["https://pics.example/a"])


async def test_too_many_images_are_refused_before_any_is_fetched() -> None:
    with pytest.raises(BadRequest, match="at most 16"):
        await fetcher().fetch([f"https://pics.example/{number}" for number in range(17)])


async def test_images_of_the_history_that_are_gone_are_left_out() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404) if request.url.path == "/gone" else png(request)

    urls = [f"https://pics.example/{name}" for name in ("oldest", "gone", "a", "b")]
    found, gone = await fetcher(handler).fetch_older(urls, 3)
    assert set(found) == {urls[2], urls[3]}
    assert gone == {urls[0], urls[1]}


@pytest.mark.parametrize("turns", [1, 30])
async def test_a_conversation_survives_its_images(serve: Serve, turns: int) -> None:
    """Their servers may be gone, and there may be more of them than one request may fetch."""
    images = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": f"http://localhost:9/{number}.png"}}],
        }
        for number in range(turns)
    ]
    messages = [*images, {"role": "assistant", "content": "a cat"}, {"role": "user", "content": "sure?"}]
    async with serve(config=Config(images=ImagesConfig(fetch=True))) as running:
        reply = await running.http.post("/v1/chat/completions", json={"model": "demo", "messages": messages})
    assert reply.status_code == 200
    [request] = running.backend.requests
    assert isinstance(request, InferenceRequest)
    assert request.messages[0].parts == [Text("[image omitted: it can't be read here]")]


@pytest.mark.parametrize("allowed", [False, True])
async def test_remote_images_in_a_request_are_refused_unless_allowed(serve: Serve, allowed: bool) -> None:
    content = [{"type": "image_url", "image_url": {"url": "http://localhost:9/a.png"}}]
    async with serve(config=Config(images=ImagesConfig(fetch=allowed))) as running:
        reply = await running.http.post(
            "/v1/chat/completions", json={"model": "demo", "messages": [{"role": "user", "content": content}]}
        )
    assert reply.status_code == 400
    assert ("not on the public internet" if allowed else "images.fetch") in reply.json()["error"]["message"]


async def test_a_blind_model_sees_a_placeholder_for_an_image_of_the_history(serve: Serve) -> None:
    card = ModelCard("m", Limits(4096), Capabilities(vision=False), architecture="llama")
    backend = FakeBackend(statuses=[(ModelStatus(card, state="ready"), [])])
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}
    past = [{"role": "user", "content": [image]}, {"role": "assistant", "content": "a cat"}]
    async with serve(backend) as running:
        body = {"model": "m", "messages": [*past, {"role": "user", "content": "sure?"}]}
        assert (await running.http.post("/v1/chat/completions", json=body)).status_code == 200
        body = {"model": "m", "messages": [*past, *past[:1]]}
        assert "takes no images" in (await running.http.post("/v1/chat/completions", json=body)).text
    [request] = backend.requests
    assert isinstance(request, InferenceRequest)
    assert request.messages[0].parts == [Text("[image omitted: it can't be read here]")]


@pytest.mark.parametrize(
    ("architecture", "sees", "status"), [("llama", False, 400), ("llama", True, 200), ("", False, 200)]
)
async def test_a_model_that_cannot_see_is_not_even_asked(
    serve: Serve, architecture: str, sees: bool, status: int
) -> None:
    """It would be loaded, and others evicted, to refuse. A model that isn't on disk yet may turn out to see."""
    card = ModelCard("m", Limits(4096), Capabilities(vision=sees), architecture=architecture)
    backend = FakeBackend(statuses=[(ModelStatus(card, state="unloaded"), [])])
    source = {"type": "base64", "media_type": "image/png", "data": "aaaa"}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}
    async with serve(backend) as running:
        for path, content in (("/v1/chat/completions", image), ("/v1/messages", {"type": "image", "source": source})):
            body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [content]}]}
            assert (await running.http.post(path, json=body)).status_code == status
    assert len(backend.requests) == (2 if status == 200 else 0)
