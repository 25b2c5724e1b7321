"""Faults planted in kernels and in calls of the driver: the stand-in finds each; run by `test_cuda_engine.py`."""

from __future__ import annotations

import ctypes
import re
from ctypes import byref, c_size_t, c_uint, c_uint64, c_void_p

import numpy as np
import pytest
from gpu.standin.raw import BACKWARDS, FORWARDS, HEADER, SHUFFLED, Driver, DriverError, Module

ILLEGAL, MISALIGNED, FAILED = 700, 716, 719  # CUDA_ERROR_ILLEGAL, _MISALIGNED, _LAUNCH_FAILED
INVALID_PTX, NOT_SUPPORTED, TOO_LARGE = 218, 801, 720
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, CAPTURE_IMPLICIT = 900, 901, 906


@pytest.fixture(scope="module")
def everything():
    return Driver()


@pytest.fixture
def driver(everything):
    everything.order(FORWARDS)
    yield everything
    everything.forgive()
    everything.order(FORWARDS)


def entry(name: str, body: str, before: str = "") -> str:
    """A kernel of two addresses %p and %q, with its thread's number in %t and the block's in %b."""
    return f"""{before}
.visible .entry {name}(.param .u64 p, .param .u64 q) {{
  .reg .pred %x<9>; .reg .b32 %r<30>; .reg .b64 %l<30>; .reg .f32 %f<30>; .reg .b32 %t, %b; .reg .b64 %p, %q;
  ld.param.u64 %p, [p]; ld.param.u64 %q, [q]; mov.u32 %t, %tid.x; mov.u32 %b, %ctaid.x;
  {body}
  ret;
}}
"""


# Each with the error of the launch, its number of threads, and what the message says.
FAULTS = {
    "a store past the end": (
        "mul.wide.u32 %l0, %t, 4; add.s64 %l0, %p, %l0;\n st.global.u32 [%l0+12], %t;",
        ILLEGAL, 32, r"\(29, 0, 0\), PTX line \d+: `st.global.u32 .* 4 bytes at global address 0x\w+ lie in no",
    ),
    "a load before the beginning": ("ld.global.f32 %f0, [%p+-4];", ILLEGAL, 1, "in no allocation"),
    "a load across the end": ("ld.global.v4.f32 {%f0,%f1,%f2,%f3}, [%p+120];", ILLEGAL, 1, "16 bytes at global"),
    "a store to memory that was freed": ("st.global.u32 [%q], %t;", ILLEGAL, 1, "in no allocation"),
    "four floats at a multiple of eight": ("ld.global.v4.f32 {%f0,%f1,%f2,%f3}, [%p+8];", MISALIGNED, 1, "no multiple of 16"),
    "an odd address in shared memory": ("mov.u64 %l0, room; ld.shared.u32 %r0, [%l0+2];", MISALIGNED, 1, "no multiple of 4"),
    "shared memory past the end": ("mov.u64 %l0, room; st.shared.u32 [%l0+400], %t;", ILLEGAL, 1, "the block has"),
    "past one shared variable": ("mov.u64 %l0, room; st.shared.u32 [%l0+64], %t;", ILLEGAL, 1, "between variables"),
    "a thread's own memory past the end": (
        ".local .align 8 .b8 own[16]; mov.u64 %l0, own; st.local.u64 [%l0+16], %p;", ILLEGAL, 1, "local address",
    ),
    "a thread that leaves before a barrier": (
        "setp.eq.u32 %x0, %t, 40; @%x0 ret; bar.sync 0;", FAILED, 64, "have left|a thread leaves",
    ),
    "a barrier that some never reach": (
        "setp.lt.u32 %x0, %t, 32; @%x0 bra SKIP; bar.sync 0; bra END; SKIP: bar.sync 1; END:",
        FAILED, 64, "not all threads came: this thread waits at a barrier",
    ),
    "a barrier in divergent code": (
        "setp.lt.u32 %x0, %t, 7; @%x0 bra OTHER; bar.sync 0; bra END; OTHER: bar.sync 0; END:",
        FAILED, 32, "its warp is divided: thread 0 waits at the barrier of line",
    ),
    "a barrier of a part of a warp": ("bar.sync 0, 40;", FAILED, 64, "barrier 0 of 40 threads"),
    "a product of matrices by a divided warp": (
        "setp.lt.u32 %x0, %t, 16; @%x0 bra OTHER; MMA; bra END; OTHER: MMA; END:", FAILED, 32, "the warp is divided: lane 0",
    ),
    "a product of matrices by half a warp": ("MMA;", FAILED, 16, "the warp has only 16 threads"),
    "a shuffle with a lane that has left": (
        "setp.eq.u32 %x0, %t, 3; @%x0 ret; shfl.sync.idx.b32 %r0, %t, 0, 31, -1;", FAILED, 32, "lane 3 of the warp has left",
    ),
    "a shuffle from a lane that takes no part": (
        "setp.gt.u32 %x0, %t, 1; @%x0 ret; shfl.sync.idx.b32 %r0, %t, 5, 31, 3;", FAILED, 32, "of lane 5, which takes no part",
    ),
    "a wait for what never comes": (
        "AGAIN: ld.acquire.gpu.global.u32 %r0, [%p]; setp.ne.u32 %x0, %r0, 99; @%x0 bra AGAIN;",
        FAILED, 2, "ask for what never comes",
    ),
    "a meeting of a grid that was launched alone": (
        "{ .param .b64 h; st.param.b64 [h], %p; .param .b32 w; st.param.b32 [w], 0; .param .b32 v;"
        " call.uni (v), cudaCGSynchronize, (h, w); }",
        FAILED, 1, "the launch is not cooperative",
    ),
    "a trap": ("trap;", FAILED, 1, ": trap"),
}  # fmt: skip
MMA = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f0,%f1,%f2,%f3}, {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%f4,%f5,%f6,%f7};"
SHARED = ".shared .align 16 .b8 room[64];\n.shared .align 16 .b8 next[64];"
MEETING = ".extern .func (.param .b32 value) cudaCGSynchronize(.param .b64 handle, .param .b32 flags);"


