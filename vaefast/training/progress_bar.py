"""A bar over the epochs, on a terminal or in a notebook."""

from __future__ import annotations

from vaefast.training.trainer import EpochMetrics, Progress


def say(text: str) -> None:
    """A line on standard output, which a bar makes room for."""
    from tqdm.auto import tqdm

    tqdm.write(text)


class Bar:
    """Silent for verbose 0, a bar for 1, and a line an epoch beside it from 2.

    `tqdm.auto` draws a widget in a notebook and characters on a terminal.
    """

    def __init__(self, epochs: int, verbose: int) -> None:
        self._bar = None
        self._lines, self._epochs = verbose >= 2, epochs
        if verbose:
            from tqdm.auto import tqdm

            form = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}{postfix}]"
            self._bar = tqdm(total=epochs, unit="epoch", bar_format=form)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def progress(self, progress: Progress) -> None:
        """Called several times a second; bounds in nats."""
        if self._bar is not None:
            done = self._epochs - (progress.epochs - progress.epoch + 1) + progress.images / progress.size
            self._bar.set_postfix_str(f"ELBO {progress.elbo:.2f}", refresh=False)
            self._bar.update(done - self._bar.n)

    def epoch(self, line: EpochMetrics, validated: bool, metric: str = "") -> None:
        """The metrics of an epoch in the user's units; `metric` is the name of `validation_metric`."""
        if self._bar is not None and self._lines:
            text = f"epoch {line.epoch}  ELBO {line.train_elbo:.2f}"
            if validated:
                text += f"  validation ELBO {line.test_elbo:.2f}"
            if line.validation_metric is not None:
                text += f"  {metric} {line.validation_metric:.4f}"
            self._bar.write(f"{text}  {line.seconds:.2f} s")
