"""How kernels are compiled and cached.

* `kernel` compiles a piece. No fast-math flag is ever given: every operation is IEEE float32, products are fused only
  where the code says `fma`, and no loop is summed in another order. So a result does not depend on how LLVM vectorised
  the loop it came from, and NaN and infinity stay visible.
* `entry_point` compiles a function that Python calls, and keeps its machine code on disk (`kept_kernels.py`).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
from numba.core import caching, codegen, config, types
from numba.core.compiler_lock import global_compiler_lock, require_global_compiler_lock

from vaefast.engines import examples, images, kept_kernels, plan
from vaefast.models import layout, noise, settings

# What `kernel` gives its pieces; for those that `numba.extending.overload` makes.
AS_KERNELS: Any = {"error_model": "numpy", "nogil": True, "_nrt": False, "no_cfunc_wrapper": True}

# How many compilations are under way inside each other, in the thread that has Numba's global lock.
_nesting = 0
_quiet = False


class _Piece(codegen.JITCodeLibrary):
    """A function that is compiled only as a part of its callers. It holds LLVM code of its own alone, and no machine code."""

    def finalize(self) -> None:
        require_global_compiler_lock()
        self._raise_if_finalized()
        # Lightly: what is simple is inlined better. Without it a step of a small model takes 5 % longer.
        _optimize(self, opt=1)
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0


class _Whole(codegen.JITCodeLibrary):
    """A function that Python calls, with all of its pieces, which no other function can see.

    The name of a piece holds a number that counts what its process has compiled, and of two pieces of one name in a process
    LLVM takes the first for both. Kernels on disk come from several processes, where the same name was another piece.
    """

    def finalize(self) -> None:
        called: dict[Any, None] = {}
        _add_called(self, called)
        # Callers come before what they call: LLVM links only what is asked for.
        self._linking_libraries = [*reversed(called)]
        super().finalize()

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if function.linkage == llvmlite.binding.Linkage.linkonce_odr:
                function.linkage = llvmlite.binding.Linkage.internal
        _optimize(self)


def _optimize(library: Any, **options: Any) -> None:
    """Once: Numba's first round is for reference counts, of which there are none."""
    manager, builder = library._codegen._module_pass_manager(**options)
    manager.run(library._final_module, builder)


def _add_called(library: Any, called: dict[Any, None]) -> None:
    """Add what a library calls, at any depth, each after all that it calls itself."""
    for other in library._linking_libraries:
        if other not in called:
            if isinstance(other, _Piece):
                _add_called(other, called)
            called[other] = None


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a piece, alone or as part of what calls it.

    Five things keep a cold start short. A constant argument is an ordinary int64: Numba would compile a piece once more for
    each literal value. A piece is linked once, into the outermost function, and not into each caller on the way there. LLVM
    optimises fully once, in that function, where everything is inlined anyway. Of what is called from compiled code only, no
    machine code is made, nor what unpacks the arguments of a call from Python. And views of arrays are not counted: no kernel
    allocates, and threads that count references to the same array wait for each other.
    """
    dispatcher: Any = numba.njit(**AS_KERNELS)(function)
    template, compile_whole = dispatcher.get_call_template, dispatcher.compile

    def template_without_literals(args: Any, kws: Any) -> Any:
        return template([types.unliteral(argument) for argument in args], kws)

    def compile_alone(signature: Any) -> Any:
        if _nesting:
            with _as_a_piece(dispatcher):
                compiled = compile_whole(signature)
            # Nothing stands behind these signatures for a caller from Python, who comes here again.
            dispatcher._clear()
            return compiled
        known = dispatcher.overloads.get(tuple(signature) if isinstance(signature, (list, tuple)) else signature.args)
        if known is not None and isinstance(known.library, _Piece):
            dispatcher._reset_overloads()
        with _as_a_whole(dispatcher):
            return compile_whole(signature)

    def compile_piece(signature: Any) -> Any:
        # Nesting is counted for the process: another thread that began to compile meanwhile would take its kernel for a piece.
        with global_compiler_lock:
            return compile_alone(signature)

    dispatcher.get_call_template = template_without_literals
    dispatcher.compile = compile_piece
    return dispatcher


@contextlib.contextmanager
def _nested() -> Iterator[None]:
    global _nesting
    _nesting += 1
    try:
        yield
    finally:
        _nesting -= 1


@contextlib.contextmanager
def _as_a_whole(dispatcher: Any) -> Iterator[None]:
    """What `numba.extending.overload` gives this function, which are functions within functions, become pieces."""
    generator, function = dispatcher.targetctx.codegen(), dispatcher.py_func.__qualname__
    set_env = generator.set_env

    def library_of(name: str) -> codegen.JITCodeLibrary:
        return (_Piece if "<locals>" in name and name != function else _Whole)(generator, name)

    def set_if_there(name: str, environment: Any) -> None:
        if generator._engine.get_global_value_address(name):
            set_env(name, environment)

    generator.create_library, generator.set_env = library_of, set_if_there
    try:
        with _nested():
            yield
    finally:
        del generator.create_library, generator.set_env


@contextlib.contextmanager
def _as_a_piece(dispatcher: Any) -> Iterator[None]:
    settings: Any = config
    generator, options = dispatcher.targetctx.codegen(), dispatcher._compiler.targetoptions
    before = settings.OPT, generator.create_library, generator.set_env
    # Nor is what unpacks the arguments of Python's calls.
    options.update(no_cpython_wrapper=True)
    # Level 0 would be shorter still, but leaves addresses in the code that cannot be kept on disk.
    settings.OPT, generator.create_library = type(before[0])(1), functools.partial(_Piece, generator)
    # The environment is for code that calls Python.
    generator.set_env = lambda name, environment: None
    try:
        with _nested():
            yield
    finally:
        settings.OPT, generator.create_library, generator.set_env = before
        options.update(no_cpython_wrapper=False)


def entry_point(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and keep the machine code between processes."""
    dispatcher = kernel(function)
    if os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0"):
        dispatcher._cache = _KernelCache(function)
    return dispatcher


