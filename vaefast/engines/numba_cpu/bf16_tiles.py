"""Register tiles of products whose factors are bfloat16 and whose sums are float32.

Every output element is one chain of `add_pairs` over pairs of the inner index, ascending, whatever the tile's shape. An odd
last index is paired with zero. Two layouts of a matrix of bfloat16 in panels of 16 columns, both of which may stand in memory
of float32, two elements in the place of one:

    plain    element (i, j) at (j // 16) * panel_stride + i * 16 + j % 16: a pair along j is one word, as a tile takes its left
             operand
    paired   word (i // 2, j) is elements (i, j) and (i + 1, j), at (j // 16) * panel_stride + i * 16 + 2 * (j % 16): a pair of
             rows of a panel is one vector, as a tile takes its right operand; the row that a last odd one lacks is zero

In both a pair of rows of a panel is the same 32 elements, so strides and offsets of the two are alike.

    product_tile   C[i, j] = start[i, j] + sum_k A[i, k] * W[k, j]   A plain, W paired
    gradient_tile  G[i, j] = sum_b A[b, i] * D[b, j]                 A and D paired; i within one panel of A
    update_tile    the same, and Adam on the weights while the gradient is in registers, and the new weights rounded

Each array argument is followed by the offset of its first element, which counts float32 of C, start, G and the weights, and
bfloat16 of the others; strides likewise.
"""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vaefast.engines.numba_cpu.bf16_vectors import (
    INT16,
    add_pairs,
    broadcast_word,
    constant,
    elements_of,
    load_floats,
    load_words,
    pair_rows,
    round_rows,
    store_floats,
    store_words,
    sums_in_registers,
)
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.tiles import takes_steps, weight_step
from vaefast.engines.numba_cpu.vectors import VECTORS, index_of, pointer_of
from vaefast.models.layout import PANEL

PAIR = 2 * PANEL  # elements of a pair of rows of a panel


def make_product_tile(rows: int, panels: int):
    """product_tile(A, a, a_panel, W, w, w_panel, start, s, s_row, s_panel, C, c, c_panel, K): rows x (panels * 16) of C."""

    @intrinsic
    def product_tile(typing, A, a, a_panel, W, w, w_panel, start, s, s_row, s_panel, C, c, c_panel, K):
        n = types.intp
        signature = types.void(A, n, n, W, n, n, start, n, n, n, C, n, n, n)

        def codegen(context, builder, signature, args):
            A, W = (elements_of(context, builder, signature, args, i) for i in (0, 3))
            start, C = (pointer_of(context, builder, signature, args, i) for i in (6, 10))
            a_panel, w_panel, s_row, s_panel, c_panel, K = args[2], args[5], args[8], args[9], args[12], args[13]
            sums = sums_in_registers(builder, rows, panels)
            for i, row in enumerate(sums):
                for panel, slot in enumerate(row):
                    shift = builder.add(builder.mul(s_row, index_of(i)), builder.mul(s_panel, index_of(panel)))
                    builder.store(load_floats(builder, builder.gep(start, [shift])), slot)
            _add_products(builder, A, a_panel, W, w_panel, K, sums)
            for i, row in enumerate(sums):
                for panel, slot in enumerate(row):
                    target = builder.gep(C, [builder.mul(c_panel, index_of(panel))])
                    store_floats(builder, builder.load(slot), target, i * PANEL)
            return context.get_dummy_value()

        return signature, codegen

    return product_tile


