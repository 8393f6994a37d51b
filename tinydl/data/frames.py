"""Tables of pandas, polars and pyarrow as arrays, and Python's numbers as NumPy's. None of these libraries is imported.

A table is read column by column. As a whole, pandas turns categories and dates into floats without a word, and a column
of bool beside one of floats into objects; so do columns that may miss values.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from tinydl.data.batch import Array

PICTURES = "pictures are made equally large first, as examples/pictures.py does"
UNEQUAL = "sequences of unequal lengths go into data.SequenceDataset(sequences, y)"


def as_array(x: Any, name: str, columns: Sequence[str] | None = None, *, squeeze: bool = False) -> Array:
    """x as np.asarray gives it; of a table its columns side by side, all of which must be numbers.

    Missing values become NaN, objects that are all numbers numbers, and a memory map stays one. columns: where the
    table's columns have names, take these, in this order; ValueError says which are missing, or are there besides.
    squeeze: a table of one column is that column.
    """
    if isinstance(x, np.ndarray):
        if hasattr(x, "mask"):      # np.ma.MaskedArray takes 20 ms to name
            raise ValueError(f"{name} is a masked array: fill it ({name}.filled(value)) or leave the masked rows out")
        return x if type(x) is np.memmap else as_numbers(np.asarray(x))
    table = columns_of(x)
    if table is None:
        if not squeeze and is_category(x):
            raise ValueError(f"{name} must be numbers; it is {dtype_of(x)}")
        return as_numbers(_even(decoded(x), name))
    labels, values = table
    if squeeze and len(values) == 1:
        return as_numbers(np.asarray(decoded(values[0])))
    found = None if columns is None else column_names(x, name)
    if columns is not None and found is not None:
        if set(found) != set(columns):
            raise ValueError(f"{name} does not have the columns that the model was trained on, model.feature_names: "
                             f"{differences(found, columns)}")
        by_name = dict(zip(found, values, strict=True))
        labels, values = list(columns), [by_name[column] for column in columns]
    return _side_by_side(labels, values, name)


def _even(x: Any, name: str) -> Array:
    """np.asarray; ValueError says where sequences of unequal lengths go."""
    try:
        return np.asarray(x)
    except TypeError:
        if method := makes_table(x):        # a query is asked for its items, and has none
            raise ValueError(f"{name} is a {type(x).__name__}: give {name}.{method}()") from None
        raise
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        shapes = [np.shape(a) for a in x]
        pictures = min(map(len, shapes)) > 2 or len({shape[1:] for shape in shapes if len(shape) > 1}) > 1
        raise ValueError(f"{name} is a list of unequal shapes: {PICTURES if pictures else UNEQUAL}") from None


def in_order(x: Any, names: Sequence[str]) -> list[Any]:
    """What is given for several inputs, in their order: of a dict by their names, else a tuple or list in that order."""
    if isinstance(x, Mapping):
        missing, unknown = [n for n in names if n not in x], [n for n in x if n not in names]
        if missing or unknown:
            raise ValueError(f"the inputs are {', '.join(names)}; " + "; ".join(
                [*[f"missing {listed(missing)}"] * bool(missing), *[f"not among them {listed(unknown)}"] * bool(unknown)]))
        return [x[n] for n in names]
    if not isinstance(x, (tuple, list)) or len(x) != len(names):
        raise ValueError(f"give x as a dict or a tuple of {len(names)} inputs ({', '.join(names)}); got {type(x).__name__}"
                         + (f" of {len(x)}" if isinstance(x, (tuple, list)) else "")
                         + (f"; {UNEQUAL}" if isinstance(x, list) and len(set(map(np.shape, x))) > 1 else ""))
    return list(x)


def column_names(x: Any, name: str) -> list[str] | None:
    """The names of a table's columns, in order; None where they have none (but numbers, say), and where x is no table."""
    table = None if isinstance(x, np.ndarray) else columns_of(x)
    labels = [] if table is None else table[0]
    named = [label for label in labels if isinstance(label, str)]
    if not named:
        return None
    if len(named) < len(labels):
        other = next(label for label in labels if not isinstance(label, str))
        raise ValueError(f"{name} has columns whose names are text, as {named[0]!r}, and others, as {other!r}: let all of them "
                         f"be text ({name}.columns.astype(str)), or none")
    twice = sorted({label for label in named if named.count(label) > 1}) if len(set(named)) < len(named) else []
    if twice:
        raise ValueError(f"{name} has more than one column {listed(twice)}: columns are told apart by their names")
    return list(map(str, named))


def check_columns(found: Sequence[str] | None, wanted: Sequence[str] | None, what: str) -> None:
    """ValueError where a dataset's columns are not those that the model was trained on, in their order. None: not known."""
    if found is None or wanted is None or list(found) == list(wanted):
        return
    raise ValueError(f"{what} does not have the columns that the model was trained on, model.feature_names: "
                     f"{differences(found, wanted) or 'they are in another order'}")


def refuse(a: Array, x: Any, name: str) -> None:
    """ValueError: x, which as an array is a, is not numbers."""
    if a.ndim == 0 and a.dtype == object:
        hint = f": give {name}.{method}()" if (method := makes_table(x)) else ""
        raise ValueError(f"{name} must be an array of numbers; got {type(x).__name__}{hint}")
    at = first_other(a)
    raise ValueError(f"{name} must be numbers; got {a.dtype} of shape {a.shape}"
                     + (f", where {name}[{', '.join(map(str, at))}] is {a[at]!r}" if at else ""))


