"""Image URLs in requests: data URIs are decoded here; http(s) URLs are fetched by the serving layer.

Dialects do no I/O. A remote URL that isn't in `fetched` is added to `missing`, or to `older` if it belongs to the
history; the serving layer fetches these images (when the config allows it), adds them to `fetched`, those of the
history that it can't get to `gone`, and parses the body a second time.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from cortex.dialects.history import omitted
from cortex.errors import BadRequest, UnsupportedValue
from cortex.wire.inference import Image, Text

__all__ = ["Images"]

_PENDING = Image(data=b"")
_READABLE = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM")
"""How files of the formats begin that `engine.vision.image_file` accepts: PNG, JPEG, GIF, BMP."""


@dataclass(slots=True)
class Images:
    """The images of one request. `allowed`: http(s) URLs may be fetched. `any`: the request contains an image.

    `blind` is the id of the request's model if it takes no images. An image that can't be read or shown is an error in
    new input (`new`) and a placeholder in the history.
    """

    allowed: bool = False
    fetched: dict[str, Image] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    older: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    any: bool = False
    blind: str | None = None

    def decode(self, data: str, mime: str, param: str | None = None, *, new: bool = True) -> Image | Text:
        """The image in base64 `data`. Raises BadRequest when it isn't base64 or is empty, or for a blind model,
        UnsupportedValue when `mime` isn't an image type."""
        self.any = True
        try:
            self._refuse_for_blind_models()
            image = _decoded(data, mime, param)
        except BadRequest:
            if new:
                raise
            return Text(omitted("image"))
        return image if new else _shown(image)

    def load(self, url: str, param: str | None = None, *, new: bool = True) -> Image | Text:
        """The image at `url`; an empty one for a missing remote one. Raises BadRequest, UnsupportedValue."""
        self.any = True
        try:
            self._refuse_for_blind_models()
            image = self._loaded(url, param, new=new)
        except BadRequest:
            if new:
                raise
            return Text(omitted("image"))
        return image if new else _shown(image)

    def _refuse_for_blind_models(self) -> None:
        if self.blind is not None:
            raise BadRequest(f"model {self.blind!r} takes no images; send text only", param="messages")

    def _loaded(self, url: str, param: str | None, *, new: bool) -> Image:
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
        if url in self.gone:
            raise BadRequest(f"{url}: the image could not be fetched", param=param)
        if url not in self.fetched:
            (self.missing if new else self.older).append(url)
        return self.fetched.get(url, _PENDING)


def _shown(image: Image) -> Image | Text:
    """An image of the history; a placeholder if the engine would refuse its format (a WebP that a tool returned).

    In new input it is the engine that refuses it, and says what to send.
    """
    return image if image is _PENDING or image.data.startswith(_READABLE) else Text(omitted("image"))


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
