"""`python -m benchmarks.gpu` where there is no GPU: what it says, its floor, its table and its figure."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu_floor import Gpu, floor, phases, step_bytes
from benchmarks.gpu_report import draw, ours, table
from vaefast import engines
from vaefast.models.settings import ModelSettings

H200 = Gpu("NVIDIA H200", 132, 1.98e9, 4.8e12)


def row(name, seconds, precision="float32", **more):
    return {"name": name, "precision": precision, "seconds": seconds, "start seconds": 3.0, **more}


def result(batch=200):
    floors = {name: floor(H200, ModelSettings(), batch, name, 1e-6) for name in ("float32", "tf32")}
    rows = [
        row("vaefast grid float32", 0.015),
        row("vaefast grid tf32", 0.012, "tf32"),
        row("PyTorch CUDA graph 2.11", 0.045),
        row("jax_scan", None, reason="jax is not installed"),
    ]
    written = {name: {**lowest.__dict__, "seconds": lowest.seconds} for name, lowest in floors.items()}
    return {"batch": batch, "steps": 300, "floors": written, "rows": rows}


def test_the_floor_of_the_report_on_an_h200():
    model = ModelSettings()
    lowest = floor(H200, model, 200, "float32", 1e-6)
    # 0.4456 GFLOP at 66.9 TFLOP/s; 425,284 parameters with two moments, read and written; twelve phases.
    assert lowest.arithmetic == pytest.approx(2.228e6 * 200 / (132 * 1.98e9 * 256), rel=1e-3)
    assert step_bytes(model, 200) == 24 * 425_284 + 200 * 784
    assert phases(model) == 12
    assert lowest.seconds == pytest.approx(lowest.arithmetic + 12e-6)
    assert floor(H200, model, 200, "tf32", 1e-6).arithmetic == pytest.approx(lowest.arithmetic / 8)
    small = floor(H200, model, 1, "float32", 0.0)
    assert small.seconds == small.memory > small.arithmetic


def test_the_number_of_phases_is_the_plans():
    from vaefast.engines.cuda_gpu.plan import Machine, make_plan
    from vaefast.models.layout import Layout

    for hidden in ((), (7,), (7, 5, 3)):
        model = ModelSettings(13, hidden, 2)
        assert len(make_plan(Layout(model), 9, Machine(8, 264), 0).programs.step) == phases(model)


def test_the_table_says_times_ratios_and_what_was_skipped():
    lines = table(result()).splitlines()
    assert lines[0].startswith("batch 200: floor 18.7 us a step (arithmetic 6.7")
    assert lines[2].split() == ["vaefast", "grid", "float32", "50.0", "0.0150", "2.68", "1.00", "3.0s"]
    # 10.4 MB at 4.8 TB/s take longer than the arithmetic of tensor cores.
    assert lines[3].split()[3:] == ["40.0", "0.0120", "2.83", "0.80", "3.0s"]
    assert lines[4].split()[-4:] == ["0.0450", "8.04", "3.00", "3.0s"]
    assert lines[5].split(maxsplit=1) == ["jax_scan", "skipped: jax is not installed"]
    assert ours(result()) == 0.015
    without = {**result(), "rows": [row("PyTorch eager 2.11", 0.3)]}
    assert ours(without) is None
    assert "-" in table(without).splitlines()[2].split()


def test_the_figure_is_drawn(tmp_path):
    draw([result(20), result(200)], tmp_path / "gpu.png")
    assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")


def test_a_contestant_that_is_not_installed_is_skipped_with_its_reason(monkeypatch):
    from argparse import Namespace

    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    skipped = gpu._timed_peer("torch_gpu_graph", Path("nowhere"), Namespace(python=sys.executable, rounds=1))
    assert skipped["seconds"] is None
    assert skipped["reason"] == "torch is not installed"


def test_losses_that_are_off_void_the_measurement():
    import numpy as np

    from vaefast.engines.contract import State
    from vaefast.engines.reference import ReferenceEngine
    from vaefast.models.initial_parameters import initial_parameters
    from vaefast.models.layout import Layout
    from vaefast.models.settings import AdamSettings, TrainingSettings

    model, training = ModelSettings(12, (6,), 2), TrainingSettings(batch_size=4)
    values = np.random.default_rng(0).integers(0, 256, (9, 12)).astype(np.uint8)
    start = State.initial(initial_parameters(Layout(model), "glorot", 0))
    right = ReferenceEngine(model, training)
    assert gpu.verify(right, values, values, start, model, training) == 0
    wrong = ReferenceEngine(model, TrainingSettings(batch_size=4, adam=AdamSettings(learning_rate=0.1)))
    with pytest.raises(RuntimeError, match=r"batch 4, float32: losses are .* nats off the reference's"):
        gpu.verify(wrong, values, values, start, model, training)


@pytest.mark.skipif(engines.why_not("cuda") is None, reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_one_line():
    answer = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("no GPU is measured here: ")
    assert answer.stderr.count("\n") == 1


def test_packages_of_all_contestants_are_known():
    assert set(gpu.PACKAGES) == set(gpu.GPU_PEERS)
    assert all(importlib.util.find_spec(f"benchmarks.peers.{peer}") for peer in gpu.GPU_PEERS)
