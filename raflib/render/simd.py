"""A 16-lane float32 vector type for numba.

Inside an `njit` function a `Lanes` value holds sixteen float32 numbers and a `Mask` sixteen booleans. Arithmetic and
comparisons are written with the usual operators (a scalar operand must be float32 and is repeated in every lane);
what has no operator is a function below. Each operation becomes one LLVM vector instruction, which LLVM lowers to
whatever the machine has (one AVX-512, two AVX or four NEON registers), so the kernels never depend on the
auto-vectoriser. Nothing here checks bounds: `load` and `store` touch `array[index:index + LANES]` as told.

A vector lives in a local variable only; it is never an argument or a result of a compiled function that Python calls.
"""

import math
import operator

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 16

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_FLOATS = ir.VectorType(_FLOAT, LANES)
_INTS = ir.VectorType(_INT, LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)

# No "nnan"/"ninf": the comparisons that cull a bad value have to mean what they say.
_FLAGS = ("contract", "reassoc", "nsz", "arcp", "afn")

# e^r on |r| <= ln 2 / 2, highest power first: the degree-5 polynomial of least relative error (8e-8), found by
# iteratively reweighted least squares.
_EXP_COEFFICIENTS = (
    0.00829693936396852,
    0.0419203508047461,
    0.1666761151320946,
    0.4999885042878565,
    0.9999996731161969,
    1.0000000759884413,
)


class Lanes(types.Type):
    """Sixteen float32 numbers."""

    def __init__(self):
        super().__init__(name="Lanes")


class Mask(types.Type):
    """Sixteen booleans, the result of comparing two `Lanes`."""

    def __init__(self):
        super().__init__(name="LaneMask")


lanes = Lanes()
mask = Mask()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _FLOATS)


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, _BITS)


def _constant(value):
    return ir.Constant(_FLOATS, [float(value)] * LANES)


def _repeat(builder, scalar):
    first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, first, ir.Constant(_INTS, [0] * LANES))


def _define_operator(operators, result, emit, scalars=True):
    """Teach numba `a <op> b` for two vectors, or for a vector and a float32."""
    kinds = [(lanes, lanes)] + ([(lanes, types.float32), (types.float32, lanes)] if scalars else [])

    def lower(context, builder, call, arguments):
        vectors = [
            _repeat(builder, value) if kind == types.float32 else value
            for kind, value in zip(call.args, arguments, strict=True)
        ]
        return emit(builder, *vectors)

    for function in operators:
        template = type("_LanesTemplate", (ConcreteTemplate,), {"cases": [signature(result, *kind) for kind in kinds]})
        infer_global(function)(template)
        for kind in kinds:
            lower_builtin(function, *kind)(lower)


_define_operator((operator.add, operator.iadd), lanes, lambda b, x, y: b.fadd(x, y, flags=_FLAGS))
_define_operator((operator.sub, operator.isub), lanes, lambda b, x, y: b.fsub(x, y, flags=_FLAGS))
_define_operator((operator.mul, operator.imul), lanes, lambda b, x, y: b.fmul(x, y, flags=_FLAGS))
_define_operator((operator.truediv, operator.itruediv), lanes, lambda b, x, y: b.fdiv(x, y, flags=_FLAGS))
_define_operator((operator.gt,), mask, lambda b, x, y: b.fcmp_ordered(">", x, y))
_define_operator((operator.ge,), mask, lambda b, x, y: b.fcmp_ordered(">=", x, y))
_define_operator((min,), lanes, lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), x, y))
_define_operator((max,), lanes, lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))


@infer_global(operator.and_)
class _MaskAnd(ConcreteTemplate):
    cases = (signature(mask, mask, mask),)


@lower_builtin(operator.and_, mask, mask)
def _lower_mask_and(context, builder, call, arguments):
    return builder.and_(*arguments)


@infer_global(operator.neg)
@infer_global(abs)
class _LanesUnary(ConcreteTemplate):
    cases = (signature(lanes, lanes),)


@lower_builtin(operator.neg, lanes)
def _lower_negative(context, builder, call, arguments):
    return builder.fneg(arguments[0])


