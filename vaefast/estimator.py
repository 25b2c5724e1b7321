"""`VAE`: a variational auto-encoder with the manners of scikit-learn, on the engines and the loop of the command line."""

from __future__ import annotations

import contextlib
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from vaefast import atomic, model_file, noise, scaling, trainer
from vaefast.engines import State
from vaefast.errors import DataError, EngineUnavailable, SettingsError, VaefastError
from vaefast.layout import Layout
from vaefast.likelihoods import draw, expectation
from vaefast.network import Network
from vaefast.noise import Purpose
from vaefast.progress import Bar
from vaefast.settings import (
    LIKELIHOODS,
    AdamSettings,
    ModelSettings,
    ObjectiveSettings,
    RateSchedule,
    TrainingSettings,
    check_binarization,
    restored_training,
    usual_samples,
)
from vaefast.start import initial_state
from vaefast.threads import granted_cores, thread_count
from vaefast.trainer import EpochMetrics
from vaefast.validation import Stopping, held_out

Callback: TypeAlias = Callable[["VAE", Mapping[str, float]], "bool | None"]

# Flags of the command line that messages of the trainer, the engines and the files name, and what they are here.
PARAMETERS = {"--learning-rate": "learning_rate", "--init": "init", "--threads": "n_jobs", "--out": "path"}

