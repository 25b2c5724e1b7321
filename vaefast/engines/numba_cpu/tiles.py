"""Register tiles: the inner loops of every product, as LLVM intrinsics.

A tile computes a small block of the output with all its accumulators in vector registers, in one loop over the inner
dimension, and touches memory once at the end. Every output element is one chain of fused multiply-adds in ascending
order of the inner index, whatever the tile's shape or the vector width: tiles of different shapes agree bit for bit
with each other and with the plain loops in `tests/`, and so do one thread and many.

Layouts (PANEL = 16; `layout.py`): element (i, j) of a matrix in panels stands at (j // 16) * panel_stride + i * 16 + j % 16.

    product_tile   C[i, j] = start[i, j] + sum_k A[i, k] * W[k, j]   activations forward; activation gradients backward
    update_tile    the same, and Adam on the weights while the gradient is in registers
    gradient_tile  G[i, j] = sum_b A[b, i] * D[b, j]                 weight gradients, i within one panel of A
    gather_tile    C[j]    = start[j] + sum_n value[n] * W[index[n], j]    the first layer from a list of non-zero pixels
    transpose_tile T[j, i] = W[i, j]                                 a block of 16 rows of a panel
    fold_tile      T[j, i] = P[i, j] + Q[i, j]                             the same of the sum of two blocks
    scatter_tile   G[index[n], j] += value[n] * D[j]                       its weight gradient, one image at a time

Each array argument is followed by the offset of its first element; strides count elements.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.vectors import (
    INDEX,
    INT32,
    VECTOR,
    VECTORS,
    broadcast,
    data_of,
    in_register,
    index_of,
    load_vector,
    multiply_add,
    panel_vectors,
    pointer_of,
    splat,
    store_panels,
)
from vaefast.models.layout import PANEL


def make_product_tile(rows: int, panels: int):
    """product_tile(A, a, a_panel, W, w, w_panel, start, s, C, c, c_panel, K): rows x (panels * 16) elements of C."""

    @intrinsic
    def product_tile(typing, A, a, a_panel, W, w, w_panel, start, s, s_row, s_panel, C, c, c_panel, K):
        n = types.intp
        signature = types.void(A, n, n, W, n, n, start, n, n, n, C, n, n, n)

        def codegen(context, builder, signature, args):
            A, W, start, C = (pointer_of(context, builder, signature, args, i) for i in (0, 3, 6, 10))
            a_panel, w_panel, s_row, s_panel, c_panel, K = args[2], args[5], args[8], args[9], args[12], args[13]
            sums = []
            for i in range(rows):
                row = builder.gep(start, [builder.mul(s_row, index_of(i))])
                sums.append([in_register(builder, value) for value in panel_vectors(builder, row, s_panel, panels)])
            _add_products(builder, A, a_panel, W, w_panel, K, sums, panels)
            for i in range(rows):
                store_panels(builder, builder.gep(C, [index_of(i * PANEL)]), c_panel, sums[i])
            return context.get_dummy_value()

        return signature, codegen

    return product_tile


def _add_products(builder, A, a_panel, W, w_panel, K, sums, panels):
    """sums[i] += A[i, k] * W[k] for k from 0 to K - 1, in registers; the columns of A go by panels."""
    whole = builder.lshr(builder.add(K, index_of(PANEL - 1)), index_of(4))
    with cgutils.for_range(builder, whole) as panel:
        A_panel = builder.gep(A, [builder.mul(panel.index, a_panel)])
        first = builder.mul(panel.index, index_of(PANEL))
        left = builder.sub(K, first)
        depth = builder.select(builder.icmp_signed("<", left, index_of(PANEL)), left, index_of(PANEL))
        with cgutils.for_range(builder, depth) as k:
            W_row = builder.gep(W, [builder.mul(builder.add(first, k.index), index_of(PANEL))])
            right = panel_vectors(builder, W_row, w_panel, panels)
            A_column = builder.gep(A_panel, [k.index])
            for i, row in enumerate(sums):
                multiply_add(builder, broadcast(builder, A_column, i * PANEL), right, row)


def make_gradient_tile(rows: int, panels: int):
    """gradient_tile(A, a, D, d, d_panel, G, g, g_panel, B): rows x (panels * 16) elements of G."""

    @intrinsic
    def gradient_tile(typing, A, a, D, d, d_panel, G, g, g_panel, B):
        n = types.intp
        signature = types.void(A, n, D, n, n, G, n, n, n)

        def codegen(context, builder, signature, args):
            A, D, G = (pointer_of(context, builder, signature, args, i) for i in (0, 2, 5))
            d_panel, g_panel, B = args[4], args[7], args[8]
            for i, sums in enumerate(_gradient(builder, A, D, d_panel, B, rows, panels)):
                store_panels(builder, builder.gep(G, [index_of(i * PANEL)]), g_panel, sums)
            return context.get_dummy_value()

        return signature, codegen

    return gradient_tile


def _gradient(builder, A, D, d_panel, B, rows, panels):
    """The sums of a gradient tile, in registers."""
    zero = ir.Constant(VECTOR, [0.0] * UNIT.lanes)
    sums = [[in_register(builder, zero) for _ in range(panels * VECTORS)] for _ in range(rows)]
    with cgutils.for_range(builder, B) as b:
        offset = builder.mul(b.index, index_of(PANEL))
        right = panel_vectors(builder, builder.gep(D, [offset]), d_panel, panels)
        A_row = builder.gep(A, [offset])
        for i in range(rows):
            multiply_add(builder, broadcast(builder, A_row, i), right, sums[i])
    return sums


def make_update_tile(rows: int, panels: int):
    """update_tile(A, a, D, d, d_panel, weights, w, w_panel, adam, B): rows x (panels * 16) weights from w, by Adam.

    The gradient is that of `gradient_tile`; it never leaves the registers. `weights` and `adam` are the tuples of weights.py,
    or `weights` is one of gradients.py and takes the gradient instead (`weight_step`).
    """

    @intrinsic
    def update_tile(typing, A, a, D, d, d_panel, weights, w, w_panel, adam, B):
        n = types.intp
        signature = types.void(A, n, D, n, n, weights, n, n, adam, n)

        def codegen(context, builder, signature, args):
            A, D = (pointer_of(context, builder, signature, args, i) for i in (0, 2))
            d_panel, w_panel, B = args[4], args[7], args[9]
            gradient = _gradient(builder, A, D, d_panel, B, rows, panels)
            step = weight_step(context, builder, signature.args[5], args[5], args[8])
            for i, row in enumerate(gradient):
                for column, slot in enumerate(row):
                    panel = builder.mul(w_panel, index_of(column // VECTORS))
                    place = builder.add(args[6], index_of(i * PANEL + column % VECTORS * UNIT.lanes))
                    step.update(builder.add(place, panel), builder.load(slot))
            return context.get_dummy_value()

        return signature, codegen

    return update_tile


@intrinsic
def adam_tile(typing, G, g, weights, w, count, adam):
    """Adam on `count` whole panel rows of weights from w, contiguous as is their gradient from G[g]."""
    n = types.intp
    signature = types.void(G, n, weights, n, n, adam)

    def codegen(context, builder, signature, args):
        G = pointer_of(context, builder, signature, args, 0)
        step = weight_step(context, builder, signature.args[2], args[2], args[5])
        with cgutils.for_range(builder, builder.mul(args[4], index_of(VECTORS))) as vector:
            offset = builder.mul(vector.index, index_of(UNIT.lanes))
            step.update(builder.add(args[3], offset), load_vector(builder, builder.gep(G, [offset]), 0))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def scaled_adam_tile(typing, G, g, weights, w, count, adam, scale):
    """`adam_tile` with the gradient times a float32; the weights may be a part of the model of which G is the gradient."""
    n = types.intp
    signature = types.void(G, n, weights, n, n, adam, scale)

    def codegen(context, builder, signature, args):
        G = pointer_of(context, builder, signature, args, 0)
        step, factor = _AdamStep(context, builder, signature.args[2], args[2], args[5]), splat(builder, args[6])
        with cgutils.for_range(builder, builder.mul(args[4], index_of(VECTORS))) as vector:
            offset = builder.mul(vector.index, index_of(UNIT.lanes))
            gradient = builder.fmul(load_vector(builder, builder.gep(G, [offset]), 0), factor)
            step.update(builder.add(args[3], offset), gradient)
        return context.get_dummy_value()

    return signature, codegen


def weight_step(context, builder, weights_type, weights, adam):
    """What happens to a gradient, chosen by the *type* of the weights: Adam, or those with a `gradient` take it as it is."""
    if takes_steps(weights_type):
        return _AdamStep(context, builder, weights_type, weights, adam)
    return _GradientStore(context, builder, weights_type, weights)


def takes_steps(weights_type):
    """Whether weights of this type take a step of Adam at the tile."""
    return "gradient" not in weights_type.fields


class _GradientStore:
    """Emits gradient[offset] = factor * g for one vector of weights."""

    def __init__(self, context, builder, weights_type, weights):
        self.builder = builder
        array, factor = (weights_type.fields.index(name) for name in ("gradient", "factor"))
        self.gradient = context.make_array(weights_type[array])(context, builder, builder.extract_value(weights, array)).data
        self.factor = splat(builder, builder.extract_value(weights, factor))

    def update(self, offset, g):
        target = self.builder.bitcast(self.builder.gep(self.gradient, [offset]), VECTOR.as_pointer())
        self.builder.store(self.builder.fmul(self.factor, g), target).align = 4


class _AdamStep:
    """Emits Kingma & Ba (2015), algorithm 1, for one vector of weights: (14), (15) and (16)."""

    def __init__(self, context, builder, weights_type, weights, adam):
        self.builder = builder
        # The first three members are the parameters and their first and second moments.
        self.parameters, self.first_moments, self.second_moments = (
            context.make_array(weights_type[i])(context, builder, builder.extract_value(weights, i)).data for i in range(3)
        )
        scalars = [splat(builder, builder.extract_value(adam, i)) for i in range(7)]
        self.beta1, self.beta2, self.rest1, self.rest2, self.epsilon, self.size, self.correction = scalars

    def update(self, offset, g):
        """Padded columns have gradient 0 and stay 0."""
        builder, fma = self.builder, self._fma
        m = fma(self.beta1, self._read(self.first_moments, offset), builder.fmul(self.rest1, g))
        v = fma(self.beta2, self._read(self.second_moments, offset), builder.fmul(self.rest2, builder.fmul(g, g)))
        self._write(m, self.first_moments, offset)
        self._write(v, self.second_moments, offset)
        # The exact root and quotient take 38 cycles for 16 lanes of AVX-512, where approximations with a step of Newton take
        # six. They would save 3 % of an epoch at batch 20 and nothing at 200, and other bits would come out on other CPUs.
        root = self._call("llvm.sqrt.v{lanes}f32", [builder.fmul(v, self.correction)])
        change = builder.fdiv(builder.fmul(self.size, m), builder.fadd(root, self.epsilon))
        self._write(builder.fsub(self._read(self.parameters, offset), change), self.parameters, offset)

    def _call(self, name, arguments):
        kind = ir.FunctionType(VECTOR, [VECTOR] * len(arguments))
        function = cgutils.get_or_insert_function(self.builder.module, kind, name.format(lanes=UNIT.lanes))
        return self.builder.call(function, arguments)

    def _fma(self, a, b, c):
        if UNIT.fused:
            return self._call("llvm.fma.v{lanes}f32", [a, b, c])
        return self.builder.fadd(self.builder.fmul(a, b), c)

    def _read(self, array, offset):
        return load_vector(self.builder, self.builder.gep(array, [offset]), 0)

    def _write(self, value, array, offset):
        target = self.builder.bitcast(self.builder.gep(array, [offset]), VECTOR.as_pointer())
        self.builder.store(value, target).align = 4


def make_gather_tile(panels: int):
    """gather_tile(W, w, w_panel, index, value, first, count, start, s, s_panel, C, c, c_panel): panels * 16 elements of C.

    Entries first to first + count - 1 of `index` and `value` are summed.
    """

    @intrinsic
    def gather_tile(typing, W, w, w_panel, index, value, first, count, start, s, s_panel, C, c, c_panel):
        n = types.intp
        signature = types.void(W, n, n, index, value, n, n, start, n, n, C, n, n)

        def codegen(context, builder, signature, args):
            W, start, C = (pointer_of(context, builder, signature, args, i) for i in (0, 7, 10))
            index, value = (builder.gep(data_of(context, builder, signature, args, i), [args[5]]) for i in (3, 4))
            w_panel, count, s_panel, c_panel = args[2], args[6], args[9], args[12]
            sums = [in_register(builder, vector) for vector in panel_vectors(builder, start, s_panel, panels)]
            with cgutils.for_range(builder, count) as entry:
                row = builder.zext(builder.load(builder.gep(index, [entry.index])), INDEX)
                W_row = builder.gep(W, [builder.mul(row, index_of(PANEL))])
                scalar = broadcast(builder, builder.gep(value, [entry.index]), 0)
                multiply_add(builder, scalar, panel_vectors(builder, W_row, w_panel, panels), sums)
            store_panels(builder, C, c_panel, sums)
            return context.get_dummy_value()

        return signature, codegen

    return gather_tile


def make_scatter_tile(panels: int):
    """scatter_tile(D, d, d_panel, index, value, first, count, base, G, g, g_panel): adds to rows index[n] - base of G.

    Entries first to first + count - 1 of `index` and `value` are used; D's panels * 16 elements stay in registers.
    """

    @intrinsic
    def scatter_tile(typing, D, d, d_panel, index, value, first, count, base, G, g, g_panel):
        n = types.intp
        signature = types.void(D, n, n, index, value, n, n, n, G, n, n)

        def codegen(context, builder, signature, args):
            D, G = (pointer_of(context, builder, signature, args, i) for i in (0, 8))
            index, value = (builder.gep(data_of(context, builder, signature, args, i), [args[5]]) for i in (3, 4))
            d_panel, count, base, g_panel = args[2], args[6], args[7], args[10]
            right = panel_vectors(builder, D, d_panel, panels)
            with cgutils.for_range(builder, count) as entry:
                row = builder.sub(builder.zext(builder.load(builder.gep(index, [entry.index])), INDEX), base)
                G_row = builder.gep(G, [builder.mul(row, index_of(PANEL))])
                sums = [in_register(builder, vector) for vector in panel_vectors(builder, G_row, g_panel, panels)]
                multiply_add(builder, broadcast(builder, builder.gep(value, [entry.index]), 0), right, sums)
                store_panels(builder, G_row, g_panel, sums)
            return context.get_dummy_value()

        return signature, codegen

    return scatter_tile


@intrinsic
def transpose_tile(typing, W, w, T, t):
    """Element (i, j) of a block, W[w + 16 i + j], to T[t + 16 j + i]; 16 x 16, by interleaving vectors in registers."""
    n = types.intp
    signature = types.void(W, n, T, n)

    def codegen(context, builder, signature, args):
        W, T = (pointer_of(context, builder, signature, args, i) for i in (0, 2))
        _transpose_block(builder, lambda place: load_vector(builder, W, place), T)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def fold_tile(typing, P, p, q, T, t):
    """Element (i, j) of the sum of two blocks, P[p + 16 i + j] + P[q + 16 i + j], to T[t + 16 j + i]."""
    n = types.intp
    signature = types.void(P, n, n, T, n)

    def codegen(context, builder, signature, args):
        first, T = (pointer_of(context, builder, signature, args, i) for i in (0, 3))
        second = builder.gep(data_of(context, builder, signature, args, 0), [args[2]])

        def vector(place):
            return builder.fadd(load_vector(builder, first, place), load_vector(builder, second, place))

        _transpose_block(builder, vector, T)
        return context.get_dummy_value()

    return signature, codegen


def _transpose_block(builder, vector, T):
    """Emits the transposition of the 16 x 16 block whose vector at an offset is vector(offset)."""
    side = UNIT.lanes
    for top in range(0, PANEL, side):
        for left in range(0, PANEL, side):
            rows = [vector((top + i) * PANEL + left) for i in range(side)]
            # Interleaving row i with row i + side / 2, log2(side) times, transposes a square.
            for _ in range(side.bit_length() - 1):
                rows = _interleave_halves(builder, rows)
            for j, row in enumerate(rows):
                target = builder.gep(T, [index_of((left + j) * PANEL + top)])
                builder.store(row, builder.bitcast(target, VECTOR.as_pointer())).align = 4


def _interleave_halves(builder, rows):
    """Rows 2 i and 2 i + 1 of the result hold, element by element in turn, row i and row i + half of `rows`."""
    half, lanes = len(rows) // 2, UNIT.lanes
    result = []
    for first, second in zip(rows[:half], rows[half:], strict=True):
        for start in (0, lanes // 2):
            order = [start + i // 2 + (i % 2) * lanes for i in range(lanes)]
            mask = ir.Constant(ir.VectorType(INT32, lanes), order)
            result.append(builder.shuffle_vector(first, second, mask))
    return result
