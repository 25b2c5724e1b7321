"""Instructions that compute in registers alone, as expressions of C; what they mean is in `c/arithmetic.h`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

C_TYPES = {
    "pred": "int", "f32": "float", "f64": "double",
    **{f"{kind}{bits}": f"uint{bits}_t" for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": f"int{bits}_t" for bits in (8, 16, 32, 64)},
}  # fmt: skip
Write = Callable[[Sequence[str]], str]


class Computation(NamedTuple):
    """The types of an instruction's result and operands, and what writes its value in C."""

    result: str
    operands: tuple[str, ...]
    write: Write


def computation(opcode: str) -> Computation | None:
    """What an opcode computes; None where it is no computation that is known."""
    for known in (_integer, _bits, _float, _comparison, _selection, _conversion):
        found = known(opcode)
        if found:
            return found
    return None


def _call(name: str) -> Write:
    return lambda values: f"{name}({', '.join(values)})"


def _integer(opcode: str) -> Computation | None:
    if match := re.fullmatch(r"(add|sub|mul\.lo)\.[us](16|32|64)", opcode):
        type_ = f"u{match[2]}"
        return Computation(type_, (type_, type_), _call(f"{match[1].replace('.', '_')}_{type_}"))
    if match := re.fullmatch(r"(div|rem|min|max|mul\.hi)\.([us](?:16|32|64))", opcode):
        return Computation(match[2], (match[2], match[2]), _call(f"{match[1].replace('.', '_')}_{match[2]}"))
    if match := re.fullmatch(r"mul\.wide\.([us])(16|32)", opcode):
        narrow, wide = f"{match[1]}{match[2]}", f"{match[1]}{2 * int(match[2])}"
        return Computation(wide, (narrow, narrow), _call(f"mul_wide_{narrow}"))
    if match := re.fullmatch(r"mad\.(lo|hi|wide)\.([us])(16|32|64)", opcode):
        product = _integer(f"mul.{match[1]}.{match[2]}{match[3]}")
        if product is None:
            return None
        add = f"add_u{product.result[1:]}"
        return Computation(
            product.result,
            (*product.operands, product.result),
            lambda values: f"{add}({product.write(values[:2])}, {values[2]})",
        )
    if match := re.fullmatch(r"(abs|neg)\.s(16|32|64)", opcode):
        type_ = ("s" if match[1] == "abs" else "u") + match[2]
        return Computation(type_, (type_,), _call(f"{match[1]}_{type_}"))
    return None


def _bits(opcode: str) -> Computation | None:
    if match := re.fullmatch(r"(and|or|xor|not|cnot)\.(b(?:16|32|64))", opcode):
        operands = 1 if "not" in match[1] else 2
        return Computation(match[2], (match[2],) * operands, _call(f"{match[1]}_{match[2]}"))
    if match := re.fullmatch(r"(and|or|xor|not)\.pred", opcode):
        if match[1] == "not":
            return Computation("pred", ("pred",), lambda values: f"!{values[0]}")
        sign = {"and": "&", "or": "|", "xor": "^"}[match[1]]
        return Computation("pred", ("pred", "pred"), lambda values: f"({values[0]} {sign} {values[1]})")
    if match := re.fullmatch(r"(shl)\.(b(?:16|32|64))|(shr)\.([bus](?:16|32|64))", opcode):
        type_ = match[2] or match[4].replace("b", "u")
        return Computation(type_, (type_, "u32"), _call(f"{match[1] or match[3]}_{type_}"))
    if match := re.fullmatch(r"(popc|clz)\.(b32|b64)|(bfind)\.([us](?:32|64))", opcode):
        return Computation("u32", (match[2] or match[4],), _call(f"{match[1] or match[3]}_{match[2] or match[4]}"))
    if match := re.fullmatch(r"brev\.(b32|b64)", opcode):
        return Computation(match[1], (match[1],), _call(f"brev_{match[1]}"))
    if match := re.fullmatch(r"bfe\.([us])(32|64)", opcode):
        return Computation(f"u{match[2]}", (match[1] + match[2], "u32", "u32"), _call(f"bfe_{match[1]}{match[2]}"))
    if match := re.fullmatch(r"bfi\.(b32|b64)", opcode):
        return Computation(match[1], (match[1], match[1], "u32", "u32"), _call(f"bfi_{match[1]}"))
    operands = {"lop3.b32": 4, "prmt.b32": 3} | {f"shf.{way}.{end}.b32": 3 for way in "lr" for end in ("wrap", "clamp")}
    if opcode in operands:
        return Computation("b32", ("b32",) * operands[opcode], _call(opcode.replace(".", "_")))
    return None


