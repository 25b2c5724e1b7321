"""One contract, several engines: `contract.py` states it, `choose` picks one that works here."""

from __future__ import annotations

import importlib.util

from vaefast.engines.contract import BoundTerms, Engine, State
from vaefast.errors import EngineUnavailable, SettingsError
from vaefast.settings import ModelSettings, TrainingSettings

# Best first: `auto` takes the first that can run here; see `_best`.
ENGINES = ("cython", "numba", "reference")

__all__ = ["ENGINES", "BoundTerms", "Engine", "State", "choose", "create"]


# What an engine cannot do yet; the others do it.
LACKING: dict[str, tuple[str, ...]] = {}


def choose(name: str, likelihood: str = "bernoulli") -> str:
    """The engine that `name` stands for: itself, or for `auto` the fastest that can run here and has this likelihood.

    Raises
    ------
    SettingsError
        There is no such engine.
    EngineUnavailable
        It cannot run here, or lacks the likelihood; the message holds the reason and the remedy.
    """
    if name == "auto":
        return _best(likelihood)
    if name not in ENGINES:
        raise SettingsError(f"engine is {name!r}: choose auto, {', '.join(ENGINES[:-1])} or {ENGINES[-1]}")
    reason = why_not(name)
    if reason is not None:
        raise EngineUnavailable(f"engine {name} cannot run here: {reason}")
    if likelihood in LACKING.get(name, ()):
        able = " or ".join(engine for engine in ENGINES if likelihood not in LACKING.get(engine, ()))
        raise EngineUnavailable(f"engine {name} has no likelihood {likelihood}: choose engine {able}")
    return name


def _best(likelihood: str) -> str:
    """What `auto` stands for: the engine whose run ends first, short or long.

    Cython wherever its extension was built, whatever the length: an epoch takes as long as Numba's, in paired rounds of MNIST
    on two cores of an Intel Xeon 1.00 and 0.99 of it at batch 200 and 0.99 and 0.99 at batch 20 (one thread, two), so no run
    is long enough for Numba to earn back its start, of 15 s with cold kernels and 1.5 s with warm ones. Both give the same
    bits.
    """
    return next(engine for engine in ENGINES if why_not(engine) is None and likelihood not in LACKING.get(engine, ()))


def why_not(name: str) -> str | None:
    """Why this engine cannot run here and what would help, or None where it can."""
    if name == "numba" and importlib.util.find_spec("numba") is None:
        return "Numba is not installed; pip install numba"
    return _extension_fault() if name == "cython" else None


def _extension_fault() -> str | None:
    """What is wrong with the compiled extension of the Cython engine, and what would help; None where it can be used."""
    if importlib.util.find_spec("vaefast.engines.cython_cpu.kernels") is None:
        return "its extension was not built; install a C compiler (gcc from 12, or clang), then install vaefast again"
    try:
        from vaefast.engines.cython_cpu import kernels  # noqa: F401
    except ImportError as error:
        return f"its extension cannot be loaded ({error}); install vaefast again, with a C compiler (gcc from 12, or clang)"
    return None


def create(name: str, model: ModelSettings, training: TrainingSettings, threads: int) -> Engine:
    """The engine of this name, `auto` included, for one model; its state is zero until `load_state`."""
    chosen = choose(name, model.likelihood)
    if chosen == "numba":
        from vaefast.engines.numba_cpu import NumbaEngine

        return NumbaEngine(model, training, threads)
    if chosen == "cython":
        from vaefast.engines.cython_cpu import CythonEngine

        return CythonEngine(model, training, threads)
    from vaefast.engines.reference import ReferenceEngine

    return ReferenceEngine(model, training, threads)
