"""CASES drives equivalence, gradients, determinism and timing; TOLERANCES says how close is right, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vaefast.models.columns import blocks_of
from vaefast.models.conditions import Conditioned
from vaefast.models.count_rows import CountRows
from vaefast.models.settings import LIKELIHOODS, ModelSettings, ObjectiveSettings


@dataclass(frozen=True)
class Case:
    """A model, a minibatch size that leaves a ragged last one, and data that are sparse or dense."""

    name: str
    model: ModelSettings
    batch_size: int
    examples: int
    density: float  # share of non-zero pixels
    binarize: str = "dynamic"
    floats: bool = False
    sized: bool = False  # whether rows of counts have sizes of their own
    missing: float = 0.0  # share of the variables that were not observed
    precision: str = "float32"

    def values(self) -> np.ndarray | CountRows | Conditioned:
        """Images or counts, (examples, X), with the sizes and the covariates that the case has."""
        values = self._values()
        if self.sized:
            values = replace(CountRows.of(values), sizes=np.random.default_rng(9).uniform(0.5, 300, self.examples))
        return Conditioned(values, self.told(self.examples)) if self.model.covariates else values

    def told(self, rows: int) -> np.ndarray:
        """Covariates, (rows, C): the first two tell three groups apart, the others are numbers."""
        rng = np.random.default_rng(8)
        covariates = rng.standard_normal((rows, self.model.covariates)).astype(np.float32)
        covariates[:, :2] = np.eye(3, 2)[rng.integers(0, 3, rows)][:, : self.model.covariates]
        return covariates

    def _values(self) -> np.ndarray:
        """Reproducible, some grey, some at the ends of the range; or counts, some of them large."""
        rng = np.random.default_rng(len(self.name))
        if self.model.counts:
            return self._counts(rng)
        if self.model.in_blocks:
            return self._table(rng)
        levels = rng.random((self.examples, self.model.pixels)) * (
            rng.random((self.examples, self.model.pixels)) < self.density
        )
        levels[levels > 0.9] = 1.0
        return levels.astype(np.float32) if self.floats else np.rint(255 * levels).astype(np.uint8)

    def _table(self, rng: np.random.Generator) -> np.ndarray:
        """Columns as their kinds want them, float32 (examples, X), with holes: a row and a column all holes."""
        shape, table = (self.examples, self.model.pixels), blocks_of(*self.table)
        x = np.clip(rng.standard_t(4, shape), -8, 8)
        for block in table.blocks:
            columns = slice(block.first, block.last)
            if block.kind == "negative-binomial":
                x[:, columns] = rng.poisson(rng.gamma(0.7, 9.0, (self.examples, block.size)))
                x[-1, block.first] = 400
            elif block.kind in ("bernoulli", "continuous-bernoulli"):
                levels = rng.random((self.examples, block.size)) * (rng.random((self.examples, block.size)) < self.density)
                x[:, columns] = levels if self.binarize == "dynamic" or block.kind != "bernoulli" else levels > 0.4
        for first, last in table.variables():
            if table.blocks[-1].kind == "categorical" and first >= table.blocks[-1].first:
                x[:, first:last] = np.eye(last - first)[rng.integers(0, last - first, self.examples)]
            if self.model.missing:
                x[(rng.random(self.examples) < self.missing) & (np.arange(self.examples) != 1), first:last] = np.nan
        if self.model.missing:
            first, last = table.variables()[-1]
            x[0], x[:, first:last] = np.nan, np.nan
        return x.astype(np.float32)

    @property
    def table(self) -> tuple[str, int, tuple[tuple[str, int], ...]]:
        """What `blocks_of` takes."""
        return self.model.likelihood, self.model.pixels, self.model.columns

    def _counts(self, rng: np.random.Generator) -> np.ndarray:
        """Overdispersed counts, (examples, X): a row of zeros, one count past a byte, some past the table of small ones."""
        shape = (self.examples, self.model.pixels)
        counts = rng.poisson(rng.gamma(0.7, 5.0, shape)) * (rng.random(shape) < self.density)
        counts[0] = 0
        counts[-1, -1] = 400
        return counts.astype(np.float32 if self.floats else np.int64)


BERNOULLI = [
    Case("report", ModelSettings(784, (200, 200), 50), 40, 100, 0.2),
    Case("tanh", ModelSettings(64, (40, 24), 6, "tanh"), 32, 80, 0.5),
    Case("grey", ModelSettings(64, (33,), 5), 16, 40, 0.3, binarize="none"),
    Case("dense floats", ModelSettings(70, (48, 17), 7), 24, 50, 1.0, binarize="none", floats=True),
    Case("drawn floats", ModelSettings(50, (31, 16), 16), 20, 50, 0.6, floats=True),
    Case("threshold", ModelSettings(100, (50,), 3, "tanh"), 10, 35, 0.4, binarize="threshold"),
    Case("odd sizes", ModelSettings(13, (7, 5, 3), 2), 9, 31, 0.5),
    Case("batch of one", ModelSettings(20, (18, 11), 4), 1, 5, 0.5),
    Case("no hidden layer", ModelSettings(30, (), 3), 8, 20, 0.4),
    Case("one of everything", ModelSettings(1, (1,), 1), 3, 7, 1.0),
    Case("wide", ModelSettings(40, (330,), 40), 12, 30, 0.3),
    Case("many rows", ModelSettings(300, (21, 10), 3), 150, 320, 0.2),
]
# Grey levels as they are under every other likelihood: the same models and the same data.
CASES = BERNOULLI + [
    replace(case, name=f"{likelihood} {case.name}", model=replace(case.model, likelihood=likelihood), binarize="none")
    for likelihood in LIKELIHOODS[1:]
    for case in BERNOULLI
]
# Counts: the same models where the shape matters to their kernels, by each likelihood.
COUNTED = ("tanh", "odd sizes", "batch of one", "no hidden layer", "one of everything", "wide", "many rows")
ENCODER_INPUTS = {"negative-binomial": "log1p", "poisson": "none", "multinomial": "l2"}
COUNT_CASES = [
    replace(
        case,
        name=f"{'zero-inflated ' if zeros else ''}{likelihood} {case.name}",
        model=replace(case.model, likelihood=likelihood, zero_inflation=zeros, encoder_input=ENCODER_INPUTS[likelihood]),
        binarize="none",
    )
    for likelihood, zeros, names in (
        ("negative-binomial", False, COUNTED),
        ("negative-binomial", True, COUNTED),
        ("poisson", False, COUNTED[:2]),
        ("multinomial", False, COUNTED),
    )
    for case in BERNOULLI
    if case.name in names
]
CASES += COUNT_CASES
# The same with covariates: their number, whether the encoder sees them, and whether rows of counts have sizes of their own.
COVARIATE_CASES = [
    replace(
        case,
        name=f"{name} and {covariates} covariates",
        model=replace(case.model, covariates=covariates, encode_covariates=encoded),
        sized=sized,
    )
    for name, covariates, encoded, sized in (
        ("tanh", 3, False, False),
        ("odd sizes", 16, True, False),
        ("many rows", 2, True, False),
        ("gaussian dense floats", 33, True, False),
        ("gaussian no hidden layer", 1, True, False),
        ("continuous-bernoulli threshold", 14, False, False),
        ("negative-binomial tanh", 11, True, True),
        ("negative-binomial odd sizes", 3, False, True),
        ("zero-inflated negative-binomial many rows", 2, True, True),
        ("poisson odd sizes", 4, True, True),
        ("multinomial no hidden layer", 30, True, False),
        ("multinomial batch of one", 1, False, False),
    )
    for case in CASES
    if case.name == name
]
CASES += COVARIATE_CASES
# Tables in blocks: the shapes of `BERNOULLI` with values missing and with heavy tails, and columns of several kinds.
KINDS = {
    "all kinds": (
        ("gaussian", 3), ("student-t", 2), ("negative-binomial", 2), ("bernoulli", 3), ("categorical", 4), ("categorical", 2),
    ),
    "wide kinds": (
        ("gaussian", 17), ("student-t", 19), ("negative-binomial", 18), ("bernoulli", 16), ("categorical", 37),
        ("categorical", 3),
    ),
    "real and categories": (("gaussian", 33), ("categorical", 1), ("categorical", 20)),
    "heavy and counts": (("student-t", 16), ("negative-binomial", 1)),
}  # fmt: skip
HOLED = {
    "bernoulli": (("tanh", "dynamic"), ("odd sizes", "none"), ("many rows", "threshold")),
    "gaussian": (
        ("tanh", "none"),
        ("odd sizes", "none"),
        ("batch of one", "none"),
        ("no hidden layer", "none"),
        ("wide", "none"),
    ),
    "continuous-bernoulli": (("odd sizes", "none"), ("tanh", "none")),
    "student-t": (("odd sizes", "none"), ("tanh", "none"), ("many rows", "none"), ("one of everything", "none")),
}
BLOCK_CASES = [
    replace(
        case,
        name=f"{likelihood} {case.name} with holes",
        binarize=binarize,
        floats=True,
        missing=0.4,
        model=replace(case.model, likelihood=likelihood, missing=True, missing_indicator=case.name != "odd sizes"),
    )
    for likelihood, shapes in HOLED.items()
    for case in BERNOULLI
    for name, binarize in shapes
    if case.name == name
] + [
    Case(
        f"{name}{' with holes' if missing else ''}",
        batch_size=batch_size,
        examples=examples,
        density=0.6,
        binarize="none",
        floats=True,
        missing=0.3,
        model=ModelSettings(
            sum(width for _, width in KINDS[name]),
            hidden,
            4,
            activation,
            "mixed",
            columns=KINDS[name],
            missing=missing,
            missing_indicator=missing and name != "all kinds",
            covariates=covariates,
            encode_covariates=covariates > 2,
        ),
    )
    for name, missing, hidden, activation, covariates, batch_size, examples in (
        ("all kinds", True, (24, 17), "tanh", 0, 12, 40),
        ("all kinds", False, (9,), "relu", 3, 7, 30),
        ("wide kinds", True, (33, 20), "relu", 0, 40, 90),
        ("wide kinds", False, (16,), "tanh", 0, 32, 64),
        ("real and categories", True, (20,), "tanh", 2, 16, 50),
        ("heavy and counts", False, (), "relu", 0, 5, 20),
        ("heavy and counts", True, (18,), "tanh", 0, 1, 6),
    )
]
BLOCK_CASES += [
    replace(case, name=f"{name} student-t", model=replace(case.model, likelihood="student-t"), binarize="none", floats=True)
    for case in BERNOULLI
    for name in ("odd sizes", "tanh")
    if case.name == name
]
CASES += BLOCK_CASES
# Products of rounded factors: every shape, likelihood and kind of column once. They are not among CASES, whose tolerances
# are those of float32.
BF16_CASES = [
    replace(case, name=f"bf16 {case.name}", precision="bf16")
    for case in CASES
    if case in BERNOULLI
    or case.name.endswith(("gaussian tanh", "gaussian no hidden layer", "continuous-bernoulli odd sizes"))
    or case.name.endswith(("negative-binomial many rows", "multinomial wide", "poisson tanh"))
    or case in COVARIATE_CASES[1::3]
    or case in BLOCK_CASES[::3]
]

# Objectives, and models whose shape or likelihood matters to their kernels: layers of odd sizes, what is learned of each
# column by every likelihood that learns it, counts, tables in blocks, covariates.
OBJECTIVES = [
    ObjectiveSettings(samples=3),
    ObjectiveSettings("elbo", 2, "sampled"),
    ObjectiveSettings("beta", 2, beta=0.3),
    ObjectiveSettings("free-bits", 2, free_nats=0.02),
    ObjectiveSettings("iwae", 4),
    ObjectiveSettings("iwae", 1),
    ObjectiveSettings("dreg", 3),
]
OBJECTIVE_NAMES = [
    "tanh", "odd sizes", "dense floats", "batch of one", "no hidden layer", "many rows", "gaussian tanh", "gaussian odd sizes",
    "continuous-bernoulli odd sizes", "zero-inflated negative-binomial odd sizes", "many rows and 2 covariates",
    "negative-binomial tanh and 11 covariates", "gaussian odd sizes with holes", "student-t odd sizes with holes",
    "all kinds with holes", "wide kinds", "multinomial tanh",
]  # fmt: skip
OBJECTIVE_CASES = [case for case in CASES if case.name in OBJECTIVE_NAMES]

# What the Numba engine takes of both lists. It compiles its kernels once more for each likelihood beside each precision and
# each kind of objective, and most of these meet nowhere in its sources. The Cython engine, which compiles nothing in a test,
# takes all.


def _under(likelihood: str, case: Case) -> bool:
    """Whether its kernels are those of pictures under this likelihood."""
    return case.model.likelihood == likelihood and not case.model.in_blocks


# Products of bfloat16 know no more of a likelihood than the type of its plan, and whether rows are pixels or counts.
BF16_IN_NUMBA = [case for case in BF16_CASES if _under("bernoulli", case) or case.model.zero_inflation or case.model.in_blocks]


def numba_compiles(case: Case, objective: ObjectiveSettings) -> bool:
    """Whether the Numba engine tries an objective on a case.

    An average of several samples has the type of the bound of one. Free bits meet no likelihood. Weights of samples come to
    outputs, and to what is learned of a column: of a Gaussian one, of counts, of a table in blocks.
    """
    if objective.name == "free-bits":
        return _under("bernoulli", case)
    if objective.importance_weighted or objective.kl == "sampled":
        pictures = _under("bernoulli", case) or _under("gaussian", case)
        return pictures or case.model.zero_inflation or case.model.in_blocks
    return True


# float32 has a unit round-off of 6e-8. Sums of K terms, each rounded once, wander by about sqrt(K) of it, and by K at worst.
TOLERANCES = {
    # Terms of one example, about 500 nats at initialisation, over 784 pixels: 500 * 6e-8 * sqrt(784) = 8e-4.
    "example_nats": 2e-3,
    # The mean over a minibatch of 20 steps of training: what the contract promises.
    "loss_nats": 1e-3,
    # A gradient element of a float32 engine, relative to the largest element of its tensor: sums of up to 784 * 40 products.
    "gradient": 2e-5,
    # The same with all hidden units of a ReLU clear of zero, against central differences in float64: see `test_gradients`.
    "finite_difference": 1e-7,
    # Weights after 20 steps of 1e-3, where Adam turns a sign into a whole step: only a stray element may differ by a step.
    "parameters": 2e-2,
    # Encoded and decoded values of order 1.
    "activations": 2e-5,
}
