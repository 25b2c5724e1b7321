"""Instructions of PTX on the stand-in against integers, fractions and NumPy; run by `tests/engines/test_cuda_engine.py`.

One kernel for each instruction: thread i applies it to the i-th of its operands. What is expected is computed here from the
words of the PTX ISA, with nothing of the stand-in's.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from operator import add, mul, sub

import numpy as np
import pytest
from gpu.standin.raw import Driver

THREADS = 256
U32, U64 = 1 << 32, 1 << 64
FLOATS = [
    0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.5, 1 / 3, -2 / 3, 1e-45, -1e-45, 1e-39, 2.0**-126, 3.4e38, -3.4e38, 2.0**127,
    255.5, 65535.7, -129.3, 4294967296.0, 2147483648.0, -2147483904.0, 1e20, -1e20, math.inf, -math.inf, math.nan, 7.75,
    1 + 2**-23,
]  # fmt: skip
INTEGERS = [0, 1, 2, 3, 5, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 0x7FFF, 0x8000, 0xFFFF]


def words(bits: int, rng: np.random.Generator) -> list[int]:
    special = [*INTEGERS, (1 << (bits - 1)) - 1, 1 << (bits - 1), (1 << bits) - 1, (1 << bits) - 2, (1 << bits) - 32]
    special = [word % (1 << bits) for word in special]
    drawn = [int.from_bytes(rng.bytes(bits // 8), "little") for _ in range(THREADS)]
    return [special[rng.integers(len(special))] if rng.random() < 0.5 else word for word in drawn]


def singles(rng: np.random.Generator) -> list[float]:
    drawn = rng.standard_normal(THREADS) * 10.0 ** rng.integers(-20, 20, THREADS)
    chosen = [FLOATS[rng.integers(len(FLOATS))] if rng.random() < 0.5 else value for value in drawn]
    return [float(np.float32(value)) for value in chosen]


def signed(word: int, bits: int) -> int:
    return word - (1 << bits) if word >> (bits - 1) else word


def to_single(value: Fraction, mode: str) -> float:
    """A fraction other than 0 to float32: nearest even (n), toward zero (z), down (m) or up (p)."""
    size, negative = abs(value), value < 0
    exponent = max(math.floor(math.log2(size.numerator) - math.log2(size.denominator)) - 24, -149)
    while size / Fraction(2) ** exponent >= 1 << 24:
        exponent += 1
    while exponent > -149 and size / Fraction(2) ** exponent < 1 << 23:
        exponent -= 1
    scaled = size / Fraction(2) ** exponent
    whole, rest = int(scaled), scaled - int(scaled)
    up = {"n": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2), "z": False, "m": negative, "p": not negative}[
        mode
    ]
    whole += bool(up and rest)
    result = math.inf if whole == 1 << 24 and exponent == 104 else math.ldexp(whole, exponent)
    return -result if negative else result


Terms = Callable[..., tuple[float, ...]]


def arithmetic(mode: str, exact: Callable[..., Fraction], terms: Terms | None = None) -> Callable[..., float]:
    """What is special is float64's, and all else exact and then rounded; of a sum the signs of its terms, (sign, sign)."""

    def result(*values: float) -> float:
        with np.errstate(all="ignore"):
            special = float(exact(*(np.float64(value) for value in values)))
        if not all(map(math.isfinite, values)):
            return special
        fraction = exact(*(Fraction(value) for value in values))
        if fraction == 0:
            different = terms is not None and len({*terms(*(math.copysign(1, value) for value in values))}) == 2
            return (-0.0 if mode == "m" else 0.0) if different else special
        largest = Fraction(float(np.finfo(np.float32).max))
        if (mode == "n" and abs(fraction) < largest * 2) or abs(fraction) <= largest:
            return to_single(fraction, mode)
        inward = mode == "z" or ((mode == "m") == (fraction > 0) and mode != "n")
        return math.copysign(float(largest) if inward else math.inf, fraction)

    return result


