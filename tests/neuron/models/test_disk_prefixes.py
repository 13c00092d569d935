from __future__ import annotations

import os
from pathlib import Path

from cortex.neuron.models.disk_prefixes import DiskPrefixes


def save(saved: DiskPrefixes, key: str, size: int, age_s: int) -> Path:
    directory = saved.make(key)
    (directory / "state").write_bytes(b"x" * size)
    os.utime(directory, (1_000_000 - age_s, 1_000_000 - age_s))
    return directory


def test_saving_again_replaces_what_was_there(tmp_path: Path) -> None:
    saved = DiskPrefixes(tmp_path / "kv", 100)
    save(saved, "a", 10, 0)
    assert list(saved.make("a").iterdir()) == []


def test_the_oldest_go_until_the_rest_fits(tmp_path: Path) -> None:
    saved = DiskPrefixes(tmp_path / "kv", 100)
    for key, size, age_s in (("new", 60, 1), ("old", 60, 3), ("middle", 30, 2)):
        save(saved, key, size, age_s)
    saved.prune()
    assert [saved.find(key) is not None for key in ("old", "middle", "new")] == [False, True, True]


def test_one_beyond_the_limit_is_not_kept_at_all(tmp_path: Path) -> None:
    saved = DiskPrefixes(tmp_path / "kv", 100)
    save(saved, "huge", 101, 1)
    saved.prune()
    assert saved.find("huge") is None


def test_conversations_are_for_their_owner_alone(tmp_path: Path) -> None:
    assert DiskPrefixes(tmp_path / "kv", 100).make("a").stat().st_mode & 0o077 == 0


def test_without_a_directory_there_is_nothing_to_prune(tmp_path: Path) -> None:
    DiskPrefixes(tmp_path / "none", 100).prune()
