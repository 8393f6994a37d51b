"""Python layers of several inputs, integers among them: gradients, threads, files, errors."""
import re

import numpy as np
import pytest
from every_strategy import TABLE
from small import DRIVERS

from tinydl import Model, Trainer, data, losses, nn, optim, testing
from tinydl.parallel.strategies import Group, Local, Shard

rng = np.random.default_rng(3)
A, B, STORE = rng.standard_normal((60, 4)), rng.standard_normal((60, 2)), rng.integers(0, 5, 60)
Y = rng.standard_normal((60, 3))
SEEN: list[tuple] = []


class Bilinear(nn.PythonLayer):
    """y_k = sum_ij a_i W_kij b_j, times a factor of the category."""

    def __init__(self, a=4, b=2, out=3, categories=5):
        self.shape = (out, a, b)
        self.add_parameter("w", self.shape, "xavier_normal")
        self.add_parameter("factor", (categories,), "ones")

    def output_shape(self, a, b, category):
        return self.shape[:1]

    def forward(self, a, b, category):
        SEEN[:] = [(x.dtype, x.shape, x.flags.writeable) for x in (a, b, category)]
        y = np.einsum("ni,kij,nj->nk", a, self.parameter("w"), b)
        factor = self.parameter("factor")[category][:, None]
        return y * factor, (a, b, category, y, factor)

    def backward(self, dy, saved):
        a, b, category, y, factor = saved
        dfactor = np.bincount(category, (dy * y).sum(1), minlength=len(self.parameter("factor")))
        dy, w = dy * factor, self.parameter("w")
        return (np.einsum("nk,kij,nj->ni", dy, w, b), np.einsum("nk,kij,ni->nj", dy, w, a), None,
                {"w": np.einsum("nk,ni,nj->kij", dy, a, b), "factor": dfactor})


def model_of(dtype="float32"):
    a, b, store = nn.Input((4,), name="a"), nn.Input((2,), name="b"), nn.Input((), "int64", name="store")
    y = Bilinear()([nn.Linear(4, 4)(a), b, store])
    return Model(inputs=[a, b, store], outputs=nn.Linear(3, 3)(nn.Tanh()(y)), seed=0, dtype=dtype)


def test_gradients():
    x = A[:6], B[:6], STORE[:6]
    assert testing.check_gradients(Bilinear(), x) < 1e-7
    assert testing.check_gradients(model_of().layer, x) < 1e-7
    assert [s[0] for s in SEEN] == [np.float64, np.float64, np.int64] and not any(s[2] for s in SEEN)
    assert [s[1] for s in SEEN] == [(6, 4), (6, 2), (6,)]


def test_a_wrong_gradient_of_the_second_input_is_found():
    class Wrong(Bilinear):
        def backward(self, dy, saved):
            da, db, *more = super().backward(dy, saved)
            return da, 2 * db, *more
    with pytest.raises(AssertionError, match=r"gradient by x\[1\]\["):
        testing.check_gradients(Wrong(), (A[:6], B[:6], STORE[:6]))


@pytest.mark.parametrize("strategy", [Group(3), Shard(3), Local(2, 2), TABLE["serial"][0]()], ids=str)
def test_the_same_bits_for_any_threads_and_both_drivers(strategy):
    digests = set()
    for kind in DRIVERS.values():
        for threads in (1, 2, 3):
            model = model_of()
            with Trainer(2, strategy=strategy, enable_parallel=True, thread_count=threads, seed=1) as t:
                t.init(kind({"a": A, "store": STORE, "b": B}, Y, 8), model, losses.MeanSquaredError(), optim.Adam(0.01))
                t.train()
            assert not t.history.failures
            digests.add(model.params.tobytes())
    assert len(digests) == 1


def test_saved_loaded_and_frozen(tmp_path):
    model = model_of()
    model.freeze("*.factor")
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m", {"Bilinear": Bilinear})
    assert again.frozen == ["1.factor"] and np.array_equal(again.predict((A, B, STORE)), model.predict((A, B, STORE)))
    before = again.state_dict()
    with Trainer(1, seed=0) as t:
        t.init(data.ArrayDataset((A, B, STORE), Y, 8), again, losses.MeanSquaredError(), optim.SGD(0.1))
        t.train()
    after = again.state_dict()
    assert [name for name in before if np.array_equal(before[name], after[name])] == ["1.factor"]


class Rows(nn.PythonLayer):
    """A layer of integers alone, that has a model to itself."""

    def input_dtype(self):
        return "int64"

    def forward(self, x):
        return x.astype(np.float64) * 2, None

    def backward(self, dy, saved):
        return None


def test_integers_alone():
    assert Model(Rows(), "float64").predict(np.array([[1, 2]])).tolist() == [[2, 4]]
    model = Model(nn.Sequential(Rows(), nn.Linear(4, 1)), seed=0)
    with Trainer(1, seed=0) as t:
        t.init(data.ArrayDataset(np.arange(40).reshape(10, 4) % 3, np.ones((10, 1)), 4), model, losses.MeanSquaredError(),
               optim.SGD(0.01))
        assert not t.train().failures
    with pytest.raises(ValueError, match="input x takes integers"):
        model.predict(np.ones((2, 4)))


class Sum(nn.PythonLayer):
    """What its backward returns is given."""

    def __init__(self, gradients):
        self.gradients = gradients

    def forward(self, a, b):
        return a + b, None

    def backward(self, dy, saved):
        return {"one": dy, "short": (dy, dy[:, :1]), "none": (dy, None), "three": (dy, dy, dy)}[self.gradients]


@pytest.mark.parametrize("gradients, message", [
    ("one", "Sum.backward returned 1 gradients of inputs; forward takes 2"), ("three", "returned 3 gradients of inputs"),
    ("short", "Sum.backward returned shape (4, 1) for input 1; (4, 3) was expected"),
    ("none", "Sum.backward returned None for input 1; (4, 3) was expected")])
def test_what_backward_returns_is_checked(gradients, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        testing.check_gradients(Sum(gradients), (np.ones((4, 3)), np.ones((4, 3))))


def test_it_is_called_on_as_many_values_as_forward_takes():
    a, b = nn.Input((3,)), nn.Input((3,))
    with pytest.raises(TypeError, match=re.escape("is called on 3 values, and there is Sum.forward(a, b)")):
        Sum("one")([a, b, a])
    assert Sum("one")([a, b]).shape == (3,)