@lower_builtin(abs, lanes)
def _lower_absolute(context, builder, call, arguments):
    magnitude = ir.Constant(_INTS, [0x7FFFFFFF] * LANES)
    return builder.bitcast(builder.and_(builder.bitcast(arguments[0], _INTS), magnitude), _FLOATS)


@intrinsic
def splat(context, scalar):
    """`splat(x)`: the float32 x in every lane."""
    return lanes(types.float32), lambda context, builder, call, arguments: _repeat(builder, arguments[0])


@intrinsic
def lane_index(context):
    """`lane_index()`: 0, 1, …, 15."""
    return lanes(), lambda context, builder, call, arguments: ir.Constant(_FLOATS, [float(i) for i in range(LANES)])


@intrinsic
def select(context, condition, yes, no):
    """`select(condition, yes, no)`: per lane, yes where the mask holds, else no."""
    return lanes(mask, lanes, lanes), lambda context, builder, call, arguments: builder.select(*arguments)


@intrinsic
def any_lane(context, condition):
    """`any_lane(condition)`: whether the mask holds anywhere."""
    bits = ir.IntType(LANES)

    def emit(context, builder, call, arguments):
        return builder.icmp_unsigned("!=", builder.bitcast(arguments[0], bits), ir.Constant(bits, 0))

    return types.boolean(mask), emit


@intrinsic
def lane_sum(context, vector):
    """`lane_sum(x)`: the float32 sum over the lanes, always added in the same order (a halving tree)."""

    def emit(context, builder, call, arguments):
        value, width = arguments[0], LANES
        while width > 1:
            width //= 2
            half = ir.VectorType(_INT, width)
            low = builder.shuffle_vector(value, value, ir.Constant(half, list(range(width))))
            high = builder.shuffle_vector(value, value, ir.Constant(half, list(range(width, 2 * width))))
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(_INT, 0))

    return types.float32(lanes), emit


def _lane_pointer(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


@intrinsic
def load(context, array, index):
    """`load(array, i)`: the sixteen numbers from `array[i]` on; array is 1-D contiguous float32, any alignment."""

    def emit(context, builder, call, arguments):
        return builder.load(_lane_pointer(context, builder, call.args[0], *arguments), align=4)

    return lanes(array, types.intp), emit


@intrinsic
def store(context, array, index, vector):
    """`store(array, i, x)`: writes the lanes to `array[i:i + 16]`."""

    def emit(context, builder, call, arguments):
        target, where, value = arguments
        builder.store(value, _lane_pointer(context, builder, call.args[0], target, where), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), emit


@intrinsic
def exp(context, vector):
    """`exp(x)` for x in [-87, 87], relative error below 6e-7 (3e-7 from -6 to 0).

    x = n ln 2 + r with |r| <= ln 2 / 2; a polynomial gives e^r, then n is added to the exponent bits. Adding 1.5 · 2^23
    rounds to an integer and leaves it in the low bits of the sum. Outside the range the bits would overflow: the caller
    clamps.
    """
    exact = ("contract",)  # nothing here may be reordered: rounding is the point

    def emit(context, builder, call, arguments):
        x = arguments[0]
        magic = _constant(1.5 * 2.0**23)
        shifted = builder.fadd(builder.fmul(x, _constant(1.0 / math.log(2.0)), flags=exact), magic, flags=exact)
        n = builder.fsub(shifted, magic)
        r = builder.fsub(x, builder.fmul(n, _constant(math.log(2.0)), flags=exact), flags=exact)
        value = _constant(_EXP_COEFFICIENTS[0])
        for coefficient in _EXP_COEFFICIENTS[1:]:
            value = builder.fadd(builder.fmul(value, r, flags=exact), _constant(coefficient), flags=exact)
        power = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(value, _INTS), power), _FLOATS)

    return lanes(lanes), emit


@intrinsic
def float_bits(context, scalar):
    """`float_bits(x)`: the bit pattern of a float32 as uint32 (for x >= 0 it sorts like x)."""
    return types.uint32(types.float32), lambda context, builder, call, arguments: builder.bitcast(arguments[0], _INT)
