"""TableEncoder: against plain NumPy, the same of every library's tables, and back from JSON."""
import datetime
import json
import time
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinydl.tables import TableEncoder
from tinydl.tables.dates import parts

rng = np.random.default_rng(0)


def same(a, b):
    """The same arrays, bit for bit."""
    assert a.numbers.dtype == b.numbers.dtype == np.float32 and a.categories.dtype == b.categories.dtype == np.int32
    np.testing.assert_array_equal(a.numbers, b.numbers)
    np.testing.assert_array_equal(a.categories, b.categories)


def back(encoder):
    """From the text that its state makes."""
    return TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)))


def table():
    n = 40
    values = {
        "x": rng.standard_normal(n) * 10, "gaps": [None if i % 7 == 3 else i * 0.5 for i in range(n)],
        "whole": rng.integers(0, 5, n), "flag": rng.random(n) < 0.5,
        "maybe": [None if i % 9 == 2 else i % 3 == 0 for i in range(n)],
        "town": [None if i % 8 == 5 else "abcb"[i % 4] for i in range(n)],
        "day": [None if i == 4 else datetime.datetime(2020 + i % 3, 1 + i % 12, 1 + i % 28, i % 24) for i in range(n)],
        "constant": [3.0] * n, "nothing": [None] * n}
    return values


OPTIONS = {"dates": True, "categorical": ["whole"]}


# ---------------------------------------------------------------------- libraries
def libraries():
    values = table()
    frame = pd.DataFrame(values)
    nullable = frame.convert_dtypes()
    category = frame.assign(town=frame["town"].astype("category"), whole=frame["whole"].astype("category"))
    yield "pandas", frame
    yield "pandas nullable", nullable
    yield "pandas category", category
    yield "pandas object", frame.astype(object)
    yield "object array", frame.astype(object).to_numpy()
    try:
        import pyarrow as pa
    except ImportError:
        return
    arrow = pa.table({name: pa.array(list(column)) for name, column in values.items()})
    yield "pyarrow", arrow
    yield "pyarrow dictionary", arrow.set_column(5, "town", arrow["town"].dictionary_encode())
    yield "pyarrow in pieces", pa.concat_tables([arrow[:11], arrow[11:]])
    yield "pandas of pyarrow", arrow.to_pandas(types_mapper=pd.ArrowDtype)
    yield "pandas of pyarrow dictionary", arrow.set_column(5, "town", arrow["town"].dictionary_encode()).to_pandas(
        types_mapper=pd.ArrowDtype)
    try:
        import polars as pl
    except ImportError:
        return
    yield "polars", pl.DataFrame(values)
    yield "polars category", pl.DataFrame(values).with_columns(pl.col("town").cast(pl.Categorical))
    yield "polars enum", pl.DataFrame(values).with_columns(pl.col("town").cast(pl.Enum(["c", "b", "a"])))


@pytest.mark.parametrize("one_hot_up_to", [0, 3, None])
def test_every_library_gives_the_same_arrays(one_hot_up_to):
    global rng
    rng = np.random.default_rng(0)
    values = table()
    wanted = TableEncoder(one_hot_up_to=one_hot_up_to, **OPTIONS).fit(values)
    first = wanted.transform(values)
    assert wanted.left_out == {"constant": "all values are equal", "nothing": "all values are missing"}
    assert np.isfinite(first.numbers).all()
    assert len(wanted.number_names) == first.numbers.shape[1] and len(wanted.category_names) == first.categories.shape[1]
    rng = np.random.default_rng(0)
    for name, t in libraries():
        options = {**OPTIONS, "categorical": [2]} if name == "object array" else OPTIONS
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            encoder = TableEncoder(one_hot_up_to=one_hot_up_to, **options)
            same(encoder.fit_transform(t), first)
            if name != "object array":
                same(wanted.transform(t), first)
                assert back(encoder).feature_names == list(values)
            same(back(encoder).transform(t), first)


