"""The place of this process in a job. An MPI launcher may have started several processes, of which rank 0 leads.

MPI is imported only if a launcher or a flag asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaefast.cli import mpi_launcher
from vaefast.runs.interruption import Interruption

if TYPE_CHECKING:
    from vaefast.cli.options import Options
    from vaefast.engines.contract import Engine
    from vaefast.engines.distributed import Ranks
    from vaefast.models.settings import ModelSettings


class Job:
    """The processes that train one model together."""

    def __init__(self) -> None:
        self.leads = mpi_launcher.is_leader()
        self._ranks: Ranks | None = None

    @property
    def several(self) -> bool:
        """Whether the job has joined MPI, so that one engine uses all ranks."""
        return self._ranks is not None

    @property
    def needs(self) -> tuple[str, ...]:
        """What the engine must support for this job, in the words of `engines.needs`."""
        from vaefast import engines

        return (engines.SEVERAL_RANKS,) if self.several else ()

    @property
    def speaks(self) -> bool:
        """Whether this process prints errors. Until the job starts only the leader does: all ranks meet the same ones."""
        return self.leads or self.several

    @property
    def place(self) -> str:
        """The rank that a message comes from; empty for the leader."""
        return "" if self.leads or self._ranks is None else f"rank {self._ranks.rank}: "

    def listen(self, interruption: Interruption) -> None:
        """Handle signals on the leader alone. A launcher sends them to all ranks."""
        if self.leads:
            interruption.listen()
        else:
            interruption.ignore()

    def join(self, *, asked: bool) -> None:
        """Start MPI if it is asked for, or if a launcher has started several processes.

        Raises
        ------
        EngineUnavailable
            MPI is not installed.
        """
        if asked or mpi_launcher.launched()[1] > 1:
            from vaefast.engines import distributed

            self._ranks = distributed.join()
            self.leads = self._ranks.rank == 0

    def follow(self) -> None:
        """Do what the leader asks until it ends."""
        from vaefast.engines import distributed

        assert self._ranks is not None
        distributed.follow(self._ranks)

    def thread_count(self, requested: int | None) -> int:
        """Threads of this process. Several ranks on a node share its cores."""
        from vaefast.engines.threads import thread_count

        if self._ranks is None:
            return thread_count(requested)
        from vaefast.engines import distributed

        return distributed.threads_of_a_rank(self._ranks, requested)

    def engine(self, name: str, model: ModelSettings, options: Options) -> Engine:
        """The engine of this name for this process, or the engine of all ranks."""
        from vaefast import engines

        if self._ranks is None:
            return engines.create(name, model, options.training, self.thread_count(options.threads))
        from vaefast.engines import distributed

        reduction = self._ranks.reduction(options.deterministic_reduction)
        return distributed.lead(self._ranks, model, options.training, options.threads, reduction)

    def description(self, in_order: bool) -> dict[str, object]:
        """The properties of the job that decide the last bits of a result."""
        if self._ranks is None:
            return {}
        return {"ranks": self._ranks.size, "reduction": self._ranks.reduction(in_order)}

    def end(self, code: int) -> int:
        """End the job with this process. If the other ranks still wait for this one, abort them."""
        if self._ranks is not None:
            from vaefast.engines import distributed

            if self._ranks.together or (code and not self.leads):
                self._ranks.abort(code)
            elif self.leads:
                distributed.end(self._ranks)
        return code