@pytest.fixture(scope="module")
def faulty(everything):
    bodies = (body.replace("MMA;", MMA) for body, *_ in FAULTS.values())
    return everything.module(f"{SHARED}\n{MEETING}\n" + "".join(entry(f"k{i}", body) for i, body in enumerate(bodies)))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_kernel_ends_its_launch_and_is_named(driver, faulty, capfd, name):
    _, code, threads, message = FAULTS[name]
    place, gone = driver.put(np.zeros(32, np.uint32)), driver.allocate(64)
    driver.free(gone)
    with pytest.raises(DriverError) as raised:
        faulty.run(f"k{[*FAULTS].index(name)}", place, gone, block=threads)
    assert raised.value.code == code
    said = capfd.readouterr().err
    assert re.search(rf"stand-in: kernel k\d+, block \(0, 0, 0\), thread .*{message}", said), said
    with pytest.raises(DriverError):  # the context stays broken
        driver.allocate(4)


def test_lines_are_counted_from_the_top_of_a_text_with_comments_and_blank_lines(driver, capfd):
    text = "//\n\n// Generated\n\n\n/* two\nlines */\n" + HEADER + "\n\n\t// .globl\n" + entry("k", "\n  trap;")
    line = text.splitlines().index("  trap;") + 1
    with pytest.raises(DriverError):
        Module(driver, text).run("k", 0, 0, block=1)
    assert f"PTX line {line}: `trap;`: trap" in capfd.readouterr().err


def test_the_same_kernels_pass_where_nothing_is_wrong(driver, faulty):
    place, other = driver.put(np.zeros(64, np.uint32)), driver.allocate(64)
    for name in ("a store past the end", "a store to memory that was freed"):
        faulty.run(f"k{[*FAULTS].index(name)}", place, other)
    assert np.array_equal(driver.get(place, np.zeros(64, np.uint32))[3:35], np.arange(32))


# Thread t leaves its number for thread t + 1 and takes that of t - 1: right only with a barrier between.
EXCHANGE = """
  mul.wide.u32 %l0, %t, 4; mov.u64 %l1, numbers; add.s64 %l2, %l1, %l0;
  add.u32 %r0, %t, 100; st.shared.u32 [%l2], %r0;
  BARRIER
  add.u32 %r1, %t, 63; and.b32 %r1, %r1, 63; mul.wide.u32 %l3, %r1, 4; add.s64 %l3, %l1, %l3;
  ld.shared.u32 %r2, [%l3]; add.s64 %l4, %p, %l0; st.global.u32 [%l4], %r2;
"""


