"""Errors keep their class between processes."""

from __future__ import annotations

import pytest

from cortex import errors
from cortex.wire.events import failed


def tree(cls: type[errors.CortexError] = errors.CortexError) -> list[type[errors.CortexError]]:
    return [
        cls,
        *(leaf for child in cls.__subclasses__() if child.__module__ == errors.__name__ for leaf in tree(child)),
    ]


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_an_error_survives_the_wire(cls: type[errors.CortexError]) -> None:
    back = failed(cls("why", param="model", retry_after=3)).to_error()
    assert (back.code, back.status, back.message, back.param, back.retry_after) == (
        cls.code,
        cls.status,
        "why",
        "model",
        3,
    )


def test_codes_tell_errors_apart() -> None:
    codes = [cls.code for cls in tree()[1:]]
    assert len(codes) == len(set(codes))


def test_the_code_of_a_newer_peer_is_an_internal_error() -> None:
    error = errors.from_code("quantum_fluctuation", "odd")
    assert type(error) is errors.InternalError
    assert error.status == 500


@pytest.mark.parametrize("cls", tree(), ids=lambda cls: cls.__name__)
def test_an_invalid_request_is_not_retryable(cls: type[errors.CortexError]) -> None:
    assert not (cls.retryable and 400 <= cls.status < 429)


def test_every_error_is_public() -> None:
    assert {cls.__name__ for cls in tree()} <= set(errors.__all__)


def test_a_message_repeats_no_megabytes_of_what_a_client_sent() -> None:
    message = errors.BadRequest("no such value: " + "x" * 20_000_000).message
    assert len(message) < 20_000
    assert message.endswith("characters)")
