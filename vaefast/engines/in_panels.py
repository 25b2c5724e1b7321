"""The state of an engine that holds parameters and moments in panel form in memory of its own: `InPanels`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from vaefast.engines.contract import State, are_finite
from vaefast.models.layout import Layout


class InPanels:
    """These methods of `vaefast.engines.contract.Engine`, for engines of which any thread of the CPU can read the state."""

    layout: Layout
    step: int
    _weights: Sequence[NDArray[Any]]  # parameters, first and second moments, (panel_size,) each

    def state(self, out: State | None = None) -> State:
        return State.from_panels(self.layout, self._weights, self.step, out)

    def is_finite(self) -> bool:
        return are_finite(*self._weights)

    def load_state(self, state: State) -> None:
        state.to_panels(self.layout, self._weights)
        self.step = state.step
