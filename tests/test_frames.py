"""Tables of pandas, polars and pyarrow, and arrays of objects: taken as numbers, their columns told apart by name.

Of the libraries, those that are there are tested; of what tinydl asks of each, a stand-in always.
"""
import copy
import pickle
import re
from decimal import Decimal

import numpy as np
import pytest
from small import mlp

from tinydl import Model, Trainer, losses, nn, optim
from tinydl.data import ArrayDataset, ItemDataset, Split, StreamDataset


# ------------------------------------------------------------------ makers of tables, from {name: values}
class Column:
    """What the three libraries' columns have: np.asarray of it, and dtype (pandas, polars) or type (pyarrow)."""

    def __init__(self, values, dtype=None, attribute="dtype"):
        self.values = np.asarray(values, object if any(v is None for v in values) else None)
        setattr(self, attribute, dtype or self.values.dtype)

    def __array__(self, dtype=None, copy=None):
        return self.values


class Stand:
    """What it is told to have, and a shape and length."""

    def __init__(self, shape=(2, 2), **attributes):
        self.__dict__.update(attributes, shape=shape)

    def __len__(self):
        return self.shape[0]


def shape(columns):
    return len(next(iter(columns.values()))), len(columns)


def like_pandas(columns):
    made = {name: Column(values) for name, values in columns.items()}
    return Stand(shape(columns), iloc=None, ndim=2, columns=list(made), items=made.items)


def like_polars(columns):
    made = [Column(values) for values in columns.values()]
    return Stand(shape(columns), columns=list(columns), get_columns=lambda: made)


def like_pyarrow(columns):
    made = [Column(values, attribute="type") for values in columns.values()]
    return Stand(shape(columns), column_names=list(columns), columns=made)


def pandas(columns):
    return pytest.importorskip("pandas").DataFrame(columns)


def nullable(columns):
    return pandas(columns).convert_dtypes()


def pandas_of_pyarrow(columns):
    pytest.importorskip("pyarrow")
    return pandas(columns).convert_dtypes(dtype_backend="pyarrow")


