"""The flags of `vaefast train`, in the order of its --help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

from vaefast.cli.parser import SEVERAL, Parser, add_help, add_threads, command_parser
from vaefast.models.columns import KINDS
from vaefast.models.defaults import DROPPED_OF_COUNTS, EPSILON_OF_RATES, WIDE_COUNTS, WIDEST_AT_FULL_RATE
from vaefast.models.settings import (
    ACTIVATIONS,
    AUTO,
    BINARIZATIONS,
    COUNT_LIKELIHOODS,
    ENCODER_INPUTS,
    IMPORTANCE_SAMPLES,
    INITIALIZATIONS,
    KL_ESTIMATORS,
    LIKELIHOODS,
    OBJECTIVES,
    PRECISIONS,
    RATE_SCHEDULES,
    TABLE_LIKELIHOODS,
    WARM_UPS,
    ModelSettings,
    TrainingSettings,
)

SCALINGS = (AUTO, "standard", "minmax", "grey", "none")
# `add_argument` of a group of flags.
Add: TypeAlias = Callable[..., Any]


def build_parser() -> Parser:
    """The parser of all flags. A flag that is not given is absent from the result."""
    parser = command_parser(
        "train",
        "[--data WHAT] [--epochs N] [--out FOLDER]",
        "Train a variational auto-encoder. Its model, metrics, checkpoints and figures go to a run folder.",
        epilog="Exit codes: 0 done, 1 internal error, 2 usage or settings, 3 data, 4 checkpoint, 5 diverged, 6 input or "
        "output, 129, 130 and 143 after SIGHUP, SIGINT and SIGTERM.",
        argument_default=argparse.SUPPRESS,
    )
    for title, add_flags in (
        ("data", _add_data),
        ("model", _add_model),
        ("training", _add_training),
        ("objective", _add_objective),
        ("optimiser", _add_optimiser),
        ("run", _add_run),
        ("engine", _add_engine),
    ):
        add_flags(parser.add_argument_group(title).add_argument)
    add_help(parser)
    return parser


def _add_data(add: Add) -> None:
    """Where examples come from, and what their values become."""
    training = TrainingSettings()
    add("--data", metavar="WHAT", help="mnist, digits (8x8 pixels, always available), or the path of your own file or folder "
        "(default: mnist, or digits if MNIST cannot be found or downloaded)")  # fmt: skip
    add("--data-dir", metavar="FOLDER", help="folder with the four MNIST files (default: $VAEFAST_DATA_DIR; without "
        "it the cache, into which they are downloaded)")  # fmt: skip
    add("--scaling", choices=SCALINGS, help="how the columns of a table are scaled: standard (mean 0, standard deviation 1), "
        "minmax (to [0, 1]), none; grey reads the values as grey levels of pictures. ELBO and log p(x) always refer to the "
        "numbers as given (default: auto, which is grey for pictures; for tables it is standard without outliers for the "
        "likelihoods gaussian and student-t and for the real columns of mixed, else none)")  # fmt: skip
    add("--label", metavar="COLUMN", help="column of a table that holds labels, by name or by number from 1: used in figures, "
        "never trained on")  # fmt: skip
    add("--layer", metavar="NAME", help="for an .h5ad file: the layer to train on instead of X, or raw")
    add("--covariates", metavar="COLUMN", **SEVERAL, help="columns of a table, by name or by number from 1, or of obs of an "
        ".h5ad file, that the decoder is told of each row beside the latents, such as the batch of a cell: text becomes one "
        "column for each of its values, numbers are standardised. They are not trained on")  # fmt: skip
    add("--size-factors", metavar="COLUMN", help="for counts: such a column of numbers above 0 to which the rates of each row "
        "are proportional, instead of its total; it is not trained on")  # fmt: skip
    add("--missing", metavar="TOKEN", **SEVERAL, help="what a cell of a table says where its value is missing, beside an "
        "empty cell, NA, NaN, null and others of their kind: words, or numbers such as -999")  # fmt: skip
    add("--column-types", metavar="NAME=KIND", **SEVERAL, help="kinds of columns of a table, by name or by number from 1, "
        f"where their values do not say it: {', '.join(KINDS)}. The likelihood is then mixed")  # fmt: skip
    add("--all-columns", action="store_true", help="also train on columns that look like labels")
    add("--color", action="store_true", help="keep the colour channels of pictures (default: convert pictures to grey)")
    add("--test-fraction", metavar="F", type=float, help="share of the rows to hold out as the test set if the data have "
        "none; it is the same rows each time. 0 trains on all rows of a table, as vaefast.VAE does, and reports no test ELBO "
        "(default: 0.1)")  # fmt: skip
    add("--binarize", choices=BINARIZATIONS, help="what happens to grey pixels in training: dynamic draws them as 0 or 1 each "
        "time an image is seen, threshold makes them 1 from 0.5 on and 0 below, none keeps them "
        f"(default: {training.binarize}; none for likelihoods other than bernoulli)")  # fmt: skip


def _add_model(add: Add) -> None:
    """The two networks."""
    model, training = ModelSettings(), TrainingSettings()
    add("--latent", metavar="Z", type=int, help=f"number of latents (default: {model.latent})")
    add("--hidden", metavar="H", type=int, nargs="*", help="sizes of the encoder's hidden layers; the decoder mirrors them "
        f"(default: {' '.join(map(str, model.hidden))})")  # fmt: skip
    add("--likelihood", choices=(AUTO, *LIKELIHOODS, *TABLE_LIKELIHOODS, *COUNT_LIKELIHOODS), help="p(x | z): bernoulli for "
        "pixels or columns of 0 and 1; gaussian for any numbers, with a learned variance for each pixel or column; student-t "
        "for the same with heavy tails; continuous-bernoulli for numbers from 0 to 1; for whole counts negative-binomial, "
        "with a learned dispersion for each column, poisson, or multinomial, which models only their shares; mixed for tables "
        "whose columns are of different kinds, such as text, true and false, counts and measurements, each with its own "
        "p(x | z) (default: auto, which is bernoulli for pictures and for tables of 0 and 1, negative-binomial for whole "
        "numbers most of which are 0, mixed for columns of different kinds, gaussian for other tables)")  # fmt: skip
    add("--zero-inflation", action="store_true", help="for negative-binomial: the decoder also gives the probability that a "
        "count is 0 for another reason")  # fmt: skip
    add("--encoder-input", choices=(AUTO, *ENCODER_INPUTS), help="how counts x enter the encoder: log1p, as log(1 + x); l2, "
        "as x over the Euclidean norm of the row; none, as x (default: auto, which is l2 for multinomial and log1p for the "
        "other counts)")  # fmt: skip
    add("--encode-covariates", action="store_true", help="the encoder, too, sees the --covariates")
    add("--missing-indicator", action="store_true", help="the encoder also sees which values of a row are missing")
    add("--input-dropout", metavar="P", type=_number_or_auto, help="for counts: probability that the encoder misses an entry "
        f"of a row in a step of training (default: auto, which is {DROPPED_OF_COUNTS:g} for {WIDE_COUNTS} columns or more, "
        "else 0)")  # fmt: skip
    add("--activation", choices=ACTIVATIONS, help=f"activation function of the hidden layers (default: {model.activation})")
    add("--init", choices=INITIALIZATIONS, help=f"initialisation of the weights (default: {training.initialization})")


def _add_training(add: Add) -> None:
    """The length of training, early stopping, and the seed."""
    training = TrainingSettings()
    validation = training.validation
    suits = "auto, which depends on the number of training examples"
    add("--epochs", metavar="N", type=_whole_or_auto, help=f"passes over the training set (default: {suits}; "
        f"{training.epochs} for MNIST)")  # fmt: skip
    add("--batch-size", metavar="B", type=_whole_or_auto, help=f"examples in a minibatch (default: {suits}; "
        f"{training.batch_size} for MNIST)")  # fmt: skip
    add("--seed", metavar="S", type=int, help="seed of all random numbers; the same seed gives the same model "
        f"(default: {training.seed})")  # fmt: skip
    add("--validation", metavar="N", type=float, help="number or share of the training examples to hold out for "
        f"validation; their ELBO is reported after each epoch (default: {validation.held_out:g})")  # fmt: skip
    add("--patience", metavar="P", type=int, help="stop when the validation ELBO has not risen for this many epochs, and keep "
        "the model of the best epoch (default: do not stop early)")  # fmt: skip
    add("--min-improvement", metavar="D", type=float, help="for --patience: smallest rise of the ELBO that counts, in nats "
        f"(default: {validation.min_improvement:g})")  # fmt: skip


def _add_objective(add: Add) -> None:
    """What is maximised."""
    objective = TrainingSettings().objective
    add("--objective", choices=OBJECTIVES, help="what training maximises: elbo, the evidence lower bound; beta, the ELBO with "
        "a weight on the KL divergence; free-bits, the ELBO with some nats of each latent free of cost; iwae, the "
        "importance-weighted bound; dreg, the same bound with the doubly reparameterised gradient "
        f"(default: {objective.name})")  # fmt: skip
    add("--samples", metavar="K", type=int, help="samples of the latents per example and step "
        f"(default: {objective.samples}; {IMPORTANCE_SAMPLES} for iwae and dreg)")  # fmt: skip
    add("--beta", metavar="B", type=float, help=f"for beta: weight of the KL divergence (default: {objective.beta:g})")
    add("--kl-warm-up", choices=WARM_UPS, help="for beta: raise the weight from 0, once (linear) or repeatedly (cyclic) "
        f"(default: {objective.warm_up})")  # fmt: skip
    add("--warm-up-epochs", metavar="N", type=int, help="for beta: epochs of the linear warm-up, or of one cycle "
        f"(default: {objective.warm_up_epochs})")  # fmt: skip
    add("--free-nats", metavar="N", type=float, help="for free-bits: nats of each latent that are free of cost "
        f"(default: {objective.free_nats:g})")  # fmt: skip
    add("--kl", choices=KL_ESTIMATORS, help="for elbo: the KL divergence in closed form, or estimated from the samples "
        f"(default: {objective.kl})")  # fmt: skip


def _add_optimiser(add: Add) -> None:
    """Adam, and its step size over the epochs."""
    training = TrainingSettings()
    adam, schedule = training.adam, training.rate_schedule
    add("--learning-rate", metavar="R", type=_number_or_auto, help="Adam's step size (default: auto, which is "
        f"{adam.learning_rate:g}, and less for examples of more than {WIDEST_AT_FULL_RATE} values)")  # fmt: skip
    add("--learning-rate-schedule", choices=RATE_SCHEDULES, help="how the learning rate changes: constant; steps, at the "
        "epochs of --learning-rate-steps; cosine, along half a cosine over all epochs; staged, as in Burda et al. (2015), "
        f"times 10^(-i/7) for 3^i epochs, i = 0, 1, ... (default: {schedule.name})")  # fmt: skip
    add("--learning-rate-steps", metavar="EPOCH:FACTOR", nargs="*", help="for steps: 20:0.1 30:0.01 means 0.1 times the "
        "initial rate after 20 epochs, and 0.01 times the initial rate after 30")  # fmt: skip
    add("--final-learning-rate", metavar="R", type=float, help="for cosine: learning rate at the end "
        f"(default: {schedule.final:g})")  # fmt: skip
    add("--clip-norm", metavar="C", type=float, help="scale the gradient of all parameters together down to this norm if it "
        "is longer (default: no clipping)")  # fmt: skip
    add("--beta1", metavar="B1", type=float, help=f"decay rate of Adam's first moments (default: {adam.beta1})")
    add("--beta2", metavar="B2", type=float, help=f"decay rate of Adam's second moments (default: {adam.beta2})")
    add("--epsilon", metavar="E", type=_number_or_auto, help="added to the square root of Adam's second moments (default: "
        f"auto, which is {EPSILON_OF_RATES:g} for negative-binomial and poisson unless the encoder's input is l2, else "
        f"{adam.epsilon})")  # fmt: skip
    add("--initial-second-moments", metavar="V", type=float, help="Adam's second moments before the first step; a value "
        f"above 0 makes the first steps smaller (default: {training.second_moments:g})")  # fmt: skip


def _add_run(add: Add) -> None:
    """What a run writes, and what it continues from."""
    add("--out", metavar="FOLDER", help="run folder, new or empty (default: runs/<data>-<date>-<time>)")
    add("--config", metavar="FILE", help="TOML file of settings, named like these flags; a flag overrides the file")
    add("--resume", metavar="PATH", help="continue the run in this folder from its newest intact checkpoint, to the same "
        "result as without the stop; auto continues the run in --out, or the newest one in runs/, or starts a new "
        "one")  # fmt: skip
    add("--checkpoint-every", metavar="WHEN", help="when to write a checkpoint: 5 is every 5 epochs, 10m every 10 minutes; "
        "never is only at the start, at the end, and after a signal (default: auto, which is twice a minute, or "
        "less often if that takes more than 1/200 of the time)")  # fmt: skip
    add("--start-from", metavar="FILE", help="start with the weights of this model.safetensors or run folder, which must have "
        "the same model settings; Adam starts anew")  # fmt: skip
    add("--tensorboard", action="store_true", help="also write TensorBoard event files (needs the extra tensorboard)")


def _add_engine(add: Add) -> None:
    """What computes."""
    training = TrainingSettings()
    add("--engine", metavar="NAME", help="cython, numba, cuda (one GPU) or reference (plain NumPy, slow) (default: auto, the "
        "fastest CPU engine that works here)")  # fmt: skip
    add_threads(add)
    add("--precision", choices=PRECISIONS, help="precision of the factors in matrix products; tf32 is for the tensor cores of "
        "engine cuda; bf16, bfloat16 in all layers but the first, is for CPUs, and fast on those with AVX512-BF16 "
        f"(default: {training.precision})")  # fmt: skip
    add("--distributed", choices=("auto", "mpi"), help="train on all ranks of an MPI job; auto does so if mpiexec has started "
        "several (default: auto; needs the extra mpi)")  # fmt: skip
    add("--deterministic-reduction", action="store_true", help="add the gradients in the order of the ranks, so that the same "
        "number of ranks gives the same bits with any MPI library")  # fmt: skip


def _whole_or_auto(text: str) -> int | str:
    try:
        return text if text == AUTO else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor {AUTO}") from error


def _number_or_auto(text: str) -> float | str:
    try:
        return text if text == AUTO else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {AUTO}") from error
