"""Which run `--resume` means, where it stands, and whether it is the run that the flags and the data describe."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vaefast.errors import CheckpointError, SettingsError
from vaefast.inputs.source import SPLIT
from vaefast.models.setting_names import ADAM, MODEL, OBJECTIVE, SCHEDULE, TRAINING, VALIDATION
from vaefast.models.settings import ADDED, AUTO, TrainingSettings
from vaefast.runs.checkpoint import Checkpoint, CheckpointFolder
from vaefast.runs.run_folder import BARELY_BEGUN, RunFolder, is_barely_begun, newest_run

RUNS = Path("runs")

# What runs of earlier versions were trained without.
NEWER = ("rate_schedule", "validation", "second_moments", "clip_norm", "input_dropout")
# The one that may change: a run can be made longer.
FREE = "epochs"
# The schedule that depends on it.
OVER_ALL_EPOCHS = "cosine"
# On which the last bits of a result depend.
SOFTWARE = ("vaefast", "numpy", "numba", "llvmlite", "cpu", "ranks", "reduction")
# Of a run in one process.
ALONE = {"ranks": 1, "reduction": "none"}


@dataclass(frozen=True)
class Resumed:
    """A run that goes on: its folder, which is locked, and the newest checkpoint that verifies."""

    folder: RunFolder
    number: int
    checkpoint: Checkpoint
    damages: list[str]  # of newer checkpoints

    @property
    def values(self) -> dict[str, Any]:
        """What the run was started with, by the names of the flags.

        Raises
        ------
        CheckpointError
            The checkpoint does not say.
        """
        run = self.checkpoint.run
        try:
            model, training, source = run["settings"]["model"], _completed(run["settings"]["training"]), run["source"]
            values = {flag: {**ADDED, **model}[name] for flag, name in MODEL.items()}
            values |= {flag: training[name] for flag, name in TRAINING.items()}
            values |= {flag: training["adam"][name] for flag, name in ADAM.items()}
            values |= {flag: training["objective"][name] for flag, name in OBJECTIVE.items()}
            values |= {flag: training["rate_schedule"][name] for flag, name in SCHEDULE.items()}
            values |= {flag: training["validation"][name] for flag, name in VALIDATION.items()}
            values |= {flag: source[flag] for flag in ("data", "data_dir", *SPLIT) if source.get(flag) is not None}
            values["engine"] = run["environment"]["engine"]
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"checkpoint {self.number} of {self.folder.path} lacks its settings") from error
        if not isinstance(values["hidden"], list) or not _are_plain(source):
            raise CheckpointError(f"checkpoint {self.number} of {self.folder.path} has settings of other types")
        return values

    def check(self, given: Mapping[str, Any], engine: str, pixels: int, data_sha256: str) -> None:
        """Refuse to go on with another model, seed, optimiser, engine or data than the run was started with.

        Parameters
        ----------
        given
            The settings that the user gave this time, by the names of the flags.
        engine, pixels, data_sha256
            What they come to here.

        Raises
        ------
        CheckpointError
            Something differs; the message lists all of it.
        """
        values, run = self.values, self.checkpoint.run
        names = [*MODEL, *TRAINING, *ADAM, *OBJECTIVE, *SCHEDULE, *VALIDATION]
        if values["learning_rate_schedule"] != OVER_ALL_EPOCHS:
            names.remove(FREE)
        then: dict[str, Any] = {name: values[name] for name in names}
        then |= {name: run["source"].get(name, usual) for name, usual in SPLIT.items()}
        now = {name: given.get(name, value) for name, value in then.items()}
        if now["likelihood"] == AUTO:  # the data are the same, and so is what they decide
            now["likelihood"] = then["likelihood"]
        if now["encoder_input"] == AUTO:
            now["encoder_input"] = then["encoder_input"]
        now["hidden"] = list(now["hidden"])
        then |= {"engine": values["engine"], "pixels": run["settings"]["model"].get("pixels")}
        then["data"] = f"SHA-256 {str(run['environment'].get('data_sha256'))[:12]}"
        now |= {"engine": engine, "pixels": pixels, "data": f"SHA-256 {data_sha256[:12]}"}
        differences = [f"{name} was {_shown(then[name])}, is {_shown(now[name])}" for name in then if then[name] != now[name]]
        if differences:
            raise CheckpointError(
                f"{self.folder.path} is another run: {'; '.join(differences)}: resume it as it was started, "
                "or start another run in another --out"
            )

    def changed_software(self, environment: Mapping[str, Any]) -> list[str]:
        """What differs here from where the checkpoint was written, of all that the last bits depend on."""
        then, now = _software(self.checkpoint.run["environment"]), _software(environment)
        return [f"{name} was {then[name]}, is {now[name]}" for name in SOFTWARE if then[name] != now[name]]


def find(text: str, out: Path | None) -> Resumed | None:
    """The run that `--resume` means, with its folder locked; None where `auto` finds none and a new one is to be started.

    Raises
    ------
    CheckpointError
        There is no such folder, or none of its checkpoints verifies.
    SettingsError
        Another run is using the folder, or `--out` names another one.
    """
    path = _located(text, out)
    if path is None:
        return None
    folder = RunFolder(path, existing=True)
    try:
        return Resumed(folder, *folder.checkpoints.newest())
    except BaseException:
        folder.close()
        raise


def _located(text: str, out: Path | None) -> Path | None:
    if text == AUTO:
        if out is None:
            return newest_run(RUNS)
        return out if CheckpointFolder(out / "checkpoint").numbers() else None
    path = Path(os.path.expanduser(text))
    if path.name == "checkpoint" and not (path / "checkpoint").exists():
        path = path.parent
    # Asked before anything is made in it: the folder may be anyone's.
    if not CheckpointFolder(path / "checkpoint").numbers():
        missing = "is no folder" if path.exists() else "does not exist"
        what = "holds no complete checkpoint" if path.is_dir() else missing
        if path.is_dir() and any(path.iterdir()) and is_barely_begun(path):
            raise CheckpointError(f"{path} {BARELY_BEGUN.format(path)}")
        raise CheckpointError(f"{path} {what}: give --resume the folder of a run, or {AUTO}")
    if out is not None and os.path.realpath(out) != os.path.realpath(path):
        raise SettingsError(f"--resume continues the run in its own folder, {path}, and --out is {out}: leave out --out")
    return path


def _completed(training: Mapping[str, Any]) -> dict[str, Any]:
    """Training settings as a checkpoint holds them, with the defaults of what there was not yet when it was written."""
    defaults = json.loads(json.dumps(asdict(TrainingSettings())))
    return {**{name: defaults[name] for name in NEWER}, **training}


def _are_plain(source: Mapping[str, Any]) -> bool:
    """Whether a record of where data are holds text, but for what has another type where nobody says it."""
    types: dict[str, Any] = {name: type(usual) for name, usual in SPLIT.items() if usual is not None}
    types["test_fraction"] = (float, int)  # as a TOML file may have given it
    return all(isinstance(value, types.get(name, str)) for name, value in source.items() if value is not None)


def _software(environment: Mapping[str, Any]) -> dict[str, Any]:
    packages = environment.get("packages")
    known = {**ALONE, **(packages if isinstance(packages, dict) else {}), **environment}
    return {name: known.get(name) for name in SOFTWARE}


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(":".join(map(str, part)) if isinstance(part, list) else str(part) for part in value)
    return str(value)[:80]
