"""The errors of vaefast. The message of each is one line that says what, where and how to fix it."""


class VaefastError(Exception):
    """An error that the user can fix. `exit_code` is the exit code of the command line."""

    exit_code = 1


class SettingsError(VaefastError, ValueError):
    """A setting, a flag or a configuration file is not usable as it stands."""

    exit_code = 2


class DataError(VaefastError, ValueError):
    """Data are missing, corrupt, out of range or out of reach."""

    exit_code = 3


class CheckpointError(VaefastError, ValueError):
    """A run cannot be resumed: no checkpoint is intact, or the run in the folder has other settings."""

    exit_code = 4


class DivergenceError(VaefastError, ArithmeticError):
    """Training produced a number that is not finite."""

    exit_code = 5


class OutputError(VaefastError, OSError):
    """A file or a folder cannot be written."""

    exit_code = 6


class EngineUnavailable(SettingsError):
    """An engine chosen by name cannot run here. The message gives the reason and the remedy."""


class DataWarning(UserWarning):
    """A warning about the data or the model. Training goes on."""
