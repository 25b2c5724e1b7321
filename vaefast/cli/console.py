"""What the commands share: exit codes, errors in one line, and streams that may be closed."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Protocol, TypeVar

from vaefast.cli.mpi_job import Job
from vaefast.cli.mpi_launcher import launched
from vaefast.errors import OutputError, SettingsError, VaefastError
from vaefast.runs.interruption import EXIT_CODES, Interrupted, Interruption


class HasDebug(Protocol):
    """Options, of which one is whether tracebacks are shown."""

    @property
    def debug(self) -> bool:
        """Whether they are."""


Parsed = TypeVar("Parsed", bound=HasDebug)


class Main(Protocol):
    """A command: it takes its arguments, those of this process by default, and returns its exit code."""

    def __call__(self, arguments: list[str] | None = None) -> int: ...


def main_of(parse: Callable[[list[str]], Parsed], run: Callable[[Parsed, Interruption], None]) -> Main:
    """The command, for a single process, that parses its arguments and runs."""

    def main(arguments: list[str] | None = None) -> int:
        return command(parse, run, arguments)

    return main


def command(
    parse: Callable[[list[str]], Parsed],
    run: Callable[[Parsed, Interruption], None],
    arguments: list[str] | None,
    job: Job | None = None,
) -> int:
    """Parse the arguments, those of this process by default, and do what they ask; returns the exit code (0 done, 1 internal
    error, 2 settings, 3 data, 4 checkpoint, 5 diverged, 6 output, 130 SIGINT, 143 SIGTERM).

    A command that hands in no job is one for a single process, and ends with code 2 where a launcher has started several.
    """
    if job is None:
        job, run = Job(), _alone(run)
    return job.end(_attempt(parse, run, sys.argv[1:] if arguments is None else arguments, job))


def _alone(run: Callable[[Parsed, Interruption], None]) -> Callable[[Parsed, Interruption], None]:
    """The same for one process: several would do the same work and write the same files."""

    def run_alone(options: Parsed, interruption: Interruption) -> None:
        processes = launched()[1]
        if processes > 1:
            raise SettingsError(
                f"this command takes no part in a job, and {processes} processes were started: start it without mpiexec"
            )
        run(options, interruption)

    return run_alone


def _attempt(
    parse: Callable[[list[str]], Parsed],
    run: Callable[[Parsed, Interruption], None],
    arguments: list[str],
    job: Job,
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
        _report(error, "out of memory: choose a smaller --hidden, --latent or --batch-size", debug, job)
        return SettingsError.exit_code
    except Exception as error:
        message = f"internal error, {type(error).__name__}: {error} (--debug shows where; please report it)"
        _report(error, message, debug, job)
        return VaefastError.exit_code
    return 0


def refuse(error: VaefastError) -> int:
    """Say what is wrong with the command line before any command has begun; returns the exit code."""
    complain(str(error), Job())
    return error.exit_code


def exit_with(main: Callable[[], int]) -> None:
    """End this process with the exit code of a command."""
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold what the terminal's encoding cannot; stderr shows it so by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())


def complain(message: str, job: Job | None = None) -> None:
    """A line on stderr, and where in a job it comes from."""
    if sys.stderr is not None and (job is None or job.speaks):
        place = "" if job is None else job.place
        with contextlib.suppress(OSError):
            print("vaefast: " + place + " ".join(message.split()), file=sys.stderr, flush=True)


def say(text: str) -> None:
    """A line on stdout. A reader that has gone (`| head`) is no error of ours: the run goes on without it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise OutputError(f"cannot write to stdout: {error.strerror or error}; redirect it elsewhere") from error


def _report(error: BaseException, message: str, debug: bool, job: Job) -> None:
    if debug and job.speaks:
        traceback.print_exception(error)
    complain(message, job)


def _open_standard_streams() -> None:
    """Where a stream was closed (`>&-`), the next file that is opened would get its number, and foreign output with it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
