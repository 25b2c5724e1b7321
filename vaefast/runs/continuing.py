"""A run between its checkpoints and its engine: where it goes on, when it may stop, which model it keeps."""

from __future__ import annotations

from typing import Any

from vaefast.engines.contract import Engine, State
from vaefast.errors import CheckpointError, SettingsError
from vaefast.models.settings import TrainingSettings
from vaefast.runs.checkpointing import Keeper, position_in
from vaefast.runs.resuming import Resumed
from vaefast.runs.run_folder import RunFolder
from vaefast.training.early_stopping import Stopping
from vaefast.training.trainer import Position


def take_up(resumed: Resumed, engine: Engine, size: int, training: TrainingSettings) -> Position:
    """Bring the engine to where the run stands, in a training set of `size` rows, and say where that is.

    Raises
    ------
    CheckpointError
        The checkpoint is not one of this run.
    SettingsError
        More epochs are begun than are asked for.
    """
    checkpoint = resumed.checkpoint
    position = position_in(checkpoint, size, training.batch_size)
    if checkpoint.state.parameters.size != engine.layout.size:
        raise CheckpointError(f"checkpoint {resumed.number} holds another number of parameters than its model has")
    begun = len(position.history) + (position.images > 0)
    if training.epochs < begun:
        raise SettingsError(f"epochs is {training.epochs}, and {begun} are begun: a run can be made longer, not shorter")
    engine.load_state(checkpoint.state)
    return position


def stopping(training: TrainingSettings, position: Position, resumed: Resumed | None) -> Stopping | None:
    """What watches the validation ELBO, as it stands after the epochs so far.

    Raises
    ------
    CheckpointError
        The checkpoint lacks the best model.
    """
    if not training.validation.patience:
        return None
    watching = Stopping(training.validation.patience, training.validation.min_improvement)
    if position.history:
        best = None if resumed is None else resumed.checkpoint.best
        if best is None or any(line.validation_elbo is None for line in position.history):
            raise CheckpointError(
                "the checkpoint lacks the best epoch's model or its bounds: it was changed after it was written"
            )
        watching.replay(position.history, State.initial(best))
    return watching


def hand_over(resumed: Resumed, keeper: Keeper, position: Position, training: TrainingSettings) -> None:
    """Tell the keeper of a run that goes on which checkpoint is its newest."""
    keeper.resumed(resumed.number, position)
    if resumed.values["epochs"] != training.epochs:
        keeper.write(position, resumed.checkpoint.state)  # with the new number of epochs, to be known whatever happens now


def keep_best(folder: RunFolder, engine: Engine, position: Position, settings: dict[str, Any]) -> dict[str, Any]:
    """Give the engine the best epoch's model, where one is kept, and add to the settings which it is."""
    watching = position.stopping
    if watching is None or watching.best is None:
        return settings
    engine.load_state(watching.best)
    settings = {**settings, "kept": {"epoch": watching.best_epoch, "validation_elbo": watching.best_bound}}
    folder.write_json("settings.json", settings)
    return settings
