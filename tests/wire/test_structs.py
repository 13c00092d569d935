"""Every message survives msgpack, and unknown fields of a newer peer are ignored."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from msgspec import Struct

from cortex.wire import connection, events, fleet, inference, status, worker
from cortex.wire.inference import Sampling

UNIONS = {
    "event": events.Event,
    "request": inference.Request,
    "command": worker.Command,
    "notice": worker.Notice,
    "to_neuron": connection.ToNeuron,
    "from_neuron": connection.FromNeuron,
    "part": inference.Part,
    "format": inference.OutputFormat,
}
MEMBERS = [(name, member) for name, union in UNIONS.items() for member in get_args(union)]
DOCUMENTS = [status.NeuronStatus, status.LoadOrder, status.UnloadOrder, status.LoadJob, fleet.FleetStatus]


def example(type_: Any) -> Any:
    """The smallest value of a type: the first alternative, empty containers, defaults where there are some."""
    if isinstance(type_, type) and issubclass(type_, Struct):
        required = [field for field in msgspec.structs.fields(type_) if field.required]
        return type_(**{field.name: example(field.type) for field in required})
    info = msgspec.inspect.type_info(type_)
    match info:
        case msgspec.inspect.UnionType():
            return example_of(info.types[0])
        case _:
            return example_of(info)


def example_of(info: msgspec.inspect.Type) -> Any:
    match info:
        case msgspec.inspect.StructType():
            return example(info.cls)
        case msgspec.inspect.LiteralType():
            return info.values[0]
        case msgspec.inspect.UnionType():
            return example_of(info.types[0])
        case msgspec.inspect.ListType():
            return [example_of(info.item_type)]
        case msgspec.inspect.DictType():
            return {}
        case msgspec.inspect.BytesType():
            return b"\x00\xff"
        case msgspec.inspect.StrType():
            return "é"
        case msgspec.inspect.IntType():
            return 3
        case msgspec.inspect.FloatType():
            return 0.5
        case msgspec.inspect.BoolType():
            return True
        case _:
            return None


@pytest.mark.parametrize(("union", "member"), MEMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_a_message_survives_msgpack(union: str, member: type[Struct]) -> None:
    message = example(member)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=UNIONS[union]) == message


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda cls: cls.__name__)
def test_a_document_survives_json(document: type[Struct]) -> None:
    value = example(document)
    assert msgspec.json.decode(msgspec.json.encode(value), type=document) == value


@pytest.mark.parametrize(("union", "member"), MEMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_fields_of_a_newer_peer_are_ignored(union: str, member: type[Struct]) -> None:
    fields = msgspec.to_builtins(example(member), builtin_types=(bytes,))
    newer = msgspec.msgpack.encode({**fields, "from_the_future": [1, 2]})
    assert msgspec.msgpack.decode(newer, type=UNIONS[union]) == example(member)


def test_a_requests_sampling_values_take_precedence() -> None:
    request, profile = Sampling(temperature=0.0, top_k=None), Sampling(temperature=0.7, top_k=40, top_p=0.9)
    assert request.merged_over(profile) == Sampling(temperature=0.0, top_k=40, top_p=0.9)


@pytest.mark.parametrize(
    ("said", "deltas"),
    [
        ([events.TextDelta("a")], 1),
        ([events.Tokens([1]), events.TextDelta("a"), events.ToolCallEnd(0), events.ToolCallArguments(0, "{")], 2),
        ([events.Tokens([1])], 0),
        ([events.Started(1), events.TextDelta("a")], None),
        ([events.TextDelta("a"), events.Finished()], None),
        ([events.Failed("code", "why")], None),
        ([events.ChoiceFinished("stop")], None),
        ([events.ToolCallStart(0, "id", "name")], None),
    ],
)
def test_a_batch_of_nothing_but_output_says_how_much(said: list[events.Event], deltas: int | None) -> None:
    emission = worker.Emission.of("r", said)
    assert emission.deltas == deltas


def test_events_can_be_passed_on_without_being_decoded() -> None:
    sent = worker.Emissions(
        [worker.Emission.of("r", [events.TextDelta("é")]), worker.Emission.of("s", [events.Finished()])]
    )
    relayed = msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=worker.RelayedNotice)
    assert isinstance(relayed, worker.RelayedEmissions)
    assert [(item.request_id, item.deltas) for item in relayed.items] == [("r", 1), ("s", None)]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(relayed), type=worker.Notice) == sent
