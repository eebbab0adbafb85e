"""Sixteen float32 numbers as one value of compiled code, which LLVM keeps in vector registers.

Loops that numba's compiler is left to turn into vectors go through memory at every step; dense
solves written with these values are several times as quick. And a hint of what is read soon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

_cgutils: Any = cgutils  # numba has no types
LANES = 16  # numbers of a vector; narrower processors take it in parts
WIDE = bool(binding.get_host_cpu_features().get("avx512f"))
FLOAT, INDEX = ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="float32 lanes")


lanes = _Lanes()


def operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return numba's intrinsic, typed."""
    made: Callable[..., Any] = intrinsic(function)
    return made


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)  # type: ignore[no-untyped-call]


@operation
def load(typing: Any, array: Any, row: Any, column: Any) -> Any:
    """array[row, column : column + LANES] of a float32 array; columns lie side by side."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.load(_place(context, builder, signature, given), align=4)

    return lanes(array, types.intp, types.intp), generate


@operation
def store(typing: Any, array: Any, row: Any, column: Any, value: Any) -> Any:
    """Put a vector at array[row, column : column + LANES]."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.store(given[3], _place(context, builder, signature, given), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lanes), generate


@operation
def spread(typing: Any, array: Any, row: Any, column: Any) -> Any:
    """array[row, column] in all places."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = builder.bitcast(_place(context, builder, signature, given), FLOAT.as_pointer())
        return _spread(builder, builder.load(place, align=4))

    return lanes(array, types.intp, types.intp), generate


@operation
def every(typing: Any, number: Any) -> Any:
    """A float32 number in all places."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return _spread(builder, given[0])

    return lanes(types.float32), generate


@operation
def plus(typing: Any, total: Any, left: Any, right: Any) -> Any:
    """total + left · right, rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        name = f"llvm.fmuladd.v{LANES}f32"
        multiply_add = _cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(multiply_add, [given[1], given[2], given[0]])

    return lanes(lanes, lanes, lanes), generate


@operation
def total(typing: Any, value: Any) -> Any:
    """The sum of the numbers of a vector: halves are added to each other."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        value, width = given[0], LANES
        while width > 1:
            width //= 2
            nothing = ir.Constant(value.type, ir.Undefined)
            halves = [
                builder.shuffle_vector(value, nothing, _index(range(first, first + width)))
                for first in (0, width)
            ]
            value = builder.fadd(*halves)
        return builder.extract_element(value, ir.Constant(INDEX, 0))

    return types.float32(lanes), generate


@operation
def soon(typing: Any, array: Any, place: Any) -> Any:
    """Have the processor fetch array[place], which need not be there, of an array (n,), while it
    works on something else."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, given[0]).data
        at = builder.bitcast(builder.gep(data, [given[1]]), ir.IntType(8).as_pointer())
        how = [ir.Constant(INDEX, number) for number in (0, 3, 1)]  # to read; keep; data
        kind = ir.FunctionType(ir.VoidType(), [at.type, *(each.type for each in how)])
        fetch = _cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(fetch, [at, *how])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def _place(context: Any, builder: Any, signature: Any, given: Any) -> Any:
    """Pointer to the vector at a row and column."""
    array = context.make_array(signature.args[0])(context, builder, given[0])
    step = _cgutils.unpack_tuple(builder, array.strides, 2)[0]
    row, column = given[1:3]
    offset = builder.add(builder.mul(row, step), builder.mul(column, ir.Constant(column.type, 4)))
    first = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(first, [offset]), VECTOR.as_pointer())


def _spread(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(INDEX, 0))
    return builder.shuffle_vector(one, nothing, _index([0] * LANES))


def _index(places: Sequence[int]) -> Any:
    return ir.Constant(ir.VectorType(INDEX, len(places)), list(places))
