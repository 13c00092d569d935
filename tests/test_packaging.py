"""What is shipped beside the code: units, spec files, wheel and source distribution."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

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
    """With a program that exists, since an uninstalled ExecStart would be the only complaint."""
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"/usr/bin/cortex\S*", "/bin/true", unit.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


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


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_wheel_and_sdist_install_in_a_clean_environment(tmp_path: Path) -> None:
    """The sdist holds what the wheel is made of, and the installed program starts."""
    run(sys.executable, "-m", "build", "--outdir", tmp_path, ROOT)
    (sdist,) = tmp_path.glob("*.tar.gz")
    (wheel,) = tmp_path.glob("cortex-*.whl")
    with tarfile.open(sdist) as archive:
        packed = {name.split("/src/", 1)[1] for name in archive.getnames() if "/src/cortex/" in name}
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("cortex/")}
    assert shipped <= packed
    assert "cortex/py.typed" in shipped

    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    llama = run(sys.executable, ROOT / "contrib" / "llama" / "build_wheel.py").strip()
    run(programs / "python", "-m", "pip", "install", "--quiet", llama, wheel)
    assert re.search(r"\d+\.\d+", run(programs / "cortex", "version"))
    assert "gateway" in run(programs / "cortex", "--help")
