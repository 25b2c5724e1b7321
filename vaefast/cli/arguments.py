"""The flags of `vaefast train`, in the order of its --help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

from vaefast.cli.parser import Parser
from vaefast.cli.program import called
from vaefast.models.settings import (
    ACTIVATIONS,
    AUTO,
    BINARIZATIONS,
    IMPORTANCE_SAMPLES,
    INITIALIZATIONS,
    KL_ESTIMATORS,
    LIKELIHOODS,
    OBJECTIVES,
    PRECISIONS,
    RATE_SCHEDULES,
    WARM_UPS,
    AdamSettings,
    ModelSettings,
    ObjectiveSettings,
    RateSchedule,
    TrainingSettings,
    ValidationSettings,
)
from vaefast.version import __version__

# `add_argument` of a parser.
SCALINGS = (AUTO, "standard", "minmax", "grey", "none")

Add: TypeAlias = Callable[..., Any]


def build_parser() -> Parser:
    """The parser of all flags; those that are not given leave nothing behind."""
    parser = Parser(
        prog=called("train"),
        description="Train a variational auto-encoder. Defaults are those of the 2021 report on MNIST.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for add_group in (
        _add_data,
        _add_model,
        _add_objective,
        _add_run,
        _add_learning_rate,
        _add_adam,
        _add_validation,
        _add_numbers,
        _add_folder,
        _add_job,
        _add_help,
    ):
        add_group(parser.add_argument)
    return parser


def _add_data(add: Add) -> None:
    """Where settings and images come from, and what computes."""
    add("--config", metavar="FILE", help="settings as TOML: the same names as the flags; flags win")
    add("--data", metavar="WHAT", help="mnist, digits (8x8, always at hand), or a file or folder of images of your own; "
        "default: mnist, or digits where MNIST is out of reach")  # fmt: skip
    add("--label", metavar="COLUMN", help="name, or number from 1, of a table's column of labels: kept for figures, never "
        "trained on")  # fmt: skip
    add("--all-columns", action="store_true", help="train on columns that look like labels, too")
    add("--color", action="store_true", help="keep the channels of pictures, which otherwise become grey")
    add("--test-fraction", metavar="F", type=float, help="share of the rows that is held out as the test set, where the data "
        "bring none, the same rows each time; 0 trains on all rows of a table, as vaefast.VAE does, and leaves out what the "
        "test set is for (default: 0.1)")  # fmt: skip
    add("--data-dir", metavar="FOLDER", help="where the MNIST files lie (default: $VAEFAST_DATA_DIR, then the cache)")
    add("--engine", metavar="NAME", help="auto, cython, numba, cuda (one GPU) or reference (default: auto, the fastest "
        "for the CPU that works here)")  # fmt: skip


def _add_model(add: Add) -> None:
    """The two networks."""
    model = ModelSettings()
    add("--hidden", metavar="H", type=int, nargs="*", help="sizes of the encoder's hidden layers, mirrored by the decoder "
        f"(default: {' '.join(map(str, model.hidden))})")  # fmt: skip
    add("--latent", metavar="Z", type=int, help=f"number of latents (default: {model.latent})")
    add("--activation", choices=ACTIVATIONS, help=f"after every hidden layer (default: {model.activation})")
    add("--likelihood", choices=(AUTO, *LIKELIHOODS), help="p(x | z): of pixels or columns that are 0 or 1; of any numbers, "
        "with a learned variance each; or of numbers in [0, 1] (default: auto, which is bernoulli for pictures and for tables "
        "of 0 and 1, and gaussian for other tables)")  # fmt: skip
    add("--scaling", choices=SCALINGS, help="of the columns of a table: to mean 0 and standard deviation 1, to [0, 1], or "
        "not at all; bounds stay those of the numbers as given. grey takes the data as pictures (default: auto, which is grey "
        "for pictures; for tables it is standard, stray values left out, for a gaussian likelihood, else none)")  # fmt: skip


def _add_objective(add: Add) -> None:
    """What is maximised."""
    objective = ObjectiveSettings()
    add("--objective", choices=OBJECTIVES, help="what is maximised: the evidence lower bound; the same with a weight on the "
        "KL divergence (beta) or a floor under it (free-bits); the importance-weighted bound (iwae), or that with the doubly "
        f"reparameterised gradient (dreg) (default: {objective.name})")  # fmt: skip
    add("--samples", metavar="K", type=int, help="samples of the latents an image and step "
        f"(default: {objective.samples}; {IMPORTANCE_SAMPLES} for iwae and dreg)")  # fmt: skip
    add("--kl", choices=KL_ESTIMATORS, help="for elbo: the KL divergence in closed form or from the samples "
        f"(default: {objective.kl})")  # fmt: skip
    add("--beta", metavar="B", type=float, help=f"for beta: weight of the KL divergence (default: {objective.beta:g})")
    add("--kl-warm-up", choices=WARM_UPS, help="for beta: raise the weight from 0, once or again and again "
        f"(default: {objective.warm_up})")  # fmt: skip
    add("--warm-up-epochs", metavar="N", type=int, help="epochs of the linear warm-up, or of one cycle "
        f"(default: {objective.warm_up_epochs})")  # fmt: skip
    add("--free-nats", metavar="N", type=float, help="for free-bits: nats a latent that cost nothing "
        f"(default: {objective.free_nats:g})")  # fmt: skip


def _add_run(add: Add) -> None:
    """Where training starts, what it sees, and for how long."""
    training = TrainingSettings()
    add("--init", choices=INITIALIZATIONS, help=f"initial weights (default: {training.initialization})")
    add("--binarize", choices=BINARIZATIONS, help="what grey pixels become: drawn afresh each time an image is seen, on from "
        f"one half, or left grey (default: {training.binarize}; none where the likelihood is of grey levels)")  # fmt: skip
    add("--batch-size", metavar="B", type=int, help=f"images a minibatch (default: {training.batch_size})")
    add("--epochs", metavar="N", type=int, help=f"passes over the training set (default: {training.epochs})")


def _add_learning_rate(add: Add) -> None:
    """Adam's step size over the epochs."""
    adam, schedule = AdamSettings(), RateSchedule()
    add("--learning-rate", metavar="R", type=float, help=f"Adam's step size (default: {adam.learning_rate}, and less "
        "for images of more than 3000 pixels)")  # fmt: skip
    add("--learning-rate-schedule", choices=RATE_SCHEDULES, help="how it changes over the epochs: not; at some of them; along "
        "half a cosine over all of them; or in the stages of Burda et al., 10^(-i/7) of it for 3^i epochs, i = 0, 1, ... "
        f"(default: {schedule.name})")  # fmt: skip
    add("--learning-rate-steps", metavar="EPOCH:FACTOR", nargs="*", help="for steps: 20:0.1 30:0.01 is 0.1 times the first "
        "rate after 20 epochs and 0.01 times it after 30")  # fmt: skip
    add("--final-learning-rate", metavar="R", type=float, help="for cosine: the rate at the end "
        f"(default: {schedule.final:g})")  # fmt: skip