def compile_once(kernel: Any, arguments: Sequence[tuple[Any, ...]]) -> None:
    """Compile an entry point for these arguments, those of each worker, unless it is."""
    signature = tuple(numba.typeof(argument) for argument in arguments[0])
    if signature in kernel.overloads:
        return
    if kernel._cache.is_kept(signature, kernel.targetctx):
        # Processes that only load the kernel do not wait for each other.
        kernel.compile(signature)
    else:
        name = f"{kernel.__name__}-{hashlib.sha256(repr(signature).encode()).hexdigest()[:20]}"
        with kept_kernels.one_at_a_time(cache_folder(), name, announce_compilation):
            kernel.compile(signature)


def cache_folder() -> Path | None:
    """The private folder of compiled kernels; None where no such folder can be had."""
    return kept_kernels.folder_of(_key())


@functools.cache
def _key() -> str:
    """Changes with any kernel source, any version, and the CPU that code was compiled for."""
    others = (Path(str(module.__file__)) for module in (noise, layout, settings, examples, images, plan))
    sources = [*sorted(Path(__file__).parent.glob("*.py")), *others]
    processor = numba.core.registry.cpu_target.target_context.codegen().magic_tuple()
    return kept_kernels.key_of(sources, numba.__version__, llvmlite.__version__, processor)


class _Locator:
    """Numba asks its locator for three things; the file names below need none of them."""

    _py_file = __file__

    def get_cache_path(self) -> str:
        return ""

    def get_source_stamp(self) -> str:
        return ""

    def ensure_cache_path(self) -> None:
        """The folder is made when it is first asked for."""


class _KernelCacheImpl(caching.CompileResultCacheImpl):
    def __init__(self, function: Callable[..., Any]) -> None:
        self._locator = _Locator()
        self._filename_base = function.__name__


class _KernelCache(caching.FunctionCache):
    _impl_class = _KernelCacheImpl

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file: Any = kept_kernels.KernelFile(function.__name__, cache_folder)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            compiled = super().load_overload(sig, target_context)
        except Exception:
            # Whatever a foreign or outdated file makes Numba raise, the remedy is the same: compile.
            compiled = None
        if compiled is None:
            announce_compilation()
        return compiled

    def is_kept(self, sig: Any, target_context: Any) -> bool:
        """Whether there is a file for this signature, which may yet fail to verify."""
        return bool(self._cache_file.exists(self._index_key(sig, target_context.codegen())))


def keep_quiet() -> None:
    """Leave the announcement to another process of the same job."""
    global _quiet
    _quiet = True


@functools.cache
def announce_compilation() -> None:
    """Print once a process that kernels are being compiled, which takes some seconds."""
    if _quiet:
        return
    kept = kept_kernels.kept_or_not(cache_folder())
    print(f"vaefast: compiling the CPU kernels, some seconds, {kept}", file=sys.stderr, flush=True)
