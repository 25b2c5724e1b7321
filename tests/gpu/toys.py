"""Models whose sizes fit no tile, for engines that are slow: the simulator's, and the stand-in's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from cases import TOLERANCES

from vaefast.engines.contract import State
from vaefast.engines.cuda_gpu.launching import Machine
from vaefast.engines.reference import ReferenceEngine
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import PANEL, Layout
from vaefast.models.settings import ModelSettings, TrainingSettings


@dataclass(frozen=True)
class Toy:
    """A model whose sizes fit no tile, and two minibatches, the second of them smaller."""

    model: ModelSettings
    batch: int
    examples: int
    binarize: str
    floats: bool
    machine: Machine

    def values(self) -> np.ndarray:
        rng = np.random.default_rng(self.batch)
        levels = rng.random((self.examples, self.model.pixels)) * (rng.random((self.examples, self.model.pixels)) < 0.6)
        levels[levels > 0.9] = 1.0
        return levels.astype(np.float32) if self.floats else np.rint(255 * levels).astype(np.uint8)

    @property
    def training(self) -> TrainingSettings:
        return TrainingSettings(batch_size=self.batch, binarize=self.binarize, seed=2**40 + 11)

    @property
    def start(self) -> np.ndarray:
        return initial_parameters(Layout(self.model), "fan-in", 4)


TOYS = {
    "drawn bytes": Toy(ModelSettings(21, (18,), 5), 5, 7, "dynamic", False, Machine(4, 3)),
    "two tiles each way": Toy(ModelSettings(35, (), 17), 18, 18, "none", True, Machine(4, 5)),
    "no hidden layer": Toy(ModelSettings(13, (), 2), 3, 5, "dynamic", True, Machine(4, 1)),
    "a full block": Toy(ModelSettings(6, (3,), 1, "tanh"), 2, 3, "threshold", False, Machine(8, 2)),
}
by_toy = pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS)


def exact_of(toy):
    exact = ReferenceEngine(toy.model, toy.training, 1, np.float64)
    exact.load_state(State.initial(toy.start, np.float64))
    return exact


def bounds_of_a_bad_parameter(toy, engine):
    """The ELBO of a minibatch's images where one parameter is no number."""
    state = engine.state()
    Layout(toy.model).views(state.parameters)["mean.bias"][1] = np.nan
    engine.load_state(state)
    return engine.train(engine.place(toy.values()), np.arange(toy.batch)).elbo


def matrix(engine, offset, rows, width):
    """Rows of a matrix of the training workspace."""
    height = engine._plan.places.rows
    panels = np.asarray(engine._arena[offset : offset + height * -(-width // PANEL) * PANEL].copy_to_host())
    return panels.reshape(-1, height, PANEL).swapaxes(0, 1).reshape(height, -1)[:rows, :width]


def gradients_agree(toy, got, wanted, tolerance=TOLERANCES["gradient"]):
    """Whether first moments after one step are gradients within so much of each tensor's largest element."""
    return worst_gradient(toy, got, wanted) <= tolerance


def worst_gradient(toy, got, wanted):
    beta1 = toy.training.adam.beta1
    layout = Layout(toy.model)
    first, exact = (layout.views(state.first_moments / (1 - beta1)) for state in (got, wanted))
    return max(np.max(np.abs(first[name] - exact[name])) / np.max(np.abs(exact[name])) for name in exact)
