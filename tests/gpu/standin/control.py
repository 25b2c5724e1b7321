"""Branches, calls, barriers, and instructions that a warp executes together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.gpu.standin.ptx import plain

if TYPE_CHECKING:
    from tests.gpu.standin.emit import FunctionWriter

MMA_TF32 = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
SHUFFLES = {"up": "SHUFFLE_UP", "down": "SHUFFLE_DOWN", "bfly": "SHUFFLE_BUTTERFLY", "idx": "SHUFFLE_INDEX"}
VOTES = {"all": "VOTE_ALL", "any": "VOTE_ANY", "uni": "VOTE_UNI", "ballot": "VOTE_BALLOT"}
REDUCTIONS = {"popc": "REDUCE_POPC", "and": "REDUCE_AND", "or": "REDUCE_OR"}
WHOLE_WARP = "0xFFFFFFFFu"
# What a module may call without holding it: functions of the device's own library.
EXTERNAL = {
    "cudaCGGetIntrinsicHandle": "{results}[0] = *(uint32_t *){values} == 1 && standin_is_cooperative(t);",
    "cudaCGSynchronize": "standin_grid(t, {line}); {results}[0] = 0;",
}


def statement(writer: FunctionWriter, opcode: str, operands: list[str]) -> list[str] | None:
    """The C of an instruction of these kinds; None where it is of another."""
    if opcode in ("bra", "bra.uni"):
        return [f"goto {writer.label(operands[0])};"]
    if opcode in ("brx.idx", "brx.idx.uni"):
        return _table(writer, operands)
    if opcode in ("ret", "ret.uni", "exit"):
        if opcode == "exit" and not writer.function.entry:
            raise writer.refuse("leaves the kernel from a device function")
        return ["return;"]
    if opcode == "trap":
        return [f'standin_fault(t, {writer.site}, FAULT_LAUNCH, "trap");']
    if opcode in ("call", "call.uni"):
        return _call(writer, operands)
    if opcode == "nanosleep.u32":
        return [f"standin_yield(t, {writer.site});"]
    if opcode == MMA_TF32:
        return _mma(writer, operands)
    return _barrier(writer, opcode, operands) or _warp(writer, opcode, operands)


def _table(writer: FunctionWriter, operands: list[str]) -> list[str]:
    cases = (f"case {i}: goto {writer.label(name)};" for i, name in enumerate(writer.table(operands[1])))
    fault = f'default: standin_fault(t, {writer.site}, FAULT_LAUNCH, "a branch past the end of its table");'
    return [f"switch ({writer.read(operands[0], 'u32')}) {{", *cases, fault, "}"]


def _call(writer: FunctionWriter, operands: list[str]) -> list[str]:
    lists = [[name.strip() for name in operand.strip("() \n\t").split(",") if name.strip()] for operand in operands]
    with_results = operands[0].startswith("(")
    results = lists[0] if with_results else []
    name, values = operands[int(with_results)], lists[int(with_results) + 1] if len(lists) > int(with_results) + 1 else []
    function = writer.module.functions.get(name)
    if function is None or len(function.parameters) != len(values) or len(function.results) != len(results):
        raise writer.refuse("calls what it does not declare")
    if function.body is not None:
        buffers = ", ".join(["t", *(f"c_{plain(part)}" for part in (*results, *values))])
        return [f"d_{plain(name)}({buffers});"]
    if name not in EXTERNAL:
        raise writer.refuse("calls a function that is not known to the stand-in")
    parts = {"results": f"c_{plain(results[0])}", "values": f"c_{plain(values[0])}", "line": writer.site}
    return [EXTERNAL[name].format(**parts)]


def _barrier(writer: FunctionWriter, opcode: str, operands: list[str]) -> list[str] | None:
    line = writer.site
    if re.fullmatch(r"(bar|barrier)(\.cta)?\.sync(\.aligned)?", opcode):
        count = writer.read(operands[1], "u32") if len(operands) > 1 else "0"
        return [f"standin_barrier(t, {line}, {writer.read(operands[0], 'u32')}, {count}, REDUCE_NONE, 0);"]
    if re.fullmatch(r"(bar|barrier)(\.cta)?\.arrive(\.aligned)?", opcode):
        return [f"standin_arrive(t, {line}, {writer.read(operands[0], 'u32')}, {writer.read(operands[1], 'u32')});"]
    if match := re.fullmatch(r"(?:bar|barrier)(?:\.cta)?\.red\.(popc|and|or)(?:\.aligned)?\.(u32|pred)", opcode):
        target, number, *count, value = operands
        parts = (writer.read(number, "u32"), writer.read(count[0], "u32") if count else "0", REDUCTIONS[match[1]])
        call = f"standin_barrier(t, {line}, {', '.join(parts)}, {writer.read(value, 'pred')})"
        return [writer.write(target, match[2], call)]
    if opcode == "bar.warp.sync":
        return [f"standin_warp(t, {line}, WARP_SYNC, {writer.read(operands[0], 'u32')});"]
    return None


def _warp(writer: FunctionWriter, opcode: str, operands: list[str]) -> list[str] | None:
    line = writer.site
    if match := re.fullmatch(r"shfl\.sync\.(up|down|bfly|idx)\.b32", opcode):
        target, *values, mask = operands
        fill = [f"t->exchange[{i}] = {writer.read(value, 'b32')};" for i, value in enumerate(values)]
        first, _, second = target.partition("|")
        lines = [*fill, f"t->exchange[3] = {SHUFFLES[match[1]]};"]
        lines += [
            f"standin_warp(t, {line}, WARP_SHUFFLE, {writer.read(mask, 'u32')});",
            writer.write(first, "b32", "t->exchange[0]"),
        ]
        return ["{", *lines, *([writer.write(second, "pred", "t->exchange[1]")] if second else []), "}"]
    if match := re.fullmatch(r"vote\.sync\.(all|any|uni|ballot)\.(pred|b32)", opcode):
        target, value, mask = operands
        fill = f"t->exchange[0] = {writer.read(value, 'pred')}; t->exchange[1] = {VOTES[match[1]]};"
        wait = f"standin_warp(t, {line}, WARP_VOTE, {writer.read(mask, 'u32')});"
        return ["{", fill, wait, writer.write(target, match[2], "t->exchange[0]"), "}"]
    if opcode == "activemask.b32":
        return [writer.write(operands[0], "b32", "standin_active(t)")]
    return None


def _mma(writer: FunctionWriter, operands: list[str]) -> list[str]:
    """Exchange: four of A, two of B, four of C; the results are left where C was."""
    d, a, b, c = ([name.strip() for name in operand.strip("{} \n\t").split(",")] for operand in operands)
    if [len(part) for part in (d, a, b, c)] != [4, 4, 2, 4]:
        raise writer.refuse()
    values = [writer.read(name, "b32") for name in (*a, *b, *c)]
    fill = [f"t->exchange[{i}] = {value};" for i, value in enumerate(values)]
    results = [writer.write(name, "b32", f"t->exchange[{6 + i}]") for i, name in enumerate(d)]
    return ["{", *fill, f"standin_warp(t, {writer.site}, WARP_MMA_TF32, {WHOLE_WARP});", *results, "}"]