def columns_of(x: Any) -> tuple[list[Any], list[Any]] | None:
    """The columns' labels, and the columns; None where x is no table."""
    x = native(x)
    if hasattr(x, "iloc") and x.ndim == 2:                              # pandas
        return list(x.columns), [column for _, column in x.items()]
    if hasattr(x, "column_names") and hasattr(x, "columns"):            # pyarrow
        return list(x.column_names), list(x.columns)
    if hasattr(x, "get_columns"):                                       # polars
        return list(x.columns), list(x.get_columns())
    return None


def makes_table(x: Any) -> str | None:
    """The method that makes a table, or an array, of x, which is none itself: a sparse matrix, a query that is not computed yet,
    a reader, a data set of labelled axes."""
    methods = "toarray", "read_all", "to_dataframe", "toPandas", "collect", "to_arrow_table", "to_pandas", "to_df"
    if columns_of(x) is not None or (hasattr(x, "ndim") and not hasattr(x, "toarray")):
        return None
    return next((method for method in methods if hasattr(x, method)), None)


def native(x: Any) -> Any:
    """x; of narwhals, whose tables and columns are wrappers of other libraries', what is wrapped."""
    return x.to_native() if hasattr(x, "__native_namespace__") and hasattr(x, "to_native") else x


def decoded(column: Any) -> Any:
    """A column; of a pyarrow dictionary its values, since NumPy would take the last of them for each null of a table's; of
    polars' integers of 128 bits, which NumPy has not, floats."""
    column = native(column)
    dtype = dtype_of(column)
    if dtype.startswith("dictionary<values=string_view") and hasattr(column, "cast"):       # as polars has them; no cast is there
        import pyarrow as pa
        chunks = getattr(column, "chunks", [column])
        return pa.chunked_array([c.dictionary.cast(pa.large_string()).take(c.indices) for c in chunks], pa.large_string())
    if dtype.startswith("dictionary") and hasattr(column, "cast"):
        return column.cast(column.type.value_type)
    return column.cast(float) if dtype in ("Int128", "UInt128") else column


def _side_by_side(labels: list[Any], columns: list[Any], name: str) -> Array:
    """(rows, columns), of the dtype that holds all of them; a view in Fortran's order."""
    if not columns:
        raise ValueError(f"{name} is a table without columns")
    arrays, refused = [], []
    for label, column in zip(labels, columns, strict=True):
        a = as_numbers(np.asarray(decoded(column)))
        if a.dtype.kind not in "fiub" or a.ndim != 1 or is_category(column):
            at = first_other(a)
            refused.append(f"{label!r} is {dtype_of(column)}" + (f" with {a[at]!r} in row {at[0]}" if at else ""))
        arrays.append(a)
    if refused:
        raise ValueError(f"{name} must be numbers; column {'; '.join(refused[:8])}{'; ...' if len(refused) > 8 else ''}: turn it "
                         "into numbers (a column of 0 and 1 for each category, days since a date), or leave it out")
    return np.array(arrays).T


def dtype_of(column: Any) -> str:
    return str(getattr(column, "dtype", None) or getattr(column, "type", None))     # pyarrow says type


def is_category(column: Any) -> bool:
    """Categories of numbers would be taken for numbers: "category", "Categorical", "Enum(...)", "dictionary<...>"."""
    return dtype_of(column).lower().startswith(("categor", "enum", "dictionary"))


def as_numbers(a: Array) -> Array:
    """An array of objects that are all numbers, or missing (None, pandas.NA), as numbers and NaN; any other as it is."""
    if a.dtype != object:
        return a
    values = a.ravel().tolist()
    kinds = set(map(type, values))
    missing = {kind for kind in kinds if is_missing(kind)}
    if not all(map(is_number, kinds - missing)):
        return a
    out = np.array([np.nan if type(value) in missing else value for value in values] if missing else values)
    return (out.astype(np.float64) if out.dtype == object else out).reshape(a.shape)


def is_missing(kind: type) -> bool:
    return kind is type(None) or kind.__name__ == "NAType"


def is_number(kind: type) -> bool:
    from decimal import Decimal  # a millisecond, and only for arrays of objects
    return issubclass(kind, (Real, Decimal, np.bool_))


def first_other(a: Array) -> tuple[int, ...]:
    """Where in an array of objects the first lies that is no number; () where all are, and in other arrays."""
    if a.dtype == object:
        for at in np.ndindex(a.shape):
            if not is_number(type(a[at])) and not is_missing(type(a[at])):
                return at
    return ()


def first_missing(a: Array) -> tuple[int, ...] | None:
    """Where the first value of an array of objects lies that is missing (None, NaN, pandas.NA); None where none is."""
    if a.dtype == object:
        for at in np.ndindex(a.shape):
            if is_missing(type(a[at])) or (isinstance(a[at], float) and np.isnan(a[at])):
                return at
    return None


def differences(found: Sequence[str], wanted: Sequence[str]) -> str:
    """Which of the wanted names are missing, and which others are there."""
    missing, others = [n for n in wanted if n not in set(found)], [n for n in found if n not in set(wanted)]
    return "; ".join([*(f"missing {listed(missing)}" for _ in range(bool(missing))),
                      *(f"not among them {listed(others)}" for _ in range(bool(others)))])


def listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
