"""Image URLs in requests: data URIs are decoded here; http(s) URLs are fetched by the serving layer.

Dialects do no I/O. A remote URL that isn't in `fetched` is added to `missing`; the serving layer fetches the missing
images (when the config allows it), adds them to `fetched` and parses the body a second time.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import Image

__all__ = ["Images"]

_PENDING = Image(data=b"")


@dataclass(slots=True)
class Images:
    """The images of one request. `allowed`: http(s) URLs may be fetched. `any`: the request contains an image."""

    allowed: bool = False
    fetched: dict[str, Image] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    any: bool = False

    def decode(self, data: str, mime: str, param: str | None = None) -> Image:
        """The image in base64 `data`. Raises BadRequest when it isn't base64 or is empty, UnsupportedValue when `mime`
        isn't an image type."""
        self.any = True
        return _decoded(data, mime, param)

    def load(self, url: str, param: str | None = None) -> Image:
        """The image at `url`; an empty placeholder for a missing remote one. Raises BadRequest, UnsupportedValue."""
        self.any = True
        scheme = url[:8].lower()
        if scheme.startswith("data:"):
            return _from_data_uri(url, param)
        if not scheme.startswith(("http://", "https://")):
            raise BadRequest("an image must be a data: URI or an http(s) URL", param=param)
        if not self.allowed:
            raise UnsupportedValue(
                "this server does not fetch image URLs; send the image as a data: URI "
                "(or let the operator set images.fetch = true)",
                param=param,
            )
        if url not in self.fetched:
            self.missing.append(url)
        return self.fetched.get(url, _PENDING)


def _decoded(data: str, mime: str, param: str | None) -> Image:
    if not mime.startswith("image/"):
        raise UnsupportedValue(f"{mime!r} is not an image type", param=param)
    try:
        raw = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("the image is not valid base64", param=param) from None
    if not raw:
        raise BadRequest("the image is empty", param=param)
    return Image(data=raw, mime=mime)


def _from_data_uri(url: str, param: str | None) -> Image:
    head, comma, data = url[5:].partition(",")
    mime, *flags = head.split(";")
    if not comma or "base64" not in (flag.strip().lower() for flag in flags):
        raise BadRequest("an image data: URI must look like data:image/png;base64,...", param=param)
    return _decoded(data, mime.strip().lower() or "image/png", param)
