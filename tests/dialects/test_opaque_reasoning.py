"""Thought comes back from clients that carry it unread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.dialects.opaque_reasoning import decode_opaque, encode_opaque


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_sealed_can_be_unsealed(text: str) -> None:
    assert decode_opaque(encode_opaque(text)) == text


def test_nothing_sealed_is_still_something() -> None:
    """Zed drops a thinking block whose signature is empty."""
    assert encode_opaque("")


@pytest.mark.parametrize(
    "sealed", ["", "EqMDCkYIBxgC", "gAAAAABo", "cortex1:!", "cortex1:a", "cortex1:/w==", "cortex1:_w=="]
)
def test_what_another_server_sealed_is_not_ours_to_read(sealed: str) -> None:
    assert decode_opaque(sealed) is None