def _add_adam(add: Add) -> None:
    """The rest of Adam."""
    adam, training = AdamSettings(), TrainingSettings()
    add("--beta1", metavar="B1", type=float, help=f"decay of Adam's first moments (default: {adam.beta1})")
    add("--beta2", metavar="B2", type=float, help=f"decay of Adam's second moments (default: {adam.beta2})")
    add(
        "--epsilon",
        metavar="E",
        type=float,
        help=f"added to the root of Adam's second moments (default: {adam.epsilon})",
    )
    add("--initial-second-moments", metavar="V", type=float, help="Adam's second moments before the first step; above 0 the "
        f"first steps are small (default: {training.second_moments:g})")  # fmt: skip


def _add_validation(add: Add) -> None:
    """Early stopping."""
    validation = ValidationSettings()
    add("--validation", metavar="N", type=float, help="hold out so many training images, or this share of them, and report "
        f"their ELBO (default: {validation.held_out:g})")  # fmt: skip
    add("--patience", metavar="P", type=int, help="stop once the validation ELBO has not risen for so many epochs, and keep "
        "the best epoch's model (default: never)")  # fmt: skip
    add("--min-improvement", metavar="D", type=float, help="nats that count as a rise "
        f"(default: {validation.min_improvement:g})")  # fmt: skip


def _add_numbers(add: Add) -> None:
    """Gradients, random numbers, precision and threads."""
    training = TrainingSettings()
    add("--clip-norm", metavar="C", type=float, help="scale gradients longer than this to it, all parameters together "
        "(default: never)")  # fmt: skip
    add("--seed", metavar="S", type=int, help=f"decides every random number (default: {training.seed})")
    add("--precision", choices=PRECISIONS, help="of the factors in matrix products; tf32 is for engine cuda on tensor cores "
        f"(default: {training.precision})")  # fmt: skip
    add("--threads", metavar="T", type=int, help="default: $VAEFAST_NUM_THREADS, else the cores this process may use; "
        "changes no result")  # fmt: skip


def _add_folder(add: Add) -> None:
    """What a run leaves behind, and what it goes on from."""
    add("--out", metavar="FOLDER", help="the run's folder, new or empty (default: runs/<data>-<date>-<time>)")
    add("--checkpoint-every", metavar="WHEN", help="so many epochs, such as 5, or minutes, such as 10m; auto: twice a minute, "
        "but never for more than 1/200 of the time; never: only before the first step, at the end, and on SIGINT or SIGTERM "
        "(default: auto)")  # fmt: skip
    add("--resume", metavar="PATH", help="continue the run in this folder from its newest checkpoint that verifies, to "
        "the same result as if it had never stopped; auto: the run in --out, the newest in runs/, or a new one")  # fmt: skip
    add("--start-from", metavar="FILE", help="train on from this model.safetensors, or run folder, of the same settings; Adam "
        "starts anew")  # fmt: skip
    add("--tensorboard", action="store_true", help="event files in the run's folder too (needs the extra tensorboard)")


def _add_job(add: Add) -> None:
    """Several processes."""
    add("--distributed", choices=("auto", "mpi"), help="train over the ranks of an MPI job: auto, where mpiexec has started "
        "several (default: auto; needs the extra mpi)")  # fmt: skip
    add("--deterministic-reduction", action="store_true", help="add the ranks' gradients in rank order, whatever the MPI "
        "library: the same number of ranks gives the same bits")  # fmt: skip


def _add_help(add: Add) -> None:
    """For people."""
    add("--debug", action="store_true", help="show the traceback of an error")
    add("--version", action="version", version=f"vaefast {__version__}")