def polars_columns(pl):
    """Rare dtypes: columns of whole numbers and of text, and one that is refused."""
    def of(dtype):
        return lambda values: pl.Series(values).cast(dtype)
    return ([of(pl.Int128), of(pl.UInt128), of(pl.Decimal(10, 2)), of(pl.UInt8)], [of(pl.Enum(["b", "a"])), of(pl.Binary)],
            pl.Series([[1], [2, 3], [4], [5]]))


def pyarrow_columns(pa):
    from pyarrow import compute

    def of(kind):
        return lambda values: pa.array(values).cast(kind)

    def runs(values):
        return compute.run_end_encode(pa.array(values))
    return ([of(pa.decimal128(23, 2)), of(pa.decimal256(40, 2)), of(pa.float16()), runs],
            [of(pa.large_string()), of(pa.string_view()), of(pa.binary()), runs], pa.array([[1], [2, 3], [4], [5]]))


@pytest.mark.parametrize("library, columns_of", [("polars", polars_columns), ("pyarrow", pyarrow_columns)])
def test_columns_of_rare_dtypes(library, columns_of):
    module = pytest.importorskip(library)
    numbers, texts, lists = columns_of(module)
    table = module.DataFrame if library == "polars" else module.table
    n, t = [7, 1, None, 4], ["a", None, "b", "b"]
    plain = TableEncoder().fit_transform({"n": n, "t": t})
    for make in numbers:
        same(TableEncoder().fit_transform(table({"n": make(n), "t": t})), plain)
    for make in texts:
        same(TableEncoder().fit_transform(table({"n": n, "t": make(t)})), plain)
    with pytest.raises(ValueError, match="column 't' holds ndarray in row 0: turn it into text or numbers"):
        TableEncoder().fit(table({"n": n, "t": lists}))


# ---------------------------------------------------------------------- numbers
def test_what_lies_under_a_mask_is_missing():
    """As DuckDB's fetchnumpy() gives columns."""
    mask = np.array([0, 1, 0, 0], bool)
    masked = {"n": np.ma.array([7, 999, 1, 4], mask=mask), "f": np.ma.array([0.5, 9, 1, 4], mask=mask),
              "b": np.ma.array([True, True, False, True], mask=mask),
              "d": np.ma.array(np.array(["2026-01-01", "2000-01-01", "2026-03-02", "2026-01-03"], "M8[s]"), mask=mask),
              "t": np.ma.array(["a", "?", "b", "b"], mask=mask),
              "o": np.ma.array(np.array(["a", "?", "b", "b"], object), mask=mask),
              "whole": np.ma.array([1.0, 2.0, 3.0, 4.0])}
    plain = {"n": [7, None, 1, 4], "f": [0.5, None, 1, 4], "b": [True, None, False, True],
             "d": np.array(["2026-01-01", "NaT", "2026-03-02", "2026-01-03"], "M8[s]"), "t": ["a", None, "b", "b"],
             "o": ["a", None, "b", "b"], "whole": [1.0, 2, 3, 4]}
    same(TableEncoder(dates=True).fit_transform(masked), TableEncoder(dates=True).fit_transform(plain))


def test_dates_of_which_none_is_there_any_more_are_missing():
    dates = {unit: np.array(["2026-01-01", "NaT", "2026-03-02"], f"M8[{unit}]") for unit in ("D", "ns")}
    for unit, column in dates.items():
        encoder = TableEncoder(dates=True).fit({"d": column})
        want = encoder.transform({"d": np.array(["NaT"] * 3, f"M8[{unit}]")})
        same(encoder.transform({"d": [None] * 3}), want)
        same(encoder.transform({"d": np.ma.array(column, mask=True)}), want)