def polars(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def pyarrow(columns):
    return pytest.importorskip("pyarrow").table(columns)


MAKERS = [like_pandas, like_polars, like_pyarrow, pandas, nullable, pandas_of_pyarrow, polars, pyarrow]
make_of_all = pytest.mark.parametrize("make", MAKERS)
MIXED = {"age": [31.5, 40.0, 22.25], "is_new": [True, False, True], "visits": [3, 1, 2]}
AS_ARRAY = [[31.5, 1, 3], [40.0, 0, 1], [22.25, 1, 2]]


# ------------------------------------------------------------------ x
@make_of_all
def test_a_table_of_floats_bools_and_integers(make):
    data = ArrayDataset(make(MIXED), [0, 1, 0])
    assert data.x.dtype == np.float64 and data.x.flags.c_contiguous and data.x.tolist() == AS_ARRAY
    assert data.feature_names == data.split(0.5, 0, 0.5).test.feature_names == ["age", "is_new", "visits"]
    assert mlp(3, 2).predict(make(MIXED)).tobytes() == mlp(3, 2).predict(np.array(AS_ARRAY)).tobytes()


@make_of_all
@pytest.mark.parametrize("names, dtype", [(["is_new"], bool), (["visits", "is_new"], np.int64)])
def test_a_table_keeps_the_dtype_that_holds_all_columns(make, names, dtype):
    assert ArrayDataset(make({name: MIXED[name] for name in names}), [0, 1, 0]).x.dtype == dtype


@make_of_all
@pytest.mark.parametrize("values", [[1.5, None, 2.5], [1, None, 2], [True, None, False]])
def test_a_missing_value_is_named_by_its_row_and_column(make, values):
    table = make({"a": [0.0, 1.0, 2.0], "b": values})
    with pytest.raises(ValueError, match=r"x\[1, 'b'\] is nan; all must be finite"):
        ArrayDataset(table, [0, 1, 0])
    assert np.isnan(mlp(2, 5, 2).predict(table)).all(1).tolist() == [False, True, False]


@make_of_all
def test_columns_that_are_not_numbers_are_refused_by_name(make):
    table = make({"a": [0.0, 1.0], "when": np.array(["2026-01-01", "2026-01-02"], "datetime64[us]"), "who": ["Ann", "Bob"]})
    with pytest.raises(ValueError, match=r"x must be numbers; column 'when' is (datetime|Datetime|timestamp).*; 'who' is .*: "
                                         r"turn it into numbers .*, or leave it out"):
        ArrayDataset(table, [0, 1])
    with pytest.raises(ValueError, match="column 'when' is"):
        mlp(3, 2).predict(table)


def test_integers_of_128_bits_are_floats():
    pl = pytest.importorskip("polars")
    for dtype in (pl.Int128, pl.UInt128):
        column = pl.Series("a", [3, 2 ** 100, 1], dtype=dtype)
        for x in (pl.DataFrame(column), pl.DataFrame({"a": column, "b": [0.5, 1, 2]})):
            data = ArrayDataset(x, [0, 1, 0])
            assert data.x.dtype == np.float64 and data.x[:, 0].tolist() == [3, 2.0 ** 100, 1]


@pytest.mark.parametrize("dtype", ["category", "Categorical", "Enum(categories=['5'])", "dictionary<values=int64, indices=int8>"])
def test_categories_are_not_taken_for_numbers(dtype):
    column = Column([5, 6], dtype)
    table = Stand(columns=["a", "b"], get_columns=lambda: [Column([0.0, 1.0]), column])
    with pytest.raises(ValueError, match=f"column 'b' is {re.escape(dtype)}"):
        ArrayDataset(table, [0, 1])
    with pytest.raises(ValueError, match=f"x must be numbers; it is {re.escape(dtype)}"):
        ArrayDataset(column, [0, 1])
    assert ArrayDataset([[0.0], [1.0]], column).y.tolist() == [5, 6]                # classes


@pytest.mark.parametrize("make, to_categories", [
    (pandas, lambda table: table.astype({"b": "category"})),
    (pyarrow, lambda table: table.set_column(1, "b", table["b"].dictionary_encode()))])
def test_categories_of_the_libraries(make, to_categories):
    with pytest.raises(ValueError, match=r"column 'b' is (category|dictionary)"):
        ArrayDataset(to_categories(make({"a": [0.5, 1.0], "b": [5, 6]})), [0, 1])


def test_columns_without_names_go_by_their_place():
    table = pandas([[0.0, 1.0], [2.0, 3.0]])
    data = ArrayDataset(table, [0, 1])
    assert data.feature_names is None and data.x.tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("names, words", [
    (["a", 1], "x has columns whose names are text, as 'a', and others, as 1"), (["a", "a"], "more than one column 'a'")])
def test_names_that_tell_nothing_apart(names, words):
    columns = [Column([0.0, 1.0]), Column([2.0, 3.0])]
    with pytest.raises(ValueError, match=words):
        ArrayDataset(Stand(column_names=names, columns=columns), [0, 1])


def test_a_table_without_columns():
    with pytest.raises(ValueError, match="x is a table without columns"):
        ArrayDataset(Stand(column_names=[], columns=[]), [])


# ------------------------------------------------------------------ y
@make_of_all
@pytest.mark.parametrize("values, dtype", [([0, 2, 1], np.int64), ([True, False, True], np.int64), ([0.5, 1.0, 2.0], np.float64)])
def test_a_column_as_y(make, values, dtype):
    y = ArrayDataset(np.zeros((3, 1)), make({"y": values})).y
    assert y.dtype == dtype and y.tolist() == values
    column = make({"y": values})
    if hasattr(column, "__getitem__"):
        assert ArrayDataset(np.zeros((3, 1)), column["y"]).y.tolist() == values


@make_of_all
def test_several_columns_as_y(make):
    table = make({"a": [0.5, 1.0], "b": [1.5, 2.0]})
    assert ArrayDataset(np.zeros((2, 1)), table).y.tolist() == [[0.5, 1.5], [1.0, 2.0]]
    one_hot = make({"a": [0, 1], "b": [1, 0]})
    with pytest.raises(ValueError, match=r"np.argmax\(np.asarray\(y\), 1\) where it is one-hot"):
        ArrayDataset(np.zeros((2, 1)), one_hot)
    if make not in (like_pandas, like_polars, like_pyarrow):
        assert np.argmax(np.asarray(one_hot), 1).tolist() == [1, 0]


@make_of_all
def test_a_y_that_does_not_fit_gets_a_hint_that_works(make):
    names = make({"y": ["cat", "dog", "cat"]})
    with pytest.raises(ValueError, match=r"np.unique\(np.ravel\(y\), return_inverse=True\)\[1\] turns names into labels"):
        ArrayDataset(np.zeros((3, 1)), names)
    if make not in (like_pandas, like_polars, like_pyarrow):
        y = np.unique(np.ravel(names), return_inverse=True)[1]
        assert ArrayDataset(np.zeros((3, 1)), y).y.tolist() == [0, 1, 0]
    for values, words in (([0, None, 1], "nan"), ([0.5, None, 1.5], "nan"), (["a", None], "missing")):
        with pytest.raises(ValueError, match=rf"y\[1\] is {words}"):
            ArrayDataset(np.zeros((len(values), 1)), make({"y": values}))


# ------------------------------------------------------------------ arrays of objects
class NAType:
    """As of pandas.NA."""


@pytest.mark.parametrize("values, dtype, out", [
    ([[1.5, True], [2, False]], np.float64, [[1.5, 1], [2, 0]]), ([[1, True], [2, False]], np.int64, [[1, 1], [2, 0]]),
    ([Decimal("0.25"), 1], np.float64, [0.25, 1]), ([np.float32(0.5), np.int8(3)], np.float32, [0.5, 3]),
    ([np.True_, np.False_], bool, [True, False]), ([2**60, 1], np.int64, [2**60, 1]), ([2**70, 1], np.float64, [2.0**70, 1])])
def test_objects_that_are_all_numbers(values, dtype, out):
    x = ArrayDataset(np.array(values, object), [0, 1]).x
    assert x.dtype == dtype and x.tolist() == out
    assert ArrayDataset([[0.0], [1.0]], np.array([2, 1], object)).y.tolist() == [2, 1]


@pytest.mark.parametrize("x, words", [
    (np.array([[1.5, 2], [3, "4"]], object), r"x must be numbers; got object of shape \(2, 2\), where x\[1, 1\] is '4'"),
    (np.array([[1.5, 2], [3, None]], object), r"x\[1, 1\] is nan"),
    (np.array([[1.5, 2], [NAType(), 1]], object), r"x\[1, 0\] is nan"),
    (np.array([1, 2j], object), r"x\[1\] is 2j"),
    (Stand(toarray=None), r"got Stand: give x.toarray\(\)"), (Stand(collect=None), r"got Stand: give x.collect\(\)")])
def test_objects_that_are_not(x, words):
    with pytest.raises(ValueError, match=words):
        ArrayDataset(x, [0, 1])
    if "nan" not in words:
        with pytest.raises(ValueError, match=words):
            mlp(2, 2).predict(x)


def test_a_query_that_is_asked_for_its_items():
    class Query:
        columns = ("a", "b")

        def __len__(self):
            return 2

        def __getitem__(self, name):
            raise TypeError("by name")

        def to_arrow_table(self):
            raise NotImplementedError
    with pytest.raises(ValueError, match=r"x is a Query: give x\.to_arrow_table\(\)"):
        ArrayDataset(Query(), [0, 1])


def test_a_y_that_is_no_array():
    with pytest.raises(ValueError, match="y must be an array of numbers; got set"):
        ArrayDataset([0.0, 1.0], {0, 1})


def test_predict_refuses_masked_arrays():
    with pytest.raises(ValueError, match="x is a masked array"):
        mlp(2, 2).predict(np.ma.zeros((3, 2)))


def test_items_may_be_rows_of_a_mixed_table():
    class Rows(ItemDataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return np.array([31.5, i == 1, i], object), i
    assert next(Rows().epoch(0, 0, shuffle=False)).load().x.tolist() == [[31.5, 0, 0], [31.5, 1, 1], [31.5, 0, 2]]


# ------------------------------------------------------------------ names travel with the model
def trained(dataset, model=None):
    """A model that was trained on it, and the trainer."""
    model = model or Model(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), seed=0)
    with Trainer(1, seed=0) as t:
        t.init(dataset, model, losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        t.train()
    return model, t


@make_of_all
def test_predict_takes_columns_by_name(make, tmp_path):
    model, _ = trained(ArrayDataset(make(MIXED), [0, 1, 0]))
    want = model.predict(np.array(AS_ARRAY)).tobytes()
    model.save(tmp_path / "m")
    turned = make({name: MIXED[name] for name in ("visits", "age", "is_new")})
    for m in (model, Model.load(tmp_path / "m"), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert m.feature_names == ["age", "is_new", "visits"]
        assert m.predict(make(MIXED)).tobytes() == m.predict(turned).tobytes() == m.forward(turned).tobytes() == want
    with pytest.raises(ValueError, match=r"does not have the columns that the model was trained on, model.feature_names: "
                                         r"missing 'age', 'visits'; not among them 'Age'"):
        model.predict(make({"Age": [1.0], "is_new": [True]}))
    with pytest.raises(ValueError, match=r"model.feature_names: not among them 'more'"):
        model.predict(make({**MIXED, "more": [1, 2, 3]}))


def test_a_model_of_arrays_takes_tables_by_place():
    model, _ = trained(ArrayDataset(np.array(AS_ARRAY), [0, 1, 0]))
    assert model.feature_names is None
    assert model.predict(like_polars(MIXED)).tobytes() == model.predict(np.array(AS_ARRAY)).tobytes()


def test_datasets_with_other_columns_than_the_model():
    turned = {name: MIXED[name] for name in ("visits", "age", "is_new")}
    ours, other = (ArrayDataset(like_polars(columns), [0, 1, 0]) for columns in (MIXED, turned))
    model, t = trained(ours)
    words = "does not have the columns that the model was trained on, model.feature_names: they are in another order"
    with pytest.raises(ValueError, match="the dataset " + words):
        t.evaluate(other)
    before = model.params.copy()
    for dataset, part in ((other, "the dataset "), (Split(ours, other, None), "the validation part "),
                          (Split(ours, None, other), "the test part ")):
        with pytest.raises(ValueError, match=part + words):
            trained(dataset, model)
    assert np.array_equal(model.params, before) and model.feature_names == ["age", "is_new", "visits"]
    trained(ArrayDataset(np.array(AS_ARRAY), [0, 1, 0]), model)         # arrays say nothing of their columns
    assert model.feature_names == ["age", "is_new", "visits"]


@make_of_all
@pytest.mark.parametrize("buffer", [0, 2])
def test_a_stream_of_tables(make, buffer):
    def source():
        yield make(MIXED), make({"y": [0, 1, 0]})
        yield make({name: MIXED[name] for name in ("visits", "age", "is_new")}), make({"y": [0, 1, 0]})
    data = StreamDataset(source, 6, chunks=True, shuffle_buffer=buffer)
    assert trained(data)[0].feature_names == data.feature_names == ["age", "is_new", "visits"]
    assert next(data.epoch(0, 0, shuffle=False)).load().x.tolist() == AS_ARRAY * 2


@pytest.mark.parametrize("of", [lambda table: table, lambda table: table["y"], lambda table: table["y"].chunk(0)],
                         ids=["table", "column", "chunk"])
def test_a_null_of_a_dictionary_is_no_label(of):
    """NumPy's view of a table's dictionary column has the dictionary's last value in its place."""
    arrow = pytest.importorskip("pyarrow")

    def labels(*values):
        return of(arrow.table({"y": arrow.array(values).dictionary_encode()}))
    assert ArrayDataset(np.ones((3, 1)), labels(1, 0, 1)).y.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"y\[1\] is nan"):
        ArrayDataset(np.ones((3, 1)), labels(1, None, 0))
