"""`VAEDetector`: a `VAE` as an outlier detector, in the habits of PyOD's users."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from vaefast.errors import SettingsError
from vaefast.estimator import parameters
from vaefast.estimator.vae import VAE
from vaefast.tables.row_weights import quantiles

LARGEST = float(np.finfo(np.float64).max)


class VAEDetector(BaseEstimator):  # type: ignore[misc]
    """Outlier detector that scores a row by -log p(x), under a variational auto-encoder of all rows.

    A score is the negative logarithm of the density of a row in nats, by importance sampling (`VAE.log_likelihood`), and so
    grows with how odd the row is. As in PyOD, 1 stands for an outlier and 0 for an inlier, where scikit-learn has -1 and 1
    (Zhao, Nasrullah & Li, 2019).

    Parameters
    ----------
    contamination : float, default=0.1
        The share of outliers in the training data, above 0 and at most 0.5. It sets the threshold, and changes no score.
    vae : VAE or None, default=None
        An estimator that is not trained, whose parameters are taken; None is `VAE()`.
    n_samples : int, default=100
        Samples of the posterior for each row.
    random_state : int, RandomState or None, default=None
        The seed of the training. None leaves that of `vae`.

    Attributes
    ----------
    vae_ : VAE
        The trained model.
    decision_scores_ : ndarray of shape (N,), float64
        Scores of the training rows, in nats.
    threshold_ : float
        The score above which a row is an outlier: the quantile 1 - `contamination` of `decision_scores_`, in which a row
        counts for its `sample_weight`.
    labels_ : ndarray of shape (N,), int64
        1 for each training row above the threshold, else 0.
    n_features_in_, feature_names_in_
        As in every estimator of scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from vaefast import VAEDetector
    >>> X = np.random.default_rng(0).normal(size=(300, 4))
    >>> X[0] = 9.0
    >>> detector = VAEDetector(contamination=0.02, random_state=0).fit(X)
    >>> int(detector.decision_scores_.argmax()), int(detector.labels_.sum())
    (0, 6)
    """

    def __init__(
        self,
        contamination: float = 0.1,
        *,
        vae: VAE | None = None,
        n_samples: int = 100,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.contamination = contamination
        self.vae = vae
        self.n_samples = n_samples
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None, **fit_parameters: Any) -> VAEDetector:
        """Train on the rows of X, and score them.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows, most of them inliers.
        y : None
            Ignored.
        **fit_parameters
            Parameters of `VAE.fit`, such as `sample_weight`.

        Returns
        -------
        VAEDetector
            The detector itself.

        Raises
        ------
        DataError, DivergenceError
            As for `VAE.fit`.
        SettingsError
            A parameter is out of its range.
        """
        share = parameters.real(self.contamination)
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 < share <= 0.5:
            raise SettingsError(f"contamination is {self.contamination!r}: give a share above 0, up to 0.5, such as 0.1")
        samples = parameters.count("n_samples", self.n_samples, 1)
        if self.vae is not None and not isinstance(self.vae, VAE):
            raise SettingsError(f"vae is {self.vae!r}: give a VAE, or None")
        vae = VAE() if self.vae is None else clone(self.vae)
        if self.random_state is not None:
            vae.set_params(random_state=self.random_state)
        vae.fit(X, **fit_parameters)
        told = {name: value for name, value in fit_parameters.items() if name in ("covariates", "size_factors")}
        scores = _scores(vae, X, samples, told)
        weights = fit_parameters.get("sample_weight")
        counts = None if weights is None else parameters.weights(weights, scores)
        threshold = float(quantiles(scores, [1 - share], counts)[0])
        # Nothing before this line can leave a new model beside an old threshold.
        self.vae_, self.decision_scores_, self.threshold_, self.n_samples_ = vae, scores, threshold, samples
        self.n_features_in_ = vae.n_features_in_
        self.__dict__.pop("feature_names_in_", None)
        if hasattr(vae, "feature_names_in_"):
            self.feature_names_in_ = vae.feature_names_in_
        self.labels_ = self._labels(scores)
        return self

    def decision_function(self, X: ArrayLike, **told: Any) -> NDArray[np.float64]:
        """-log p(x) of each row in nats: the higher, the odder.

        The score of a row depends neither on the other rows nor on the call. A row that is too far out even for float64
        arithmetic has the largest number of float64, so that it is above all others.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows.
        **told
            `covariates` and `size_factors`, if `fit` was given them.

        Returns
        -------
        ndarray of shape (N,), float64
            The scores.

        Raises
        ------
        DataError
            X does not fit the model.
        """
        check_is_fitted(self)
        return _scores(self.vae_, X, self.n_samples_, told)

    def predict(self, X: ArrayLike, **told: Any) -> NDArray[np.int64]:
        """1 for each row whose score is above `threshold_`, else 0.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows.
        **told
            As for `decision_function`.

        Returns
        -------
        ndarray of shape (N,), int64
            The labels.

        Raises
        ------
        DataError
            X does not fit the model.
        """
        return self._labels(self.decision_function(X, **told))

    def fit_predict(self, X: ArrayLike, y: Any = None, **fit_parameters: Any) -> NDArray[np.int64]:
        """Train on the rows of X: `fit(X).labels_`.

        Parameters
        ----------
        X : array-like of shape (N, X)
            Rows.
        y : None
            Ignored.
        **fit_parameters
            As for `fit`.

        Returns
        -------
        ndarray of shape (N,), int64
            1 for an outlier, else 0.

        Raises
        ------
        DataError, SettingsError, DivergenceError
            As for `fit`.
        """
        labels: NDArray[np.int64] = self.fit(X, **fit_parameters).labels_
        return labels

    def _labels(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        return (scores > self.threshold_).astype(np.int64)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = (VAE() if self.vae is None else self.vae).__sklearn_tags__().input_tags.allow_nan
        return tags


def _scores(vae: VAE, X: ArrayLike, samples: int, told: dict[str, Any]) -> NDArray[np.float64]:
    """-log p(x) of each row in nats, (N,)."""
    return np.minimum(-vae.log_likelihood(X, samples, **told), LARGEST)