def test_tables_of_narwhals_are_what_they_wrap():
    nw = pytest.importorskip("narwhals")
    table = pd.DataFrame({"n": [7, None, 1, 4], "t": pd.Categorical([3, None, 2, 2])})
    encoder = TableEncoder().fit(nw.from_native(table))
    assert encoder.feature_names == ["n", "t"]
    same(encoder.transform(nw.from_native(table[["t", "n"]])), TableEncoder().fit_transform(table))
    columns = {name: nw.from_native(table[name], series_only=True) for name in table}
    same(TableEncoder().fit_transform(columns), TableEncoder().fit_transform(table))


def test_numbers_are_scaled_and_clipped_as_in_the_paper():
    x = np.random.default_rng(1).standard_normal((101, 2)) * [1, 50] + [0, 7]
    got = TableEncoder().fit_transform(x).numbers
    z = (x - np.median(x, 0)) / np.subtract(*np.percentile(x, [75, 25], axis=0))
    np.testing.assert_allclose(got, z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(TableEncoder(scale=False).fit_transform(x).numbers, x.astype(np.float32))


def test_where_the_quartiles_are_equal_the_range_is_taken():
    x = np.zeros((9, 1))
    x[0], x[1] = 1, -3
    z = x * 2 / 4
    np.testing.assert_allclose(TableEncoder().fit_transform(x).numbers, z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-6)


def test_missing_numbers_are_the_median_and_marked():
    x = np.array([[1.0], [np.nan], [3], [10]])
    encoder = TableEncoder().fit(x)
    numbers = encoder.transform(x).numbers
    assert numbers[:, 1].tolist() == [0, 1, 0, 0] and encoder.number_names == ["0", "0 missing"]
    assert numbers[1, 0] == encoder.transform([[3.0]]).numbers[0, 0] == 0
    assert TableEncoder(scale=False).fit_transform(x).numbers[:, 0].tolist() == [1, 3, 3, 10]
    without = TableEncoder().fit(x[[0, 2, 3]])          # had none to learn from
    assert without.transform(x).numbers.shape == (4, 1) and without.transform(x).numbers[1, 0] == 0


def test_a_constant_with_gaps_is_its_mark():
    encoder = TableEncoder().fit({"a": [5, None, 5], "b": [1, 2, 3]})
    assert encoder.number_names == ["a missing", "b"]
    assert encoder.transform({"a": [None, 7], "b": [1, 1]}).numbers[:, 0].tolist() == [1, 0]


@pytest.mark.parametrize("x", [[1, 2, 3, 1e308], [-1e308, 1e308, 0, 1], [1e-310, 2e-310, 0, 0], [1e300, 1e300, 2e300, 1e300],
                               [1.7e18, 1.7e18 + 1024, 1.7e18 + 2048, 1.7e18 + 4096], [0, 1e-140, 2e-140, 1e308]])
def test_wild_values(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = TableEncoder().fit({"x": x})
        numbers = encoder.transform({"x": [*x, 1e308, -1e308, 0]}).numbers
        assert np.isfinite(numbers).all() and (np.abs(numbers) <= 3).all()
        if numbers.size and max(np.abs(x)) < 1e150:
            assert (np.diff(numbers[np.argsort(x), 0]) >= 0).all() and numbers[-3, 0] > 2.99


def test_infinities_are_refused_with_column_and_row():
    for x in ([1, np.inf, 2], [1, -np.inf, 2]):
        with pytest.raises(ValueError, match=r"column 'x' is -?inf in row 1; numbers must be finite"):
            TableEncoder().fit({"y": [1, 2, 3], "x": x})
        with pytest.raises(ValueError, match=r"column 'x' is -?inf in row 1"):
            TableEncoder().fit({"x": [1, 2, 3]}).transform({"x": x})


# ---------------------------------------------------------------------- categories
def test_codes_go_by_frequency_then_by_order():
    encoder = TableEncoder().fit({"c": ["b", "a", "c", "c", None, "a", "b", "d", "c"]})
    assert encoder.transform({"c": ["c", "a", "b", "d", None, "e", ""]}).categories[:, 0].tolist() == [2, 3, 4, 5, 0, 1, 1]
    assert encoder.cardinalities == [6] and encoder.category_names == ["c"] and encoder.number_names == []


def test_missing_ones_of_all_kinds():
    values = np.array(["a", None, np.nan, float("nan"), pd.NA, pd.NaT, "b", np.float64("nan")], object)
    encoder = TableEncoder().fit({"c": values})
    assert encoder.transform({"c": values}).categories[:, 0].tolist() == [2, 0, 0, 0, 0, 0, 3, 0]
    dates = pd.Series(pd.to_datetime(["2020-01-02", None, "2021-01-01", None])).astype("category")
    assert TableEncoder().fit({"c": dates}).transform({"c": dates}).categories[:, 0].tolist() == [2, 0, 3, 0]
    numbers = TableEncoder().fit({"c": np.array([1, None, np.nan, pd.NA, 2.5], object)})
    assert numbers.number_names == ["c", "c missing"]
    assert numbers.transform({"c": [None, 1]}).numbers[:, 1].tolist() == [1, 0]


def test_rare_ones_are_together():
    values = ["a"] * 5 + ["b"] * 4 + ["c"] * 2 + ["d"]
    for options, codes in (({"max_categories": 2}, {"a": 2, "b": 3, "c": 1, "d": 1, "e": 1}),
                           ({"min_count": 2}, {"a": 2, "b": 3, "c": 4, "d": 1, "e": 1}),
                           ({}, {"a": 2, "b": 3, "c": 4, "d": 5, "e": 1})):
        encoder = TableEncoder(**options).fit({"c": values})
        assert dict(zip("abcde", encoder.transform({"c": list("abcde")}).categories[:, 0].tolist(), strict=True)) == codes
        hot = TableEncoder(one_hot_up_to=None, **options).fit({"c": values})
        names = ["c=other"] * (1 in [codes[v] for v in "abcd"]) + [f"c={v}" for v in "abcd" if codes[v] > 1]
        assert hot.number_names == names
        for v in "abcde":
            row = dict(zip(names, hot.transform({"c": [v]}).numbers[0].tolist(), strict=True))
            own = f"c={v}" if codes[v] > 1 else "c=other"
            assert row == {name: float(name == own) for name in names}


def test_one_hot_up_to_a_cardinality():
    t = {"small": ["a", "b", None, "a"], "large": ["p", "q", "r", "s"]}
    encoder = TableEncoder(one_hot_up_to=3).fit(t)
    assert encoder.number_names == ["small missing", "small=a", "small=b"] and encoder.category_names == ["large"]
    got = encoder.transform({"small": ["a", "b", None, "z"], "large": ["s", "t", None, "p"]})
    assert got.numbers.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert got.categories.tolist() == [[5], [1], [0], [2]]
    assert TableEncoder(one_hot_up_to=None).fit(t).cardinalities == []


def test_binary_ones_are_one_number():
    encoder = TableEncoder(binary=True).fit({"c": ["yes", "no", "yes", None], "d": [True, False, True, True]})
    assert encoder.number_names == ["c=yes", "c missing", "d=True"]
    assert TableEncoder().fit({"d": [True, None, True]}).number_names == ["d missing", "d=True"]
    got = encoder.transform({"c": ["no", "yes", None, "?"], "d": [True, None, False, 1]}).numbers
    assert got.tolist() == [[0, 0, 1], [1, 0, 0.5], [0.5, 1, 0], [0.5, 0, 1]]


def test_numbers_that_are_named_as_categories():
    t = {"a": [3, 1, 1, 2], "b": [1.5, 2.5, 2.5, 1.5]}
    encoder = TableEncoder(categorical=["a", "b"]).fit(t)
    assert encoder.cardinalities == [5, 4] and encoder.number_names == []
    assert encoder.transform({"a": [1.0, 2, 3, 4, None], "b": [1.5, 2.5, 7, None, 2.5]}).categories.tolist() == [
        [2, 2], [3, 3], [4, 1], [1, 0], [0, 3]]
    same(back(encoder).transform(t), encoder.transform(t))
    assert TableEncoder(categorical=[1]).fit(np.array([[1, 2], [2, 3]])).category_names == ["1"]


def test_objects_of_several_kinds():
    encoder = TableEncoder().fit({"c": np.array([1, "1", 1, "b", 2.5, True], object)})
    assert encoder.transform({"c": np.array([1, "1", "b", 2.5, 3, None], object)}).categories[:, 0].tolist() == [2, 4, 5, 3, 1, 0]


def test_all_different_with_min_count_is_left_out():
    encoder = TableEncoder(min_count=2).fit({"name": ["a", "b", "c"], "x": [1, 2, 3]})
    assert encoder.left_out == {"name": "no two values of it are in 2 rows or more"}


def test_beyond_a_thousand_categories_those_that_came_once_are_together():
    values = [f"r{i:04}" for i in range(800)] + [f"c{i:04}" for i in range(700)] * 2
    encoder = TableEncoder(max_categories=5000).fit({"c": values})
    assert encoder.cardinalities == [2 + 1000]
    codes = encoder.transform({"c": ["c0000", "c0699", "r0000", "r0299", "r0300", "r0799", "new"]}).categories[:, 0].tolist()
    assert codes == [2, 701, 702, 1001, 1, 1, 1]
    values += [f"d{i:04}" for i in range(900)] * 3
    assert TableEncoder(max_categories=5000).fit({"c": values}).cardinalities == [2 + 900 + 700]
    assert TableEncoder(max_categories=1100).fit({"c": values}).cardinalities == [2 + 1100]


VALUES = st.one_of(st.none(), st.text("abcä ", max_size=3), st.integers(-3, 3), st.sampled_from([0.5, float("nan")]))


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=40), st.lists(VALUES, max_size=10), st.integers(1, 6), st.integers(1, 3))
def test_codes_of_anything(values, others, most, min_count):
    """A reference that says the rule in a few lines."""
    def gap(v):
        return v is None or v != v
    counts = Counter(v for v in values if not gap(v))
    kept = sorted((v for v in counts if counts[v] >= min_count), key=lambda v: (-counts[v], isinstance(v, str), v))[:most]
    encoder = TableEncoder(categorical=["c"], max_categories=most, min_count=min_count)
    encoder = back(encoder.fit({"c": np.array(values, object)}))
    if len(kept) + any(map(gap, values)) + (len(kept) < len(counts)) < 2:
        assert list(encoder.left_out) == ["c"]
        return
    wanted = [0 if gap(v) else 2 + kept.index(v) if v in kept else 1 for v in values + others]
    known = {isinstance(v, str) for v in kept}
    unknown = {isinstance(v, str) for v in others if not gap(v)}
    assert encoder.transform({"c": np.array(values, object)}).categories[:, 0].tolist() == wanted[:len(values)]
    if not known or known & unknown or not unknown:
        assert encoder.transform({"c": np.array(others, object)}).categories[:, 0].tolist() == wanted[len(values):]


