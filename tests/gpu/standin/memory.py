"""Loads, stores, atomics, copies and addresses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.gpu.standin.arithmetic import C_TYPES
from tests.gpu.standin.ptx import plain

if TYPE_CHECKING:
    from tests.gpu.standin.emit import FunctionWriter

CACHES = {"ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc"}
SCOPES = {"cta", "cluster", "gpu", "sys"}
STRENGTHS = {"weak", "relaxed", "acquire", "release", "volatile", "mmio", "acq_rel"}
HINTS = re.compile(r"\.L[12]::\w+")
SPACES = {"global", "shared", "local", "param", "const"}
ATOMIC = {
    "add": "old + b", "exch": "b", "and": "old & b", "or": "old | b", "xor": "old ^ b", "min": "old < b ? old : b",
    "max": "old > b ? old : b", "inc": "old >= b ? 0 : old + 1", "dec": "old == 0 || old > b ? b : old - 1",
    "cas": "old == b ? c : old",
}  # fmt: skip
FENCES = re.compile(r"membar\.(cta|gl|sys)|fence(\.(sc|acq_rel|acquire|release))?\.(cta|cluster|gpu|sys)")


def statement(writer: FunctionWriter, opcode: str, operands: list[str]) -> list[str] | None:
    """The C of an instruction of these kinds; None where it is of another."""
    opcode = HINTS.sub("", opcode.replace("::cta", ""))
    head = opcode.split(".")[0]
    if head in ("ld", "ldu"):
        return _load(writer, opcode, operands)
    if head == "st":
        return _store(writer, opcode, operands)
    if head in ("atom", "red"):
        return _atomic(writer, opcode, operands)
    if head == "cvta":
        return _convert_address(writer, opcode, operands)
    if head == "mov":
        return _move(writer, opcode, operands)
    if opcode.startswith("cp.async."):
        return _copy(writer, opcode, operands)
    if match := re.fullmatch(r"isspacep\.(global|shared|local)", opcode):
        window = {"shared": "== SHARED_WINDOW", "local": "== LOCAL_WINDOW", "global": "< LOCAL_WINDOW"}[match[1]]
        return [writer.write(operands[0], "pred", f"(WINDOW_OF({writer.read(operands[1], 'u64')}) {window})")]
    return [";"] if FENCES.fullmatch(opcode) else None


def _access(writer: FunctionWriter, opcode: str) -> tuple[str, set[str], int, str]:
    """An access's space, its strengths, how many values it moves and of what type."""
    _, *parts, type_ = opcode.split(".")
    if type_ not in C_TYPES or type_ == "pred":
        raise writer.refuse()
    spaces = [part for part in parts if part in SPACES]
    vectors = [part for part in parts if re.fullmatch(r"v[248]", part)]
    strengths = {part for part in parts if part in STRENGTHS}
    if len(spaces) > 1 or set(parts) - SPACES - STRENGTHS - SCOPES - CACHES - set(vectors) - {"unified"}:
        raise writer.refuse()
    return spaces[0] if spaces else "generic", strengths, int(vectors[0][1:]) if vectors else 1, type_


