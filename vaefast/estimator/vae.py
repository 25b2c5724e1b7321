"""`VAE`: a variational auto-encoder as a scikit-learn estimator, on the engines and the loop of the command line."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags

from vaefast.engines import State
from vaefast.errors import DataError, DivergenceError, SettingsError
from vaefast.estimator import parameters
from vaefast.estimator import validation as validating
from vaefast.estimator.parameters import Callback
from vaefast.estimator.row_places import check_places
from vaefast.estimator.trained import TrainedModel
from vaefast.estimator.validation import Validation
from vaefast.estimator.warning import warn
from vaefast.inference.network import Network
from vaefast.models.defaults import usual_binarization, usual_length, usual_patience
from vaefast.models.gaps import rows_with_gaps
from vaefast.models.settings import COUNT_LIKELIHOODS, LIKELIHOODS, TABLE_LIKELIHOODS, check_binarization
from vaefast.tables import advice
from vaefast.tables.counting import is_sparse
from vaefast.tables.frames import as_pandas
from vaefast.tables.mixed import choosing
from vaefast.tables.mixed.schema import Schema, check_kinds
from vaefast.tables.preparing import Prepared, chosen_rows, prepare, size_quantiles, why
from vaefast.tables.row_weights import rows_that_count, with_stand_ins
from vaefast.tables.told import Given, Told
from vaefast.training import progress_bar, trainer
from vaefast.training.early_stopping import Stopping, held_out
from vaefast.training.initial_state import initial_state
from vaefast.training.log_volumes import LogVolumes
from vaefast.training.progress_bar import Bar
from vaefast.training.trainer import EpochMetrics

# Settings of the model, which are fixed once it is trained, and the parameters that set them.
MODEL_PARAMETERS = {
    "latent": "n_components", "hidden": "hidden_layer_sizes", "activation": "activation", "likelihood": "likelihood",
    "zero_inflation": "zero_inflation", "encoder_input": "encoder_input", "encode_covariates": "encode_covariates",
    "missing_indicator": "missing_indicator",
}  # fmt: skip

# The consequence of a validation row that is far from the training data.
OUTWEIGHS = "its score outweighs those of the others"
# Metrics of an epoch that are in `history_` only with validation data.
VALIDATION = ("test_elbo", "test_log_likelihood", "test_kl", "evaluation_seconds")


class VAE(TrainedModel, BaseEstimator):  # type: ignore[misc]
    """Variational auto-encoder: a latent representation, a density and a generator of the rows of a table.

    An encoder network maps each row x to a normal distribution q(z | x) over a few latents z. A decoder network maps z to a
    distribution p(x | z) over rows. Both are trained to maximise the evidence lower bound (ELBO) on log p(x) (Kingma &
    Welling, 2014). All bounds and likelihoods are in nats a row. Shapes: N rows, X columns, Z latents.

    Parameters
    ----------
    n_components : int, default=10
        Number of latents, Z.
    hidden_layer_sizes : int or sequence of int, default=(200, 200)
        Sizes of the hidden layers of the encoder. The decoder mirrors them. May be empty.
    likelihood : str, default='auto'
        p(x | z). `bernoulli` is for binary data, and for grey levels in [0, 1], which `binarize` turns into binary data.
        `gaussian` is for any real numbers, with a learned variance for each feature. `student-t` is for the same with heavy
        tails: the decoder gives the scale and the degrees of freedom of each value. `continuous-bernoulli` is for grey levels
        in [0, 1] as they are.

        For whole counts, of cells by genes, users by items or documents by words, sparse or dense: `negative-binomial`, with
        a learned dispersion for each feature; `poisson`; `multinomial`, for which only the shares of a row matter. The rates
        of a row are a softmax over its features, times the row's total count (DERIVATION.md, section 13).

        `mixed` is for tables whose columns are of different kinds, such as text, truth values, counts and measurements. Each
        column has a likelihood of its own kind, which `column_types` describes. The rows that the model gives back are tables
        with the columns and types of the training data.

        `auto` is `bernoulli` if every value of the training data is 0 or 1 (or True or False), and with `scaling="grey"`. It
        is `negative-binomial` for whole numbers of which two in three are 0, unless they are bytes or end at 255, and for
        sparse tables of whole numbers. It is `mixed` for a DataFrame with text or categories, and for one whose columns have
        different types and are of different kinds, such as truth values or counts beside real numbers. Otherwise it is
        `gaussian`. `likelihood_` says which. Values that do not fit are refused. Values that are missing decide nothing, and
        the likelihoods of counts take none.

        Another `scaling` than `auto` decides it first: `grey` and `minmax` are for `bernoulli`, `standard` is for `gaussian`,
        and None leaves `bernoulli` for values that are all 0 or 1 and `gaussian` for others. `mixed` is then taken only with
        `column_types`.
    column_types : dict or None, default=None
        For `mixed`: the kinds of columns by their names, or by their places in an array. The kinds are

        - `real`: normal, with a learned variance; `positive`: log-normal; `heavy-tailed`: Student's t;
        - `count`: negative binomial, with a learned dispersion;
        - `binary`: two values of any type; `categorical`: text or other values, each with a probability.

        A column that is not named here gets its kind from its values. Text and categories are `categorical`, or `binary` with
        two values, as truth values are. Whole numbers are those of a type of whole numbers, and floats of which some are
        missing and all others are whole. They are `binary` if there are two, `count` if none is negative and their standard
        deviation is more than 0.6 times their mean, and otherwise `real`. Other numbers are `binary` if all are 0 or 1,
        `positive` if all are above 0 and a log-normal distribution gains more than 0.1 nats a value over a normal one, and
        `heavy-tailed` if their mean distance from the median is less than 0.76 standard deviations; otherwise `real`.
        `column_types_` says which.

        Columns of dates, as text too, or other objects, columns with one text, text with more than 20 values that are more
        than half as many as the rows, and columns without values are left out of the model. A warning names them. Text with
        many values stays if it is called `categorical` here, or is a category of pandas.
    zero_inflation : bool, default=False
        For `negative-binomial`: a count may also be zero for a reason of its own, with a probability that the decoder gives.
    encoder_input : {'auto', 'none', 'log1p', 'l2'}, default='auto'
        What the encoder sees of counts x: x itself, log(1 + x), or x over the Euclidean norm of its row. `auto` is `l2` for
        `multinomial` and `log1p` for the other counts.
    encode_covariates : bool, default=False
        Whether the encoder, too, sees the covariates that `fit` is given. The decoder always does.
    missing_indicator : bool, default=False
        Whether the encoder also sees which values of a row are missing: one more input for each feature, 1 where its value is
        missing. It helps where a value that is missing says something by that.
    input_dropout : float or 'auto', default='auto'
        For counts: the probability that the encoder misses an entry of a row in a step of training. Those that are left are
        divided by 1 - input_dropout. The likelihood always sees all. `auto` is 0.5 for rows of 500 counts or more, as in
        Liang et al. (2018), else 0.
    activation : {'relu', 'tanh'}, default='relu'
        Activation function of every hidden layer.
    scaling : {'auto', 'standard', 'minmax', 'grey'} or None, default='auto'
        How each feature is scaled for the networks. All results are in the units of the data. `standard` scales to mean 0 and
        standard deviation 1. `minmax` scales to [0, 1] and clips later values. None changes nothing. `grey` reads pictures
        with levels from 0 to 255, of any type, as numbers in [0, 1]; results are in [0, 1], too. `auto` is `standard` for a
        Gaussian or Student-t likelihood and for columns of real numbers of `mixed`, and None for the others. If a few values,
        in one row of 50 at most, make the standard deviation of a feature more than ten times that of the rest, `auto` leaves
        them out of mean and deviation and warns of them.

        In training, values more than 100 deviations from the mean are cut there (10 in a feature with such values). Scores
        and log-densities are of the values as given. The learned standard deviation of a Gaussian stays above 0.01 in the
        scaled unit; without scaling, choose a unit that suits this.
    binarize : {'auto', 'dynamic', 'threshold', 'none'}, default='auto'
        What a value between 0 and 1 becomes in training with a Bernoulli likelihood. `dynamic` draws it as 0 or 1 each time a
        row is seen, with the value as the probability of 1. `threshold` makes it 1 from one half on, else 0. `none` leaves it,
        and the log-likelihood is then a cross-entropy. `auto` is `dynamic` for Bernoulli and `none` for the others.
    epochs : int or 'auto', default='auto'
        Passes over the data, at most. `auto` depends on the number of rows, and on whether `binarize` is `dynamic`, as it does
        on the command line (`vaefast.models.defaults.usual_length`).
    batch_size : int or 'auto', default='auto'
        Rows in a minibatch. `auto` makes about 100 minibatches an epoch, of 20 to 200 rows.
    learning_rate : float or 'auto', default='auto'
        Adam's step size. `auto` is 0.001 up to 3000 features, and falls as one over their number from there.
    beta1, beta2 : float, default=0.9, 0.999
        Decay rates of Adam's first and second moments.
    epsilon : float or 'auto', default='auto'
        Added to the root of Adam's second moments. `auto` is 0.01 for `negative-binomial` and `poisson`, so that columns with
        few counts are learned more slowly, unless `encoder_input` is `l2`. Otherwise it is 1e-8.
    learning_rate_schedule : {'constant', 'steps', 'cosine', 'staged'}, default='constant'
        How the learning rate changes over the epochs. `constant` keeps it. `steps` changes it at `learning_rate_steps`.
        `cosine` lowers it along half a cosine over `epochs` to `final_learning_rate`. `staged` multiplies it by 10^(-i/7) for
        3^i epochs, i = 0, 1, ... (Burda et al., 2015).
    learning_rate_steps : sequence of (int, float) or None, default=None
        For `steps`: with `[(20, 0.1), (30, 0.01)]` the rate is a tenth of `learning_rate` after 20 epochs and a hundredth of
        it after 30.
    final_learning_rate : float, default=0.0
        For `cosine`: the rate at the end.
    clip_norm : float or None, default=None
        Largest norm of the gradient of all parameters together. Longer gradients are scaled to it before Adam uses them.
    objective : {'elbo', 'beta', 'free-bits', 'iwae', 'dreg'}, default='elbo'
        What training maximises. `elbo` is the ELBO. `beta` puts a weight on the KL divergence (beta-VAE). `free-bits` leaves
        each latent `free_nats` without cost. `iwae` is the importance-weighted bound of `samples` samples. `dreg` is the same
        bound with the doubly reparameterised gradient. The objective does not change the meaning of scores.
    samples : int or None, default=None
        Samples of the latents for each row and step. None is 1, and 5 for `iwae` and `dreg`.
    beta : float, default=1.0
        For `beta`: weight of the KL divergence.
    kl_warm_up : {'none', 'linear', 'cyclic'}, default='none'
        For `beta`: raise the weight from 0 over `warm_up_epochs`, once (`linear`) or repeatedly (`cyclic`).
    warm_up_epochs : int, default=10
        Length of the linear warm-up, or of one cycle.
    free_nats : float, default=0.0
        For `free-bits`: nats of each latent, as a mean over the minibatch, that cost nothing.
    init : {'glorot', 'fan-in', 'he', 'report', 'data-mean'}, default='glorot'
        Initial weights. Section 10 of the derivation describes each.
    early_stopping : bool, default=False
        Whether `fit` sets a part of the data aside, stops when its ELBO, or `validation_metric`, no longer rises, and keeps
        the model of the best epoch. Rows of counts that are more than ten times as large as the median row are not set aside
        for the ELBO, which a few of them would decide.
    validation_metric : str, default='elbo'
        What is measured on the validation data after each epoch, and what early stopping watches. `ndcg@100` and `recall@20`,
        or any other number, are metrics of what `recommend` gives for a part of each row, by the other part
        (`vaefast.metrics`). For likelihoods that can recommend.
    validation_fraction : float, default=0.1
        The share of the rows that is set aside. For a metric the model sees 80 % of the entries of each of them.
    n_iter_no_change : int or 'auto', default='auto'
        Epochs without an improvement by `tol` before stopping. `auto` is 10, and more where 10 epochs are fewer than 500
        minibatches.
    tol : float or 'auto', default='auto'
        The smallest improvement that counts. `auto` is 0.01 nats for the ELBO and 0 for a metric.
    callbacks : sequence of callable or None, default=None
        Called as `callback(vae, metrics)` after each epoch, with the last values of `history_`. The estimator can be used in a
        callback. A callback that returns a true value stops the training.
    engine : {'auto', 'cython', 'numba', 'cuda', 'reference'}, default='auto'
        The engine. `auto` is the fastest one for the CPU that works here.
    precision : {'float32', 'bf16', 'tf32'}, default='float32'
        Precision of the factors in matrix products, whose sums are always float32. `bf16` rounds them to bfloat16, 8 bits, in
        all layers but the first; it is for CPUs, and fast on those with AVX512-BF16. `tf32` is for the tensor cores of `cuda`.
        Scores keep the precision that the model was trained in.
    n_jobs : int or None, default=None
        Number of threads, which changes no result. None takes `VAEFAST_NUM_THREADS`, else `OMP_NUM_THREADS`, else
        `NUMBA_NUM_THREADS`, else all cores that the process may use. -1 takes all of these cores, -2 all but one.
    random_state : int, RandomState or None, default=None
        An int is the seed of every random number, like `--seed` on the command line.
    verbose : int, default=0
        1 shows a progress bar, also in a notebook. 2 adds a line for each epoch.

    Attributes
    ----------
    likelihood_, scaling_, binarize_ : str
        What was chosen where the parameter is `auto`.
    column_types_ : dict
        Of `mixed`: the kind of each column that the model has.
    history_ : dict of list
        `epoch`, `step`, `train_objective`, `train_elbo`, `train_log_likelihood`, `train_kl`, `seconds` of each epoch, and with
        validation data `validation_elbo` and so on, such as `validation_ndcg@100`: `pandas.DataFrame(vae.history_)` is a
        table.
    size_quantiles_ : list of float
        For counts: 101 quantiles of the sizes of the rows, which are their totals unless `fit` was given size factors, from
        which `sample` draws.
    n_iter_ : int
        Epochs trained.
    best_epoch_ : int
        The epoch whose model was kept, with early stopping.
    batch_size_, epochs_, learning_rate_, seed_, engine_, n_threads_
        What the training used.
    n_features_in_, feature_names_in_
        As in every estimator of scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from vaefast import VAE
    >>> X = load_digits().data
    >>> vae = VAE(n_components=8, epochs=3, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (1797, 8)
    >>> vae.likelihood_
    'gaussian'
    """

    def __init__(
        self,
        n_components: int = 10,
        *,
        hidden_layer_sizes: int | Sequence[int] = (200, 200),
        likelihood: str = "auto",
        column_types: Mapping[Any, str] | None = None,
        zero_inflation: bool = False,
        encoder_input: str = "auto",
        encode_covariates: bool = False,
        missing_indicator: bool = False,
        input_dropout: float | str = "auto",
        activation: str = "relu",
        scaling: str | None = "auto",
        binarize: str = "auto",
        epochs: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float | str = "auto",
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
        validation_metric: str = "elbo",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | str = "auto",
        tol: float | str = "auto",
        callbacks: Iterable[Callback] | None = None,
        engine: str = "auto",
        precision: str = "float32",
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.likelihood = likelihood
        self.column_types = column_types
        self.zero_inflation = zero_inflation
        self.encoder_input = encoder_input
        self.encode_covariates = encode_covariates
        self.missing_indicator = missing_indicator
        self.input_dropout = input_dropout
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
        self.validation_metric = validation_metric
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.callbacks = callbacks
        self.engine = engine
        self.precision = precision
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # --- Training

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        *,
        validation_data: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
        sample_weight: ArrayLike | None = None,
        covariates: Any = None,
        size_factors: ArrayLike | None = None,
        validation_covariates: Any = None,
        validation_size_factors: ArrayLike | None = None,
    ) -> VAE:
        """Train on the rows of X.

        The model depends on the values of X and not on their type, apart from the choice of a likelihood for a DataFrame and
        for bytes, which are never taken for counts. Unless `scaling` is `grey`, it does not depend on the order of the rows.
        If training fails, the estimator stays as it was.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Numbers: a NumPy array, a DataFrame, nested lists; for `mixed` also text, truth values and categories. NaN, None,
            `pandas.NA` and masked values are missing. Frames of polars and tables of Arrow are read as pandas has them.
        y : None
            Ignored.
        validation_data : array-like of shape (M, X), a pair of them, or None, default=None
            Rows to score after each epoch, and to stop by. Without them, early stopping sets a part of X aside. With a
            `validation_metric` a pair: what the model sees of each row, and what it is to recommend.
        sample_weight : array-like of shape (N,) or None, default=None
            What each row counts for, not negative. Whole numbers count copies of a row, as long as this makes X less than ten
            times as long. Of other weights only the ratios count, and a row is seen more or less often.
        covariates : array-like of shape (N, columns) or None, default=None
            What is known of each row and is not to be explained, such as the batch of a cell: a DataFrame, a Series, or an
            array. Text, booleans and pandas categories are categories; numbers are standardised. The decoder sees them beside
            the latents, so the latents need not carry them.
        size_factors : array-like of shape (N,) or None, default=None
            For a likelihood of counts: what the rates of each row add up to, up to a common factor. Without them it is the
            total count of the row.
        validation_covariates, validation_size_factors
            Those of `validation_data`.

        Returns
        -------
        VAE
            The estimator itself.

        Raises
        ------
        DataError
            X holds text, dates or infinite values, or a value does not fit the likelihood, or is missing under one of counts.
        SettingsError
            A parameter is out of its range.
        DivergenceError
            Training produced a number that is not finite.

        Warns
        -----
        DataWarning
            A few values dominate a column, all of its values are missing, it cannot be used, the model has collapsed, or what
            is told of rows has the index of X in another order.
        """
        check_places(X, sample_weight=sample_weight, covariates=covariates, size_factors=size_factors)
        sample_weight = parameters.weight_values(sample_weight)
        with self._all_or_nothing():
            (X, schema), metric = self._found(X, sample_weight), validating.metric_of(self.validation_metric)
            validating.check_validation_places(validation_data, metric, validation_covariates, validation_size_factors)
            values = self._read(X, schema, reset=True)
            validation = validating.given(self, validation_data, metric, lambda rows, called: self._read(rows, schema, called))
            weights = None if sample_weight is None else parameters.weights(sample_weight, values)
            self._told, given = Told.learned(values, covariates, size_factors, weights=weights)
            self._fit(given, schema, validation, weights, (validation_covariates, validation_size_factors))
        return self

    def fit_transform(self, X: ArrayLike, y: Any = None, **fit_parameters: Any) -> NDArray[np.float32]:
        """Train on the rows of X, and encode them: `fit(X).transform(X)`, with the covariates if the encoder sees them.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows.
        y : ignored
            Part of scikit-learn's interface.
        **fit_parameters
            As for `fit`.

        Returns
        -------
        ndarray of shape (N, Z), float32
            The latents.

        Raises
        ------
        DataError, SettingsError, DivergenceError
            As for `fit`.
        """
        covariates = fit_parameters.get("covariates") if self.encode_covariates else None
        return self.fit(X, y, **fit_parameters).transform(X, covariates=covariates)

    def _found(self, X: Any, sample_weight: ArrayLike | None = None) -> tuple[Any, Schema | None]:
        """X, read if its columns are of different kinds, and its schema then."""
        if self.likelihood not in ("auto", *LIKELIHOODS, *TABLE_LIKELIHOODS, *COUNT_LIKELIHOODS):
            choices = ", ".join(("auto", *LIKELIHOODS, *TABLE_LIKELIHOODS, *COUNT_LIKELIHOODS))
            raise SettingsError(f"likelihood is {self.likelihood!r}: choose {choices}")
        X = as_pandas(X)
        has_rows = hasattr(X, "__len__") and not is_sparse(X)  # a sparse table has no length
        counted = read = None
        if sample_weight is not None and has_rows:
            counted = rows_that_count(sample_weight, len(X))
            read = None if counted is None or np.all(sample_weight) else with_stand_ins(sample_weight)
        found = choosing.find(X, self.likelihood, self.scaling, self.column_types, counted, read=read)
        if found is None:
            return X, None
        warn(choosing.of_left_out(found.left_out))
        return found.fields, found.schema

    def _fit(
        self,
        X: Given,
        schema: Schema | None,
        validation: Validation | None,
        sample_weight: NDArray[np.float64] | None,
        told: tuple[Any, ArrayLike | None],
    ) -> None:
        prepared, metric = self._begin(X, schema, sample_weight), validating.metric_of(self.validation_metric)
        validating.check(metric, self.likelihood_)
        if validation is not None:
            rows = self._told.beside(self._inputs.table(validation.rows, "validation_data"), *told, "validation_")
            validation = validation._replace(rows=rows)
            warn(advice.of_far_values(self._inputs, rows, "validation_data", OUTWEIGHS))
        elif self.early_stopping:
            kept, out = self._split(len(prepared.X) if prepared.rows is None else len(prepared.rows))
            prepared, out = prepared.held_out(kept, out, self.seed_, of_any_size=metric is not None)
            validation = validating.set_aside(prepared.X[out], metric, self._inputs, self.seed_)
        values, weights, volume = prepared.values(), prepared.weights, prepared.log_volume()
        del prepared  # of counts it holds a copy of the table, in the order in which the rows came
        self._network.state = initial_state(self._network.model, self._network.training, values)
        self._train(values, validation, self._network.training.epochs, weights, volume)
        warn(advice.of_collapse(self.history_["train_kl"][-1] if self.history_ else np.inf))

    def partial_fit(
        self, X: ArrayLike, y: Any = None, *, covariates: Any = None, size_factors: ArrayLike | None = None
    ) -> VAE:
        """Train for one more epoch, on the rows of X. The first call chooses likelihood, scaling and batch size by its X.

        Changed parameters of training (learning rate, `batch_size`, `n_jobs`, ...) take effect. Changed parameters of the
        model are refused. `random_state` counts in the first call. A column that has had only one value is scaled by the
        first X in which it has more. Early stopping is for `fit` only. If training fails, the estimator stays as it was.

        Parameters
        ----------
        X : array-like of shape (N, X)
            As for `fit`.
        y : None
            Ignored.
        covariates, size_factors
            As for `fit`. The first call learns which categories there are.

        Returns
        -------
        VAE
            The estimator itself.

        Raises
        ------
        DataError, SettingsError, DivergenceError
            As for `fit`. Also SettingsError for a changed parameter of the model.

        Warns
        -----
        DataWarning
            As for `fit`. Also if a value is far outside of those seen before, or if the model was loaded without its
            optimizer.
        """
        check_places(X, covariates=covariates, size_factors=size_factors)
        with self._all_or_nothing():
            first = not hasattr(self, "_network")
            X, schema = self._found(X) if first else (X, self._inputs.schema)
            values = self._read(X, schema, reset=first)
            if first:
                self._told, given = Told.learned(values, covariates, size_factors)
                prepared = self._begin(given, schema, None)
                entered, volume = prepared.values(), prepared.log_volume()
            else:
                values = self._told.beside(self._inputs.table(values), covariates, size_factors)
                self._go_on(values)
                rows = chosen_rows(values, self.scaling)[0]
                entered, volume = self._inputs.enter(values, rows, training=True), self._inputs.log_volume_of(values, rows)
            if first:
                self._network.state = initial_state(self._network.model, self._network.training, entered)
            if self.learning_rate_schedule == "cosine" and not self.final_learning_rate and self.n_iter_ >= self.epochs_:
                warn(
                    f"the cosine of the learning rate has ended at 0 after {self.epochs_} epochs, so this one changes "
                    "nothing: give a final_learning_rate above 0, or another learning_rate_schedule"
                )
            self._train(entered, None, 1, None, volume)
        return self

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """On failure, restore the estimator to its earlier state, trained or not. Errors name parameters."""
        # Training takes a new network, so the old one stays as it is.
        before = self.__dict__.copy()
        if "history_" in before:
            before["history_"] = {name: [*column] for name, column in before["history_"].items()}
        try:
            with parameters.in_parameters():
                yield
        except BaseException:  # Ctrl-C in a notebook is none of `Exception`
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _begin(self, X: Given, schema: Schema | None, sample_weight: NDArray[np.float64] | None) -> Prepared:
        """Set all attributes that depend on parameters and data, before training."""
        names = getattr(self, "feature_names_in_", None)
        prepared = prepare(
            X.table, self.likelihood, self.scaling, sample_weight=sample_weight, names=names, covariates=X.covariates,
            sizes=X.size_factors, schema=schema,
        )  # fmt: skip
        self._inputs = prepared.inputs
        self.likelihood_, self.scaling_ = self._inputs.likelihood, self._inputs.method
        self.__dict__.pop("column_types_", None)
        self.__dict__.pop("best_epoch_", None)
        if schema is not None:
            self.column_types_ = schema.kinds
        self.binarize_ = usual_binarization(self.likelihood_) if self.binarize == "auto" else self.binarize
        check_binarization(self.likelihood_, self.binarize_)
        if self._inputs.are_counts:
            self.size_quantiles_ = [*size_quantiles(prepared.row_sizes(), sample_weight)]
        self.seed_ = parameters.seed_of(self)
        size = len(prepared.X) if prepared.rows is None else len(prepared.rows)
        self._usual_length = self.batch_size_, self.epochs_ = usual_length(size, self.binarize_)
        self._network = self._new_network(X.table.shape[1], prepared.missing > 0)
        self._network.state = State.zeros(self._network.layout.size)
        self.n_iter_: int = 0
        self.history_: dict[str, list[float]] = {}
        self._moments_are_missing = False
        if self.verbose:
            self._say_what_was_chosen()
        warn(advice.of_strays(prepared.strays, prepared.rows, self._inputs, self.scaling == "auto"))
        warn(advice.of_unseen(self._inputs))
        warn(advice.of_identifying_covariates(self._told.covariates, size))
        warn(advice.of_grey_fractions(self._inputs, prepared.X))
        warn(prepared.slip)
        return prepared

    def _new_network(self, columns: int, missing: bool) -> Network:
        """A network for the current parameters, without a state; `missing` says whether values are missing in training."""
        # A model from a file does not know what was usual for its rows, and keeps what it had.
        usual = getattr(self, "_usual_length", (self.batch_size_, self.epochs_))
        self.batch_size_ = usual[0] if self.batch_size == "auto" else parameters.whole(self.batch_size)
        self.epochs_ = usual[1] if self.epochs == "auto" else parameters.whole(self.epochs)
        model, training = parameters.settings_of(self, columns, missing)
        self.learning_rate_ = training.adam.learning_rate
        network = Network(model, training, self.engine, parameters.threads_of(self), State.zeros(1))
        self.engine_, self.n_threads_ = network.engine_name, network.threads
        return network

    def _go_on(self, X: Any) -> None:
        """Apply changed parameters before training continues with X, (N, X).

        Raises
        ------
        SettingsError
            A parameter of the model has changed.
        """
        old = self._network
        if self.binarize != "auto":
            check_binarization(self.likelihood_, self.binarize)
            self.binarize_ = self.binarize
        network = self._new_network(X.shape[1], old.model.missing or rows_with_gaps(X) is not None)
        for field, parameter in MODEL_PARAMETERS.items():
            was, now = getattr(old.model, field), getattr(network.model, field)
            if was != now:
                raise SettingsError(
                    f"{parameter} is {now!r}, but the model that partial_fit continues has {was!r}: give it back, or call "
                    "fit to begin anew"
                )
        check_kinds(self._inputs.schema, self.column_types)
        if self.scaling not in ("auto", self.scaling_) or self.likelihood not in ("auto", self.likelihood_):
            raise SettingsError(
                f"scaling and likelihood are {self.scaling!r} and {self.likelihood!r}, but the model that partial_fit goes on "
                f"with has {self.scaling_!r} and {self.likelihood_!r}: give them back, or call fit to begin anew"
            )
        state = old.state
        if self._moments_are_missing:
            warn(
                "this model was loaded from a file without the optimizer's moments, so Adam begins anew and the result "
                "differs from that of uninterrupted training: save it with optimizer=True"
            )
            self._moments_are_missing = False
        self._inputs, columns = self._inputs.widened(X)
        if columns.size:
            # Their deviation was 0, and the learned one has shrunk towards it. In the new unit it is 1.
            for vector in (state.parameters, state.first_moments, state.second_moments):
                log_std = network.layout.views(vector).get("x_log_std", np.empty(0))
                log_std[columns[columns < len(log_std)]] = 0.0
        network.state = state
        self._network = network
        warn(advice.of_far_values(self._inputs, X, "X", "it is cut there in training"))

    def _say_what_was_chosen(self) -> None:
        reason = why(self.likelihood, self.scaling, self._inputs)
        reason = f" ({reason})" if reason else ""
        progress_bar.say(f"likelihood {self.likelihood_}{reason}, {self._choices()}")

    def _choices(self) -> str:
        return (
            f"scaling {self.scaling_}, binarize {self.binarize_}, batch size {self.batch_size_}, epochs {self.epochs_}, "
            f"learning rate {self.learning_rate_:g}, engine {self.engine_}"
        )

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """The parameters that differ from the defaults, and the choices of a fitted estimator."""
        text = super().__repr__(N_CHAR_MAX)
        return f"{text}: likelihood {self.likelihood_}, {self._choices()}" if hasattr(self, "_network") else text

    def _split(self, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Split so many rows into training rows and validation rows."""
        fraction = parameters.real(self.validation_fraction)
        if not (isinstance(fraction, float) and 0 < fraction < 1):
            raise SettingsError(f"validation_fraction is {fraction!r}: give a number between 0 and 1, such as 0.1")
        if rows < 2:
            raise DataError("X has 1 sample: early_stopping needs at least 2, one to train on and one to validate on")
        return held_out(rows, min(max(1, round(fraction * rows)), rows - 1), self.seed_)

    def _train(
        self,
        values: Any,
        validation: Validation | None,
        epochs: int,
        weights: NDArray[np.float64] | None,
        log_volume: NDArray[np.float64] | float,
    ) -> None:
        """Run the training loop on scaled values, with progress bar, callbacks and history."""
        network, stopping = self._network, None
        if self.early_stopping and validation is not None:
            stopping = self._stopping(-(-len(values) // self.batch_size_))
        rows: Any = None if validation is None else validation.rows
        entered = None if validation is None else self._inputs.enter(rows)
        volumes = LogVolumes(log_volume, 0.0 if validation is None else self._inputs.log_volume_of(rows))
        with Bar(epochs, self._verbosity()) as bar:
            ended: list[bool] = []  # not empty once a callback has ended the training, whose last state is then looked at
            lines = trainer.train(
                network.engine,
                values,
                entered,
                network.training,
                on_pause=lambda *_: not ended,
                until=self.n_iter_ + epochs,
                position=trainer.Position(epoch=self.n_iter_ + 1, stopping=stopping),
                on_progress=bar.progress,
                weights=weights,
                exact_test_rows=None if validation is None else self._exact_rows(rows),
                log_volumes=volumes,
                measure=self._measure(validation, entered),
            )
            for line in _blaming(network.trained(lines), values, self._inputs.names):
                self._record(line, validation is not None)
                bar.epoch(line, validation is not None, self.validation_metric)
                if stopping is not None:
                    self.best_epoch_ = stopping.best_epoch
                if self._called_back():
                    ended.append(True)
        if stopping is not None and stopping.best is not None:
            network.state = stopping.best

    def _measure(self, validation: Validation | None, entered: Any) -> Callable[[], float] | None:
        """What measures `validation_metric` on rows that entered the networks; None for the ELBO."""
        metric = validating.metric_of(self.validation_metric)
        if metric is None or validation is None:
            return None
        rows, held_out = validation
        return lambda: metric.of(self._recommended(rows, entered, metric.k)[0], held_out)

    def _verbosity(self) -> int:
        level = parameters.whole(self.verbose)
        if not isinstance(level, int):
            raise SettingsError(f"verbose is {self.verbose!r}: give 0, 1 or 2")
        return int(level)

    def _stopping(self, epoch_steps: int) -> Stopping:
        bound = self.validation_metric == validating.BOUND
        tolerance = (0.01 if bound else 0.0) if isinstance(self.tol, str) and self.tol == "auto" else parameters.real(self.tol)
        if not isinstance(tolerance, (int, float)) or isinstance(tolerance, bool) or not tolerance >= 0:
            raise SettingsError(f"tol is {self.tol!r}: give a number from 0")
        watched = "test_elbo" if bound else "validation_metric"
        given = usual_patience(epoch_steps) if self.n_iter_no_change == "auto" else self.n_iter_no_change
        return Stopping(parameters.count("n_iter_no_change", given, 1), tolerance, watched)

    def _called_back(self) -> bool:
        """Call every callback. Return whether one of them asks to stop."""
        metrics = {key: column[-1] for key, column in self.history_.items() if not math.isnan(column[-1])}
        wishes = [bool(callback(self, metrics)) for callback in parameters.callbacks(self.callbacks)]
        return any(wishes)

    def _record(self, line: EpochMetrics, validated: bool) -> None:
        """Add an epoch to `history_`."""
        self.n_iter_ = line.epoch
        for key, value in line.as_dict().items():
            if key in VALIDATION and not validated:
                continue
            name = key.replace("test_", "validation_").replace("validation_metric", f"validation_{self.validation_metric}")
            self.history_.setdefault(name, []).append(value)
        for column in self.history_.values():
            if len(column) < len(self.history_["epoch"]):
                column.append(float("nan"))  # measured by `fit`, which had rows to validate on, and not by `partial_fit`

    # --- Files

    def save(self, path: str | Path, *, optimizer: bool = True) -> None:
        """Write the trained model as safetensors, whole or not at all. `vaefast.load` reads it. Nothing is pickled.

        Parameters
        ----------
        path : str or Path
            The file. An existing one is replaced.
        optimizer : bool, default=True
            Whether Adam's moments are kept. With them `partial_fit` continues as if the model had never left memory. Without
            them the file is a third as large.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        from vaefast.estimator import saving

        saving.write(self, Path(path), optimizer)

    # --- scikit-learn

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.sparse = self.likelihood != "mixed"
        tags.input_tags.string = tags.input_tags.categorical = self.likelihood == "mixed"
        tags.input_tags.allow_nan = self.likelihood not in COUNT_LIKELIHOODS
        # scikit-learn has no tag for counts; whole numbers from 0 are what it calls positive and categorical.
        tags.input_tags.positive_only = tags.input_tags.categorical = self.likelihood in COUNT_LIKELIHOODS
        return tags


def _blaming(lines: Iterator[EpochMetrics], values: Any, names: NDArray[Any] | None) -> Iterator[EpochMetrics]:
    """Yield the epochs. A divergence names a column of the values, (N, X), that is large enough to cause it."""
    try:
        yield from lines
    except DivergenceError as error:
        raise DivergenceError(f"{error}{advice.of_large_values(values, names)}") from error