# About so many minibatches make an epoch where `batch_size` is "auto", between these two sizes.
MINIBATCHES, SMALLEST_BATCH, LARGEST_BATCH = 100, 20, 200
# What an epoch's metrics hold for `history_` only where there are validation data.
VALIDATION = ("test_elbo", "test_log_likelihood", "test_kl", "evaluation_seconds")


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Variational auto-encoder: a latent representation, a density and a generator of the rows of a table.

    An encoder network gives each row x a normal distribution q(z | x) over a few latents z, a decoder network gives z a
    distribution p(x | z) over rows; both are trained to raise the evidence lower bound (ELBO) on log p(x) (Kingma & Welling,
    2014). All bounds and likelihoods are in nats a row.

    Parameters
    ----------
    n_components : int, default=10
        Number Z of latents.
    hidden_layer_sizes : int or sequence of int, default=(200, 200)
        Hidden layers of the encoder; the decoder mirrors them. May be empty.
    likelihood : {'auto', 'bernoulli', 'gaussian', 'continuous-bernoulli'}, default='auto'
        p(x | z). `bernoulli` is for binary data and for grey levels in [0, 1], which `binarize` turns into binary data;
        `gaussian` for any real numbers, with a learned variance for each feature; `continuous-bernoulli` for grey levels in
        [0, 1] as they are. `auto` takes `bernoulli` if all values of the training data lie in [0, 1] or are uint8 grey
        levels, and `gaussian` otherwise; `likelihood_` says which. Values that do not fit the likelihood are refused.
    activation : {'relu', 'tanh'}, default='relu'
        After every hidden layer.
    scaling : {'auto', 'standard', 'minmax'} or None, default='auto'
        What is done to each feature on the way in, and undone on the way out: `standard` brings it to mean 0 and standard
        deviation 1, `minmax` to [0, 1] with later values clipped, None leaves it alone. `auto` is `standard` for a
        Gaussian likelihood and None for the others. Log-densities are always those of the values as given. A Gaussian's
        learned standard deviation stays above 0.01 in the scaled unit, so without scaling the unit should suit the data.
    binarize : {'auto', 'dynamic', 'threshold', 'none'}, default='auto'
        For the Bernoulli likelihood, what a value between 0 and 1 becomes in training: `dynamic` draws it afresh as 0 or 1
        each time a row is seen, with the value as the probability of 1; `threshold` makes it 1 from one half; `none` leaves
        it, and the log-likelihood is then a cross-entropy. `auto` is `dynamic` for Bernoulli and `none` for the others.
    epochs : int, default=50
        Passes over the data, at most.
    batch_size : int or 'auto', default='auto'
        Rows a minibatch; `auto` makes about 100 minibatches an epoch, of 20 to 200 rows.
    learning_rate, beta1, beta2, epsilon : float
        Adam's.
    learning_rate_schedule : {'constant', 'steps', 'cosine', 'staged'}, default='constant'
        How the learning rate changes over the epochs: not; at those of `learning_rate_steps`; along half a cosine over
        `epochs`, down to `final_learning_rate`; or 10^(-i/7) of it for 3^i epochs, i = 0, 1, ... (Burda et al., 2015).
    learning_rate_steps : sequence of (int, float) or None, default=None
        For `steps`: `[(20, 0.1), (30, 0.01)]` is a tenth of `learning_rate` after 20 epochs and a hundredth after 30.
    final_learning_rate : float, default=0.0
        For `cosine`.
    clip_norm : float or None, default=None
        Longest gradient, of all parameters together, that Adam is given; longer ones are scaled to it.
    objective : {'elbo', 'beta', 'free-bits', 'iwae', 'dreg'}, default='elbo'
        What training maximises: the ELBO; the ELBO with a weight on the KL divergence (beta-VAE); the ELBO with `free_nats` a
        latent; the importance-weighted bound of `samples` samples; or that with the doubly reparameterised gradient. Scores
        are ELBOs and likelihoods whatever it is.
    samples : int or None, default=None
        Samples of the latents a row and step; None is 1, and 5 for `iwae` and `dreg`.
    beta : float, default=1.0
        For `beta`: weight of the KL divergence.
    kl_warm_up : {'none', 'linear', 'cyclic'}, default='none'
        For `beta`: raise the weight from 0 over `warm_up_epochs`, once or again and again.
    warm_up_epochs : int, default=10
        Of the warm-up, or of one cycle.
    free_nats : float, default=0.0
        For `free-bits`: nats a latent, as a mean over the minibatch, that cost nothing.
    init : {'glorot', 'fan-in', 'he', 'report', 'data-mean'}, default='glorot'
        Initial weights.
    early_stopping : bool, default=False
        In `fit`: set a part of the data aside, stop when its ELBO no longer rises, and keep the best epoch's model.
    validation_fraction : float, default=0.1
        That part.
    n_iter_no_change : int, default=10
        Epochs without an improvement by `tol` before stopping.
    tol : float, default=0.01
        The smallest improvement that counts, in nats.
    callbacks : sequence of callable or None, default=None
        Called as `callback(vae, metrics)` after each epoch, with the last values of `history_`; the estimator can be used
        as it is then. One that returns True stops the training.
    engine : {'auto', 'cython', 'numba', 'cuda', 'reference'}, default='auto'
        What computes; `auto` takes the fastest that works here.
    n_jobs : int or None, default=None
        Threads; changes the time and no result. None: `VAEFAST_NUM_THREADS`, else `OMP_NUM_THREADS`, else
        `NUMBA_NUM_THREADS`, else all cores granted; -1: all of them.
    random_state : int, RandomState or None, default=None
        An int is the seed of every random number, as `--seed` is on the command line.
    verbose : int, default=0
        1 shows a progress bar, in a notebook, too; 2 a line an epoch beside it.

    Attributes
    ----------
    likelihood_, scaling_, binarize_ : str
        What was chosen where the parameter is `auto`.
    history_ : dict of list
        `epoch`, `step`, `train_objective`, `train_elbo`, `train_log_likelihood`, `train_kl`, `seconds` of each epoch, and with
        validation data `validation_elbo` and so on: `pandas.DataFrame(vae.history_)` is a table.
    n_iter_ : int
        Epochs trained.
    best_epoch_ : int
        The epoch whose model was kept, with early stopping.
    batch_size_, seed_, engine_, n_threads_
        What the training used.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from vaefast import VAE
    >>> X = load_digits().data / 16
    >>> vae = VAE(n_components=8, epochs=3, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (1797, 8)
    >>> vae.likelihood_
    'bernoulli'
    """

    def __init__(
        self,
        n_components: int = 10,
        *,
        hidden_layer_sizes: int | Sequence[int] = (200, 200),
        likelihood: str = "auto",
        activation: str = "relu",
        scaling: str | None = "auto",
        binarize: str = "auto",
        epochs: int = 50,
        batch_size: int | str = "auto",
        learning_rate: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        learning_rate_schedule: str = "constant",
        learning_rate_steps: Sequence[tuple[int, float]] | None = None,
        final_learning_rate: float = 0.0,
        clip_norm: float | None = None,
        objective: str = "elbo",
        samples: int | None = None,
        beta: float = 1.0,
        kl_warm_up: str = "none",
        warm_up_epochs: int = 10,
        free_nats: float = 0.0,
        init: str = "glorot",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 0.01,
        callbacks: Iterable[Callback] | None = None,
        engine: str = "auto",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.likelihood = likelihood
        self.activation = activation
        self.scaling = scaling
        self.binarize = binarize
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.learning_rate_schedule = learning_rate_schedule
        self.learning_rate_steps = learning_rate_steps
        self.final_learning_rate = final_learning_rate
        self.clip_norm = clip_norm
        self.objective = objective
        self.samples = samples
        self.beta = beta
        self.kl_warm_up = kl_warm_up
        self.warm_up_epochs = warm_up_epochs
        self.free_nats = free_nats
        self.init = init
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.callbacks = callbacks
        self.engine = engine
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # --- Training

    def fit(self, X: ArrayLike, y: Any = None, *, validation_data: ArrayLike | None = None) -> VAE:
        """Train on the rows of X.

        Parameters
        ----------
        X
            (N, X) numbers: a NumPy array, a pandas DataFrame, nested lists. uint8 values above 1 are grey levels 0 to 255
            and stand for level / 255.
        y
            Ignored.
        validation_data
            Rows to score after each epoch, and to stop by; without it, early stopping sets a part of X aside.

        Returns
        -------
        VAE
            The estimator itself.

        Raises
        ------
        DataError
            A value does not fit the likelihood.
        SettingsError
            A parameter is out of its range.
        DivergenceError
            Training produced a number that is not finite.
        """
        X = self._checked(X, reset=True)
        validation = None if validation_data is None else self._checked(validation_data)
        self._begin(X)
        if validation is None and self.early_stopping:
            X, validation = self._split(X)
        values = self._inputs.enter(X)
        self._network.state = initial_state(self._network.model, self._network.training, values)
        self._train(values, None if validation is None else self._inputs.enter(validation), self.epochs)
        return self

    def partial_fit(self, X: ArrayLike, y: Any = None) -> VAE:
        """Train on for one epoch over the rows of X; the first call decides likelihood, scaling and minibatch by its X.

        Nothing is set aside: `early_stopping` and what belongs to it are for `fit` alone.

        Raises
        ------
        DataError, SettingsError, DivergenceError
            As for `fit`.
        """
        first = not hasattr(self, "_network")
        X = self._checked(X, reset=first)
        if first:
            self._begin(X)
        values = self._inputs.enter(X)
        if first:
            self._network.state = initial_state(self._network.model, self._network.training, values)
        self._train(values, None, 1)
        return self

    def _checked(self, X: ArrayLike, reset: bool = False) -> NDArray[Any]:
        """X, (N, X), of numbers that are finite; no copy of an array that is so already."""
        return validate_data(self, X, reset=reset, dtype="numeric", order=None)

    def _begin(self, X: NDArray[Any]) -> None:
        """Everything that settings and data decide; nothing is trained yet."""
        if self.likelihood not in ("auto", *LIKELIHOODS):
            raise SettingsError(f"likelihood is {self.likelihood!r}: choose auto, {', '.join(LIKELIHOODS)}")
        self._inputs = scaling.choose(X, self.likelihood, self.scaling)
        self.likelihood_, self.scaling_ = self._inputs.likelihood, self._inputs.method
        natural = "dynamic" if self.likelihood_ == "bernoulli" else "none"
        self.binarize_ = natural if self.binarize == "auto" else self.binarize
        check_binarization(self.likelihood_, self.binarize_)
        self.seed_ = self._seed()
        self.batch_size_ = min(LARGEST_BATCH, max(SMALLEST_BATCH, len(X) // MINIBATCHES))
        if self.batch_size != "auto":
            self.batch_size_ = _whole(self.batch_size)
        model, training = self._settings(X.shape[1])
        self._network = Network(model, training, self.engine, self._threads(), State.zeros(Layout(model).size))
        self.engine_, self.n_threads_ = self._network.engine_name, self._network.threads
        self.n_iter_: int = 0
        self.history_: dict[str, list[float]] = {}

    def _settings(self, pixels: int) -> tuple[ModelSettings, TrainingSettings]:
        sizes = self.hidden_layer_sizes
        hidden = tuple(_whole(size) for size in (sizes if isinstance(sizes, Iterable) else (sizes,)))
        model = ModelSettings(pixels, hidden, _whole(self.n_components), self.activation, self.likelihood_)
        adam = AdamSettings(*map(_real, (self.learning_rate, self.beta1, self.beta2, self.epsilon)))
        epochs = _whole(self.epochs)
        steps = tuple((_whole(epoch), _real(factor)) for epoch, factor in self.learning_rate_steps or ())
        schedule = RateSchedule(self.learning_rate_schedule, steps, _real(self.final_learning_rate))
        return model, TrainingSettings(
            self.batch_size_, epochs, self.binarize_, self.init, self.seed_, adam, self._objective(), rate_schedule=schedule,
            clip_norm=None if self.clip_norm is None else _real(self.clip_norm),
        )  # fmt: skip

    def _objective(self) -> ObjectiveSettings:
        samples = usual_samples(self.objective) if self.samples is None else _whole(self.samples)
        return ObjectiveSettings(
            self.objective, samples, beta=_real(self.beta), warm_up=self.kl_warm_up,
            warm_up_epochs=_whole(self.warm_up_epochs), free_nats=_real(self.free_nats),
        )  # fmt: skip

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)) and not isinstance(self.random_state, bool):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def _threads(self) -> int:
        """-1 is all cores granted; None is what the environment says."""
        jobs = None if self.n_jobs is None else _whole(self.n_jobs)
        return thread_count(granted_cores() if jobs == -1 else jobs)

    def _split(self, X: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Training and validation rows."""
        fraction = _real(self.validation_fraction)
        if not (isinstance(fraction, float) and 0 < fraction < 1):
            raise SettingsError(f"validation_fraction is {fraction!r}: give a number between 0 and 1, such as 0.1")
        if len(X) < 2:
            raise DataError("X has 1 sample: early_stopping needs at least 2, one to train on and one to validate on")
        kept, out = held_out(len(X), min(max(1, round(fraction * len(X))), len(X) - 1), self.seed_)
        return X[kept], X[out]

    def _train(self, values: NDArray[Any], validation: NDArray[Any] | None, epochs: int) -> None:
        """The project's one training loop, with what a person at a notebook wants around it."""
        network, stopping = self._network, self._stopping() if self.early_stopping and validation is not None else None
        with _in_parameters(), Bar(epochs, self.verbose, self._inputs.log_volume) as bar:
            lines = trainer.train(
                network.engine,
                values,
                validation,
                network.training,
                until=self.n_iter_ + epochs,
                position=trainer.Position(epoch=self.n_iter_ + 1, stopping=stopping),
                on_progress=bar.progress,
            )
            for line in network.trained(lines):
                self._record(line, validation is not None)
                bar.epoch(line, validation is not None)
                if stopping is not None:
                    self.best_epoch_ = stopping.best_epoch
                if self._called_back():
                    break
        if stopping is not None and stopping.best is not None:
            network.state = stopping.best

    def _stopping(self) -> Stopping:
        tolerance = float(self.tol)
        if not tolerance >= 0:
            raise SettingsError(f"tol is {tolerance}: give a number from 0")
        return Stopping(_count("n_iter_no_change", self.n_iter_no_change, 1), tolerance, "test_elbo")

    def _called_back(self) -> bool:
        """Call every callback; whether one of them wishes to stop."""
        metrics = {key: column[-1] for key, column in self.history_.items()}
        wishes = [callback(self, metrics) is True for callback in self.callbacks or ()]
        return any(wishes)

    def _record(self, line: EpochMetrics, validated: bool) -> None:
        """One more row of `history_`, its densities in the units of the values as given."""
        self.n_iter_ = line.epoch
        for key, value in line.as_dict().items():
            if key in VALIDATION and not validated:
                continue
            if key.endswith(("objective", "elbo", "log_likelihood")):
                value -= self._inputs.log_volume
            self.history_.setdefault(key.replace("test_", "validation_"), []).append(value)

    # --- What a trained model does

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Means of q(z | x), float32 (N, Z), of the rows of X, (N, X).

        Nothing is drawn: where training draws grey levels on or off, the encoder is given the levels as they are.
        """
        return self._posterior(X)[0]

    def posterior(self, X: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of q(z | x), float32 (N, Z) each, of the rows of X, (N, X)."""
        mean, log_std = self._posterior(X)
        return mean, np.exp(log_std)

    def inverse_transform(self, Z: ArrayLike) -> NDArray[Any]:
        """Means of p(x | z), (N, X), of latents Z, (N, Z): probabilities for a Bernoulli, else in the units of the data."""
        check_is_fitted(self)
        z = check_array(Z, dtype=[np.float32, np.float64])
        if z.shape[1] != self._n_features_out:
            raise DataError(f"Z has {z.shape[1]} columns: give the {self._n_features_out} latents of this model")
        return self._inputs.leave(expectation(self.likelihood_, self._network.decode(z)))

    def reconstruct(self, X: ArrayLike) -> NDArray[Any]:
        """What the model makes of the rows of X, (N, X): `inverse_transform(transform(X))`."""
        return self.inverse_transform(self._posterior(X)[0])

    def interpolate(self, a: ArrayLike, b: ArrayLike, steps: int = 11) -> NDArray[Any]:
        """Means of p(x | z) on the straight line in latent space from row a to row b, both ends included.

        Parameters
        ----------
        a, b
            A row each, (X,), or as many rows, (N, X).
        steps
            Points on each line, at least 2.

        Returns
        -------
        ndarray
            (steps, X), or (N, steps, X).
        """
        steps = _count("steps", steps, 2)
        single = np.ndim(a) == 1
        ends = [self._posterior(np.atleast_2d(np.asarray(end)) if single else end)[0] for end in (a, b)]
        if len(ends[0]) != len(ends[1]):
            raise DataError(f"a has {len(ends[0])} rows and b {len(ends[1])}: give as many of each")
        weight = np.linspace(0, 1, steps, dtype=np.float32)[None, :, None]
        z = (1 - weight) * ends[0][:, None] + weight * ends[1][:, None]
        x = self.inverse_transform(z.reshape(-1, z.shape[-1])).reshape(len(z), steps, -1)
        return x[0] if single else x

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None, *, noise_in_x: bool = False
    ) -> NDArray[Any]:
        """New rows, (n_samples, X), from z ~ N(0, I).

        Parameters
        ----------
        n_samples
            How many.
        random_state
            An int gives the same rows each time.
        noise_in_x
            Draw x from p(x | z); without it, the mean of p(x | z), which for images is what one wants to see.
        """
        check_is_fitted(self)
        n_samples = _count("n_samples", n_samples, 1)
        generator = check_random_state(random_state)
        seeded = isinstance(random_state, (int, np.integer))
        seed = int(random_state) if seeded else int(generator.randint(2**31))  # type: ignore[arg-type]
        z = noise.normals(seed, Purpose.PRIOR_SAMPLES, 0, np.arange(n_samples), self._n_features_out)
        outputs = self._network.decode(z)
        if not noise_in_x:
            return self._inputs.leave(expectation(self.likelihood_, outputs))
        return self._inputs.leave(draw(self.likelihood_, outputs, self._network.parameters.get("x_log_std"), generator))

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """The ELBO of each row in nats, (N,): a bound on log p(x) from one sample of q(z | x).

        The noise of a row goes by its content, so its score is the same in any company and at each call: bit for bit on the
        compiled engines, to rounding on the reference engine, whose products are NumPy's. Low scores are rows that the model
        has not seen the like of.
        """
        check_is_fitted(self)
        return self._network.bounds(self._entered(X)) - self._inputs.log_volume

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """The mean of `score_samples`: what model selection maximises."""
        return float(self.score_samples(X).mean())

    def log_likelihood(self, X: ArrayLike, n_samples: int = 100) -> NDArray[np.float64]:
        """log p(x) of each row in nats, (N,), by importance sampling; from below, and the tighter the more samples.

        The mean over n_samples draws z ~ q(z | x) of p(x | z) p(z) / q(z | x) (Rezende et al., 2014, appendix E). Grey levels
        are drawn on or off as for `score_samples` where the model is of binarised data.
        """
        check_is_fitted(self)
        n_samples = _count("n_samples", n_samples, 1)
        return self._network.log_likelihoods(self._entered(X), n_samples) - self._inputs.log_volume

    def _posterior(self, X: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        check_is_fitted(self)
        return self._network.posterior(self._entered(X))

    def _entered(self, X: ArrayLike) -> NDArray[Any]:
        return self._inputs.enter(self._checked(X))

    # --- Files

    def save(self, path: str | Path) -> None:
        """Write the trained model as safetensors, whole or not at all; `vaefast.load` reads it, and no pickle is involved.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        check_is_fitted(self)
        network, inputs = self._network, self._inputs
        arrays = (inputs.shift, inputs.scale)
        tensors = {name: a for name, a in zip(model_file.SCALING, arrays, strict=True) if a is not None}
        names = [str(name) for name in getattr(self, "feature_names_in_", ())]
        about = {
            "parameters": {key: value for key, value in self.get_params(deep=False).items() if _is_json(value)},
            "scaling": inputs.method,
            "grey_levels": inputs.grey_levels,
            "feature_names_in": names,
            "n_iter": self.n_iter_,
            "history": self.history_,
        }
        parameters = network.state.parameters.astype(np.float32)
        training = asdict(network.training)
        content = model_file.serialize(network.layout, parameters, training, about, tensors)
        with _in_parameters():
            atomic.write_bytes(Path(path), content)

    def to_onnx(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `encoder.onnx` (x to mean and log_std) and `decoder.onnx` (z to x_mean and logits) into a folder.

        Both take and give float32 in the units of the data (grey levels as numbers in [0, 1]), any number of rows, and hold
        no random node. Needs the extra `onnx`.

        Raises
        ------
        SettingsError
            The package onnx is not installed.
        OutputError
            A file cannot be written.
        """
        from vaefast.onnx_export import write

        check_is_fitted(self)
        with _in_parameters():
            return write(Path(folder), self._network, self._inputs)

    # --- scikit-learn

    @property
    def _n_features_out(self) -> int:
        return self._network.model.latent

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def load(path: str | Path) -> VAE:
    """A trained model from a file that `VAE.save` or `python -m vaefast.train` wrote, or from a run's folder.

    Raises
    ------
    DataError
        The file is missing, damaged, of another program or of a newer format. Nothing in it is ever run.
    EngineUnavailable
        The engine that the model asks for by name cannot run here.
    """
    path = Path(path)
    saved = model_file.read(path / "model.safetensors" if path.is_dir() else path)
    try:
        return _restored(saved)
    except EngineUnavailable:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: its settings are damaged ({reason}): give another file") from error


def _restored(saved: model_file.SavedModel) -> VAE:
    model, about = saved.model, dict(saved.estimator)
    training = restored_training(saved.training)
    schedule, objective = training.rate_schedule, training.objective
    check_binarization(model.likelihood, training.binarize)
    vae = VAE(
        model.latent, hidden_layer_sizes=model.hidden, likelihood=model.likelihood, activation=model.activation,
        scaling=about.get("scaling"), binarize=training.binarize, epochs=training.epochs, batch_size=training.batch_size,
        init=training.initialization, random_state=training.seed, **asdict(training.adam),
        learning_rate_schedule=schedule.name, learning_rate_steps=schedule.steps or None, final_learning_rate=schedule.final,
        clip_norm=training.clip_norm, objective=objective.name, samples=objective.samples, beta=objective.beta,
        kl_warm_up=objective.warm_up, warm_up_epochs=objective.warm_up_epochs, free_nats=objective.free_nats,
    )  # fmt: skip
    given = about.get("parameters", {})
    vae.set_params(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})
    scale = [saved.scaling.get(name) for name in model_file.SCALING]
    # A model of the command line reads bytes as grey levels, always.
    grey_levels = bool(about.get("grey_levels", not about))
    vae._inputs = scaling.Inputs(model.likelihood, about.get("scaling"), grey_levels, *scale)
    vae._network = Network(model, training, vae.engine, vae._threads(), State.initial(saved.parameters))
    vae.likelihood_, vae.scaling_, vae.binarize_ = model.likelihood, about.get("scaling"), training.binarize
    vae.batch_size_, vae.seed_ = training.batch_size, training.seed
    vae.engine_, vae.n_threads_ = vae._network.engine_name, vae._network.threads
    vae.n_iter_, vae.history_ = int(about.get("n_iter", training.epochs)), dict(about.get("history", {}))
    vae.n_features_in_ = model.pixels
    if about.get("feature_names_in"):
        vae.feature_names_in_ = np.array(about["feature_names_in"], dtype=object)
    return vae


@contextlib.contextmanager
def _in_parameters() -> Iterator[None]:
    """Errors that name a flag of the command line name the parameter of `VAE` that does the same."""
    try:
        yield
    except VaefastError as error:
        words = str(error)
        for flag, parameter in PARAMETERS.items():
            words = words.replace(flag, parameter)
        error.args = (words,)
        raise


def _whole(value: Any) -> Any:
    """A whole number of NumPy as Python's, for the settings to check; anything else as it is."""
    if isinstance(value, (bool, np.bool_)):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return value


def _count(name: str, value: Any, smallest: int) -> int:
    """A whole number from `smallest`.

    Raises
    ------
    SettingsError
        It is none.
    """
    whole = _whole(value)
    if not isinstance(whole, int) or isinstance(whole, bool) or whole < smallest:
        raise SettingsError(f"{name} is {value!r}: give a whole number from {smallest}")
    return whole


def _real(value: Any) -> Any:
    """A number of NumPy as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
