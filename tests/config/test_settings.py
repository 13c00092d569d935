"""Sizes and listen addresses, and which addresses need keys."""

from __future__ import annotations

import pytest

from cortex.config.settings import check_exposure, parse_bytes, split_listen
from cortex.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"), [(5, 5), ("5", 5), ("2KiB", 2048), ("1.5 GiB", 3 << 29), ("500MB", 500_000_000), ("1k", 1000)]
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "big", "1.2.3", "5 apples", "-1", "."])
def test_an_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("listen", "parts"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("box.internal:8080", ("box.internal", 8080))],
)
def test_listen_addresses(listen: str, parts: tuple[str, int]) -> None:
    assert split_listen(listen) == parts


@pytest.mark.parametrize("listen", ["", "80", ":80", "host", "host:", "host:http", "host:99999"])
def test_an_invalid_listen_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="is not host:port"):
        split_listen(listen)


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_no_keys(listen: str) -> None:
    check_exposure(listen, has_keys=False, insecure=False, section="gateway")


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.168.1.5:1", "box.internal:1"])
def test_beyond_loopback_keys_or_insecure_are_needed(listen: str) -> None:
    check_exposure(listen, has_keys=True, insecure=False, section="gateway")
    check_exposure(listen, has_keys=False, insecure=True, section="gateway")
    with pytest.raises(ConfigError, match=r"write gateway\.insecure = true if you mean it"):
        check_exposure(listen, has_keys=False, insecure=False, section="gateway")