FLOATS = {
    r"(add|sub|mul)(?:\.(r[nzmp]))?": 2,
    r"(fma|mad)\.(r[nzmp])": 3,
    r"(div)\.(rn|full|approx)": 2,
    r"(rcp|sqrt)\.(rn|approx)": 1,
    r"(rsqrt|sin|cos|lg2|ex2|tanh)\.(approx)": 1,
    r"(min|max)()": 2,
    r"(abs|neg)()": 1,
    r"(copysign)()": 2,
}
WIDE = re.compile(r"((add|sub|mul|fma|div|sqrt|rcp)_rn|(min|max|abs|neg|copysign))_f64")


def _float(opcode: str) -> Computation | None:
    tried = (
        (re.fullmatch(pattern + r"(\.ftz)?(\.NaN)?(\.sat)?\.(f32|f64)", opcode), count) for pattern, count in FLOATS.items()
    )
    match, operands = next(((match, count) for match, count in tried if match), (None, 0))
    if match is None:
        return None
    operation, rounding, ftz, nan, sat, type_ = match.groups()
    operation = "fma" if operation == "mad" else operation
    if rounding is None:
        rounding = "rn"
    name = f"{operation}{'_' + rounding if rounding else ''}{'_NaN' if nan else ''}_{type_}"
    if (nan and operation not in ("min", "max")) or (type_ == "f64" and (not WIDE.fullmatch(name) or ftz)):
        return None

    def write(values: Sequence[str]) -> str:
        text = _call(name)([f"flushed({value})" for value in values] if ftz else values)
        text = f"flushed({text})" if ftz else text
        return f"saturated_{type_}({text})" if sat else text

    return Computation(type_, (type_,) * operands, write)


ORDERED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
COMPARE = r"(eq|ne|lt|le|gt|ge|lo|ls|hi|hs|equ|neu|ltu|leu|gtu|geu|num|nan)"


def _comparison(opcode: str) -> Computation | None:
    match = re.fullmatch(rf"(setp|set)\.{COMPARE}(?:\.(and|or|xor))?(\.ftz)?(?:\.([us]32|f32))?\.([busf](?:16|32|64))", opcode)
    if match is None or (match[1] == "set") != (match[5] is not None) or match[6] == "f16":
        return None
    kind, relation, combine, ftz, result, type_ = match.groups()
    if type_[0] != "f" and (relation not in ORDERED or ftz):
        return None
    types = (type_, type_, "pred") if combine else (type_, type_)

    def write(values: Sequence[str]) -> str:
        a, b = (f"flushed({value})" if ftz else value for value in values[:2])
        text = _relation(relation, a, b, type_[0] == "f")
        if combine:
            text = f"({text} {dict(zip(('and', 'or', 'xor'), '&|^', strict=True))[combine]} {values[2]})"
        if kind == "set":
            return f"({text} ? {'1.0f' if result == 'f32' else '0xFFFFFFFFu'} : 0)"
        return text

    return Computation(result or "pred", types, write)


def _relation(relation: str, a: str, b: str, is_float: bool) -> str:
    if not is_float:
        return f"({a} {ORDERED[relation]} {b})"
    unordered = f"(isnan({a}) | isnan({b}))"
    if relation in ("num", "nan"):
        return f"(!{unordered})" if relation == "num" else unordered
    if relation.endswith("u"):
        return f"({unordered} | ({a} {ORDERED[relation[:-1]]} {b}))"
    return f"(!{unordered} & ({a} {ORDERED[relation]} {b}))"