def integral(value: float, mode: str) -> int:
    return {"n": round, "z": math.trunc, "m": math.floor, "p": math.ceil}[mode](value)


def to_integer(mode: str, bits: int, is_signed: bool) -> Callable[[float], int]:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if is_signed else (0, (1 << bits) - 1)

    def result(value: float) -> int:
        if math.isnan(value):
            return 1 << 63 if bits == 64 else 0
        if math.isinf(value):
            return (high if value > 0 else low) % (1 << bits)
        return min(high, max(low, integral(value, mode))) % (1 << bits)

    return result


def tf32(value: float) -> int:
    """10 bits of mantissa, ties away from zero."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    if not math.isfinite(value):
        return bits if math.isinf(value) else 0x7FFFFFFF
    return (bits + 0x1000) & 0xFFFFE000


def flush(value: float) -> float:
    return math.copysign(0.0, value) if abs(value) < 2.0**-126 else value


def field(a: int, place: int, length: int, bits: int, is_signed: bool) -> int:
    place, length = place & 255, length & 255
    value = (a >> place) & ((1 << length) - 1) if place < bits else 0
    if not is_signed:
        return value
    if length == 0:
        return 0
    last = min(place + length - 1, bits - 1)
    kept = min(length, max(0, bits - place))
    negative = a >> last & 1
    return (value | (~((1 << kept) - 1) if negative else 0)) % (1 << bits)


def inserted(a: int, b: int, place: int, length: int, bits: int) -> int:
    place, length = place & 255, length & 255
    mask = (((1 << length) - 1) << place) % (1 << bits)
    return (b & ~mask) | (a << place & mask)


def permuted(a: int, b: int, selection: int) -> int:
    data = a.to_bytes(4, "little") + b.to_bytes(4, "little")
    result = 0
    for i in range(4):
        select = selection >> 4 * i & 15
        byte = data[select & 7]
        result |= ((255 if byte > 127 else 0) if select & 8 else byte) << 8 * i
    return result


def least(greatest: bool, nan: bool = False) -> Callable[[float, float], float]:
    def result(a: float, b: float) -> float:
        if math.isnan(a) or math.isnan(b):
            return math.nan if nan or (math.isnan(a) and math.isnan(b)) else b if math.isnan(a) else a
        key = [(value, math.copysign(1, value)) for value in (a, b)]
        return (a if key[0] > key[1] else b) if greatest else (a if key[0] < key[1] else b)

    return result


@dataclass(frozen=True)
class Instruction:
    """A text of PTX with %d, %a, %b, %c in it, the types of these, and what it should leave in %d."""

    text: str
    types: str  # of d and of each operand: u, s of 16, 32, 64 bits as h, i, l (capital: signed), f, p
    expected: Callable[..., float | int]


PTX_TYPES = {"h": "u16", "i": "u32", "I": "s32", "l": "u64", "L": "s64", "f": "f32", "H": "s16"}
BITS = {"h": 16, "H": 16, "i": 32, "I": 32, "l": 64, "L": 64}


def _two(name: str, letter: str, function: Callable[[int, int], int]) -> Instruction:
    return Instruction(f"{name}.{PTX_TYPES[letter]} %d, %a, %b;", letter * 3, function)


def _divided(a: int, b: int) -> int:
    return int(Fraction(a, b)) if b else -1


def _compared(relation: str, function: Callable[[float, float], bool]) -> Instruction:
    text = f"{{ .reg .pred q; setp.{relation}.f32 q, %a, %b; selp.u32 %d, 7, 9, q; }}"
    return Instruction(text, "iff", lambda a, b: 7 if function(a, b) else 9)


def _fused(a, b, c):
    return a * b + c


def _saturated_sum(a: float, b: float) -> float:
    total = arithmetic("n", add)(a, b)
    return 0.0 if math.isnan(total) or total <= 0 else min(total, 1.0)


def _unordered(a: float, b: float) -> bool:
    return math.isnan(a) or math.isnan(b)


CASES = [
    *(_two("add", letter, lambda a, b: a + b) for letter in "hil"),
    *(_two("sub", letter, lambda a, b: a - b) for letter in "hil"),
    *(_two("mul.lo", letter, lambda a, b: a * b) for letter in "hIlL"),
    *(_two("mul.hi", letter, lambda a, b, n=BITS[letter]: a * b >> n) for letter in "iIlL"),
    *(_two("div", letter, _divided) for letter in "iIlL"),
    *(_two("rem", letter, lambda a, b: a - b * _divided(a, b) if b else a) for letter in "iIlL"),
    *(_two("min", letter, min) for letter in "iIlL"),
    *(_two("max", letter, max) for letter in "iIlL"),
    Instruction("mul.wide.u32 %d, %a, %b;", "lii", lambda a, b: a * b),
    Instruction("mul.wide.s32 %d, %a, %b;", "LII", lambda a, b: a * b),
    Instruction("mul.wide.u16 %d, %a, %b;", "ihh", lambda a, b: a * b),
    Instruction("mad.lo.s32 %d, %a, %b, %c;", "IIII", lambda a, b, c: a * b + c),
    Instruction("mad.hi.u32 %d, %a, %b, %c;", "iiii", lambda a, b, c: (a * b >> 32) + c),
    Instruction("mad.wide.u32 %d, %a, %b, %c;", "liil", lambda a, b, c: a * b + c),
    Instruction("abs.s32 %d, %a;", "II", abs),
    Instruction("neg.s64 %d, %a;", "LL", lambda a: -a),
    Instruction("and.b32 %d, %a, %b;", "iii", lambda a, b: a & b),
    Instruction("or.b64 %d, %a, %b;", "lll", lambda a, b: a | b),
    Instruction("xor.b16 %d, %a, %b;", "hhh", lambda a, b: a ^ b),
    Instruction("not.b64 %d, %a;", "ll", lambda a: ~a),
    Instruction("cnot.b32 %d, %a;", "ii", lambda a: int(a == 0)),
    *(
        Instruction(f"shl.b{n} %d, %a, %b;", f"{x}{x}i", lambda a, b: a << min(b, 64))
        for n, x in ((16, "h"), (32, "i"), (64, "l"))
    ),
    *(
        Instruction(f"shr.u{n} %d, %a, %b;", f"{x}{x}i", lambda a, b: a >> min(b, 64))
        for n, x in ((16, "h"), (32, "i"), (64, "l"))
    ),
    *(
        Instruction(f"shr.s{n} %d, %a, %b;", f"{x}{x}i", lambda a, b: a >> min(b, 64))
        for n, x in ((16, "H"), (32, "I"), (64, "L"))
    ),
    Instruction("shf.l.wrap.b32 %d, %a, %b, %c;", "iiii", lambda a, b, c: ((b << 32 | a) << (c & 31)) >> 32),
    Instruction("shf.r.clamp.b32 %d, %a, %b, %c;", "iiii", lambda a, b, c: (b << 32 | a) >> min(c, 32)),
    Instruction("popc.b64 %d, %a;", "il", lambda a: a.bit_count()),
    Instruction("clz.b32 %d, %a;", "ii", lambda a: 32 - a.bit_length()),
    Instruction("bfind.s32 %d, %a;", "iI", lambda a: (a if a >= 0 else ~a).bit_length() - 1),
    Instruction("brev.b32 %d, %a;", "ii", lambda a: int(f"{a:032b}"[::-1], 2)),
    Instruction("bfe.u32 %d, %a, %b, %c;", "iiii", lambda a, b, c: field(a, b, c, 32, False)),
    Instruction("bfe.s64 %d, %a, %b, %c;", "llii", lambda a, b, c: field(a, b, c, 64, True)),
    Instruction("bfi.b64 %d, %a, %b, 4, 60;", "lll", lambda a, b: inserted(a, b, 4, 60, 64)),
    Instruction("bfi.b32 %d, %a, %b, %c, 9;", "iiii", lambda a, b, c: inserted(a, b, c, 9, 32)),
    Instruction("prmt.b32 %d, %a, %b, %c;", "iiii", permuted),
    Instruction("lop3.b32 %d, %a, %b, %c, 0xE8;", "iiii", lambda a, b, c: (a & b) | (a & c) | (b & c)),
    Instruction("{ .reg .b32 s; add.cc.u32 s, %a, %b; addc.u32 %d, %c, 0; }", "iiii", lambda a, b, c: c + (a + b >> 32)),
    Instruction("{ .reg .b64 s; sub.cc.u64 s, %a, %b; subc.u64 %d, %c, 0; }", "llll", lambda a, b, c: c - (a < b)),
    Instruction("{ .reg .b32 s, t; mov.b64 {s, t}, %a; mov.b64 %d, {t, s}; }", "ll", lambda a: a >> 32 | a << 32),
    Instruction("{ .reg .f32 s; mov.b32 s, %a; mov.b32 %d, s; }", "ii", lambda a: a),
    Instruction(
        "@!%p0 bra $OTHER; mov.u32 %d, 1; bra.uni $END; $OTHER: mov.u32 %d, 2; $END:", "iip", lambda a, p: 1 if p else 2
    ),
    Instruction(
        "{ .reg .pred q; setp.gt.and.s32 q, %a, %b, %p0; selp.b32 %d, 1, 0, q; }", "iIIp", lambda a, b, p: int(a > b and p)
    ),
    Instruction("{ .reg .pred q, r; setp.lt.u32 q|r, %a, %b; selp.b32 %d, 5, 0, r; }", "iii", lambda a, b: 0 if a < b else 5),
    Instruction("set.eq.u32.s32 %d, %a, %b;", "iII", lambda a, b: U32 - 1 if a == b else 0),
    _compared("lt", lambda a, b: a < b),
    _compared("equ", lambda a, b: _unordered(a, b) or a == b),
    _compared("ne", lambda a, b: not _unordered(a, b) and a != b),
    _compared("geu", lambda a, b: _unordered(a, b) or a >= b),
    _compared("num", lambda a, b: not _unordered(a, b)),
    *(Instruction(f"add.r{mode}.f32 %d, %a, %b;", "fff", arithmetic(mode, add, lambda a, b: (a, b))) for mode in "nzmp"),
    *(Instruction(f"sub.r{mode}.f32 %d, %a, %b;", "fff", arithmetic(mode, sub, lambda a, b: (a, -b))) for mode in "nzmp"),
    *(Instruction(f"mul.r{mode}.f32 %d, %a, %b;", "fff", arithmetic(mode, mul)) for mode in "nzmp"),
    *(
        Instruction(f"fma.r{mode}.f32 %d, %a, %b, %c;", "ffff", arithmetic(mode, _fused, lambda a, b, c: (a * b, c)))
        for mode in "nzmp"
    ),
    Instruction("add.f32 %d, %a, %b;", "fff", arithmetic("n", add, lambda a, b: (a, b))),
    Instruction("mul.ftz.f32 %d, %a, %b;", "fff", lambda a, b: flush(arithmetic("n", mul)(flush(a), flush(b)))),
    Instruction("add.sat.f32 %d, %a, %b;", "fff", _saturated_sum),
    Instruction("min.f32 %d, %a, %b;", "fff", least(False)),
    Instruction("max.f32 %d, %a, %b;", "fff", least(True)),
    Instruction("max.NaN.f32 %d, %a, %b;", "fff", least(True, True)),
    Instruction("abs.f32 %d, %a;", "ff", abs),
    Instruction("neg.f32 %d, %a;", "ff", lambda a: -a),
    Instruction("copysign.f32 %d, %a, %b;", "fff", lambda a, b: math.copysign(b, a)),
    Instruction("selp.f32 %d, %a, %b, %p0;", "fffp", lambda a, b, p: a if p else b),
    *(Instruction(f"cvt.r{mode}i.s32.f32 %d, %a;", "if", to_integer(mode, 32, True)) for mode in "nzmp"),
    Instruction("cvt.rzi.u64.f32 %d, %a;", "lf", to_integer("z", 64, False)),
    Instruction("cvt.rzi.s64.f32 %d, %a;", "lf", to_integer("z", 64, True)),
    Instruction("cvt.rni.u16.f32 %d, %a;", "hf", to_integer("n", 16, False)),
    Instruction("cvt.rni.f32.f32 %d, %a;", "ff", lambda a: math.copysign(round(a), a) if math.isfinite(a) else a),
    Instruction("cvt.sat.f32.f32 %d, %a;", "ff", lambda a: 0.0 if math.isnan(a) or a <= 0 else min(a, 1.0)),
    *(
        Instruction(f"cvt.r{mode}.f32.u64 %d, %a;", "fl", lambda a, m=mode: to_single(Fraction(a), m) if a else 0.0)
        for mode in "nzmp"
    ),
    *(
        Instruction(f"cvt.r{mode}.f32.s32 %d, %a;", "fI", lambda a, m=mode: to_single(Fraction(a), m) if a else 0.0)
        for mode in "nm"
    ),
    Instruction("cvt.s64.s16 %d, %a;", "LH", lambda a: a),
    Instruction("cvt.u32.u16 %d, %a;", "ih", lambda a: a),
    Instruction("cvt.u16.u64 %d, %a;", "hl", lambda a: a),
    Instruction("cvt.sat.u16.s32 %d, %a;", "hI", lambda a: min(65535, max(0, a))),
    Instruction("cvt.sat.s16.s64 %d, %a;", "hL", lambda a: min(32767, max(-32768, a))),
    Instruction("cvt.rna.tf32.f32 %d, %a;", "if", tf32),
]


def kernel(number: int, case: Instruction) -> str:
    """Its operands stand in arrays of 8 bytes an element."""
    text = case.text
    names = [f"%{name}" for name in "abc"]
    lines = [f".visible .entry k{number}(.param .u64 d, .param .u64 a, .param .u64 b, .param .u64 c) {{"]
    lines += [".reg .pred %p<2>; .reg .b64 %at<8>; .reg .b32 %i<4>; .reg .f32 %rf<4>; .reg .b16 %rh<4>; .reg .b64 %rl<4>;"]
    lines += ["mov.u32 %i0, %tid.x; mul.wide.u32 %at0, %i0, 8;"]
    registers = {"f": "%rf", "h": "%rh", "H": "%rh", "l": "%rl", "L": "%rl"}
    loads = []
    for i, (letter, name) in enumerate(zip(case.types[1:], "abc", strict=False), 1):
        loads.append(f"ld.param.u64 %at{i}, [{name}]; add.s64 %at{i}, %at{i}, %at0;")
        if letter == "p":
            loads.append(f"ld.global.u32 %i0, [%at{i}]; setp.ne.u32 %p0, %i0, 0;")
            continue
        register = f"{registers.get(letter, '%i')}{i}"
        loads.append(f"ld.global.{PTX_TYPES[letter]} {register}, [%at{i}];")
        text = text.replace(names[i - 1], register)
    target = f"{registers.get(case.types[0], '%i')}0"
    lines += [*loads, text.replace("%d", target), "ld.param.u64 %at4, [d]; add.s64 %at4, %at4, %at0;"]
    lines += [f"st.global.{PTX_TYPES[case.types[0]]} [%at4], {target}; ret; }}"]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def driver():
    return Driver()


@pytest.fixture(scope="module")
def module(driver):
    return driver.module("\n".join(kernel(i, case) for i, case in enumerate(CASES)))


def operand(letter: str, rng: np.random.Generator) -> list:
    if letter == "f":
        return singles(rng)
    return [int(value) for value in rng.integers(0, 2, THREADS)] if letter == "p" else words(BITS[letter], rng)


def packed(letter: str, values: list) -> np.ndarray:
    result = np.zeros(THREADS, np.uint64)
    if letter == "f":
        result.view(np.float32)[::2] = values
        return result
    return result + np.array([int(value) for value in values], np.uint64)


def different(values: list[list], got: np.ndarray, exact: np.ndarray) -> list[tuple]:
    rows = zip(*values, got, exact, strict=True)
    return [row for row in rows if row[-1] != row[-2]][:3]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.text for case in CASES])
def test_an_instruction_leaves_what_the_isa_says(driver, module, number):
    case = CASES[number]
    rng = np.random.default_rng(number)
    raw = [operand(letter, rng) for letter in case.types[1:]]
    places = [driver.put(packed(letter, values)) for letter, values in zip(case.types[1:], raw, strict=True)]
    out = driver.put(np.zeros(THREADS, np.uint64))
    module.run(f"k{number}", out, *places, *[0] * (3 - len(places)), block=THREADS)
    result = driver.get(out, np.zeros(THREADS, np.uint64))
    driver.free(out, *places)
    values = [[signed(v, BITS[x]) if x in "HIL" else v for v in column] for x, column in zip(case.types[1:], raw, strict=True)]
    wanted = [case.expected(*row) for row in zip(*values, strict=True)]
    if case.types[0] == "f":
        got = result.view(np.float32)[::2]
        with np.errstate(over="ignore"):
            exact = np.array(wanted, np.float32)
        assert np.array_equal(got, exact, equal_nan=True), different(values, got, exact)
        numbers = ~np.isnan(exact)
        assert np.array_equal(np.signbit(got[numbers]), np.signbit(exact[numbers]))
    else:
        exact = np.array([value % (1 << BITS[case.types[0]]) for value in wanted], np.uint64)
        assert np.array_equal(result, exact), different(values, result, exact)


APPROXIMATIONS = {
    "ex2.approx.ftz.f32": (np.exp2, np.linspace(-20, 20, THREADS)),
    "lg2.approx.f32": (np.log2, np.linspace(0.01, 90, THREADS)),
    "sin.approx.f32": (np.sin, np.linspace(-3, 3, THREADS)),
    "cos.approx.f32": (np.cos, np.linspace(-3, 3, THREADS)),
    "tanh.approx.f32": (np.tanh, np.linspace(-4, 4, THREADS)),
    "rsqrt.approx.f32": (lambda x: 1 / np.sqrt(x), np.linspace(0.01, 9, THREADS)),
    "rcp.approx.ftz.f32": (lambda x: 1 / x, np.linspace(0.01, 9, THREADS)),
    "rcp.rn.f32": (lambda x: 1 / x, np.linspace(-9, -0.01, THREADS)),
    "sqrt.rn.f32": (np.sqrt, np.linspace(0, 9, THREADS)),
}


def test_approximations_approximate(driver):
    texts = [Instruction(f"{name} %d, %a;", "ff", abs) for name in APPROXIMATIONS]
    loaded = driver.module("\n".join(kernel(i, text) for i, text in enumerate(texts)))
    for i, (name, (function, inputs)) in enumerate(APPROXIMATIONS.items()):
        inputs = inputs.astype(np.float32)
        out, place = driver.put(np.zeros(THREADS, np.uint64)), driver.put(packed("f", list(inputs)))
        loaded.run(f"k{i}", out, place, 0, 0, block=THREADS)
        got = driver.get(out, np.zeros(THREADS, np.uint64)).view(np.float32)[::2]
        assert np.allclose(got, function(inputs.astype(np.float64)), rtol=2e-7, atol=2e-7), name


MMA = """
.visible .entry mma(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d) {
  .reg .b32 %r<20>; .reg .f32 %f<8>; .reg .b64 %l<8>;
  ld.param.u64 %l0, [a]; ld.param.u64 %l1, [b]; ld.param.u64 %l2, [c]; ld.param.u64 %l3, [d];
  mov.u32 %r0, %laneid;
  mul.wide.u32 %l4, %r0, 16; add.s64 %l0, %l0, %l4; add.s64 %l2, %l2, %l4; add.s64 %l3, %l3, %l4;
  mul.wide.u32 %l5, %r0, 8; add.s64 %l1, %l1, %l5;
  ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%l0];
  ld.global.v2.u32 {%r5, %r6}, [%l1];
  ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%l2];
  mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f0,%f1,%f2,%f3}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f0,%f1,%f2,%f3};
  st.global.v4.f32 [%l3], {%f0, %f1, %f2, %f3};
  ret;
}
"""


def test_mma_multiplies_fragments_as_documented(driver):
    """PTX ISA, "Matrix fragments for mma.m16n8k8": lane = 4 * group + thread; powers of two show where each element goes."""
    rng = np.random.default_rng(1)
    a, b, c = (rng.integers(-16, 16, shape).astype(np.float32) for shape in ((16, 8), (8, 8), (16, 8)))
    a += np.float32(2**-13)  # below what the tensor core reads
    parts_a, parts_b, parts_c = np.zeros((32, 4), np.float32), np.zeros((32, 2), np.float32), np.zeros((32, 4), np.float32)
    rows, columns = np.zeros((32, 4), int), np.zeros((32, 4), int)
    for lane in range(32):
        group, thread = divmod(lane, 4)
        for i in range(4):
            parts_a[lane, i] = a[group if i in (0, 2) else group + 8, thread if i < 2 else thread + 4]
            rows[lane, i], columns[lane, i] = group if i < 2 else group + 8, thread * 2 + (i & 1)
            parts_c[lane, i] = c[rows[lane, i], columns[lane, i]]
        for i in range(2):
            parts_b[lane, i] = b[thread if i == 0 else thread + 4, group]
    places = [driver.put(part) for part in (parts_a, parts_b, parts_c)]
    out = driver.allocate(parts_c.nbytes)
    driver.module(MMA).run("mma", *places, out)
    got = driver.get(out, np.zeros((32, 4), np.float32))
    kept = a.view(np.uint32) & np.uint32(0xFFFFE000)
    exact = kept.view(np.float32).astype(np.float64) @ b + c
    assert np.array_equal(got, exact[rows, columns].astype(np.float32))
    assert not np.array_equal(got, (a.astype(np.float64) @ b + c)[rows, columns].astype(np.float32))


WARP = """
.visible .entry warp(.param .u64 out) {
  .reg .b32 %r<20>; .reg .b64 %l<4>; .reg .pred %p<4>;
  ld.param.u64 %l0, [out];
  mov.u32 %r0, %tid.x; mul.wide.u32 %l1, %r0, 32; add.s64 %l0, %l0, %l1;
  mul.lo.u32 %r1, %r0, 10;
  shfl.sync.up.b32 %r2, %r1, 3, 0, -1;
  shfl.sync.down.b32 %r3|%p0, %r1, 5, 0x101f, -1;
  shfl.sync.bfly.b32 %r4, %r1, 17, 31, -1;
  shfl.sync.idx.b32 %r5, %r1, 9, 31, -1;
  setp.gt.u32 %p1, %r0, 20;
  vote.sync.ballot.b32 %r6, %p1, -1;
  selp.u32 %r7, 1, 0, %p0;
  st.global.v2.u32 [%l0+16], {%r2, %r3};
  st.global.v4.u32 [%l0], {%r4, %r5, %r6, %r7};
  ret;
}
"""


def test_shuffles_and_votes(driver):
    out = driver.allocate(32 * 32)
    driver.module(WARP).run("warp", out)
    got = driver.get(out, np.zeros((32, 8), np.uint32))
    lanes = np.arange(32)
    assert np.array_equal(got[:, 4], 10 * np.where(lanes >= 3, lanes - 3, lanes))
    inside = lanes % 16 + 5 < 16  # halves of a warp: segment mask 16
    assert np.array_equal(got[:, 5], 10 * np.where(inside, lanes + 5, lanes))
    assert np.array_equal(got[:, 0], 10 * (lanes ^ 17))
    assert np.array_equal(got[:, 1], np.full(32, 90))
    assert np.array_equal(got[:, 2], np.full(32, 0xFFE00000))
    assert np.array_equal(got[:, 3], inside.astype(int))


CALLS = """
.global .align 4 .u32 counter = 40;
.const .align 4 .u32 table[3] = {7, 8, 9};
.func (.param .b32 back) twice(.param .b32 value) {
  .reg .b32 %r<3>;
  ld.param.u32 %r0, [value]; add.u32 %r1, %r0, %r0; st.param.b32 [back], %r1; ret;
}
.visible .entry calls(.param .u64 out, .param .u32 four) {
  .local .align 8 .b8 depot[16];
  .reg .b32 %r<10>; .reg .b64 %l<8>;
  ld.param.u64 %l0, [out]; ld.param.u32 %r0, [four];
  mov.u32 %r1, %tid.x;
  { .param .b32 p0; st.param.b32 [p0], %r1; .param .b32 q0; call.uni (q0), twice, (p0); ld.param.b32 %r2, [q0]; }
  mov.u64 %l1, depot; cvta.local.u64 %l2, %l1;
  st.u32 [%l2+4], %r2; ld.local.u32 %r3, [%l1+4];
  mov.u64 %l3, table; ld.const.u32 %r4, [%l3+8];
  atom.global.add.u32 %r5, [counter], 1;
  rem.u32 %r6, %r1, 3;
  tab: .branchtargets A, B, C;
  brx.idx %r6, tab;
  A: add.u32 %r3, %r3, %r0; bra.uni D;
  B: add.u32 %r3, %r3, %r4; bra.uni D;
  C: add.u32 %r3, %r3, 100;
  D: mul.wide.u32 %l4, %r1, 8; add.s64 %l0, %l0, %l4;
  st.global.v2.u32 [%l0], {%r3, %r5};
  ret;
}
"""


def test_calls_tables_constants_counters_and_a_threads_own_memory(driver):
    out = driver.allocate(32 * 8)
    driver.module(CALLS).run("calls", out, 4)
    got = driver.get(out, np.zeros((32, 2), np.uint32))
    lanes = np.arange(32)
    assert np.array_equal(got[:, 0], 2 * lanes + np.array([4, 9, 100])[lanes % 3])
    assert sorted(got[:, 1]) == list(range(40, 72))


COPIES = """
.shared .align 16 .b8 stage[512];
.visible .entry copies(.param .u64 from, .param .u64 out) {
  .reg .b32 %r<8>; .reg .b64 %l<8>; .reg .f32 %f<8>;
  ld.param.u64 %l0, [from]; ld.param.u64 %l1, [out];
  mov.u32 %r0, %tid.x; mul.wide.u32 %l2, %r0, 16;
  add.s64 %l0, %l0, %l2; add.s64 %l1, %l1, %l2;
  mov.u64 %l3, stage; add.s64 %l3, %l3, %l2;
  cp.async.cg.shared.global [%l3], [%l0], 16, 8;
  cp.async.commit_group;
  ld.shared.f32 %f0, [%l3];
  cp.async.wait_group 0;
  ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%l3];
  st.global.v4.f32 [%l1], {%f0, %f1, %f2, %f3};
  ret;
}
"""


def test_an_asynchronous_copy_arrives_when_it_is_waited_for(driver):
    values = np.arange(128, dtype=np.float32)
    place, out = driver.put(values), driver.allocate(512)
    driver.module(COPIES).run("copies", place, out)
    got = driver.get(out, np.zeros((32, 4), np.float32))
    assert np.isnan(got[:, 0]).all()
    assert np.array_equal(got[:, 1:3], values.reshape(32, 4)[:, :2])
    assert (got[:, 3] == 0).all()  # bytes past the source are zero
