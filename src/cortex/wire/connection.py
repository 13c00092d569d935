"""What a gateway and a neuron send to each other over their one connection, as frames of `wire.framing`.

Below it lies an ordinary HTTP/1.1 `POST /connection` whose two bodies don't end: commands in the request's, answers
in the response's. Emissions are those of `wire.worker`. The connection's end is the end of every request on it.
"""

from __future__ import annotations

from msgspec import Struct

from cortex.wire.events import Failed
from cortex.wire.status import LoadJob, LoadOrder, NeuronStatus, UnloadOrder
from cortex.wire.worker import Cancel, Emissions, Submit

__all__ = [
    "FromNeuron",
    "LoadCommand",
    "OrderReply",
    "ProfilesCommand",
    "StatusPush",
    "StatusRequest",
    "SubmitPart",
    "ToNeuron",
    "UnloadCommand",
]


# ---- gateway -> neuron


class SubmitPart(Struct, frozen=True, tag="submit_part"):
    """A piece of a Submit's msgpack, for one so large that other frames would wait for it. The one with `last`
    completes it; a Cancel before that drops what has come."""

    request_id: str
    data: bytes
    last: bool = False


class LoadCommand(Struct, frozen=True, tag="load"):
    """Answered by one OrderReply with `job`, when the load has ended, or with `error`. So are the other commands with
    an `id`, which is unique on the connection. A StatusPush that shows the outcome comes before the reply."""

    id: int
    order: LoadOrder


class UnloadCommand(Struct, frozen=True, tag="unload"):
    id: int
    order: UnloadOrder


class ProfilesCommand(Struct, frozen=True, tag="profiles"):
    """`status.ProfilesOrder`; its document, models.toml as JSON, is `document`."""

    id: int
    source: str
    replaces: str
    document: bytes


class StatusRequest(Struct, frozen=True, tag="status_request"):
    """Answered by a StatusPush."""


ToNeuron = Submit | SubmitPart | Cancel | LoadCommand | UnloadCommand | ProfilesCommand | StatusRequest


# ---- neuron -> gateway


class StatusPush(Struct, frozen=True, tag="status"):
    """Sent when the connection opens, after every change, on a StatusRequest, before an OrderReply, and every few
    seconds."""

    status: NeuronStatus


class OrderReply(Struct, frozen=True, tag="order_reply", omit_defaults=True):
    """`job` for a load; neither it nor `error` for another order that was carried out."""

    id: int
    job: LoadJob | None = None
    error: Failed | None = None


FromNeuron = Emissions | StatusPush | OrderReply
