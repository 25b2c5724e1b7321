"""The columns of parquet and feather files as they are, of whatever kind."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaefast.models.fields import BOOLEANS, LABELS, NUMBERS, UNUSABLE, WHOLE, Field

if TYPE_CHECKING:
    import pyarrow as pa

    from vaefast.data.writing import NewColumn

# Types of pandas that Arrow does not know, by their names' beginnings: those with room for a missing value, and text.
OWN_TYPES = ("Int", "UInt", "Float", "boolean", "string", "str")
# What pandas writes behind the names of Arrow's types, and those of Arrow that NumPy names otherwise.
BACKEND = "[pyarrow]"
NAMES_OF_NUMPY = {"double": "float64", "float": "float32", "halffloat": "float16", "large_string": "string"}


def pandas_types(held: pa.Table) -> dict[str, str]:
    """The types that columns had in pandas, by name, where Arrow's say less."""
    try:
        said = json.loads(held.schema.metadata[b"pandas"])["columns"]
        types = {column.get("field_name") or column["name"]: str(column["numpy_type"]) for column in said}
    except (TypeError, KeyError, ValueError, AttributeError):
        return {}
    return {str(name): kind for name, kind in types.items() if kind.startswith(OWN_TYPES)}


def field_of(column: pa.ChunkedArray, name: str, own_type: str = "") -> Field:
    """A column as pandas has it: whole numbers with gaps are floats, unless it was of a type with room for them.

    Parameters
    ----------
    own_type
        Its type in pandas, if that is one of `OWN_TYPES`.
    """
    import pyarrow as pa

    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        return _category(column, name)
    if types.is_boolean(kind):
        dtype = own_type or ("boolean" if column.null_count else "bool")
        return Field(name, BOOLEANS, _floats(column), dtype)
    if types.is_integer(kind):
        is_float = bool(column.null_count) and not own_type
        return Field(name, NUMBERS if is_float else WHOLE, _floats(column), "float64" if is_float else own_type or str(kind))
    if types.is_floating(kind):
        return Field(name, NUMBERS, _floats(column), own_type or column.slice(0, 0).to_numpy().dtype.name)
    if types.is_decimal(kind) or types.is_null(kind):
        return Field(name, NUMBERS, _floats(column), "float64")
    if is_text(kind):
        return Field(name, LABELS, _objects(column.to_pylist()), own_type or "object")
    trouble = "dates or times" if types.is_temporal(kind) else f"values of type {kind}"
    return Field(name, UNUSABLE, np.full(len(column), None, object), "object", trouble=trouble)


def is_text(kind: pa.DataType) -> bool:
    """Whether a type of Arrow is one of text; polars writes views of it."""
    import pyarrow as pa

    types = pa.types
    views = getattr(types, "is_string_view", None)  # from pyarrow 16 on
    return types.is_string(kind) or types.is_large_string(kind) or (views is not None and views(kind))


def _floats(column: pa.ChunkedArray) -> Any:
    import pyarrow as pa

    # Whole numbers beyond 2^53, such as ids, are rounded.
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)


def _objects(values: list[Any]) -> Any:
    held = np.empty(len(values), object)
    held[:] = values
    return held


def _category(column: pa.ChunkedArray, name: str) -> Field:
    whole = column.unify_dictionaries().combine_chunks()
    # Of one chunk, or of none, pyarrow gives an array with a dictionary.
    levels = whole.dictionary.to_pylist() if len(whole) else []
    if not all(isinstance(level, (str, int)) or (isinstance(level, float) and math.isfinite(level)) for level in levels):
        odd = type(next(level for level in levels if not isinstance(level, (str, int)))).__name__
        return Field(name, UNUSABLE, np.full(len(column), None, object), "category", trouble=f"categories of type {odd}")
    is_text = any(isinstance(level, str) for level in levels)
    dtype = "object" if is_text else np.array(levels).dtype.name
    values = _objects(column.to_pylist())
    return Field(name, LABELS, values, "category", tuple(levels), dtype, bool(column.type.ordered))


