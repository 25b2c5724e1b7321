"""One contract, several engines: `contract.py` states it, `choose` picks one that works here."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Collection

from vaefast.engines import compiled_copy, cuda_driver
from vaefast.engines.contract import BoundTerms, Engine, State
from vaefast.errors import EngineUnavailable, SettingsError
from vaefast.models.settings import (
    COUNT_LIKELIHOODS,
    TABLE_LIKELIHOODS,
    ModelSettings,
    TrainingSettings,
    check_input_dropout,
)

# Best first: `auto` takes the first of the CPU's engines that can run here; see `_best`.
ENGINES = ("cython", "numba", "cuda", "reference")
FOR_CPU = ("cython", "numba", "reference")

__all__ = ["ENGINES", "BoundTerms", "Engine", "State", "choose", "create", "needs"]


# What an engine cannot do, in the words of `needs`; the others do it.
SEVERAL_RANKS = "training over several ranks"
COUNTS = tuple(f"likelihood {likelihood}" for likelihood in COUNT_LIKELIHOODS)
TABLES = (*(f"likelihood {likelihood}" for likelihood in TABLE_LIKELIHOODS), "missing values")
# What no engine can do over several ranks, though one of them does it in one process.
NOT_OVER_RANKS = ("precision bf16",)
LACKING: dict[str, tuple[str, ...]] = {
    "cython": ("precision tf32", SEVERAL_RANKS),
    "numba": ("precision tf32",),
    "cuda": (
        *COUNTS, *TABLES, "covariates", "likelihood gaussian", "likelihood continuous-bernoulli", "objective free-bits",
        "objective iwae", "objective dreg", "several samples", "a sampled KL", "gradient clipping", "precision bf16",
        SEVERAL_RANKS,
    ),
    "reference": ("precision tf32", SEVERAL_RANKS),
}  # fmt: skip


def needs(model: ModelSettings, training: TrainingSettings) -> tuple[str, ...]:
    """What of the things that not every engine has this training takes."""
    objective = training.objective
    extras = {
        "missing values": model.missing,
        "covariates": model.covariates > 0,
        "several samples": objective.samples > 1,
        "a sampled KL": objective.kl == "sampled",
        "precision tf32": training.precision == "tf32",
        "precision bf16": training.precision == "bf16",
        "gradient clipping": training.clip_norm is not None,
    }
    wanted = (extra for extra, needed in extras.items() if needed)
    return (f"likelihood {model.likelihood}", f"objective {objective.name}", *wanted)


def choose(name: str, needed: Collection[str] = ()) -> str:
    """The engine that `name` stands for: itself, or for `auto` the fastest that can run here and has what is needed.

    Raises
    ------
    SettingsError
        There is no such engine.
    EngineUnavailable
        It cannot run here, or lacks what is needed; the message holds the reason and the remedy.
    """
    if SEVERAL_RANKS in needed and (missing := [need for need in needed if need in NOT_OVER_RANKS]):
        raise EngineUnavailable(f"{SEVERAL_RANKS} has no {missing[0]}: train in one process, on all its cores")
    if name == "auto":
        return _best(needed)
    if name not in ENGINES:
        raise SettingsError(f"engine is {name!r}: choose auto, {', '.join(ENGINES[:-1])} or {ENGINES[-1]}")
    reason = why_not(name)
    if reason is not None:
        raise EngineUnavailable(f"engine {name} cannot run here: {reason}")
    if missing := _missing(name, needed):
        able = " or ".join(engine for engine in ENGINES if not _missing(engine, needed) and why_not(engine) is None)
        remedy = f"choose engine {able}" if able else "no engine that can run here has that"
        raise EngineUnavailable(f"engine {name} lacks {' and '.join(missing)}: {remedy}")
    return name


def _missing(name: str, needed: Collection[str]) -> list[str]:
    return [need for need in needed if need in LACKING.get(name, ())]


def _best(needed: Collection[str]) -> str:
    """What `auto` stands for: the engine whose run ends first, short or long.

    Cython wherever its extension was built, whatever the length: an epoch takes as long as Numba's, in paired rounds of MNIST
    on two cores of an Intel Xeon 1.00 and 0.99 of it at batch 200 and 0.99 and 0.99 at batch 20 (one thread, two), and with
    several samples and with clipping no longer (docs/performance.md). So no run is long enough for Numba to earn back its
    start, of 15 s with cold kernels and 1.5 s with warm ones. Both give the same bits. A GPU is taken only by name: its last
    bits are others, it has not been timed against them, and it may be in use.
    """
    if "precision tf32" in needed:
        raise EngineUnavailable("precision tf32 is for a GPU's tensor cores: choose engine cuda")
    return next(engine for engine in FOR_CPU if why_not(engine) is None and not _missing(engine, needed))


def why_not(name: str) -> str | None:
    """Why this engine cannot run here and what would help, or None where it can."""
    if name == "numba":
        return _numba_fault()
    if name == "cuda":
        return cuda_driver.fault()
    return _extension_fault() if name == "cython" else None


def _numba_fault() -> str | None:
    """What keeps Numba from compiling, and what would help; None where it can."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed; pip install numba"
    disabled = os.environ.get("NUMBA_DISABLE_JIT", "").strip()
    if disabled.isdecimal() and int(disabled):
        return f"NUMBA_DISABLE_JIT is {disabled}, so Numba compiles nothing; unset it"
    return None


def _extension_fault() -> str | None:
    """What is wrong with the compiled extension of the Cython engine, and what would help; None where it can be used."""
    if importlib.util.find_spec("vaefast.engines.cython_cpu.kernels") is None:
        built_elsewhere = compiled_copy.advice()
        if built_elsewhere is not None:
            return built_elsewhere
        if sys.platform == "win32":
            return "it is not built on Windows; engine numba gives the same bits"
        return "its extension was not built; install a C compiler (gcc from 12, or clang), then install vaefast again"
    try:
        from vaefast.engines.cython_cpu import kernels  # noqa: F401
    except ImportError as error:
        return f"its extension cannot be loaded ({error}); install vaefast again, with a C compiler (gcc from 12, or clang)"
    return None


def create(name: str, model: ModelSettings, training: TrainingSettings, threads: int) -> Engine:
    """The engine of this name, `auto` included, for one model; its state is zero until `load_state`."""
    check_input_dropout(model.likelihood, training.input_dropout)
    chosen = choose(name, needs(model, training))
    if chosen == "numba":
        from vaefast.engines.numba_cpu import NumbaEngine

        return NumbaEngine(model, training, threads)
    if chosen == "cuda":
        from vaefast.engines.cuda_gpu.engine import CudaEngine

        return CudaEngine(model, training, threads)
    if chosen == "cython":
        from vaefast.engines.cython_cpu import CythonEngine

        return CythonEngine(model, training, threads)
    from vaefast.engines.reference import ReferenceEngine

    return ReferenceEngine(model, training, threads)
