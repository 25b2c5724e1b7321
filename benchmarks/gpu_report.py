"""What `python -m benchmarks.gpu` measured, as lines of text and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

OURS = "vaefast"


def table(result: dict[str, Any]) -> str:
    """One batch size: microseconds a step, seconds an epoch, how many times the floor and our best."""
    floors = result["floors"]
    floor = floors["float32"]
    lines = [
        f"batch {result['batch']}: floor {1e6 * floor['seconds']:.1f} us a step (arithmetic {1e6 * floor['arithmetic']:.1f}, "
        f"memory {1e6 * floor['memory']:.1f}, meetings {1e6 * floor['meetings']:.1f})",
        f"  {'':28s} {'us/step':>9s} {'s/epoch':>9s} {'x floor':>8s} {'x ours':>7s} {'start':>8s}",
    ]
    best = ours(result)
    for row in result["rows"]:
        if row["seconds"] is None:
            lines.append(f"  {row['name']:28s} skipped: {row['reason']}")
            continue
        step = row["seconds"] / result["steps"]
        times = f"{row['seconds'] / best:7.2f}" if best else f"{'-':>7s}"
        above = step / floors[row["precision"]]["seconds"]
        lines.append(
            f"  {row['name']:28s} {1e6 * step:9.1f} {row['seconds']:9.4f} {above:8.2f} {times} {row['start seconds']:7.1f}s"
        )
    return "\n".join(lines)


def ours(result: dict[str, Any]) -> float | None:
    """Seconds of our fastest epoch in float32, what the others are compared with."""
    rows = (row for row in result["rows"] if row["name"].startswith(OURS) and row["precision"] == "float32")
    return min((row["seconds"] for row in rows if row["seconds"] is not None), default=None)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Microseconds a step over the batch size, a line a contestant; the floor dotted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["name"] for result in results for row in result["rows"]):
        points = [
            (result["batch"], 1e6 * row["seconds"] / result["steps"])
            for result in results
            for row in result["rows"]
            if row["name"] == name and row["seconds"] is not None
        ]
        if points:
            colour = {"color": "#0072b2"} if name.startswith(OURS) else {}
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=name, **colour)
    floors = [1e6 * result["floors"]["float32"]["seconds"] for result in results]
    axes.plot([result["batch"] for result in results], floors, color="black", linestyle=":", label="floor")
    axes.set(xscale="log", yscale="log", xlabel="images a minibatch", ylabel="microseconds a step")
    axes.legend(fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