def _add_products(builder, A, a_panel, W, w_panel, K, sums):
    """sums[i] += A[i, k] * W[k] for k from 0 to K - 1, in registers; the columns of A go by panels."""
    pairs = builder.ashr(builder.add(K, index_of(1)), index_of(1))
    a_panels = builder.ashr(builder.add(K, index_of(PANEL - 1)), index_of(4))
    with cgutils.for_range(builder, a_panels) as panel:
        A_panel = builder.gep(A, [builder.mul(panel.index, a_panel)])
        first = builder.mul(panel.index, index_of(PANEL // 2))
        left = builder.sub(pairs, first)
        depth = builder.select(builder.icmp_signed("<", left, index_of(PANEL // 2)), left, index_of(PANEL // 2))
        with cgutils.for_range(builder, depth) as pair:
            W_row = builder.gep(W, [builder.mul(builder.add(first, pair.index), index_of(PAIR))])
            right = _panel_words(builder, W_row, w_panel, len(sums[0]))
            A_column = builder.gep(A_panel, [builder.mul(pair.index, index_of(2))])
            for i, row in enumerate(sums):
                word = broadcast_word(builder, A_column, i * PANEL)
                for words, slot in zip(right, row, strict=True):
                    add_pairs(builder, word, words, slot)


def _panel_words(builder, row, panel_stride, panels):
    """The words of one pair of rows in each panel, left to right."""
    starts = (builder.gep(row, [builder.mul(panel_stride, index_of(panel))]) for panel in range(panels))
    return [load_words(builder, start) for start in starts]


def _gradient(builder, A, D, d_panel, B, rows, panels):
    """The sums of a gradient tile over B rows, in registers."""
    sums = sums_in_registers(builder, rows, panels)
    with cgutils.for_range(builder, builder.ashr(builder.add(B, index_of(1)), index_of(1))) as pair:
        offset = builder.mul(pair.index, index_of(PAIR))
        right = _panel_words(builder, builder.gep(D, [offset]), d_panel, panels)
        A_row = builder.gep(A, [offset])
        for i, row in enumerate(sums):
            word = broadcast_word(builder, A_row, 2 * i)
            for words, slot in zip(right, row, strict=True):
                add_pairs(builder, word, words, slot)
    return sums


def make_gradient_tile(rows: int, panels: int):
    """gradient_tile(A, a, D, d, d_panel, G, g, g_panel, B): rows x (panels * 16) elements of G."""

    @intrinsic
    def gradient_tile(typing, A, a, D, d, d_panel, G, g, g_panel, B):
        n = types.intp
        signature = types.void(A, n, D, n, n, G, n, n, n)

        def codegen(context, builder, signature, args):
            A, D = (elements_of(context, builder, signature, args, i) for i in (0, 2))
            G = pointer_of(context, builder, signature, args, 5)
            for i, row in enumerate(_gradient(builder, A, D, args[4], args[8], rows, panels)):
                for panel, slot in enumerate(row):
                    target = builder.gep(G, [builder.mul(args[7], index_of(panel))])
                    store_floats(builder, builder.load(slot), target, i * PANEL)
            return context.get_dummy_value()

        return signature, codegen

    return gradient_tile


def make_update_tile(rows: int, panels: int):
    """update_tile(A, a, D, d, d_panel, weights, w, w_panel, plain, paired, r_panel, adam, B): rows x (panels * 16) weights.

    The gradient never leaves the registers. The new weights go to `weights.parameters`, in float32 from w, and rounded to
    bfloat16 from `plain` and from `paired`. Where `weights` takes the gradient instead, nothing is rounded.

    Adam spread over the products of the next tile was tried, to hide its roots and divisions, and gained nothing: 200 x 784
    weights of 200 rows took 340 us either way, of which the products are 275.
    """

    @intrinsic
    def update_tile(typing, A, a, D, d, d_panel, weights, w, w_panel, plain, paired, r_panel, adam, B):
        n = types.intp
        signature = types.void(A, n, D, n, n, weights, n, n, n, n, n, adam, n)

        def codegen(context, builder, signature, args):
            A, D = (elements_of(context, builder, signature, args, i) for i in (0, 2))
            gradient = _gradient(builder, A, D, args[4], args[12], rows, panels)
            step = weight_step(context, builder, signature.args[5], args[5], args[11])
            for panel in range(panels):
                start = builder.add(args[6], builder.mul(args[7], index_of(panel)))
                for i in range(rows):
                    _update_row(builder, step, start, i * PANEL, builder.load(gradient[i][panel]))
                if takes_steps(signature.args[5]):
                    shift = builder.mul(args[10], index_of(panel))
                    rounded = builder.bitcast(step.parameters, INT16.as_pointer())
                    targets = [builder.gep(rounded, [builder.add(args[place], shift)]) for place in (8, 9)]
                    updated = builder.gep(step.parameters, [start])
                    for i in range(0, rows, 2):
                        pair = [load_floats(builder, updated, row * PANEL) for row in (i, i + 1)]
                        store_pair(builder, *pair, targets, i * PANEL)
            return context.get_dummy_value()

        return signature, codegen

    return update_tile


def _update_row(builder, step, start, shift, gradient):
    """The step of 16 weights, in vectors of this CPU."""
    for piece in range(VECTORS):
        lanes = constant(range(piece * UNIT.lanes, (piece + 1) * UNIT.lanes))
        place = builder.add(start, index_of(shift + piece * UNIT.lanes))
        step.update(place, builder.shuffle_vector(gradient, gradient, lanes))


def store_pair(builder, first, second, targets, place=0):
    """Two rows of 16 float32, rounded, to pointers of a plain matrix and, if there is one, of a paired matrix.

    They go to a constant number of elements behind each.
    """
    rounded = round_rows(builder, first, second)
    store_words(builder, rounded, targets[0], place)
    for paired in targets[1:]:
        store_words(builder, pair_rows(builder, rounded), paired, place)