def test_a_missing_barrier_shows_as_other_bits_in_another_order(driver):
    before = ".shared .align 4 .b8 numbers[256];"
    right = driver.module(entry("k", EXCHANGE.replace("BARRIER", "bar.sync 0;"), before))
    wrong = driver.module(entry("k", EXCHANGE.replace("BARRIER", ""), before))
    out = driver.allocate(256)

    def results(module):
        found = []
        for mode, seed in ((FORWARDS, 0), (BACKWARDS, 0), (SHUFFLED, 1), (SHUFFLED, 2)):
            driver.order(mode, seed)
            module.run("k", out, 0, block=64)
            found.append(driver.get(out, np.zeros(64, np.uint32)))
        return found

    wanted = 100 + (np.arange(64) + 63) % 64
    assert all(np.array_equal(result, wanted) for result in results(right))
    other = results(wrong)
    assert not all(np.array_equal(result, wanted) for result in other)
    assert 0xFFFFFFFF in np.concatenate(other)  # nothing was there yet
    assert len({result.tobytes() for result in other}) > 1


def test_blocks_of_a_launch_that_depend_on_each_other_give_other_bits_in_another_order(driver):
    body = "mov.u64 %l0, 4; mul.wide.u32 %l1, %b, 4; add.s64 %l2, %p, %l1; ld.global.u32 %r0, [%p]; add.u32 %r0, %r0, %b;"
    module = driver.module(entry("k", body + "st.global.u32 [%l2], %r0; st.global.u32 [%p], %r0;"))
    found = set()
    for mode, seed in ((FORWARDS, 0), (BACKWARDS, 0), (SHUFFLED, 1)):
        driver.order(mode, seed)
        place = driver.put(np.zeros(20, np.uint32))
        module.run("k", place, 0, grid=20, block=1)
        found.add(driver.get(place, np.zeros(20, np.uint32)).tobytes())
    assert len(found) == 3


# A barrier of the whole grid by an atomic counter, as kernels write it themselves.
MEET = """
  setp.ne.u32 %x0, %t, 0;
  bar.sync 0;
  @%x0 bra DONE;
  membar.gl;
  atom.add.release.gpu.global.u32 %r0, [%p], 1;
  AGAIN: ld.acquire.gpu.global.u32 %r1, [%p]; setp.lt.u32 %x1, %r1, 6; @%x1 bra AGAIN;
  DONE: bar.sync 0;
  mul.wide.u32 %l0, %b, 4; add.s64 %l0, %q, %l0; ld.volatile.global.u32 %r2, [%p]; st.global.u32 [%l0], %r2;
"""


@pytest.mark.parametrize(("mode", "seed"), [(FORWARDS, 0), (BACKWARDS, 0), (SHUFFLED, 3)])
def test_blocks_that_wait_for_each_other_go_on(driver, mode, seed):
    driver.order(mode, seed)
    counter, out = driver.put(np.zeros(1, np.uint32)), driver.allocate(24)
    driver.module(entry("k", MEET)).run("k", counter, out, grid=6, block=64, together=True)
    assert np.array_equal(driver.get(out, np.zeros(6, np.uint32)), np.full(6, 6))


def test_more_blocks_than_have_room_cannot_be_launched_together(driver):
    """Three multiprocessors of 65,536 registers, 128 of them a thread: two blocks of 256 threads on each."""
    module, counter = driver.module(entry("k", "")), driver.allocate(4)
    module.run("k", counter, 0, grid=6, block=256, together=True)
    module.run("k", counter, 0, grid=7, block=256)
    with pytest.raises(DriverError) as raised:
        module.run("k", counter, 0, grid=7, block=256, together=True)
    assert raised.value.code == TOO_LARGE


def test_new_memory_and_new_shared_memory_hold_nothing(driver):
    body = "mov.u64 %l0, fresh; ld.shared.f32 %f0, [%l0]; st.global.f32 [%p], %f0;"
    place = driver.allocate(8)
    driver.module(entry("k", body, ".shared .align 4 .b8 fresh[16];")).run("k", place, 0, block=1)
    assert np.isnan(driver.get(place, np.zeros(2, np.float32))).all()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("fancy.new.f32 %f0, %f1;", "fancy.new.f32"),
        ("cvt.rn.f16.f32 %r0, %f1;", "cvt.rn.f16.f32"),
        ("ld.global.strange.u32 %r0, [%p];", "ld.global.strange.u32"),
        ("add.rn.f32.extra %f0, %f1, %f2;", "add.rn.f32.extra"),
        ("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%f0}, {%r0}, {%r1}, {%f0};", "m16n8k4"),
        ("mov.u32 %r0, %nosuch;", "%nosuch"),
        (".pragmatic 3;", ".pragmatic"),
        ("bra NOWHERE;", "NOWHERE"),
    ],
)
def test_what_is_not_known_is_refused_with_its_line(driver, capfd, body, said):
    with pytest.raises(DriverError) as raised:
        driver.module(entry("k", body))
    assert raised.value.code == INVALID_PTX
    error = capfd.readouterr().err
    assert "stand-in: line 8: `" in error
    assert said in error