def _selection(opcode: str) -> Computation | None:
    if match := re.fullmatch(r"selp\.([busf](?:16|32|64))", opcode):
        return Computation(match[1], (match[1], match[1], "pred"), lambda values: f"({values[2]} ? {values[0]} : {values[1]})")
    if match := re.fullmatch(r"testp\.(finite|infinite|number|notanumber|normal|subnormal)\.(f32|f64)", opcode):
        test = {
            "finite": "isfinite({})", "infinite": "isinf({})", "number": "!isnan({})", "notanumber": "isnan({})",
            "normal": "isnormal({})", "subnormal": "(fpclassify({}) == FP_SUBNORMAL)",
        }[match[1]]  # fmt: skip
        return Computation("pred", (match[2],), lambda values: f"(!!{test.format(values[0])})")
    return None


def _conversion(opcode: str) -> Computation | None:
    if opcode in ("cvt.rna.tf32.f32", "cvt.rn.tf32.f32"):
        return Computation("b32", ("f32",), _call(opcode.replace(".", "_")))
    match = re.fullmatch(
        r"cvt(?:\.(r[nzmp]i?))?(\.ftz)?(\.sat)?\.([us](?:8|16|32|64)|f32|f64)\.([us](?:8|16|32|64)|f32|f64)", opcode
    )
    if match is None:
        return None
    rounding, ftz, sat, to, of = match.groups()
    write = _converted(rounding or "", bool(ftz), bool(sat), to, of)
    return write and Computation(to, (of,), lambda values: write(values[0]))


def _converted(rounding: str, ftz: bool, sat: bool, to: str, of: str) -> Callable[[str], str] | None:
    """What converts a value, where PTX has such a conversion."""
    mode = f"'{rounding[1]}'" if rounding else None
    flush = (lambda value: f"flushed({value})") if ftz else (lambda value: value)
    if to[0] != "f" and of[0] != "f":
        return None if rounding or ftz else _between_integers(sat, to, of)
    if to[0] != "f":  # always saturates
        if not rounding.endswith("i"):
            return None
        name = "to_signed" if to[0] == "s" else "to_unsigned"
        return lambda value: f"({C_TYPES[to]}){name}({flush(value)}, {mode}, {to[1:]}, {int(of == 'f64')})"
    if of[0] != "f":
        if rounding == "rn":
            return lambda value: _saturated(sat, to, f"({C_TYPES[to]})({value})")
        if to == "f64" or rounding not in ("rz", "rm", "rp"):
            return None
        return lambda value: _saturated(sat, to, f"from_{'signed' if of[0] == 's' else 'unsigned'}({value}, {mode})")
    if to == of:
        if rounding.endswith("i"):
            return lambda value: _saturated(sat, to, f"({C_TYPES[to]})integral({flush(value)}, {mode})")
        return None if rounding else (lambda value: _saturated(sat, to, flush(value)))
    if to == "f64":
        return None if rounding else (lambda value: _saturated(sat, to, f"(double){flush(value)}"))
    if rounding == "rn":
        return lambda value: _saturated(sat, to, flush(f"(float){value}"))
    return (
        (lambda value: _saturated(sat, to, flush(f"directed({value}, 0, {mode})"))) if rounding in ("rz", "rm", "rp") else None
    )


def _saturated(sat: bool, type_: str, value: str) -> str:
    return f"saturated_{type_}({value})" if sat else value


def _between_integers(sat: bool, to: str, of: str) -> Callable[[str], str]:
    if not sat:
        return lambda value: f"({C_TYPES[to]})({C_TYPES[of]})({value})"
    bits = int(to[1:])
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if to[0] == "s" else (0, (1 << bits) - 1)
    literals = f"-(wide_signed){-low}u" if -low < 1 << 32 else f"-(wide_signed){-low}ull", f"(wide_signed){high}ull"

    def write(value: str) -> str:
        wide = f"(wide_signed)({C_TYPES[of]})({value})"
        return f"({C_TYPES[to]})({wide} < {literals[0]} ? {literals[0]} : {wide} > {literals[1]} ? {literals[1]} : {wide})"

    return write