def _place(writer: FunctionWriter, operand: str, space: str, size: int) -> str:
    """A pointer to the bytes of an address operand, checked."""
    match = re.fullmatch(r"\[\s*(%?[\w$]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
    if match is None:
        raise writer.refuse(f"has an address {operand!r} that is not known to the stand-in")
    name, offset = match[1], int(match[2] or "0", 0)
    if space == "param":
        buffer = _buffer(writer, name)
        if buffer:
            if offset < 0 or offset % size or offset + size > buffer[1]:
                raise writer.refuse("is outside of its parameter")
            return f"((uint8_t *){buffer[0]} + {offset})"
    base = writer.read(name, "u64")
    if re.fullmatch(r"-?\w+", name) and name.isdigit():
        raise writer.refuse("has an address that is a number")
    check = {"const": "global"}.get(space, space)
    return f"{check}_at(t, {base} + {offset % (1 << 64)}ull, {size}, {writer.site})"


def _buffer(writer: FunctionWriter, name: str) -> tuple[str, int] | None:
    """The array in C that holds what is handed to or by a device function."""
    variable = writer.in_function(name)
    if variable is None and not writer.function.entry:
        known = {variable.name: variable for variable in (*writer.function.results, *writer.function.parameters)}
        variable = known.get(name)
    return (f"c_{plain(name)}", variable.size) if variable else None


def _load(writer: FunctionWriter, opcode: str, operands: list[str]) -> list[str]:
    space, strengths, count, type_ = _access(writer, opcode)
    c_type, width = C_TYPES[type_], int(type_[1:]) // 8
    at, (targets, address) = writer.fresh("at"), operands
    lines = [f"standin_yield(t, {writer.site});"] if strengths - {"weak"} and space != "param" else []
    lines.append(f"const {c_type} *{at} = (const {c_type} *){_place(writer, address, space, width * count)};")
    names = _vector(writer, targets, count)
    copies = [f"{c_type} {at}_{i} = {at}[{i}];" for i in range(count)]  # a register may be address and target
    return ["{", *lines, *copies, *(writer.write(name, type_, f"{at}_{i}") for i, name in enumerate(names)), "}"]


def _store(writer: FunctionWriter, opcode: str, operands: list[str]) -> list[str]:
    space, _, count, type_ = _access(writer, opcode)
    c_type, width = C_TYPES[type_], int(type_[1:]) // 8
    at, (address, sources) = writer.fresh("at"), operands
    if space == "const":
        raise writer.refuse("stores to constants")
    lines = [f"{c_type} *{at} = ({c_type} *){_place(writer, address, space, width * count)};"]
    values = _vector(writer, sources, count)
    lines += [f"{at}[{i}] = {writer.read(name, type_)};" for i, name in enumerate(values)]
    return ["{", *lines, "}"]


def _vector(writer: FunctionWriter, operand: str, count: int) -> list[str]:
    names = [part.strip() for part in operand.strip("{} \n\t").split(",")]
    if len(names) != count or (count > 1) != operand.startswith("{"):
        raise writer.refuse("has another number of values than its type says")
    return names


def _atomic(writer: FunctionWriter, opcode: str, operands: list[str]) -> list[str]:
    first, *parts, type_ = opcode.split(".")
    operations = [part for part in parts if part in ATOMIC]
    spaces = [part for part in parts if part in ("global", "shared")]
    rest = set(parts) - set(ATOMIC) - {"global", "shared"} - STRENGTHS - SCOPES
    if len(operations) != 1 or rest or type_ not in C_TYPES or type_[1:] not in ("32", "64"):
        raise writer.refuse()
    if type_[0] == "f" and operations[0] not in ("add", "exch"):
        raise writer.refuse()
    c_type, width, at = C_TYPES[type_], int(type_[1:]) // 8, writer.fresh("at")
    target, address, *values = operands if first == "atom" else ["_", *operands]
    if len(values) != (2 if operations[0] == "cas" else 1):
        raise writer.refuse()
    place = _place(writer, address, spaces[0] if spaces else "generic", width)
    named = [f"{c_type} {name} = {writer.read(value, type_)};" for name, value in zip("bc", values, strict=False)]
    return [
        "{", *named, f"{c_type} *{at} = ({c_type} *){place};", f"{c_type} old = *{at};", f"*{at} = {ATOMIC[operations[0]]};",
        writer.write(target, type_, "old"), f"standin_yield(t, {writer.site});", "}",
    ]  # fmt: skip


def _convert_address(writer: FunctionWriter, opcode: str, operands: list[str]) -> list[str]:
    match = re.fullmatch(r"cvta(\.to)?\.(global|const|shared|local)\.(u64)", opcode)
    if match is None:
        raise writer.refuse()
    window = {"shared": "SHARED_WINDOW", "local": "LOCAL_WINDOW"}.get(match[2], "0ull")
    value = f"{writer.read(operands[1], 'u64')} {'-' if match[1] else '+'} {window}"
    return [writer.write(operands[0], "u64", value)]


def _move(writer: FunctionWriter, opcode: str, operands: list[str]) -> list[str]:
    match = re.fullmatch(r"mov\.(pred|[busf](?:16|32|64))", opcode)
    if match is None or len(operands) != 2:
        raise writer.refuse()
    target, source = operands
    bits = match[1][1:]
    if source.startswith("{"):
        parts = [part.strip() for part in source.strip("{} \n\t").split(",")]
        width = int(bits) // len(parts)
        pieces = (f"((uint64_t){writer.read(part, f'b{width}')} << {i * width})" for i, part in enumerate(parts))
        return [writer.write(target, f"b{bits}", " | ".join(pieces))]
    if target.startswith("{"):
        parts = [part.strip() for part in target.strip("{} \n\t").split(",")]
        width, whole = int(bits) // len(parts), writer.fresh("whole")
        pieces = (writer.write(part, f"b{width}", f"{whole} >> {i * width}") for i, part in enumerate(parts))
        return ["{", f"uint64_t {whole} = {writer.read(source, f'b{bits}')};", *pieces, "}"]
    return [writer.write(target, match[1], writer.read(source, match[1]))]


def _copy(writer: FunctionWriter, opcode: str, operands: list[str]) -> list[str]:
    if opcode == "cp.async.commit_group":
        return ["standin_commit(t);"]
    if opcode == "cp.async.wait_all":
        return [f"standin_wait(t, {writer.site}, 0, 1);"]
    if opcode == "cp.async.wait_group":
        return [f"standin_wait(t, {writer.site}, {writer.read(operands[0], 'u32')}, 0);"]
    if not re.fullmatch(r"cp\.async\.c[ag]\.shared\.global", opcode) or len(operands) not in (3, 4):
        raise writer.refuse()
    shared, source = (re.fullmatch(r"\[\s*(%?[\w$]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand) for operand in operands[:2])
    if shared is None or source is None:
        raise writer.refuse()
    places = (f"{writer.read(part[1], 'u64')} + {int(part[2] or '0', 0) % (1 << 64)}ull" for part in (shared, source))
    size = writer.read(operands[2], "u32")
    taken = writer.read(operands[3], "u32") if len(operands) == 4 else size
    return [f"standin_copy(t, {writer.site}, {', '.join(places)}, {size}, {taken});"]
