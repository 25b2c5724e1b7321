"""The sdist and the wheel: what they hold, that the wheel runs without a source tree, an installation without a compiler."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("Cython", reason="Cython is not installed: pip install cython")
pytest.importorskip("build", reason="build is not installed: pip install build")

ROOT = Path(__file__).parent.parent
# What the isolated environments of these tests must not inherit.
SOURCES_ASIDE = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VAEFAST_CHECKED")}


def run(*command, cwd, **environment):
    words, variables = [str(part) for part in command], {**SOURCES_ASIDE, **environment}
    result = subprocess.run(words, cwd=cwd, env=variables, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def built_wheel(sdist, folder, **environment):
    """The wheel made from an sdist; nothing is fetched, the tools are the ones that are installed."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, cwd=source, **environment)
    return next(folder.glob("*.whl"))


def fresh_python(folder, wheel):
    """The interpreter of a new environment with this wheel, and with the dependencies that are installed here after it."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    # From a copy: the build must not depend on what was built in this tree, nor leave anything in it.
    aside = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
    shutil.copytree(ROOT / "vaefast", folder / "source" / "vaefast", ignore=aside)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", folder, cwd=folder / "source")
    return next(folder.glob("*.tar.gz"))


def test_the_sdist_holds_the_sources_of_the_extension_and_nothing_generated(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "vaefast/engines/cython_cpu").iterdir()}
    wanted = {name for name in sources if name.endswith((".pyx", ".pxi", ".h", ".c", ".pyi", ".py"))}
    assert len(wanted) > 12
    assert wanted <= names
    assert [name for name in names if name.startswith("build") or name.endswith(".so")] == []


def test_the_wheel_trains_in_an_environment_of_its_own_without_numba(sdist, tmp_path):
    wheel = built_wheel(sdist, tmp_path / "wheel")
    names = zipfile.ZipFile(wheel).namelist()
    assert sum("cython_cpu/kernels." in name and name.endswith((".so", ".pyd")) for name in names) == 1
    assert [name for name in names if name.endswith((".c", ".h", ".pyx", ".pxi"))] == []
    python = fresh_python(tmp_path / "venv", wheel)
    program = """
import sys
sys.modules["numba"] = None
import vaefast
from vaefast.train import main
assert vaefast.__file__.startswith(sys.prefix), vaefast.__file__
raise SystemExit(main(["--data", "digits", "--epochs", "2", "--engine", "cython", "--out", "run"]))
"""
    assert "engine cython" in run(python, "-c", program, cwd=tmp_path, VAEFAST_OFFLINE="1")


def test_without_a_compiler_the_installation_succeeds_and_says_what_is_missing(sdist, tmp_path):
    nowhere = {"CC": "/nonexistent/cc", "CXX": "/nonexistent/c++"}
    wheel = built_wheel(sdist, tmp_path / "wheel", **nowhere)
    assert [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")] == []
    python = fresh_python(tmp_path / "venv", wheel)
    asked = [python, "-m", "vaefast.train", "--data", "digits", "--epochs", "1", "--out", "run", "--engine"]
    result = subprocess.run([*asked, "cython"], cwd=tmp_path, env=SOURCES_ASIDE, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert "engine cython cannot run here: its extension was not built; install a C compiler" in last
    assert "engine reference" in run(*asked, "reference", cwd=tmp_path)
