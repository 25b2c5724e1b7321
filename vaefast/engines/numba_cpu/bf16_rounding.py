"""Rounding rows of a panel to bfloat16, as they stand and transposed. The layouts are those of bf16_tiles.py.

round_plain, round_both    rows of 16 float32, in the plain layout or in both
round_weight_rows          the same of weights, in both
turn_tile                  16 rows in the paired layout, and transposed in the paired layout
"""

from __future__ import annotations

import contextlib

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vaefast.engines.numba_cpu.bf16_tiles import PAIR, store_pair
from vaefast.engines.numba_cpu.bf16_vectors import (
    FLOATS,
    INT16,
    constant,
    load_floats,
    pair_rows,
    round_rows,
    store_words,
)
from vaefast.engines.numba_cpu.tiles import takes_steps
from vaefast.engines.numba_cpu.vectors import data_of, index_of, pointer_of
from vaefast.models.layout import PANEL

NOTHING = ir.Constant(FLOATS, [0.0] * PANEL)


def make_round_tile(targets: int):
    """round_tile(source, s, rows, out, plain, paired): rows of 16 float32 from source[s], to elements of `out`, from an even
    row on; `paired` is for two targets. An odd last row has a row of zeros behind it."""

    @intrinsic
    def round_tile(typing, source, s, rows, out, plain, paired):
        n = types.intp
        signature = types.void(source, n, n, out, n, n)

        def codegen(context, builder, signature, args):
            source = pointer_of(context, builder, signature, args, 0)
            elements = builder.bitcast(data_of(context, builder, signature, args, 3), INT16.as_pointer())
            _round_pairs(builder, source, args[2], [builder.gep(elements, [args[4 + i]]) for i in range(targets)])
            return context.get_dummy_value()

        return signature, codegen

    return round_tile


def _round_pairs(builder, source, rows, targets):
    """Rows of 16 float32, by pairs, to each target."""

    def store(pair, second_row):
        shift = builder.mul(pair, index_of(PAIR))
        row = builder.gep(source, [shift])
        moved = [builder.gep(target, [shift]) for target in targets]
        store_pair(builder, load_floats(builder, row), second_row(row), moved)

    pairs = builder.ashr(rows, index_of(1))
    with cgutils.for_range(builder, pairs) as pair:
        store(pair.index, lambda row: load_floats(builder, row, PANEL))
    with builder.if_then(builder.icmp_signed("!=", builder.and_(rows, index_of(1)), index_of(0))):
        store(pairs, lambda row: NOTHING)


round_plain, round_both = make_round_tile(1), make_round_tile(2)


@intrinsic
def round_weight_rows(typing, weights, w, rows, plain, paired):
    """`round_both` within the parameters of these weights; nothing where they take the gradient and stay as they are."""
    n = types.intp
    signature = types.void(weights, n, n, n, n)

    def codegen(context, builder, signature, args):
        if takes_steps(signature.args[0]):
            kind, field = signature.args[0], signature.args[0].fields.index("parameters")
            parameters = context.make_array(kind[field])(context, builder, builder.extract_value(args[0], field)).data
            elements = builder.bitcast(parameters, INT16.as_pointer())
            targets = [builder.gep(elements, [args[i]]) for i in (3, 4)]
            _round_pairs(builder, builder.gep(parameters, [args[1]]), args[2], targets)
        return context.get_dummy_value()

    return signature, codegen


def make_turn_tile(whole: bool):
    """turn_tile(source, s, rows, out, paired, T, t): 16 rows of 16 float32 from source[s], or the first `rows` of them unless
    `whole`, and zeros for the others.

    The pairs that have a row go to elements of `out`; the transposed block, (16, 16) in the paired layout, to elements of T:
    row j of the source's columns 2 p and 2 p + 1 is word j of pair p.
    """

    @intrinsic
    def turn_tile(typing, source, s, rows, out, paired, T, t):
        n = types.intp
        signature = types.void(source, n, n, out, n, T, n)

        def codegen(context, builder, signature, args):
            source, rows = pointer_of(context, builder, signature, args, 0), args[2]
            elements, turned = (
                builder.gep(builder.bitcast(data_of(context, builder, signature, args, i), INT16.as_pointer()), [args[i + 1]])
                for i in (3, 5)
            )
            pairs = []
            for i in range(0, PANEL, 2):
                first, second = (_row(builder, source, rows, i + j, whole) for j in range(2))
                rounded = round_rows(builder, first, second)
                with _where(builder, rows, i, whole):
                    store_words(builder, pair_rows(builder, rounded), elements, i * PANEL)
                pairs.append(rounded)
            # Row j, word p stands at place 8 j + p of all vectors. Each round moves the lowest bit of a place to the top:
            # after three it is 16 p + j.
            for _ in range(3):
                pairs = _even_and_odd(builder, pairs)
            for p, words in enumerate(pairs):
                store_words(builder, words, turned, p * PAIR)
            return context.get_dummy_value()

        return signature, codegen

    return turn_tile


def _row(builder, source, rows, i, whole):
    """Row i, or zeros where it is not among the first rows."""
    if whole:
        return load_floats(builder, source, i * PANEL)
    there = builder.icmp_signed("<", index_of(i), rows)
    # What lies behind the last row belongs to others.
    place = builder.select(there, index_of(i * PANEL), index_of(0))
    return builder.select(there, load_floats(builder, builder.gep(source, [place])), NOTHING)


def _where(builder, rows, i, whole):
    """The code that follows is for blocks that have a row i."""
    if whole:
        return contextlib.nullcontext()
    return builder.if_then(builder.icmp_signed("<", index_of(i), rows))


def _even_and_odd(builder, vectors):
    """The words at even places of all vectors, then those at odd places."""
    result = []
    for start in (0, 1):
        order = constant(range(start, 2 * PANEL, 2))
        result += [builder.shuffle_vector(*vectors[i : i + 2], order) for i in range(0, len(vectors), 2)]
    return result


turn_whole, turn_some = make_turn_tile(True), make_turn_tile(False)
