"""Everything is declared in pyproject.toml; compiled extensions, which need code to configure, are declared here.

The Cython engine is optional: without Cython or a C compiler the installation succeeds, and `--engine cython` says what is
missing. `VAEFAST_NATIVE=1` compiles for this machine's CPU alone.
"""

from __future__ import annotations

import copy
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

FOLDER = "vaefast/engines/cython_cpu"
UNITS = (
    "unit_base.c", "unit_avx2.c", "unit_avx512.c", "bf16_base.c", "bf16_avx2.c", "bf16_avx512.c", "bf16_avx512bf16.c",
    "choose.c",
)  # fmt: skip
HEADERS = (
    "kernels.h", "tiles.h", "elementwise.h", "unit.h", "sampling.h", "likelihoods.h", "rising.h", "counts.h", "blocks.h",
    "bfloat16.h", "threads.h",
)  # fmt: skip
PIECES = (
    "step.pxi", "declarations.pxi", "memory.pxi", "pixels.pxi", "counts.pxi", "tables.pxi", "bfloat16.pxi", "forward.pxi",
    "objectives.pxi", "rows.pxi", "weights.pxi", "clipping.pxi", "importance.pxi", "entry_points.pxi",
)  # fmt: skip
# Nothing is fused that the code does not fuse, so every instruction set with a fused multiply-add rounds alike.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-g0"]


def extension(name: str) -> Extension:
    """One of the two builds of the kernels; `checked` has bounds checks."""
    native = ["-march=native"] if os.environ.get("VAEFAST_NATIVE") == "1" else []
    return Extension(
        f"vaefast.engines.cython_cpu.{name}",
        [f"{FOLDER}/{source}" for source in (f"{name}.pyx", *UNITS)],
        depends=[f"{FOLDER}/{part}" for part in (*HEADERS, *PIECES)],
        extra_compile_args=[*FLAGS, *native],
    )


class BuildKernels(build_ext):
    """Compile the C sources that both builds have in common once, for both, and on all cores."""

    def finalize_options(self) -> None:
        """Both builds at a time, unless it is said how many."""
        super().finalize_options()
        self.parallel = self.parallel or True
        self._common, self._compiled = Lock(), False

    def build_extension(self, ext: Extension) -> None:
        """One of the two builds, of its own source and of the objects of the others."""
        common = sorted(source for source in ext.sources if source.endswith(UNITS))
        objects = self.compiler.object_filenames(common, output_dir=self.build_temp)
        parts = [*common, *ext.depends]
        with self._common:  # the other build waits for them, and finds them
            if not self._compiled and (self.force or any(newer_group(parts, each, "newer") for each in objects)):
                self._compile(common, ext)
            self._compiled = True
        rest = copy.copy(ext)
        rest.sources = [source for source in ext.sources if source not in common]
        rest.extra_objects, rest.depends = objects, parts
        super().build_extension(rest)

    def _compile(self, sources: list[str], ext: Extension) -> None:
        def compiled(source: str) -> list[str]:
            options = {"include_dirs": ext.include_dirs, "extra_postargs": ext.extra_compile_args}
            return self.compiler.compile([source], self.build_temp, **options)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compiled, sources))


def extensions() -> list[Extension]:
    """What can be translated to C here."""
    try:
        from Cython.Build import cythonize
    except ImportError:
        print("vaefast: Cython is not installed, so the Cython engine is not built")
        return []
    translated = cythonize([extension("kernels"), extension("checked")], build_dir="build")
    for each in translated:
        each.optional = True  # here, because cythonize forgets it
    return translated


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
