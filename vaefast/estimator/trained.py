"""What a trained `VAE` does: latents, reconstructions, samples and scores of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from vaefast.errors import DataError
from vaefast.estimator import parameters
from vaefast.inference.network import Network
from vaefast.models import noise
from vaefast.models.likelihoods import draw, expectation
from vaefast.models.noise import Purpose
from vaefast.tables import checking
from vaefast.tables.scaling import Inputs


class TrainedModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin):  # type: ignore[misc]
    """The part of `VAE` that needs a trained network, and how its inputs are scaled."""

    _network: Network
    _inputs: Inputs
    likelihood_: str

    @property
    def _n_features_out(self) -> int:
        return self._network.model.latent

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
        steps = parameters.count("steps", steps, 2)
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
        n_samples = parameters.count("n_samples", n_samples, 1)
        generator = parameters.generator(random_state)
        seeded = isinstance(random_state, (int, np.integer))
        seed = int(random_state) if seeded else int(generator.randint(2**31))  # type: ignore[arg-type]
        z = noise.normals(seed, Purpose.PRIOR_SAMPLES, 0, np.arange(n_samples), self._n_features_out)
        outputs = self._network.decode(z)
        if not noise_in_x:
            return self._inputs.leave(expectation(self.likelihood_, outputs))
        return self._inputs.leave(draw(self.likelihood_, outputs, self._network.parameters.get("x_log_std"), generator))

    def score_samples(self, X: ArrayLike, *, n_samples: int = 10, per_feature: bool = False) -> NDArray[np.float64]:
        """The ELBO of each row in nats, (N,): a bound on log p(x), the mean over some samples of q(z | x).

        The noise of a row goes by its content, so its score is the same in any company and at each call: bit for bit on the
        compiled engines, to rounding on the reference engine, whose products are NumPy's. Low scores are rows that the model
        has not seen the like of. Every score is finite but where float64 ends: minus infinity.

        Parameters
        ----------
        n_samples
            The mean over more of them has less noise, and ranks odd rows more reliably.
        per_feature
            log p(x_j | z) of each column instead, (N, X), of the same samples; the column that makes a row odd has the lowest.
            Their sum less the KL divergence of q(z | x) from the prior is the ELBO.
        """
        check_is_fitted(self)
        n_samples = parameters.count("n_samples", n_samples, 1)
        X, entered = self._entered(X)
        if per_feature:
            columns = self._network.column_log_likelihoods(entered, n_samples, self._exact_rows(X))
            return columns - self._inputs.log_volumes
        return self._network.bounds(entered, n_samples, self._exact_rows(X)) - self._inputs.log_volume

    def score(self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """The mean of `score_samples`, each row counting for its weight: what model selection maximises."""
        scores = self.score_samples(X)
        return float(
            scores.mean() if sample_weight is None else np.average(scores, weights=parameters.weights(sample_weight, scores))
        )

    def log_likelihood(self, X: ArrayLike, n_samples: int = 100) -> NDArray[np.float64]:
        """log p(x) of each row in nats, (N,), by importance sampling; from below, and the tighter the more samples.

        The mean over n_samples draws z ~ q(z | x) of p(x | z) p(z) / q(z | x) (Rezende et al., 2014, appendix E). Grey levels
        are drawn on or off as for `score_samples` where the model is of binarised data.
        """
        check_is_fitted(self)
        n_samples = parameters.count("n_samples", n_samples, 1)
        X, entered = self._entered(X)
        return self._network.log_likelihoods(entered, n_samples, self._exact_rows(X)) - self._inputs.log_volume

    def _posterior(self, X: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        check_is_fitted(self)
        X, entered = self._entered(X)
        return self._network.posterior(entered, self._exact_rows(X))

    def _entered(self, X: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """X checked, and as the networks see it."""
        X = checking.table(self, X)
        return X, self._inputs.enter(X)

    def _exact_rows(self, X: NDArray[Any]) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
        return lambda rows: self._inputs.exact(X[rows])

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
        from vaefast.inference.onnx_export import write

        check_is_fitted(self)
        with parameters.in_parameters():
            return write(Path(folder), self._network, self._inputs)
