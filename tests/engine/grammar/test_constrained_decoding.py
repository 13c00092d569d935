"""A small real model decoding under grammars: whatever it generates must match what was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from cortex.wire.events import ChoiceFinished, Event, ToolCallArguments, ToolCallStart
from cortex.wire.inference import (
    Grammar,
    InferenceRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    OutputFormat,
    Sampling,
    Text,
    Tool,
    ToolChoice,
)
from cortex.wire.worker import LoadSpec
from tests.engine.harness import WorkerProcess, only, text_of
from tests.models import smollm2

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

WEATHER = Tool(
    "get_weather",
    "The weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 8},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city", "unit"],
    },
)
MAIL = Tool(
    "send_mail",
    "Send an e-mail.",
    {
        "type": "object",
        "properties": {
            "to": {
                "type": "array",
                "items": {"type": "string", "pattern": "^[a-z]{2,4}@a\\.org$"},
                "maxItems": 2,
                "minItems": 1,
            },
            "subject": {"type": "string", "maxLength": 8},
            "urgent": {"type": "boolean"},
        },
        "required": ["to", "subject"],
    },
)
MOVE = Tool(
    "move",
    "Move the robot.",
    {
        "type": "object",
        "properties": {
            "by": {
                "type": "object",
                "properties": {
                    "x": {"type": "integer", "minimum": -9, "maximum": 9},
                    "y": {"type": "integer", "minimum": -9, "maximum": 9},
                },
                "required": ["x", "y"],
            }
        },
        "required": ["by"],
    },
)
TOOLS = [WEATHER, MAIL, MOVE]
SUBJECTS = ["the weather in Rome", "an e-mail to Anna", "going two steps up", "a poem about rain", "your day"]

POINT = {
    "type": "object",
    "properties": {
        "x": {"type": "integer", "minimum": 0, "maximum": 99},
        "y": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["x", "y"],
    "additionalProperties": False,
}
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "address": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "maxLength": 8},
                    "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
                },
                "required": ["city", "zip"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "address"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green", "blue"]}, "level": {"enum": [1, 2, 3, None]}},
        "required": ["colour", "level"],
        "additionalProperties": False,
    },
    {
        "type": "array",
        "items": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.25},
        "minItems": 2,
        "maxItems": 4,
    },
    {
        "$defs": {"point": POINT},
        "type": "object",
        "properties": {"from": {"$ref": "#/$defs/point"}, "to": {"$ref": "#/$defs/point"}},
        "required": ["from", "to"],
        "additionalProperties": False,
    },
    {
        "anyOf": [
            {
                "type": "object",
                "properties": {"ok": {"const": True}},
                "required": ["ok"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"error": {"type": "string", "pattern": "^E[0-9]{3}$"}},
                "required": ["error"],
                "additionalProperties": False,
            },
        ]
    },
]


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess() as process:
        process.load(LoadSpec(model="m", path=str(smollm2()), context=1024, parallel=8, threads=1))
        yield process


def ask(name: str, text: str, seed: int, **fields: Any) -> InferenceRequest:
    """A request with a temperature above 0, so that runs of one prompt differ."""
    return InferenceRequest(
        id=name,
        model="m",
        messages=[Message("user", [Text(text)])],
        sampling=Sampling(temperature=1.2, seed=seed),
        max_output=fields.pop("max_output", 400),
        **fields,
    )


def answers(worker: WorkerProcess, requests: list[InferenceRequest]) -> list[list[Event]]:
    """The event streams of requests that run together."""
    worker.finish(*[worker.submit(request) for request in requests], deadline_s=800)
    return [worker.events[request.id] for request in requests]


def calls_of(events: list[Event]) -> list[tuple[str, Any]]:
    names = [event.name for event in events if isinstance(event, ToolCallStart)]
    return [
        (name, json.loads("".join(e.fragment for e in events if isinstance(e, ToolCallArguments) and e.index == index)))
        for index, name in enumerate(names)
    ]


def test_fifty_of_fifty_required_calls_are_valid(worker: WorkerProcess) -> None:
    requests = [
        ask(
            f"call-{seed}",
            f"Do something about {SUBJECTS[seed % 5]}.",
            seed,
            tools=TOOLS,
            tool_choice=ToolChoice("required"),
            parallel=False,
        )
        for seed in range(50)
    ]
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    streams = answers(worker, requests)
    for events in streams:
        [(name, arguments)] = calls_of(events)
        jsonschema.validate(arguments, schemas[name])
        assert text_of(events) == ""
        assert only(events, ChoiceFinished).reason == "tool_calls"
    assert {name for events in streams for name, _ in calls_of(events)} == set(schemas)


def test_fifty_of_fifty_answers_fit_their_schema(worker: WorkerProcess) -> None:
    requests = [
        ask(
            f"json-{seed}",
            f"Answer in JSON about {SUBJECTS[seed // 10]}.",
            seed,
            format=JsonSchemaFormat(SCHEMAS[seed % 5]),
        )
        for seed in range(50)
    ]
    for request, events in zip(requests, answers(worker, requests), strict=True):
        assert isinstance(request.format, JsonSchemaFormat)
        jsonschema.validate(json.loads(text_of(events)), request.format.schema)
        assert only(events, ChoiceFinished).reason == "stop"


def test_a_named_choice_calls_that_tool(worker: WorkerProcess) -> None:
    choice = ToolChoice("required", ["move"])
    requests = [ask(f"named-{seed}", "What's the weather?", seed, tools=TOOLS, tool_choice=choice) for seed in range(4)]
    for events in answers(worker, requests):
        assert {name for name, _ in calls_of(events)} == {"move"}


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (JsonObjectFormat(), lambda text: isinstance(json.loads(text), dict)),
        (Grammar("regex", "(yes|no), [a-z]{1,8}[.]"), lambda text: text.split(", ")[0] in ("yes", "no")),
        (Grammar("gbnf", 'root ::= ("ab" | "cd"){3}'), lambda text: len(text) == 6 and set(text) <= set("abcd")),
        (Grammar("lark", 'start: "<" /[0-9]{2}/ ">"'), lambda text: text[0] + text[3] == "<>"),
    ],
    ids=["json_object", "regex", "gbnf", "lark"],
)
def test_other_formats_hold_too(worker: WorkerProcess, wanted: OutputFormat, fits: Any) -> None:
    name = type(wanted).__name__ + getattr(wanted, "syntax", "")
    [events] = answers(worker, [ask(f"other-{name}", "Yes or no?", 1, format=wanted, max_output=400)])
    if only(events, ChoiceFinished).reason == "stop":
        assert fits(text_of(events))
    else:
        assert text_of(events).lstrip().startswith("{")