# ---------------------------------------------------------------------- dates
def test_dates_are_refused_unless_asked_for():
    t = {"x": [1, 2], "when": np.array(["2020-01-01", "2021-01-01"], "datetime64[D]")}
    with pytest.raises(ValueError, match=r"column 'when' holds dates \(datetime64\[D\]\): dates=True takes them by their parts"):
        TableEncoder().fit(t)
    assert TableEncoder(dates=True).fit(t).number_names == ["x", "when year", "when weekday"]      # what differs


def test_parts_of_dates_are_those_of_pandas():
    days = pd.Series(pd.date_range("1899-12-30 05:30", periods=300, freq="307D13h"))
    got = parts(days.to_numpy())
    wanted = {"year": days.dt.year, "month": days.dt.month, "weekday": days.map(lambda d: d.weekday()),
              "hour": days.dt.hour + days.dt.minute / 60,
              "day of year sin": np.sin(2 * np.pi * (days.dt.day_of_year - 1) / 365.25),
              "day of year cos": np.cos(2 * np.pi * (days.dt.day_of_year - 1) / 365.25)}
    assert got.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


def test_dates():
    when = pd.Series(pd.to_datetime(["2020-01-31", None, "2021-03-01", "2022-03-01"]))
    encoder = TableEncoder(dates=True).fit({"when": when})
    assert encoder.number_names == ["when year", "when month", "when day of year sin", "when day of year cos", "when weekday",
                                    "when missing"]        # all at midnight: no hour
    numbers = encoder.transform({"when": when}).numbers
    assert numbers[:, -1].tolist() == [0, 1, 0, 0] and np.isfinite(numbers).all() and numbers[2, 0] == 0
    zoned = when.dt.tz_localize("UTC").dt.tz_convert("America/New_York")     # the day before
    same(encoder.transform({"when": zoned}), encoder.transform({"when": when}))
    same(back(encoder).transform({"when": when.astype(object)}), encoder.transform({"when": when}))
    days = [datetime.date(2020, 1, 31), None, datetime.date(2021, 3, 1), datetime.date(2022, 3, 1)]
    same(encoder.transform({"when": days}), encoder.transform({"when": when}))


