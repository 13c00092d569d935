"""Fetches the http(s) images that requests refer to, when `images.fetch` allows it.

Protection against server-side request forgery, because anyone who can write into a prompt can write a URL: only public
addresses are contacted; the connection goes to the address that was checked (a second DNS look-up could return
another); redirects are checked like the first URL; size and time are limited.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import httpx

from cortex.config.settings import ImagesConfig, parse_bytes
from cortex.errors import BadRequest
from cortex.wire.inference import Image

__all__ = ["ImageFetcher", "public_address"]

logger = logging.getLogger(__name__)

Resolve = Callable[[str, int], Awaitable[list[str]]]

_MAX_REDIRECTS = 3


class ImageFetcher:
    """`most` is the number of URLs that are fetched for one request.

    `transport` (HTTP) and `resolve` (DNS) are replaced in tests; None uses the network.
    """

    most = 16

    def __init__(
        self,
        config: ImagesConfig,
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._max_bytes = parse_bytes(config.max_bytes)
        self._timeout_s = config.timeout_s
        self._transport = transport
        self._resolve = resolve or _resolve

    async def fetch(self, urls: Sequence[str]) -> dict[str, Image]:
        """The image at each URL. Raises BadRequest that names the URL that failed and the reason."""
        wanted = list(dict.fromkeys(urls))
        if len(wanted) > self.most:
            raise BadRequest(f"at most {self.most} image URLs are fetched for one request")
        async with httpx.AsyncClient(transport=self._transport, trust_env=False, timeout=self._timeout_s) as client:
            images = await asyncio.gather(*(self._one(client, url) for url in wanted))
        return dict(zip(wanted, images, strict=True))

    async def fetch_older(self, urls: Sequence[str], most: int) -> tuple[dict[str, Image], set[str]]:
        """The images of a conversation's history, the last `most` of `urls`; and the URLs that were left out or that
        can't be fetched any more."""
        older = list(dict.fromkeys(reversed(urls)))
        wanted = older[: max(0, most)]
        found = await asyncio.gather(*(self._older(url) for url in wanted))
        images = {url: image for url, image in zip(wanted, found, strict=True) if image is not None}
        return images, set(older) - images.keys()

    async def _older(self, url: str) -> Image | None:
        try:
            return (await self.fetch([url]))[url]
        except BadRequest as error:
            logger.debug("an image of the history is left out: %s", error.message)
            return None

    async def _one(self, client: httpx.AsyncClient, url: str) -> Image:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(client, url)
        except TimeoutError:
            raise BadRequest(f"{url}: the image did not arrive within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise BadRequest(f"{url}: the image could not be fetched ({error or type(error).__name__})") from None

    async def _follow(self, client: httpx.AsyncClient, url: str) -> Image:
        target = httpx.URL(url)
        for _ in range(_MAX_REDIRECTS + 1):
            request = await self._request(client, target)
            response = await client.send(request, stream=True)
            try:
                if not response.has_redirect_location:
                    return await self._read(url, response)
                target = target.join(response.headers["location"])
            finally:
                await response.aclose()
        raise BadRequest(f"{url}: too many redirects")

    async def _request(self, client: httpx.AsyncClient, url: httpx.URL) -> httpx.Request:
        """A request to the checked address, with the host name for TLS (SNI) and in the Host header."""
        if url.scheme not in {"http", "https"} or not url.host:
            raise BadRequest(f"{url}: only http and https images can be fetched")
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolve(url.host, port)
        if not addresses or not all(map(public_address, addresses)):
            raise BadRequest(f"{url}: the host is not on the public internet")
        host = url.netloc.decode("ascii")
        return client.build_request(
            "GET",
            url.copy_with(host=addresses[0]),
            headers={"host": host, "accept": "image/*"},
            extensions={"sni_hostname": url.host},
        )

    async def _read(self, url: str, response: httpx.Response) -> Image:
        if response.status_code != 200:
            raise BadRequest(f"{url}: the image's server answered {response.status_code}")
        mime = response.headers.get("content-type", "").split(";")[0].strip().lower()
        if not mime.startswith("image/"):
            raise BadRequest(f"{url}: the content type is {mime or 'missing'}, not an image type")
        data = bytearray()
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > self._max_bytes:
                raise BadRequest(f"{url}: the image is larger than {self._max_bytes} bytes (images.max_bytes)")
        return Image(data=bytes(data), mime=mime)


def public_address(address: str) -> bool:
    """Whether an IP address is on the public internet. An IPv4 address inside an IPv6 one (mapped, 6to4) decides for
    it."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    return ip.is_global and not ip.is_multicast


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
