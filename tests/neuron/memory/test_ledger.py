"""Sizes as the driver and llama.cpp report them, and the file that they are kept in."""

from __future__ import annotations

from pathlib import Path

from cortex.neuron.memory.ledger import Measurements, grown_bytes, measured_bytes


def test_growth_counts_where_it_is_no_less_than_what_was_allocated() -> None:
    assert grown_bytes([100], [400], [250]) == [300]
    assert grown_bytes([100], [400], [301]) is None
    assert grown_bytes([100, 0], [400, 0], None) is None
    assert grown_bytes([100], [400], None) == [300]


def test_buffers_are_told_by_device_and_by_endpoint() -> None:
    told = {"CPU": 5, "CUDA0": 10, "CUDA1": 20, "CUDA_Host": 3, "RPC0[h:1]": 7, "RPC1[h:1]": 1, "RPC0[i:1]": 9}
    assert measured_bytes(told, ["CUDA0", "CUDA1"], ["h:1", "i:1"]) == [10, 20, 8, 9]
    assert measured_bytes({"CPU": 5}, ["CPU"]) == [5]
    assert measured_bytes({"CPU": 5}, ["CUDA0"]) is None
    assert measured_bytes({"CPU": 5}, ["CPU", "CPU"]) is None


def test_a_split_within_layers_has_one_buffer_on_every_device() -> None:
    assert measured_bytes({"CPU": 5, "Meta()": 30}, ["CUDA0", "CUDA1"]) == [30, 30]
    assert measured_bytes({"CPU": 5, "Meta()": 30}, ["CPU"], ["h:1", "i:1"]) == [5, 30, 30]


def test_a_size_that_cannot_be_written_is_known_until_the_restart(tmp_path: Path) -> None:
    """A full disk must not cost a load."""
    (tmp_path / "full").touch()
    sizes = Measurements(tmp_path / "full" / "measured.json")
    sizes.put("m", [5])
    assert sizes.get("m") == [5]