def test_entry_points_that_are_missing_say_so(driver, capfd):
    found = c_void_p()
    driver.check("cuGetProcAddress_v2", b"cuMemAllocManaged", byref(found), 13000, c_uint64(0), None)
    assert ctypes.CFUNCTYPE(ctypes.c_int)(found.value)() == NOT_SUPPORTED
    assert "stand-in: cuMemAllocManaged is not implemented" in capfd.readouterr().err


# ---- the order of what a stream is asked ----

ADD = "ld.global.u32 %r0, [%p]; mul.lo.u32 %r0, %r0, 3; add.u32 %r0, %r0, 1; st.global.u32 [%p], %r0;"


@pytest.fixture
def stream(driver):
    handle = c_void_p()
    driver.check("cuStreamCreate", byref(handle), c_uint(0))
    yield handle
    driver.forgive()
    driver.check("cuStreamDestroy_v2", handle)


def look(place: int) -> int:
    """What a device's memory holds at this moment, past the driver."""
    return ctypes.c_uint32.from_address(place).value


def test_a_stream_works_when_it_is_waited_for(driver, stream):
    module, place = driver.module(entry("k", ADD)), driver.put(np.zeros(1, np.uint32))
    module.run("k", place, 0, block=1, stream=stream)
    module.run("k", place, 0, block=1, stream=stream)
    assert look(place) == 0  # a host that does not wait sees nothing
    driver.check("cuStreamSynchronize", stream)
    assert look(place) == 4
    module.run("k", place, 0, block=1, stream=stream)
    assert driver.get(place, np.zeros(1, np.uint32))[0] == 13  # a copy without a stream waits


def recorded(driver, stream, what):
    """A recording of what is done on the stream, and its graph; the errors of the end are raised."""
    driver.check("cuStreamBeginCapture_v2", stream, 1)
    try:
        what()
    finally:
        graph = c_void_p()
        code = driver.library.cuStreamEndCapture(stream, byref(graph))
    if code:
        raise DriverError(code, "cuStreamEndCapture")
    executable = c_void_p()
    driver.check("cuGraphInstantiateWithFlags", byref(executable), graph, c_uint64(0))
    return executable


def test_what_is_recorded_is_done_at_each_launch_of_the_graph(driver, stream):
    module, place = driver.module(entry("k", ADD)), driver.put(np.zeros(1, np.uint32))
    executable = recorded(driver, stream, lambda: module.run("k", place, 0, block=1, stream=stream))
    driver.check("cuStreamSynchronize", stream)
    assert look(place) == 0
    for _ in range(3):
        driver.check("cuGraphLaunch", executable, stream)
    driver.check("cuStreamSynchronize", stream)
    assert look(place) == 13


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (lambda driver, place: driver.allocate(64), CAPTURE_UNSUPPORTED),
        (lambda driver, place: driver.free(place), CAPTURE_UNSUPPORTED),
        (lambda driver, place: driver.get(place, np.zeros(1, np.uint32)), CAPTURE_IMPLICIT),
        (lambda driver, place: driver.check("cuCtxSynchronize"), CAPTURE_UNSUPPORTED),
        (lambda driver, place: driver.check("cuMemcpyHtoD_v2", c_uint64(place), b"abcd", c_size_t(4)), CAPTURE_IMPLICIT),
    ],
    ids=["an allocation", "freeing", "a copy to the host", "waiting", "a copy to the device"],
)
def test_what_a_recording_thread_may_not_do(driver, stream, what, code):
    place, errors = driver.put(np.zeros(1, np.uint32)), []

    def forbidden():
        with pytest.raises(DriverError) as raised:
            what(driver, place)
        errors.append(raised.value.code)

    with pytest.raises(DriverError) as ended:
        recorded(driver, stream, forbidden)
    assert errors == [code]
    assert ended.value.code == CAPTURE_INVALIDATED
    driver.free(place)  # allowed again, and still there
