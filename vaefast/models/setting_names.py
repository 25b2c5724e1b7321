"""The name of each flag of the command line among the settings of a run."""

from __future__ import annotations

# The place of a setting in settings.json, by the name of its flag. A change of any of these makes another run.
MODEL = {
    name: name
    for name in (
        "hidden",
        "latent",
        "activation",
        "likelihood",
        "zero_inflation",
        "encoder_input",
        "encode_covariates",
        "missing_indicator",
    )
}
TRAINING = {"init": "initialization", "initial_second_moments": "second_moments"} | {
    name: name for name in ("binarize", "batch_size", "seed", "epochs", "clip_norm", "precision", "input_dropout")
}
ADAM = {"learning_rate": "learning_rate", "beta1": "beta1", "beta2": "beta2", "epsilon": "epsilon"}
OBJECTIVE = {
    "objective": "name", "samples": "samples", "kl": "kl", "beta": "beta", "kl_warm_up": "warm_up",
    "warm_up_epochs": "warm_up_epochs", "free_nats": "free_nats",
}  # fmt: skip
SCHEDULE = {"learning_rate_schedule": "name", "learning_rate_steps": "steps", "final_learning_rate": "final"}
VALIDATION = {"validation": "held_out", "patience": "patience", "min_improvement": "min_improvement"}
