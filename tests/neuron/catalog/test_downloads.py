"""Downloads against a hub on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from cortex.config.profiles import Profile, Profiles
from cortex.errors import BadRequest, Forbidden, ModelLoadFailed, ModelNotFound, NoRoom, Unavailable
from cortex.neuron.catalog import downloads
from cortex.neuron.catalog.downloads import Downloader, RemoteFile, choose_files
from cortex.neuron.catalog.scan import HeaderCache, scan
from tests.neuron.catalog.fake_hub import COMMIT, FakeHub, fake_hub
from tests.neuron.gguf_files import write_gguf


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with fake_hub() as running:
        running.files["m-Q4_K_M.gguf"] = write_gguf(tmp_path / "m.gguf", vocabulary=4000).read_bytes()
        yield running


def profile(**fields: object) -> Profile:
    return Profile("m", source="huggingface", repo="org/repo", **fields)  # type: ignore[arg-type]


def ignore(_done: int, _total: int) -> None:
    """Nobody watches."""


def test_a_download_arrives_whole_and_the_catalogue_finds_it(hub: FakeHub, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    (path,) = Downloader(tmp_path / "hub", endpoint=hub.url).fetch(
        profile(), lambda done, all_: seen.append((done, all_))
    )
    assert path.read_bytes() == hub.files["m-Q4_K_M.gguf"]
    assert seen[-1][0] == seen[-1][1] == len(hub.files["m-Q4_K_M.gguf"])
    entry = scan([], tmp_path / "hub", Profiles(models=[profile()]), HeaderCache()).entries["m"]
    assert entry.header is not None


def test_what_is_here_is_not_downloaded_again(hub: FakeHub, tmp_path: Path) -> None:
    downloader = Downloader(tmp_path / "hub", endpoint=hub.url)
    downloader.fetch(profile(), ignore)
    downloader.fetch(profile(), ignore)
    assert len(hub.served) == 1


def test_parallel_requests_make_one_download(hub: FakeHub, tmp_path: Path) -> None:
    downloader = Downloader(tmp_path / "hub", endpoint=hub.url)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: downloader.fetch(profile(), ignore), range(8)))
    assert all(path == paths[0] for path in paths)
    assert len(hub.served) == 1


def test_a_broken_download_resumes_where_it_stopped(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # its 10 MB hold the whole test file
    hub.cut_after = 50_000
    downloader = Downloader(tmp_path / "hub", endpoint=hub.url)
    try:
        (path,) = downloader.fetch(profile(), ignore)
    except Unavailable:
        (path,) = downloader.fetch(profile(), ignore)
    assert path.read_bytes() == hub.files["m-Q4_K_M.gguf"]
    assert any(asked and asked != "bytes=0-" for _, asked in hub.served)


def test_other_bytes_than_promised_are_removed(hub: FakeHub, tmp_path: Path) -> None:
    hub.lie = True
    downloader = Downloader(tmp_path / "hub", endpoint=hub.url)
    with pytest.raises(ModelLoadFailed, match="damaged"):
        downloader.fetch(profile(), ignore)
    hub.lie = False
    (path,) = downloader.fetch(profile(), ignore)
    assert path.read_bytes() == hub.files["m-Q4_K_M.gguf"]


def test_room_on_disk_is_checked_before_the_first_byte(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(NoRoom, match="too few are free"):
        Downloader(tmp_path / "hub", endpoint=hub.url).fetch(profile(), ignore)
    assert not hub.served


def test_gated_missing_offline_and_unreachable_are_told_apart(hub: FakeHub, tmp_path: Path) -> None:
    downloader = Downloader(tmp_path / "hub", endpoint=hub.url)
    with pytest.raises(Forbidden, match="accept its terms"):
        downloader.fetch(Profile("g", source="huggingface", repo="org/gated"), ignore)
    with pytest.raises(ModelNotFound, match="no repository org/none"):
        downloader.fetch(Profile("n", source="huggingface", repo="org/none"), ignore)
    with pytest.raises(BadRequest, match="no repository's name"):
        downloader.fetch(Profile("", source="huggingface", repo="a b"), ignore)
    with pytest.raises(Unavailable, match="offline"):
        Downloader(tmp_path / "hub", offline=True, endpoint=hub.url).fetch(profile(), ignore)
    with pytest.raises(Unavailable, match="reached"):
        Downloader(tmp_path / "hub", endpoint="http://127.0.0.1:1").fetch(profile(), ignore)


def test_a_quantisation_is_chosen_with_all_its_shards_and_the_projector() -> None:
    names = ["a-Q8_0.gguf", "a-Q4_K_M-00001-of-00002.gguf", "a-Q4_K_M-00002-of-00002.gguf", "mmproj-F16.gguf", "x.txt"]
    files = [RemoteFile(name, 1, None) for name in names]
    assert [file.name for file in choose_files(files, profile())] == names[1:4]
    assert [file.name for file in choose_files(files, profile(quant="q8_0"))] == [names[0], names[3]]
    assert [file.name for file in choose_files(files, profile(file="a-Q8_0.gguf"))] == [names[0], names[3]]
    with pytest.raises(ModelNotFound, match="a-Q8_0"):
        choose_files(files, profile(quant="IQ1_S"))


def test_a_profile_chooses_the_projector_that_comes_with_it() -> None:
    files = [RemoteFile(name, 1, None) for name in ("a-Q4_K_M.gguf", "mmproj-F16.gguf", "mmproj-Q8_0.gguf")]
    assert choose_files(files, profile(mmproj="mmproj-Q8_0.gguf")) == [files[0], files[2]]
    assert choose_files(files, profile(mmproj="none")) == files[:1]


def test_a_download_is_what_main_points_to(hub: FakeHub, tmp_path: Path) -> None:
    """Else an older snapshot of another program's would be served."""
    ref = tmp_path / "hub" / "models--org--repo" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text("a" * 40)
    Downloader(tmp_path / "hub", endpoint=hub.url).fetch(profile(), ignore)
    assert ref.read_text() == COMMIT
    assert [path.name for path in ref.parent.iterdir()] == ["main"]
