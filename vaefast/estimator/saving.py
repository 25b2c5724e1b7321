"""Files of trained estimators: what `VAE.save` writes and `vaefast.load` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from vaefast import engines
from vaefast.engines import State
from vaefast.errors import DataError, EngineUnavailable
from vaefast.estimator import parameters
from vaefast.estimator.vae import VAE
from vaefast.files import atomic, model_file
from vaefast.inference import saved_inputs
from vaefast.inference.network import Network
from vaefast.models.settings import check_binarization, restored_training
from vaefast.tables.told import Told


def write(vae: VAE, path: Path, optimizer: bool) -> None:
    """Write a trained estimator, with Adam's moments if `optimizer` is true and there are any."""
    check_is_fitted(vae)
    network, inputs, state = vae._network, vae._inputs, vae._network.state
    moments = (state.first_moments, state.second_moments) if optimizer and not vae._moments_are_missing else None
    names = [str(name) for name in getattr(vae, "feature_names_in_", ())]
    about = {
        "parameters": {key: value for key, value in map(_plain, vae.get_params(deep=False).items()) if _is_json(value)},
        **saved_inputs.description(inputs, names),
        "n_iter": vae.n_iter_,
        **({"best_epoch": int(vae.best_epoch_)} if hasattr(vae, "best_epoch_") else {}),
        # What `partial_fit` did not measure is NaN, which JSON lacks.
        "history": {name: [None if value != value else value for value in column] for name, column in vae.history_.items()},
        "step": state.step,
        **({"size_quantiles": vae.size_quantiles_} if inputs.are_counts else {}),
        **vae._told.as_json(),
    }
    training = network.training.as_values()
    tensors, vector = saved_inputs.tensors(inputs), state.parameters.astype(np.float32)
    content = model_file.serialize(network.layout, vector, training, about, tensors, moments)
    with parameters.in_parameters():
        atomic.write_bytes(path, content)


def load(path: str | Path, *, engine: str | None = None, n_jobs: int | None = None) -> VAE:
    """A trained model from a file that `VAE.save` or `vaefast train` wrote, or from a run folder.

    Parameters
    ----------
    path : str or Path
        The file, or the folder of the run.
    engine : str or None, default=None
        As for `VAE`. None is the saved engine, or, for a run of the command line, the fastest that works here.
    n_jobs : int or None, default=None
        Number of threads, as for `VAE`. None is the number that was saved.

    Returns
    -------
    VAE
        The estimator as it was saved, apart from these parameters.

    Raises
    ------
    DataError
        The file is missing, damaged, of another program or of a newer format. Nothing in a file is ever executed.
    EngineUnavailable
        The engine that the model or the call asks for cannot run here. `engine="auto"` takes one that can.
    SettingsError
        There is no such engine, or `n_jobs` is not a number of threads.
    """
    path = Path(path)
    chosen = {name: value for name, value in (("engine", engine), ("n_jobs", n_jobs)) if value is not None}
    with parameters.in_parameters():
        parameters.threads_of(VAE(n_jobs=n_jobs))
        if engine is not None:
            engines.choose(engine)
    saved = model_file.read(path / "model.safetensors" if path.is_dir() else path)
    try:
        return _restored(saved, chosen)
    except EngineUnavailable:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: its settings are damaged ({reason}): give another file") from error


def _restored(saved: model_file.SavedModel, chosen: Mapping[str, Any]) -> VAE:
    model, about = saved.model, dict(saved.estimator)
    training = restored_training(saved.training)
    schedule, objective = training.rate_schedule, training.objective
    check_binarization(model.likelihood, training.binarize)
    vae = VAE(
        model.latent, hidden_layer_sizes=model.hidden, likelihood=model.likelihood, activation=model.activation,
        zero_inflation=model.zero_inflation, encoder_input=model.encoder_input, encode_covariates=model.encode_covariates,
        missing_indicator=model.missing_indicator, scaling=about.get("scaling"), binarize=training.binarize,
        epochs=training.epochs, batch_size=training.batch_size,
        init=training.initialization, random_state=training.seed, **asdict(training.adam),
        learning_rate_schedule=schedule.name, learning_rate_steps=schedule.steps or None, final_learning_rate=schedule.final,
        clip_norm=training.clip_norm, input_dropout=training.input_dropout, objective=objective.name,
        samples=objective.samples, beta=objective.beta, kl_warm_up=objective.warm_up,
        warm_up_epochs=objective.warm_up_epochs, free_nats=objective.free_nats, precision=training.precision,
    )  # fmt: skip
    given = about.get("parameters", {})
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    vae._inputs, vae._told = saved_inputs.of_saved(saved), Told.from_json(about)
    if vae._inputs.schema is not None:
        given = {"column_types": vae._inputs.schema.kinds, **given}
        if given["column_types"] is not None:
            # In a file every name is text.
            kinds = {str(name): kind for name, kind in given["column_types"].items()}
            given["column_types"] = {c.name: kinds[str(c.name)] for c in vae._inputs.schema.columns if str(c.name) in kinds}
    vae.set_params(**{**given, **chosen})
    vae._network = Network(
        model, training, vae.engine, parameters.threads_of(vae), _restored_state(saved, int(about.get("step", 0)))
    )
    vae.likelihood_, vae.scaling_, vae.binarize_ = model.likelihood, about.get("scaling"), training.binarize
    vae.batch_size_, vae.epochs_ = training.batch_size, training.epochs
    vae.seed_, vae.learning_rate_ = training.seed, training.adam.learning_rate
    vae.engine_, vae.n_threads_ = vae._network.engine_name, vae._network.threads
    vae.n_iter_, vae.history_ = int(about.get("n_iter", training.epochs)), _history(about.get("history", {}))
    if "best_epoch" in about:
        vae.best_epoch_ = int(about["best_epoch"])
    schema = vae._inputs.schema
    vae.n_features_in_ = model.pixels if schema is None else len(schema.columns)
    if schema is not None:
        vae.column_types_ = schema.kinds
    vae._moments_are_missing = saved.moments is None
    if about.get("size_quantiles"):
        vae.size_quantiles_ = [float(size) for size in about["size_quantiles"]]
    if about.get("feature_names_in"):
        vae.feature_names_in_ = np.array(about["feature_names_in"], dtype=object)
    return vae


def _restored_state(saved: model_file.SavedModel, step: int) -> State:
    if saved.moments is None:
        return State.initial(saved.parameters)
    return State(saved.parameters, *saved.moments, step)


def _plain(parameter: tuple[str, Any]) -> tuple[str, Any]:
    """A parameter whose value is a number of Python, if it was one of NumPy, which JSON lacks."""
    name, value = parameter
    return name, parameters.real(value)


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _history(saved: dict[str, list[float | None]]) -> dict[str, list[float]]:
    """The metrics of a file, in which None is NaN."""
    return {name: [float("nan") if value is None else value for value in column] for name, column in saved.items()}
