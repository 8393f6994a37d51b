"""Layers and losses of one's own: what they were made with, in `repr`, in copies and in files."""
import copy
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from tinydl import Model, losses, nn


class Scale(nn.PythonLayer):
    """y = factor x + the rest; what else it takes is for the tests."""

    def __init__(self, factor=2.0, /, *rest, inner=None, axes=(1, 2), weights=None, **more):
        self.factor, self.rest, self.inner, self.axes, self.more = factor, rest, inner, axes, more
        self.bias = float(np.sum(weights)) if weights is not None else sum(rest)

    def forward(self, x):
        return self.factor * x + self.bias, None

    def backward(self, dy, saved):
        return self.factor * dy


class Steep(Scale):
    def __init__(self, slope):
        super().__init__(10 * slope)


class Steeper(Steep):
    pass


class Block(nn.Sequential):
    def __init__(self, n, act=None):
        super().__init__(nn.Linear(n, n), act or nn.Tanh())


class Leaky(nn.LeakyReLU):
    def __init__(self, percent=1):
        super().__init__(percent / 100)


def every_layer_with_arguments():
    shared = nn.Linear(2, 2)
    return {"default": (Scale(), "factor=2.0, rest=(), inner=None, axes=(1, 2), weights=None, more={}"),
            "positional": (Scale(5.0, 1, 2), "factor=5.0, rest=(1, 2), "), "numpy": (Scale(np.float32(0.5)), "factor=0.5, "),
            "keyword": (Scale(axes=[3, (4,)], deep={"a": [(1,), None]}), "axes=[3, (4,)], weights=None, more={'deep': "),
            "weights": (Scale(weights=[1.5, 2]), "weights=[1.5, 2], "), "of a subclass": (Steep(3), "slope=3"),
            "inherited": (Steeper(slope=4), "slope=4"), "a container's": (Block(2), "n=2, act=None"),
            "a layer": (nn.Sequential(shared, Scale(inner=shared), Block(2, nn.Sigmoid())), "inner=Linear(in_features=2"),
            "of a built-in layer": (Leaky(30), "percent=30")}


@pytest.mark.parametrize("row", every_layer_with_arguments())
def test_a_layer_of_ones_own_is_made_again_with_its_arguments(row, tmp_path):
    layer, shown = every_layer_with_arguments()[row]
    assert shown in (repr(layer) if row != "a container's" else str(layer.config()).replace("'", "").replace(": ", "="))
    m, x = Model(layer, "float64", seed=0), np.linspace(-1, 1, 6).reshape(3, 2)
    m.save(tmp_path / "m")
    kinds = {kind.__name__: kind for kind in (Scale, Steep, Steeper, Block, Leaky)}
    for k in (Model.load(tmp_path / "m", kinds), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert repr(k) == repr(m) and k.predict(x).tobytes() == m.predict(x).tobytes()
        if row == "keyword":
            assert (k.layer.axes, k.layer.more) == ([3, (4,)], {"deep": {"a": [(1,), None]}})
        if row == "a layer":
            assert k.layer[1].inner is k.layer[0]


def test_arguments_that_a_file_cannot_hold_are_named_when_it_is_saved(tmp_path):
    @dataclass(eq=False)
    class Unrecorded(nn.PythonLayer):
        factor: float = 2.0

    class Wrong(nn.Linear):
        def config(self):
            return {"n": 2}
    layer = Scale(3, weights=np.ones(3))
    assert "weights=<ndarray>" in repr(layer) and repr(copy.deepcopy(layer)) == repr(pickle.loads(pickle.dumps(layer)))
    for made, message in ((layer, r"Scale was made with weights=<ndarray>.*override Scale\.config\(\)"),
                          (Scale(inner=[print]), r"inner=\[<builtin_function_or_method>\]"),
                          (Unrecorded(5.0), r"Unrecorded was made with are not known: override Unrecorded\.config"),
                          (Wrong(2, 2), r"Wrong cannot be made again with {'n': 2}: .*Override Wrong\.config")):
        with pytest.raises(ValueError, match=message):
            Model(nn.Sequential(made)).save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_class_that_takes_other_arguments_by_now(tmp_path):
    class Changed(nn.PythonLayer):
        def __init__(self, slope=1.0):
            self.slope = slope
    Model(Scale(5.0)).save(tmp_path / "m")
    with pytest.raises(ValueError, match="takes no axes, factor, inner, more, rest, weights any more"):
        Model.load(tmp_path / "m", {"Scale": Changed})


def test_what_config_says_is_so(tmp_path):
    class Says(Scale):
        def __init__(self, weights):
            self.weights = np.asarray(weights)
            super().__init__(weights=self.weights)

        def config(self):
            return {"weights": self.weights.tolist()}
    m = Model(Says(np.ones(3)))
    m.save(tmp_path / "m")
    assert Model.load(tmp_path / "m", {"Says": Says}).layer.weights.tolist() == [1, 1, 1]


def test_the_arguments_are_those_that_the_constructor_was_called_with():
    class Grows(nn.PythonLayer):
        def __init__(self, sizes):
            sizes.append(sizes[-1])
            self.sizes = sizes
    sizes = [3]
    assert repr(Grows(sizes)) == "Grows(sizes=[3])" and sizes == [3, 3]
    with pytest.raises(TypeError, match="sizes"):
        Grows()
    with pytest.raises(TypeError):
        nn.ReLU(5)


def test_losses_show_their_arguments():
    class Power(losses.PythonLoss):
        def __init__(self, p=2, *, scale=1.0):
            self.p, self.scale = p, scale
    for loss in (Power(3), copy.deepcopy(Power(3)), pickle.loads(pickle.dumps(losses.Huber(0.5)))):
        assert repr(loss) in ("Power(p=3, scale=1.0)", "Huber(delta=0.5)")
