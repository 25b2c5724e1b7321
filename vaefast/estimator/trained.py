"""The methods of a trained `VAE`: latents, reconstructions, samples and scores of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from vaefast.errors import DataError, SettingsError
from vaefast.estimator import parameters
from vaefast.estimator.filling import filled, filled_columns
from vaefast.estimator.row_places import check_places
from vaefast.estimator.warning import warn
from vaefast.inference.imputation import impute
from vaefast.inference.network import Network
from vaefast.inference.ranking import check_ranks, recommend
from vaefast.models import noise
from vaefast.models.conditions import beside, parted
from vaefast.models.counts import draw as draw_counts
from vaefast.models.gaps import gaps_of
from vaefast.models.noise import Purpose
from vaefast.models.outputs import draw, expectation
from vaefast.tables import checking
from vaefast.tables.advice import of_coarse_columns
from vaefast.tables.frames import as_it_came, as_pandas
from vaefast.tables.mixed.fields import fields_of, is_frame
from vaefast.tables.mixed.frames import table_of
from vaefast.tables.mixed.schema import Schema
from vaefast.tables.scaling import Inputs
from vaefast.tables.told import Told


class TrainedModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin):  # type: ignore[misc]
    """The part of `VAE` that needs a trained network, and how its inputs are scaled."""

    _network: Network
    _inputs: Inputs
    _told: Told
    likelihood_: str
    size_quantiles_: list[float]

    @property
    def _n_features_out(self) -> int:
        return self._network.model.latent

    def transform(self, X: ArrayLike, *, covariates: Any = None) -> NDArray[np.float32]:
        """Means of the posterior q(z | x) of each row.

        Nothing is drawn at random. Where training draws grey levels as 0 or 1, the encoder is given the levels as they are.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            Covariates of the rows, where the encoder was trained with some; one row stands for all.

        Returns
        -------
        ndarray of shape (N, Z), float32
            The latents.

        Raises
        ------
        DataError
            X does not fit the model.
        """
        return self._posterior(X, covariates)[0]

    def posterior(self, X: ArrayLike, *, covariates: Any = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of the posterior q(z | x) of each row.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            As for `transform`.

        Returns
        -------
        mean, std : ndarray of shape (N, Z), float32
            Both are in the units of the latents, whose prior is N(0, I).

        Raises
        ------
        DataError
            X does not fit the model.
        """
        mean, log_std = self._posterior(X, covariates)
        return mean, np.exp(log_std)

    def inverse_transform(self, Z: ArrayLike, *, covariates: Any = None) -> NDArray[Any]:
        """Means of p(x | z) for given latents.

        Parameters
        ----------
        Z : array-like of shape (N, Z)
            Latents.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            Covariates of the rows, for a model that was trained with some; one row stands for all.

        Returns
        -------
        ndarray of shape (N, X)
            Probabilities for a Bernoulli likelihood; for counts the rates of a row of total 1; otherwise numbers in the
            units of the data. For `mixed` a table like the training data, a DataFrame if that was one: numbers are means, and
            medians of positive columns; of the values of a category it has the most likely one.

        Raises
        ------
        DataError
            Z has another number of columns than the model has latents, or the covariates do not fit the model.
        """
        check_is_fitted(self)
        z = check_array(Z, dtype=[np.float32, np.float64])
        if z.shape[1] != self._n_features_out:
            raise DataError(f"Z has {z.shape[1]} columns: give the {self._n_features_out} latents of this model")
        return self._means(z, self._told.of_rows(covariates, len(z)))

    def _means(self, z: NDArray[Any], covariates: NDArray[np.float32] | None, index: Any = None) -> NDArray[Any]:
        """Means of p(x | z), (N, X), in the units of the data; of counts for rows of size 1."""
        outputs = self._network.decode(beside(z, covariates))
        return self._given_back(expectation(self._network.model, outputs), index)

    def _given_back(self, x: NDArray[Any], index: Any = None, drawn: bool = False) -> Any:
        """Values of x, (N, X), in the units of the data; of columns of different kinds the table that the user knows."""
        values = self._inputs.leave(x)
        return values if self._inputs.schema is None else table_of(self._inputs.schema, values, index, drawn)

    def normalized(self, X: ArrayLike, *, covariates: Any = None) -> NDArray[Any]:
        """Rates of each column for rows of counts of total 1, from the posterior's means: what is left when depths are equal.

        With covariates, `inverse_transform(transform(X), covariates=other)` gives the rates under other ones, such as all
        rows in one batch.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, X)
            Rows of counts.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            Covariates of the rows, for a model that was trained with some; one row stands for all.

        Returns
        -------
        ndarray of shape (N, X), float32
            Not negative; the rates of a row add up to 1, or to less with zero inflation.

        Raises
        ------
        SettingsError
            The model is not one of counts.
        DataError
            X does not fit the model.
        """
        check_is_fitted(self)
        if not self._inputs.are_counts:
            raise SettingsError(f"likelihood {self.likelihood_} has no rates: normalized is for a likelihood of counts")
        table, entered = self._with_covariates(X, covariates)
        return self._means(self._network.posterior(entered, self._exact_rows(table))[0], parted(entered)[1])

    def reconstruct(self, X: ArrayLike, *, covariates: Any = None, size_factors: ArrayLike | None = None) -> NDArray[Any]:
        """Reconstructions of the rows: `inverse_transform(transform(X))`; of counts, times the size of each row, which is its
        total unless there are size factors.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            Covariates of the rows, for a model that was trained with some; one row stands for all.
        size_factors : array-like of shape (N,) or None, default=None
            Size factors of the rows, for a model that was trained with some.

        Returns
        -------
        ndarray of shape (N, X)
            As `inverse_transform` gives them.

        Raises
        ------
        DataError
            X does not fit the model.
        """
        check_is_fitted(self)
        index = getattr(X, "index", None) if is_frame(X) else None
        X, entered = self._entered(X, covariates, size_factors)
        values, told = parted(entered)
        means = self._means(self._network.posterior(entered, self._exact_rows(X))[0], told, index)
        return means * values.row_sizes()[:, None].astype(means.dtype) if self._inputs.are_counts else means

    def recommend(
        self, X: ArrayLike, k: int = 10, *, exclude_seen: bool = True, covariates: Any = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k columns that each row is most likely to have next: items for a user, by the clicks so far.

        Nothing is drawn at random. A score is the logarithm of the column's mean at the posterior's mean: for counts of its
        share of the row, the logarithm of `normalized`; for a Bernoulli likelihood of the probability of a 1. Scores of
        different rows cannot be compared.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (N, X)
            Rows of counts, or of 0 and 1.
        k : int, default=10
            Number of columns for each row.
        exclude_seen : bool, default=True
            Leave out what is not zero in the row.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            Covariates of the rows, for a model that was trained with some; one row stands for all.

        Returns
        -------
        ids : ndarray of shape (N, k), int64
            Numbers of columns, best first, those with the same score in their order. Where a row has fewer than k columns
            left, -1 follows, which is no column.
        scores : ndarray of shape (N, k), float32
            Their scores, -inf for no column: lower than any score, and unlike NaN in order.

        Raises
        ------
        SettingsError
            The likelihood is neither Bernoulli nor one of counts, or k is less than 1.
        DataError
            X does not fit the model.
        """
        check_is_fitted(self)
        check_ranks(self.likelihood_)
        k = parameters.count("k", k, 1)
        return self._recommended(*self._with_covariates(X, covariates), k, exclude_seen)

    def _recommended(
        self, table: Any, entered: Any, k: int, exclude_seen: bool = True
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """`recommend` for a table and its rows as the networks see them."""
        network, told = self._network, parted(entered)[1]
        z = beside(network.posterior(entered, self._exact_rows(table))[0], told)
        about = self.likelihood_, network.model.zero_inflation
        # Of the user's numbers: scaled ones may be 0 where these are not.
        return recommend(lambda rows: network.decode(z[rows]), *about, parted(table)[0], k, exclude_seen)

    def interpolate(self, a: ArrayLike, b: ArrayLike, steps: int = 11, *, covariates: Any = None) -> Any:
        """Means of p(x | z) on the straight line in latent space from row a to row b, both ends included.

        Parameters
        ----------
        a, b : array-like of shape (X,) or (N, X)
            One row each, or the same number of rows each.
        steps : int, default=11
            Points on each line, at least 2.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            Covariates of each line, for a model that was trained with some.

        Returns
        -------
        ndarray of shape (steps, X) or (N, steps, X)
            As `inverse_transform` gives them; for `mixed` a table of the steps of one line, or a list of N tables.

        Raises
        ------
        DataError
            a and b do not fit the model, or differ in their number of rows.
        SettingsError
            `steps` is less than 2.
        """
        steps = parameters.count("steps", steps, 2)
        single = np.ndim(a) == 1
        ends = [self._posterior(_one_row(end) if single else end, covariates)[0] for end in (a, b)]
        if len(ends[0]) != len(ends[1]):
            raise DataError(f"a has {len(ends[0])} rows and b {len(ends[1])}: give as many of each")
        weight = np.linspace(0, 1, steps, dtype=np.float32)[None, :, None]
        z = (1 - weight) * ends[0][:, None] + weight * ends[1][:, None]
        told = self._told.of_rows(covariates, len(z))
        told = None if told is None else np.repeat(told, steps, axis=0)
        x = self._means(z.reshape(-1, z.shape[-1]), told)
        if self._inputs.schema is not None:
            lines = [x[at * steps : (at + 1) * steps] for at in range(len(z))]
            return lines[0] if single else lines
        x = x.reshape(len(z), steps, -1)
        return x[0] if single else x

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        *,
        noise_in_x: bool | None = None,
        covariates: Any = None,
    ) -> NDArray[Any]:
        """New rows: latents z drawn from the prior N(0, I), and sent through the decoder.

        Rows of counts have totals drawn from those of the training data. Draws of columns of different kinds have as many
        decimals as the training data had.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState or None, default=None
            An int gives the same rows each time.
        noise_in_x : bool or None, default=None
            Whether x is drawn from p(x | z). Otherwise it is the mean of p(x | z), which suits images. None draws x for
            columns of different kinds, and takes the mean for all other data.
        covariates : array-like of shape (n_samples, columns) or (1, columns), or None, default=None
            Covariates of the new rows, for a model that was trained with some; one row stands for all.

        Returns
        -------
        ndarray or DataFrame of shape (n_samples, X)
            In the units of the data; for `mixed` a table like the training data, as `inverse_transform` gives it.

        Raises
        ------
        SettingsError
            `n_samples` is less than 1.
        DataError
            The covariates do not fit the model.
        """
        check_is_fitted(self)
        rows, drawn = self._new_rows(n_samples, random_state, noise_in_x, covariates)
        return rows if self._inputs.are_counts else self._given_back(rows, drawn=drawn)

    def _new_rows(
        self, n_samples: int, random_state: int | np.random.RandomState | None, noise_in_x: bool | None, covariates: Any
    ) -> tuple[NDArray[Any], bool]:
        """New rows as the decoder has them, (n_samples, X), and whether they are draws; counts are those of the data."""
        n_samples = parameters.count("n_samples", n_samples, 1)
        told = self._told.of_rows(covariates, n_samples)
        generator = parameters.generator(random_state)
        seeded = isinstance(random_state, (int, np.integer))
        seed = int(random_state) if seeded else int(generator.randint(2**31))  # type: ignore[arg-type]
        z = noise.normals(seed, Purpose.PRIOR_SAMPLES, 0, np.arange(n_samples), self._n_features_out)
        outputs = self._network.decode(beside(z, told))
        if self._inputs.are_counts:
            return self._sampled_counts(outputs, generator, bool(noise_in_x)), bool(noise_in_x)
        if not (self._inputs.schema is not None if noise_in_x is None else noise_in_x):
            return expectation(self._network.model, outputs), False
        return draw(self._network.model, outputs, self._network.parameters, generator), True

    def _sampled_counts(self, outputs: NDArray[Any], generator: np.random.RandomState, noise_in_x: bool) -> NDArray[Any]:
        """Rows whose totals are spread as those of the training data are."""
        if not hasattr(self, "size_quantiles_"):
            raise DataError(
                "this model was written by an older vaefast, and does not know how large rows are: train it again, or give "
                "latents to inverse_transform, which needs no size"
            )
        zeros, quantiles = self._network.model.zero_inflation, np.asarray(self.size_quantiles_)
        at = generator.random_sample(len(outputs)) * (len(quantiles) - 1)
        size = np.rint(np.interp(at, np.arange(len(quantiles)), quantiles)).astype(np.int64)
        if not noise_in_x:
            return expectation(self._network.model, outputs) * size[:, None].astype(outputs.dtype)
        t = self._network.parameters.get("x_log_dispersion")
        return draw_counts(outputs, size, self.likelihood_, generator, t, zeros)

    def score_samples(
        self,
        X: ArrayLike,
        *,
        n_samples: int = 10,
        per_feature: bool = False,
        covariates: Any = None,
        size_factors: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """The ELBO of each row in nats: a lower bound on log p(x). Low scores mark rows unlike the training data.

        The noise of a row depends on its content. So its score does not depend on the other rows and is the same at each call:
        bit for bit on the compiled engines, and within rounding on the reference engine. A score is minus infinity only where
        float64 arithmetic overflows. Of a row with missing values it is a bound on the log-density of the others.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows.
        n_samples : int, default=10
            Samples of the posterior for each row. More of them give less noise and rank odd rows more reliably.
        per_feature : bool, default=False
            Give log p(x_j | z) of each column instead, from the same samples: a density in the units of the column, and 0 for
            what is missing. The columns that make a row odd are those that are lowest beside what is usual for them, such as
            their means over the training rows. The sum over the columns, less the KL divergence of q(z | x) from the prior,
            is the ELBO.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            Covariates of the rows, for a model that was trained with some; one row stands for all.
        size_factors : array-like of shape (N,) or None, default=None
            Size factors of the rows, for a model that was trained with some.

        Returns
        -------
        ndarray of shape (N,), or (N, X) with `per_feature`, float64
            In nats. For `mixed` X are the columns in `column_types_`.

        Raises
        ------
        DataError
            X does not fit the model.
        SettingsError
            `n_samples` is less than 1.
        """
        check_is_fitted(self)
        n_samples = parameters.count("n_samples", n_samples, 1)
        X, entered = self._entered(X, covariates, size_factors)
        if per_feature:
            densities = self._network.column_log_likelihoods(entered, n_samples, self._exact_rows(X))
            if not self._inputs.are_counts:
                densities = densities - self._inputs.log_volumes_of(parted(X)[0])
            return densities if self._inputs.schema is None else self._inputs.schema.by_column(densities)
        return self._network.bounds(entered, n_samples, self._exact_rows(X)) - self._inputs.log_volume_of(X)

    def score(
        self,
        X: ArrayLike,
        y: Any = None,
        sample_weight: ArrayLike | None = None,
        *,
        covariates: Any = None,
        size_factors: ArrayLike | None = None,
    ) -> float:
        """The mean of `score_samples`, in nats: what model selection in scikit-learn maximises.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (N,) or None, default=None
            What each row counts for.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            Covariates of the rows, for a model that was trained with some; one row stands for all.
        size_factors : array-like of shape (N,) or None, default=None
            Size factors of the rows, for a model that was trained with some.

        Returns
        -------
        float
            The mean, weighted if weights are given.

        Raises
        ------
        DataError
            X does not fit the model.
        """
        check_places(X, sample_weight=sample_weight)
        scores = self.score_samples(X, covariates=covariates, size_factors=size_factors)
        if sample_weight is None:
            return float(scores.mean())
        weights = parameters.weights(sample_weight, scores)
        counts = weights > 0  # 0 times -inf is NaN
        return float(np.average(scores[counts], weights=weights[counts]))

    def log_likelihood(
        self, X: ArrayLike, n_samples: int = 100, *, covariates: Any = None, size_factors: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """log p(x) of each row in nats, by importance sampling.

        The estimate is the logarithm of the mean of p(x | z) p(z) / q(z | x) over samples z of q(z | x) (Rezende et al., 2014,
        appendix E). It is a lower bound in expectation, and more samples make it tighter. If the model is one of binarised
        data, grey levels are drawn as 0 or 1, as for `score_samples`. Of a row with missing values it is the log-density of
        the others.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows.
        n_samples : int, default=100
            Samples of the posterior for each row.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            Covariates of the rows, for a model that was trained with some; one row stands for all.
        size_factors : array-like of shape (N,) or None, default=None
            Size factors of the rows, for a model that was trained with some.

        Returns
        -------
        ndarray of shape (N,), float64
            In nats.

        Raises
        ------
        DataError
            X does not fit the model.
        SettingsError
            `n_samples` is less than 1.
        """
        check_is_fitted(self)
        n_samples = parameters.count("n_samples", n_samples, 1)
        X, entered = self._entered(X, covariates, size_factors)
        return self._network.log_likelihoods(entered, n_samples, self._exact_rows(X)) - self._inputs.log_volume_of(X)

    def impute(
        self,
        X: ArrayLike,
        n_samples: int = 1000,
        *,
        multiple: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        covariates: Any = None,
    ) -> Any:
        """The rows with their missing values filled in: each by its mean, given the values of its row that are there.

        The mean is E[x_missing | x_observed] under the model, by self-normalised importance sampling with the posterior
        q(z | x_observed) as the proposal (Mattei & Frellsen, 2019). The noise of a row depends on its content, so what a row
        is filled with does not depend on the other rows. Values that are there stay as they are, bit for bit.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows. NaN, None, `pandas.NA` and masked values are missing.
        n_samples : int, default=1000
            Samples of the posterior for each row. The error falls as one over the root of their number.
        multiple : int or None, default=None
            So many draws of the missing values instead of their mean, by sampling-importance-resampling: for estimates whose
            uncertainty takes account of what is missing (Rubin, 1987). Draws of a Bernoulli likelihood are 0 or 1. Those of
            rows with equal content are independent.
        random_state : int, RandomState or None, default=None
            The seed of the noise. None is the seed of the training, so that each call gives the same.
        covariates : array-like of shape (N, columns) or (1, columns), or None, default=None
            Covariates of the rows, for a model that was trained with some; one row stands for all.

        Returns
        -------
        ndarray or DataFrame of shape (N, X)
            A DataFrame for a DataFrame, with its index and columns, and of polars for one of polars; columns of whole numbers
            with missing values become columns of float. For `mixed` each column keeps its type (decimals become floats), and
            is filled with means, with medians where it is positive, or with its most likely value. With `multiple` an array of
            shape (multiple, N, X), or a list of so many DataFrames.

        Raises
        ------
        DataError
            X does not fit the model, or a value is missing under a likelihood of counts.
        SettingsError
            `n_samples` or `multiple` is less than 1.

        Examples
        --------
        A trained model as a step of a pipeline:

        >>> import numpy as np
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import FunctionTransformer
        >>> from vaefast import VAE
        >>> generator = np.random.default_rng(0)
        >>> whole = generator.normal(size=(200, 2)) @ generator.normal(size=(2, 5))
        >>> X, y = np.where(generator.random(whole.shape) < 0.2, np.nan, whole), whole[:, 0] > 0
        >>> vae = VAE(2, hidden_layer_sizes=(20,), epochs=3, random_state=0).fit(X)
        >>> model = make_pipeline(FunctionTransformer(vae.impute), LogisticRegression()).fit(X, y)
        >>> model.predict(X).shape
        (200,)
        """
        check_is_fitted(self)
        n_samples = parameters.count("n_samples", n_samples, 1)
        draws = 0 if multiple is None else parameters.count("multiple", multiple, 1)
        seed = None if random_state is None else parameters.seed_from(random_state)
        if seed is not None:
            with parameters.in_parameters():
                replace(self._network.training, seed=seed)  # which looks at it
        check_places(X, covariates=covariates)
        given, X = X, as_pandas(X)
        table = self._told.with_covariates(self._table(X), covariates)
        gaps, schema = gaps_of(parted(table)[0]), self._inputs.schema
        if gaps is None:
            whole = self._complete(X, draws)
            return [as_it_came(each, given) for each in whole] if isinstance(whole, list) else as_it_came(whole, given)
        each = [
            as_it_came(filled(X, gaps, whole) if schema is None else filled_columns(X, gaps, whole, schema, draws > 0), given)
            for whole in self._missing_values(table, gaps, n_samples, draws, seed)
        ]
        return each[0] if draws == 0 else each if hasattr(X, "isetitem") else np.stack(each)

    def _missing_values(
        self, table: Any, gaps: NDArray[np.bool_], n_samples: int, draws: int = 0, seed: int | None = None
    ) -> list[NDArray[np.float64]]:
        """What fills in the gaps, (N, X), of a table as `_table` has it: tables, (N, X), with the values there."""
        entered, each = self._inputs.enter(table), []
        rows, values = impute(self._network, entered, n_samples, self._exact_rows(table), draws=draws, seed=seed)
        # Grey levels leave as numbers in [0, 1], and stand beside levels from 0 to 255.
        left = self._inputs.leave(values) * (255.0 if self._inputs.are_levels(parted(table)[0]) else 1.0)
        for part in left[None] if draws == 0 else left:
            whole = np.zeros(gaps.shape)
            whole[rows] = part
            each.append(whole)
        return each

    def _complete(self, X: Any, draws: int) -> Any:
        """X as it came, which misses nothing, as often as it was asked for."""
        if not hasattr(X, "tocsr") and not hasattr(X, "isetitem"):
            X = np.asarray(X, dtype=object if self._inputs.schema is not None and not hasattr(X, "dtype") else None)
        if draws == 0:
            return X.copy()
        each = [X.copy() for _ in range(draws)]
        return np.stack(each) if isinstance(X, np.ndarray) else each

    def _posterior(self, X: ArrayLike, covariates: Any = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        check_is_fitted(self)
        check_places(X, covariates=covariates)
        table = self._table(X)
        if covariates is not None or self._network.model.encode_covariates:
            table = self._told.with_covariates(table, covariates)
        return self._network.posterior(self._inputs.enter(table), self._exact_rows(table))

    def _with_covariates(self, X: ArrayLike, covariates: Any) -> tuple[Any, Any]:
        """X beside its covariates, checked, and as the networks see it; without size factors, which no posterior needs."""
        check_places(X, covariates=covariates)
        table = self._told.with_covariates(self._table(X), covariates)
        return table, self._inputs.enter(table)

    def _entered(self, X: ArrayLike, covariates: Any, size_factors: ArrayLike | None) -> tuple[Any, Any]:
        """The same with size factors, where the model has some: all that the networks are told of each row."""
        check_places(X, covariates=covariates, size_factors=size_factors)
        table = self._told.beside(self._table(X), covariates, size_factors)
        return table, self._inputs.enter(table)

    def _table(self, X: Any) -> Any:
        """X, checked against the model, as `Inputs.table` has it."""
        return self._inputs.table(self._read(X, self._inputs.schema))

    def _read(self, X: Any, schema: Schema | None, called: str = "X", *, reset: bool = False) -> Any:
        """X as a table of numbers, (N, X): as it came, or encoded by a schema; `reset` remembers its columns."""
        X = as_pandas(X, called)
        if schema is None:
            return checking.table(self, X, reset=reset, called=called)
        if reset:
            self.n_features_in_ = len(schema.columns)
            self.__dict__.pop("feature_names_in_", None)
            if schema.named and all(isinstance(column.name, str) for column in schema.columns):
                self.feature_names_in_ = np.array([column.name for column in schema.columns], dtype=object)
        return schema.encoded(fields_of(X, called), called)

    def _exact_rows(self, X: Any) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
        return lambda rows: self._inputs.exact(X[rows])

    def to_onnx(self, folder: str | Path) -> tuple[Path, Path]:
        """Write `encoder.onnx` (x to mean and log_std) and `decoder.onnx` (z to x_mean and logits) into a folder.

        Both take and give float32 in the units of the data, for any number of rows. Of a model with `scaling="grey"` the
        encoder takes grey levels from 0 to 255, and the decoder gives them as numbers in [0, 1]. They hold no random node.
        Covariates are the last columns of x, where the encoder sees them, and of z, as the networks see them. This needs the
        extra `onnx`.

        Parameters
        ----------
        folder : str or Path
            It is made if need be.

        Returns
        -------
        encoder, decoder : Path
            The two files.

        Raises
        ------
        SettingsError
            The package onnx is not installed.
        OutputError
            A file cannot be written.

        Warns
        -----
        DataWarning
            A column is so far from 0 that float32 rounds its values coarsely.
        """
        from vaefast.inference.onnx_export import write

        check_is_fitted(self)
        with parameters.in_parameters():
            paths = write(Path(folder), self._network, self._inputs)
        warn(of_coarse_columns(self._inputs))
        return paths


def _one_row(values: Any) -> Any:
    """A row, (X,), as a table of it alone; of a Series with the names of its columns."""
    if hasattr(values, "to_frame"):
        return values.to_frame().T
    # An array would make text of numbers beside text.
    has_text = not hasattr(values, "dtype") and any(isinstance(value, str) for value in values)
    return np.atleast_2d(np.asarray(values, dtype=object if has_text else None))
