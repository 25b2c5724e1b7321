"""One contract, several engines: `contract.py` states it, `choose` picks one that works here."""

from __future__ import annotations

import importlib.util

from vaefast.engines.contract import BoundTerms, Engine, State
from vaefast.errors import EngineUnavailable, SettingsError
from vaefast.settings import ModelSettings, TrainingSettings

# Fastest first: `auto` takes the first that can run here.
ENGINES = ("numba", "reference")

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
        return next(engine for engine in ENGINES if why_not(engine) is None and likelihood not in LACKING.get(engine, ()))
    if name not in ENGINES:
        raise SettingsError(f"engine is {name!r}: choose auto, {' or '.join(ENGINES)}")
    reason = why_not(name)
    if reason is not None:
        raise EngineUnavailable(f"engine {name} cannot run here: {reason}")
    if likelihood in LACKING.get(name, ()):
        able = " or ".join(engine for engine in ENGINES if likelihood not in LACKING.get(engine, ()))
        raise EngineUnavailable(f"engine {name} has no likelihood {likelihood}: choose engine {able}")
    return name


def why_not(name: str) -> str | None:
    """Why this engine cannot run here and what would help, or None where it can."""
    if name == "numba" and importlib.util.find_spec("numba") is None:
        return "Numba is not installed; pip install numba"
    return None


def create(name: str, model: ModelSettings, training: TrainingSettings, threads: int) -> Engine:
    """The engine of this name, `auto` included, for one model; its state is zero until `load_state`."""
    chosen = choose(name, model.likelihood)
    if chosen == "numba":
        from vaefast.engines.numba_cpu import NumbaEngine

        return NumbaEngine(model, training, threads)
    from vaefast.engines.reference import ReferenceEngine

    return ReferenceEngine(model, training, threads)
