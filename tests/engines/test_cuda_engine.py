"""The CUDA engine where there is no GPU: its plan, the simulator, the compilers; and what is said where it cannot run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cases import CASES
from gpu.standin.__main__ import PYTEST
from gpu.standin.build import build, reason_against

from vaefast import engines
from vaefast.engines import cuda_driver
from vaefast.engines.cuda_gpu import plan as planning
from vaefast.engines.cuda_gpu import tiling
from vaefast.engines.cuda_gpu.plan import make_plan, parameter_size
from vaefast.engines.cuda_gpu.tiling import Machine, Product, Tile, Work
from vaefast.engines.threads import granted_cores
from vaefast.errors import EngineUnavailable
from vaefast.models.layout import Layout, padded
from vaefast.models.settings import ModelSettings, TrainingSettings

ROOT = Path(__file__).parents[2]
MACHINES = {"H200": Machine(8, 264), "small": Machine(4, 6)}
KERNELS = ("launch_phase", "run_steps", "launch_phase_tf32", "run_steps_tf32")
# Bytes a thread may put aside: two numbers that a launch computes once and a tile reads once.
SPILLED = {"launch_phase": 8}
COMPILED = [(kernel, compute) for compute in ("9.0", "7.5") for kernel in KERNELS[: 4 if compute == "9.0" else 2]]
COMPILERS = ("numba-cuda", "nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-runtime")


def missing() -> list[str]:
    def installed(name: str) -> bool:
        try:
            return bool(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            return False

    return [name for name in COMPILERS if not installed(name)]


needs_numba_cuda = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed; pip install 'vaefast[cuda]'"
)
needs_compilers = pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}")


NO_STANDIN = reason_against() or (f"not installed: {', '.join(missing())}" if missing() else None)
needs_standin = pytest.mark.skipif(NO_STANDIN is not None, reason=str(NO_STANDIN))

# The engine on a GPU that is none: its own tests, and of those that all engines take what ends soon.
SHORT = ("tests/gpu/executed.py", "tests/engines/test_cuda_gpu.py", "tests/engines/test_engines.py")
# Chains and their bits are tried on toys, too: of the larger models on one.
SOON = "executed or (cuda and not report and not fifty and not rows and not threads and (not all_chains or odd))"
# What runs in a Python of its own, the longest first. The command finds the kernels that the engine's tests compiled.
SIMULATOR, ENGINE, CHECKER, COMMAND = "simulator", "engine", "checker", "command"
PROGRAMS = {
    ENGINE: (*PYTEST, *SHORT, "-k", SOON),
    SIMULATOR: ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu/simulated.py"),
    "9.0": ("-m", "tests.gpu.compiled", "9.0"),
    "7.5": ("-m", "tests.gpu.compiled", "7.5"),
    CHECKER: (*PYTEST, "tests/gpu/instructions.py", "tests/gpu/planted.py"),
    COMMAND: ("-m", "vaefast.train", "--data", "images.npy", "--engine=cuda", "--hidden=9", "--latent=2", "--epochs=2"),
}
ON_THE_STANDIN = (ENGINE, CHECKER, COMMAND)


def begun(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.Popen[str]:
    """A Python of its own, in which Numba and the engine read these variables and none that are set here."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "VAEFAST_CUDA"))}
    inherited["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env=inherited | environment, cwd=cwd, **pipes)


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Its exit code and what it said; one that does not end is killed."""
    try:
        output, errors = process.communicate(timeout=800)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.fixture(scope="module")
def programs(request, tmp_path_factory):
    """Results to come of all PROGRAMS that a selected test waits for; as many run at a time as there are cores."""
    folder, processes = tmp_path_factory.mktemp("programs"), []
    calls = [item.callspec for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    wanted = [name for name in PROGRAMS if name in {call.params.get("program") for call in calls}]
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (60, 30)).astype(np.uint8))
    variables = {SIMULATOR: {"NUMBA_ENABLE_CUDASIM": "1"}}
    if NO_STANDIN is None and {*wanted} & {*ON_THE_STANDIN}:
        variables |= dict.fromkeys(ON_THE_STANDIN, build(folder))

    def result(name: str) -> subprocess.CompletedProcess[str]:
        process = begun(*PROGRAMS[name], cwd=folder if name == COMMAND else ROOT, **variables.get(name, {}))
        processes.append(process)
        return ended(process)

    pool = ThreadPoolExecutor(granted_cores())
    yield {name: pool.submit(result, name) for name in wanted}
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        if process.poll() is None:
            process.kill()
    pool.shutdown()


@pytest.fixture
def program(request, programs):
    """The name of one of PROGRAMS, and how it ended."""
    return request.param, programs[request.param].result()


def of(*names):
    return pytest.mark.parametrize("program", names, indirect=True)


@needs_numba_cuda
@of(SIMULATOR)
def test_the_simulated_engine_agrees_with_the_reference(program):
    _, result = program
    assert result.returncode == 0, result.stdout[-6000:]
    assert " passed" in result.stdout


@needs_standin
@of(*ON_THE_STANDIN)
def test_on_the_standin_for_a_gpu(program):
    name, result = program
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-6000:]
    assert ("engine cuda" if name == COMMAND else " passed") in output
    assert " skipped" not in output or name == ENGINE  # where likelihoods are that it lacks


def compiled(program) -> dict[str, dict[str, int]]:
    """What `tests.gpu.compiled` says of each kernel."""
    _, result = program
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


@needs_compilers
@pytest.mark.parametrize(("kernel", "program"), COMPILED, indirect=["program"])
def test_kernels_compile_into_their_registers(kernel, program):
    """Two blocks of 256 threads share 65,536 registers: 128 a thread."""
    report = compiled(program)[kernel]
    assert 0 < report["registers"] <= 128
    for name in ("stack", "spill stores", "spill loads"):
        assert report[name] <= SPILLED.get(kernel, 0), report


@needs_compilers
@of("9.0")
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_hold_what_they_should(kernel, program):
    report = compiled(program)[kernel]
    tensor = kernel.endswith("tf32")
    # Numba turns a careless constant into float64; a cached constant would be stale in the kernel that writes it.
    for name in ("float64", "cached as constant", "local memory", "float atomics", "untyped accesses"):
        assert report[name] == 0, name
    # Four times 16 x 8 in a warp's tile; or the lines of both operands, all but the first of each four, without an addition.
    assert report["tensor cores"] == (4 if tensor else 0)
    assert report["lines at constant distances"] >= (0 if tensor else 2 * 2 * 3)
    # Of each operand a thread's units, before the first chunk and during each.
    assert report["quad loads from memory"] >= 2 * 2 * tiling.UNITS
    assert (report["meetings"] > 0) == kernel.startswith("run_steps")


def test_the_reports_are_read_as_ptxas_and_nvvm_write_them():
    from gpu.compiled import contents, resources

    said = "0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\nptxas info    : Used 96 registers, used 1 barriers"
    assert resources(said) == {"registers": 96, "stack": 0, "spill stores": 8, "spill loads": 4}
    ptx = "ld.global.nc.f32 a; mul.f64 b; atom.global.add.f32 c; st.local.u32 d; ld.f32 e; ld.shared.v4.f32 {f}, [%r1+288];"
    assert [count for count in contents(ptx).values() if count] == [1, 1, 1, 1, 1, 1]


def test_what_numba_cuda_takes_from_numpy_is_there_where_numpy_has_it_no_more():
    lines = (
        "import numpy as np",
        "vars(np).pop('row_stack', None)",
        "import vaefast.engines.cuda_gpu",
        "np.row_stack([[1], [2]])",
    )
    result = ended(begun("-W", "ignore", "-c", "; ".join(lines)))
    assert result.returncode == 0, result.stderr


def plans():
    for (name, machine), case in itertools.product(MACHINES.items(), CASES):
        if case.model.likelihood == "bernoulli":
            for batch in (case.batch_size, 200, 4096):
                yield pytest.param(case.model, batch, machine, id=f"{name} {case.name} {batch}")


@pytest.mark.parametrize(("model", "batch", "machine"), list(plans()))
def test_jobs_of_a_phase_neither_read_nor_write_what_another_writes(model, batch, machine):
    plan = make_plan(Layout(model), batch, machine, 3 * parameter_size(Layout(model)))
    for program in (plan.programs.step, plan.programs.evaluate, plan.programs.samples):
        for phase in program.reshape(len(program), planning.JOBS, planning.FIELDS):
            assert clashes(plan, [job for job in phase if job[planning.KIND] != planning.EMPTY]) == []


def test_a_clash_would_be_seen():
    layout = Layout(ModelSettings(20, (18,), 4))
    plan = make_plan(layout, 5, MACHINES["small"], 3 * parameter_size(layout))
    phases = plan.programs.step.reshape(-1, planning.JOBS, planning.FIELDS)
    back = [job for phase in phases for job in phase if job[planning.EPILOGUE] == planning.MASK and job[planning.KIND] == 1]
    update = [job for phase in phases for job in phase if job[planning.EPILOGUE] == planning.ADAM and job[planning.KIND] == 1]
    same = next(job for job in update if job[planning.OUT] == back[0][planning.B])
    assert clashes(plan, [back[0], same])  # weights updated beside the product that reads them


def clashes(plan: planning.Plan, jobs: list[np.ndarray]) -> list[tuple[int, int]]:
    reads, writes = zip(*(accesses(plan, job) for job in jobs), strict=True) if jobs else ((), ())
    found = []
    for i, j in itertools.permutations(range(len(jobs)), 2):
        touched = [*reads[j], *writes[j]]
        found += [(i, j) for a, b in itertools.product(writes[i], touched) if a[0] < b[1] and b[0] < a[1]]
    return found


def accesses(plan: planning.Plan, job: np.ndarray) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Ranges of the arena that a job's results depend on, and that it writes; the minibatch's two places counted apart."""
    p, size = plan.places, lambda width: plan.places.rows * padded(int(width))
    latent, heads = size(p.latent), 2 * size(p.latent)
    kind, epilogue, out = job[planning.KIND], job[planning.EPILOGUE], int(job[planning.OUT])

    def span(offset, length):
        return int(offset), int(offset) + int(length)

    if kind == planning.DRAW:
        place = p.x + (p.x_size if job[planning.AHEAD] else 0)
        return [], [span(place, size(p.pixels))]
    if kind == planning.UPDATE_BIAS:
        return [span(job[planning.A], p.rows * 16 * job[planning.TILES])], [span(out, 16 * job[planning.TILES])]
    if kind == planning.TERMS:
        return [span(p.log_likelihood, p.rows * p.loss_tiles), span(p.kl, p.rows * p.kl_tiles)], [span(p.running, 3 * p.rows)]
    if kind == planning.RESAMPLE:
        return [span(p.heads, heads)], [span(p.z, latent), span(p.prior, p.rows)]
    if epilogue == planning.ADAM:
        widths = size(job[planning.M]), size(job[planning.N])
        return [span(job[planning.A], widths[0]), span(job[planning.B], widths[1])], [
            span(out, job[planning.M] * padded(int(job[planning.N])))
        ]
    inputs = [span(job[planning.A], size(job[planning.K]))]
    shape = (
        (job[planning.K], job[planning.N]) if job[planning.B_FORM] == planning.DIRECT else (job[planning.N], job[planning.K])
    )
    inputs.append(span(job[planning.B], shape[0] * padded(int(shape[1]))))
    if epilogue == planning.SAMPLE:
        places = [span(at, latent) for at in (p.std, p.noise, p.z)]
        return inputs, [span(p.heads, heads), *places, span(p.kl, p.rows * p.kl_tiles)]
    if epilogue == planning.SAMPLE_BACKWARD:
        return [*inputs, span(p.heads, heads), span(p.std, latent), span(p.noise, latent)], [span(p.d_heads, heads)]
    if epilogue == planning.LOSS:
        return [*inputs, span(p.x, size(p.pixels))], [span(out, size(job[planning.N])), span(p.log_likelihood, p.rows)]
    if epilogue == planning.MASK:
        inputs.append(span(job[planning.SOURCE], size(job[planning.N])))
    return inputs, [span(out, size(job[planning.N]))]


@pytest.mark.parametrize("batch", [20, 200])
def test_a_step_of_the_report_takes_two_phases_a_layer_and_most_of_the_device(batch):
    layout = Layout(ModelSettings())
    plan = make_plan(layout, batch, MACHINES["H200"], 0)
    phases = plan.programs.step.reshape(-1, planning.JOBS, planning.FIELDS)
    assert len(phases) == 12
    ends = phases[:, :, planning.END]
    assert np.all(np.diff(ends, axis=1) >= 0)
    # Tasks of all jobs of a phase, for 132 multiprocessors.
    assert np.median(ends[:, -1]) >= {20: 52, 200: 91}[batch]


@pytest.mark.parametrize("rows", [1, 150, 200])
def test_a_minibatch_of_any_size_has_all_its_tasks_among_those_dealt(rows):
    """Ends are of a full minibatch; fewer rows leave some of these tasks without work, and add none."""
    plan = make_plan(Layout(ModelSettings()), 200, MACHINES["H200"], 0)
    for job in plan.programs.step.reshape(-1, planning.FIELDS):
        if job[planning.KIND] == planning.PRODUCT and job[planning.M] == planning.ROWS:
            tall = 1 << int(job[planning.ROW_SHIFT])
            assert -(-rows // tall) * job[planning.TILES] <= -(-200 // tall) * job[planning.TILES] <= job[planning.END]


def test_tiles_are_those_that_end_first():
    machine = Machine(8, 264)
    every = tiling.tiles(machine, narrow=True, wide=True)
    assert Tile(16, 8, 256) in every
    assert Tile(64, 64, 64) in every
    assert Tile(16, 32, 128) in tiling.tiles(machine, narrow=False, wide=False)
    assert all(tile.columns == 32 for tile in tiling.tiles(machine, narrow=False, wide=False))
    # Few rows: small tiles on many multiprocessors. Many: large ones, which read their operands least often.
    few, many = (tiling.choose(machine, [Product(rows, 200, 784, every)])[0] for rows in (20, 4096))
    assert few == Tile(16, 8, 256)
    assert many.rows * many.columns >= 1024
    works = [[tiling._work(Product(4096, 200, 784, every), tile)] for tile in every]
    assert tiling.makespan(machine, works[every.index(many)]) == min(tiling.makespan(machine, work) for work in works)


def test_the_time_of_a_phase_is_that_of_its_last_block():
    machine = Machine(8, 4)  # two multiprocessors
    task = tiling.TASK
    assert tiling.makespan(machine, []) == task
    # Five tasks on four blocks: the first block has two, and so has the block with which it shares a multiprocessor.
    assert tiling.makespan(machine, [Work(5, 100.0, 1000.0, 0.0)]) == max(2 * 1100.0, 3 * 1000.0 + task)
    assert tiling.makespan(machine, [Work(4, 9000.0, 10.0, 0.0)]) == 9010.0
    assert tiling.makespan(machine, [Work(4, 0.0, 0.0, 1e6)]) == 4e6 / (2 * tiling.BYTES) + task


def test_memory_of_the_plan_does_not_overlap():
    layout = Layout(ModelSettings(50, (31, 16), 7))
    plan = make_plan(layout, 20, MACHINES["small"], 3 * parameter_size(layout))
    p, size = plan.places, lambda width: plan.places.rows * padded(width)
    spans = [(p.x, 2 * size(50)), (p.z, size(7)), (p.d_heads, 2 * size(7)), (p.std, size(7)), (p.noise, size(7))]
    spans += [
        (p.log_likelihood, p.rows * p.loss_tiles),
        (p.kl, p.rows * p.kl_tiles),
        (p.prior, p.rows),
        (p.running, 3 * p.rows),
    ]
    spans += [(layer.output, size(layer.outputs)) for layer in plan.layers]
    spans += [(layer.d_output, size(layer.outputs)) for i, layer in enumerate(plan.layers[:-1]) if i != plan.heads]
    spans.sort()
    assert spans[0][0] >= 3 * p.parameters
    assert all(start + length <= following for (start, length), (following, _) in itertools.pairwise(spans))
    assert spans[-1][0] + spans[-1][1] <= plan.end


@pytest.mark.parametrize(
    ("package", "simulated", "driver", "reason"),
    [
        (None, "0", None, r"numba-cuda is not installed; pip install \"vaefast\[cuda\]\""),
        (1, "0", None, "no NVIDIA driver is found; install one"),
        (1, "0", (100, 0), "there is no GPU that this process may use; look at nvidia-smi"),
        (1, "0", (0, 0), "there is no GPU that this process may use"),
        (1, "0", (35, 0), "the NVIDIA driver fails with error 35"),
        (1, "0", (0, 1), None),
        (1, "1", None, None),
    ],
)
def test_why_not(monkeypatch, package, simulated, driver, reason):
    class Driver:
        def cuInit(self, flags):
            return driver[0]

        def cuDeviceGetCount(self, count):
            count._obj.value = driver[1]
            return 0

    monkeypatch.setattr(cuda_driver.importlib.util, "find_spec", lambda name: package)
    monkeypatch.setattr(cuda_driver, "_driver", lambda: None if driver is None else Driver())
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", simulated)
    if reason is None:
        assert engines.why_not("cuda") is None
    else:
        with pytest.raises(EngineUnavailable, match=f"^engine cuda cannot run here: {reason}"):
            engines.choose("cuda")


def test_auto_never_takes_a_gpu(monkeypatch):
    monkeypatch.setattr(engines, "why_not", lambda name: None if name in ("cuda", "reference") else "not here")
    assert engines.choose("auto") == "reference"
    assert engines.choose("cuda") == "cuda"


def test_tf32_is_for_the_gpu_alone():
    needed = engines.needs(ModelSettings(), TrainingSettings(precision="tf32"))
    with pytest.raises(EngineUnavailable, match="engine reference lacks precision tf32: "):
        engines.choose("reference", needed)
    with pytest.raises(EngineUnavailable, match="precision tf32 is for a GPU's tensor cores: choose engine cuda"):
        engines.choose("auto", needed)