# ---------------------------------------------------------------------- columns by name
def test_columns_go_by_name():
    t = pd.DataFrame({"a": [1.0, 2, 4], "b": ["x", "y", "x"], "c": [5, 6, 7]})
    encoder = TableEncoder().fit(t)
    same(encoder.transform(t[["c", "a", "b"]]), encoder.transform(t))
    same(encoder.transform(t.to_numpy(object)), encoder.transform(t))
    same(encoder.transform({name: t[name].tolist() for name in t}), encoder.transform(t))
    assert encoder.transform(t[:0]).numbers.shape == (0, 2)


BAD = {
    "missing": (lambda e, t: e.transform(t[["a", "b"]]), "columns that the encoder was fitted on: missing 'c'"),
    "unknown": (lambda e, t: e.transform(t.assign(z=1)), "fitted on: not among them 'z'"),
    "both": (lambda e, t: e.transform(t.rename(columns={"a": "z"})), "missing 'a'; not among them 'z'"),
    "columns": (lambda e, t: e.transform(np.zeros((3, 2))), "x has 2 columns; the encoder was fitted on 3: 'a', 'b', 'c'"),
    "text for numbers": (lambda e, t: e.transform(t.assign(a=["1", "2", "x"])),
                         "column 'a' was of numbers when the encoder was fitted; it is of categories now, as '1' in row 0"),
    "numbers for text": (lambda e, t: e.transform(t.assign(b=[1, 2, 3])),
                         "column 'b' was of text and is of numbers, as 1 in row 0"),
    "text for booleans": (lambda e, t: e.fit({"f": [True, False]}).transform({"f": ["True", "no"]}), "'f' was of booleans"),
    "numbers for booleans": (lambda e, t: e.fit({"f": [True, False]}).transform({"f": [0, 2]}), "as 2.0 in row 1"),
    "dates for numbers": (lambda e, t: e.transform(t.assign(a=pd.to_datetime("2020-01-01"))), "'a' was of numbers"),
    "twice": (lambda e, t: e.fit(pd.DataFrame([[1, 2]], columns=["a", "a"])), "more than one column 'a'"),
    "names and numbers": (lambda e, t: e.fit(pd.DataFrame([[1, 2]], columns=["a", 1])),
                          "names are text, as 'a', and others, as 1"),
    "no rows": (lambda e, t: e.fit(t[:0]), "without rows"),
    "no columns": (lambda e, t: e.fit(t[[]]), "without columns"),
    "no table": (lambda e, t: e.fit(np.zeros(3)), r"must be a table .* it is an array of shape \(3,\)"),
    "a number": (lambda e, t: e.fit(3), "must be a table .* it is int"),
    "lengths": (lambda e, t: e.fit({"a": [1, 2], "b": [1]}), "several lengths: 'a' has 2 rows, 'b' 1"),
    "masked": (lambda e, t: e.fit(np.ma.zeros((2, 2))), "masked array"),
    "durations": (lambda e, t: e.fit(t.assign(a=pd.to_timedelta([1, 2, 3]))), "column 'a' is timedelta64.*: turn it into "
                  r"numbers, as seconds by .dt.total_seconds\(\)"),
    "complex": (lambda e, t: e.fit({"a": np.zeros(3, complex)}), "column 'a' is complex128"),
    "lists": (lambda e, t: e.fit({"a": np.array([1, [2], 3], object)}), "column 'a' holds list in row 1"),
    "tuples": (lambda e, t: e.fit({"a": np.array(["x", None, (1, 2)], object)}), r"column 'a' holds \(1, 2\) \(tuple\) in row 2"),
    "axes": (lambda e, t: e.fit({"a": np.zeros((3, 2))}), r"column 'a' must have one value a row; it has shape \(3, 2\)"),
    "categorical": (lambda e, t: TableEncoder(categorical=["z"]).fit(t), "categorical names 'z', which the table does not have"),
    "options": (lambda e, t: TableEncoder(max_categories=0), "max_categories=0"),
    "not fitted": (lambda e, t: TableEncoder().transform(t), "not fitted"),
    "state": (lambda e, t: TableEncoder.from_dict({"version": 1}), "not the state of a TableEncoder"),
    "newer": (lambda e, t: TableEncoder.from_dict({**e.to_dict(), "version": 9}), "of version 9"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables(case):
    t = pd.DataFrame({"a": [1.0, 2, 4], "b": ["x", "y", "x"], "c": [5, 6, 7]})
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call(TableEncoder().fit(t), t)


def test_intervals_are_categories():
    age = pd.Series([3.0, 20, 50, np.nan, 70, 12])
    cut = pd.cut(age, [0, 18, 65], right=False)
    encoder = TableEncoder().fit({"a": cut})
    assert encoder.to_dict() == TableEncoder().fit({"a": ["[0, 18)", "[18, 65)", "[18, 65)", None, None, "[0, 18)"]}).to_dict()
    again = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    for some in cut.astype(object), cut[[0, 1, 2]], cut[[5]]:         # beside no gap the ends are integers
        for found, whole in zip(again.transform({"a": some}), encoder.transform({"a": cut}), strict=True):
            assert (found == whole[some.index]).all()
    dates = pd.Series(pd.interval_range(pd.Timestamp("2020-01-01"), periods=2))
    assert TableEncoder().fit({"a": dates}).to_dict()["columns"][0]["values"][0] == "(2020-01-01 00:00:00, 2020-01-02 00:00:00]"


def test_all_missing_at_transform_is_missing():
    t = pd.DataFrame({"a": [1.0, None, 4], "b": ["x", "y", "x"], "f": [True, False, None]})
    encoder = TableEncoder().fit(t)
    for gap in (None, np.nan):
        got = encoder.transform(pd.DataFrame({"a": [gap], "b": [gap], "f": [gap]}))
        assert got.numbers.tolist() == [[0, 1, 0.5, 1]] and got.categories.tolist() == [[0]]


def test_a_million_rows():
    """Each value is looked up once, and none is compared with all others."""
    n, g = 1_000_000, np.random.default_rng(0)
    t = {"x": g.standard_normal(n), "c": np.array([f"v{i}" for i in range(5000)], object)[g.integers(5000, size=n)]}
    before = time.thread_time()
    got = TableEncoder(max_categories=4000).fit_transform(t)
    assert time.thread_time() - before < 30
    assert got.categories.max() == 4001 and abs(np.mean(got.categories == 1) - 0.2) < 0.02
