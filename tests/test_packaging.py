"""Systemd units, RPM spec files, wheel and source distribution."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SPECS = ROOT / "contrib" / "rpm"
UNITS = sorted((ROOT / "contrib" / "systemd").glob("*.service"))


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


def needs(program: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} isn't here (apt install {package})")


@needs("systemd-analyze", "systemd")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    """ExecStart is replaced by a program that exists, since systemd-analyze reports a missing one."""
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"/usr/bin/cortex\S*", "/bin/true", unit.read_text()))
    command = ["systemd-analyze", "verify", "--man=no", copy]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    # units that ours depends on are verified too; faults of the host's own don't count
    assert not [line for line in done.stderr.splitlines() if unit.name in line], done.stderr


@needs("rpmspec", "rpm")
@pytest.mark.parametrize(
    ("flavour", "architectures"),
    [("cpu", None), ("ampere", "80,86"), ("ada", "89"), ("hopper", "90"), ("blackwell", "120")],
)
def test_a_flavour_builds_for_its_gpus(flavour: str, architectures: str | None) -> None:
    parsed = run("rpmspec", "-P", "--define", f"flavour {flavour}", SPECS / "cortex-neuron.spec")
    assert f"Name:           cortex-neuron-{flavour}" in parsed
    built = re.search(r"--cuda-arch (\S+)", parsed)
    assert (built and built[1]) == architectures


@needs("rpmspec", "rpm")
def test_an_unknown_flavour_is_refused() -> None:
    command = ["rpmspec", "-P", "--define", "flavour volta", str(SPECS / "cortex-neuron.spec")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "unknown flavour volta" in done.stderr


@needs("rpmspec", "rpm")
def test_the_gateways_spec_file_parses() -> None:
    assert "Name:           cortex\n" in run("rpmspec", "-P", SPECS / "cortex.spec")


@needs("rpmlint", "rpmlint")
def test_rpmlint_finds_no_error() -> None:
    assert "0 errors" in run("rpmlint", *sorted(SPECS.glob("*.spec")))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source distribution and the wheel built from it.

    Not isolated: an isolated build would download its tools.
    """
    directory = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT)
    return directory


@pytest.mark.e2e
def test_the_source_distribution_holds_what_the_wheel_is_made_of(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    (wheel,) = built.glob("cortex-*.whl")
    with tarfile.open(sdist) as archive:
        packed = {name.split("/src/", 1)[1] for name in archive.getnames() if "/src/cortex/" in name}
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("cortex/")}
    assert shipped <= packed
    assert "cortex/py.typed" in shipped


@pytest.mark.e2e
def test_the_wheel_runs_with_nothing_but_what_it_declares(built: Path, tmp_path: Path) -> None:
    """The environment has the wheel and links to exactly the packages that its metadata requires, directly or not."""
    venv.create(tmp_path)
    python = tmp_path / "bin" / "python"
    (wheel,) = built.glob("cortex-*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    for name in declared("cortex"):
        link(distribution(name), packages)
    assert re.search(r"\d+\.\d+", run(tmp_path / "bin" / "cortex", "version"))
    assert "gateway" in run(tmp_path / "bin" / "cortex", "--help")
    roles = "import cortex.gateway.app, cortex.neuron.app, cortex.engine.worker, cortex.top.app; print(cortex.__file__)"
    assert run(python, "-I", "-c", roles).startswith(str(packages))


def declared(root: str) -> set[str]:
    """The packages that `root` requires on this platform, directly or not."""
    found: set[str] = set()
    wanted = [(root, "")]
    while wanted:
        name, extra = wanted.pop()
        for line in distribution(name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                names = {canonicalize_name(needed.name)} - found
                found |= names
                wanted += [(each, "") for each in names] + [(needed.name, more) for more in needed.extras]
    return found


def link(package: Distribution, packages: Path) -> None:
    """Make the package importable in another environment, by links to its files."""
    for top in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
        if not (packages / top).exists():
            (packages / top).symlink_to(package.locate_file(top))