def filled_column(
    arrow: Any, old: pa.ChunkedArray, gaps: Any, value: Callable[[int], Any], values: Any
) -> pa.ChunkedArray | pa.Array | Any:
    """A column with other values in its gaps, (N,), of its own type; whole numbers that become fractions are of float64.

    Parameters
    ----------
    value
        The value of a row, as Python has it.
    values
        (N,): all of them, float64 or objects.
    """
    kind, types = old.type, arrow.types
    if values.dtype == np.float64 and not isinstance(value(int(np.argmax(gaps))), int):
        floating = types.is_floating(kind)
        whole = old.cast(kind if floating else arrow.float64(), safe=False).to_numpy().copy()
        whole[gaps] = values[gaps]
        return arrow.chunked_array([arrow.array(whole)])
    held = old.to_pylist()
    for row in np.flatnonzero(gaps).tolist():
        held[row] = value(row)
    if not types.is_dictionary(kind):
        if types.is_floating(kind) or types.is_decimal(kind):
            return arrow.chunked_array(
                [arrow.array([None if each is None else float(each) for each in held], arrow.float64())]
            )
        return arrow.chunked_array([arrow.array(held, kind)])
    levels = old.unify_dictionaries().combine_chunks().dictionary.to_pylist() if len(old) else []
    # The model may know values that this file has not seen.
    levels = [*dict.fromkeys([*levels, *(level for level in held if level is not None)])]
    places = {level: at for at, level in enumerate(levels)}
    codes = arrow.array([None if each is None else places[each] for each in held], arrow.int64())
    index_type = arrow.int32() if len(levels) > np.iinfo(str(kind.index_type)).max else kind.index_type
    dictionary = arrow.array(levels, kind.value_type)
    return arrow.chunked_array([arrow.DictionaryArray.from_arrays(codes.cast(index_type), dictionary, ordered=kind.ordered)])


def new_array_of(arrow: Any, column: NewColumn) -> pa.Array | Any:
    """A new column in the type of Arrow that stands for its type in pandas."""
    cells = column.cells()
    if column.categories is not None:
        places = {level: at for at, level in enumerate(column.categories)}
        codes = arrow.array([None if each is None else places[each] for each in cells], arrow.int32())
        return arrow.DictionaryArray.from_arrays(codes, arrow.array(list(column.categories)), ordered=column.ordered)
    dtype = _without_backend(column.dtype).lower()
    if dtype.startswith("bool"):
        return arrow.array([None if each is None else bool(each) for each in cells], arrow.bool_())
    if dtype.startswith(("int", "uint")):
        ends = np.iinfo(dtype)
        whole = [None if each is None else min(max(int(each), int(ends.min)), int(ends.max)) for each in cells]
        return arrow.array(whole, getattr(arrow, dtype)())
    if dtype.startswith("float"):
        return arrow.array([None if each is None else float(each) for each in cells], getattr(arrow, dtype)())
    # Objects may be of several types, which no array of Arrow holds.
    mixed = len({type(each) for each in cells if each is not None}) > 1
    return arrow.array([None if each is None else str(each) for each in cells] if mixed else cells)


def pandas_metadata(columns: Sequence[NewColumn]) -> dict[str, Any]:
    """What pandas writes beside a table, by which it gives each column its type back."""
    return {
        "index_columns": [],
        "column_indexes": [],
        "columns": [
            {
                "name": column.name, "field_name": column.name, "pandas_type": _pandas_type(column),
                "numpy_type": "int32" if column.categories is not None else _without_backend(column.dtype),
                "metadata": None
                if column.categories is None
                else {"num_categories": len(column.categories), "ordered": column.ordered},
            }
            for column in columns
        ],
        "creator": {"library": "vaefast", "version": ""},
        "pandas_version": "2.0.0",
    }  # fmt: skip


def _pandas_type(column: NewColumn) -> str:
    if column.categories is not None:
        return "categorical"
    dtype = _without_backend(column.dtype).lower()
    return {"boolean": "bool", "object": "unicode", "str": "unicode", "string": "unicode"}.get(dtype, dtype)


def _without_backend(dtype: str) -> str:
    """The name of a type of pandas; for one that Arrow holds, that of the type which holds the same values without it."""
    kind = dtype.removesuffix(BACKEND)
    return dtype if kind == dtype else NAMES_OF_NUMPY.get(kind, kind)
