"""What the commands share: exit codes, one-line errors, and standard streams that may be closed."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
import traceback
from collections.abc import Callable
from typing import Protocol, TypeVar

from vaefast.cli.mpi_job import Job
from vaefast.cli.mpi_launcher import launched
from vaefast.errors import OutputError, SettingsError, VaefastError
from vaefast.runs.interruption import EXIT_CODES, Interrupted, Interruption


class HasDebug(Protocol):
    """Options of a command that has --debug."""

    @property
    def debug(self) -> bool:
        """Whether to show the traceback of an error."""


Parsed = TypeVar("Parsed", bound=HasDebug)
# What helps a training where memory ends.
SMALLER = "a smaller --hidden, --latent or --batch-size"


class Main(Protocol):
    """A command. It takes its arguments, by default those of this process, and returns its exit code."""

    def __call__(self, arguments: list[str] | None = None) -> int: ...


def main_of(parse: Callable[[list[str]], Parsed], run: Callable[[Parsed, Interruption], None], smaller: str = SMALLER) -> Main:
    """A command for a single process, made of its parser and its function. `smaller` is what helps where memory ends."""

    def main(arguments: list[str] | None = None) -> int:
        return command(parse, run, arguments, smaller=smaller)

    return main


def command(
    parse: Callable[[list[str]], Parsed],
    run: Callable[[Parsed, Interruption], None],
    arguments: list[str] | None,
    job: Job | None = None,
    smaller: str = SMALLER,
) -> int:
    """Parse the arguments, by default those of this process, run the command, and return the exit code: 0 done, 1 internal
    error, 2 settings, 3 data, 4 checkpoint, 5 diverged, 6 output, 129 SIGHUP, 130 SIGINT, 143 SIGTERM.

    A command without a job is for a single process. It ends with code 2 if a launcher has started several.
    """
    if job is None:
        job, run = Job(), _alone(run)
    return job.end(_attempt(parse, run, sys.argv[1:] if arguments is None else arguments, job, smaller))


def _alone(run: Callable[[Parsed, Interruption], None]) -> Callable[[Parsed, Interruption], None]:
    """The same, but refused for several processes, which would do the same work and write the same files."""

    def run_alone(options: Parsed, interruption: Interruption) -> None:
        processes = launched()[1]
        if processes > 1:
            raise SettingsError(f"this command runs as one process, but {processes} were started: start it without mpiexec")
        run(options, interruption)

    return run_alone


def _attempt(
    parse: Callable[[list[str]], Parsed],
    run: Callable[[Parsed, Interruption], None],
    arguments: list[str],
    job: Job,
    smaller: str,
) -> int:
    debug = "--debug" in arguments
    interruption = Interruption()
    job.listen(interruption)
    try:
        options = parse(arguments)
        debug = debug or options.debug
        run(options, interruption)
    except Interrupted as interrupted:
        complain(f"stopped by {interrupted.signal.name}; {interrupted.remedy}", job)
        return EXIT_CODES[interrupted.signal]
    except VaefastError as error:
        _report(error, str(error), debug, job)
        return error.exit_code
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _report(error, f"{place}{error.strerror or error}", debug, job)
        return OutputError.exit_code
    except MemoryError as error:
        _report(error, f"out of memory: choose {smaller}", debug, job)
        return SettingsError.exit_code
    except Exception as error:
        message = f"internal error, {type(error).__name__}: {error} (--debug shows where; please report it)"
        _report(error, message, debug, job)
        return VaefastError.exit_code
    return 0


def refuse(error: VaefastError) -> int:
    """Report a wrong command line before any command has begun; return the exit code."""
    complain(str(error), Job())
    return error.exit_code


def exit_with(main: Callable[[], int]) -> None:
    """End this process with the exit code of a command."""
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name may hold characters that the terminal's encoding lacks. stderr escapes them by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())


def complain(message: str, job: Job | None = None) -> None:
    """Print one line on stderr, with its rank in a job."""
    if sys.stderr is not None and (job is None or job.speaks):
        place = "" if job is None else job.place
        with contextlib.suppress(OSError):
            print("vaefast: " + place + " ".join(message.split()), file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a line on stdout. If its reader has gone (`| head`, a closed terminal), the run continues without it."""
    try:
        print(text, flush=True)
    except OSError as error:
        gone = isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)
        if gone or (error.errno == errno.EIO and _is_device(sys.stdout.fileno())):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        raise OutputError(f"cannot write to stdout: {error.strerror or error}; redirect it elsewhere") from error


def _is_device(descriptor: int) -> bool:
    """Whether this is a character device. A terminal that has closed is still one, but `isatty` denies it."""
    return stat.S_ISCHR(os.fstat(descriptor).st_mode)


def _report(error: BaseException, message: str, debug: bool, job: Job) -> None:
    if debug and job.speaks:
        traceback.print_exception(error)
    complain(message, job)


def _open_standard_streams() -> None:
    """Open closed streams (`>&-`). Otherwise the next opened file would get the number, and so the output of libraries."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
