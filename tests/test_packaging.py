"""The sdist and the wheel: what they hold, that the wheel runs without a source tree, an installation without a compiler.

And the README's first command, typed in a checkout in an environment that has nothing of vaefast yet.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
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
    python = bare_python(folder, with_pip=False)
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    lend_dependencies(python)
    return python


def bare_python(folder, *, with_pip):
    """The interpreter of a new environment."""
    venv.create(folder, with_pip=with_pip)
    return folder / "bin" / "python"


def lend_dependencies(python):
    """Let an environment import what is installed here, after what is installed in it."""
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=python.parent).strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")


def copy_sources(folder):
    """The checkout as git has it: nothing that was built in this tree."""
    shutil.copytree(ROOT / "vaefast", folder / "vaefast", ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    # From a copy: the build must not depend on what was built in this tree, nor leave anything in it.
    copy_sources(folder / "source")
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


def hasty_compiler(folder):
    """The C compiler in half of its time: these tests ask what is packed and that it runs, not how fast."""
    compiler = folder / "cc"
    compiler.write_text(f'#!/bin/sh\nexec {os.environ.get("CC") or sysconfig.get_config_var("CC")} "$@" -O1\n')
    compiler.chmod(0o755)
    return compiler


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel made from the sdist with a compiler; what was compiled for it stays beside it, with the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    return built_wheel(sdist, folder / "built", CC=hasty_compiler(folder))


def test_the_wheel_trains_in_an_environment_of_its_own_without_numba(wheel, tmp_path):
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


# --- The README's first command


def first_command():
    """What the README says to type first: how to install, and what to run."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ((install, command),) = re.findall(r"<!-- the first command -->\n```sh\n(.*)\n(.*)\n```", text)
    return install, command


def started(checkout, line):
    """A process for a line typed in the checkout, in the new environment beside it, without MNIST and network.

    Kernels are kept in a folder that is empty at first, so a run that compiles them takes its seconds.
    """
    bin_folder, home = checkout.parent / "venv" / "bin", checkout.parent / "home"
    variables = {name: value for name, value in SOURCES_ASIDE.items() if not name.startswith(("VAEFAST_", "NUMBA_"))}
    # How many threads there are changes no result.
    variables |= {name: value for name, value in SOURCES_ASIDE.items() if name == "VAEFAST_NUM_THREADS"}
    variables |= {
        "PATH": f"{bin_folder}{os.pathsep}{variables['PATH']}", "VIRTUAL_ENV": str(bin_folder.parent), "VAEFAST_OFFLINE": "1",
        "HOME": str(home), "XDG_CACHE_HOME": str(home), "NUMBA_CACHE_DIR": str(home),
    }  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, shell=True, cwd=checkout, env=variables, text=True, **pipes)


def typed(checkout, line, code=0):
    """Standard output and error of a line that ends with this exit code."""
    with started(checkout, line) as process:
        out, errors = process.communicate(timeout=600)
    assert process.returncode == code, out[-3000:] + errors[-3000:]
    return out, errors


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, wheel):
    """A copy of the checkout, beside a new environment into which it was installed as the README says.

    Only where packages come from is another: pip fetches nothing, and takes what is installed here. And what the wheel's build
    has compiled of the same sources is not compiled again.
    """
    folder = tmp_path_factory.mktemp("first") / "checkout"
    copy_sources(folder)
    (compiled,) = wheel.parent.glob("*/build")
    shutil.copytree(compiled, folder / "build")
    python = bare_python(folder.parent / "venv", with_pip=True)
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", cwd=folder)  # that of Python 3.11 is too old
    lend_dependencies(python)
    install, _ = first_command()
    assert install.startswith("pip install ")
    typed(folder, install.replace("pip install", "pip install --quiet --no-index --no-deps --no-build-isolation", 1))
    return folder


def test_the_first_command_of_the_readme_runs_the_compiled_engine_in_the_checkout(checkout):
    _, command = first_command()
    start = time.monotonic()
    with started(checkout, command) as process:
        lines = []
        while not (lines and lines[-1].startswith("epoch ")):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        seconds = time.monotonic() - start
        _, errors = process.communicate(timeout=600)
    assert process.returncode == 0
    assert errors.startswith("vaefast: NO MNIST")
    assert errors.count("\n") == 1
    (run_folder,) = (checkout / "runs").iterdir()
    assert json.loads((run_folder / "environment.json").read_text())["engine"] == "cython"
    # 1 s was measured on two idle cores; kernels that must be compiled first take 15 s.
    assert seconds < 10


def test_uncompiled_sources_in_the_current_folder_say_what_to_type_instead(checkout):
    advice = f"vaefast: the sources in {checkout / 'vaefast'} are not compiled, and the vaefast installed in "
    remedy = "type vaefast instead of python -m vaefast"
    _, errors = typed(checkout, "python -m vaefast.train --data nowhere.npy", code=3)
    first, second = errors.splitlines()
    assert first.startswith(advice)
    assert remedy in first
    assert "nowhere.npy" in second
    _, errors = typed(checkout, "python -m vaefast.train --engine cython", code=2)
    assert errors.startswith("vaefast: engine cython cannot run here: the sources in ")
    assert remedy in errors
    assert "not compiled" not in typed(checkout, "python -m vaefast.train --data nowhere.npy --engine numba", code=3)[1]
    assert "not compiled" not in typed(checkout, "vaefast train --data nowhere.npy", code=3)[1]


def test_the_console_script_answers_for_every_command(checkout):
    out, _ = typed(checkout, "vaefast --help")
    assert out.startswith("usage: vaefast COMMAND")
    for name in ("train", "evaluate", "transform", "impute", "reproduce"):
        assert f"\n  {name} " in out
        assert typed(checkout, f"vaefast {name} --help")[0].startswith(f"usage: vaefast {name} ")
