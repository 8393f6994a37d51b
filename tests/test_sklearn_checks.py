"""tinydl.sklearn: scikit-learn's own checks of estimators."""
import pytest

pytest.importorskip("sklearn", "1.6")

from sklearn.utils.estimator_checks import estimator_checks_generator

from tinydl.sklearn import (
    MLPClassifier,
    MLPRegressor,
    NeuralClassifier,
    NeuralRegressor,
    TabularClassifier,
    TabularRegressor,
)

# few epochs, of as few updates as learn what the checks ask for
ESTIMATORS = [MLPClassifier(max_iter=30), MLPRegressor(max_iter=60), NeuralClassifier(max_epochs=8, learning_rate=0.01),
              NeuralRegressor(max_epochs=8, learning_rate=0.01),
              TabularClassifier(n_members=2, max_epochs=16, hidden_layer_sizes=(64,), learning_rate=0.02),
              TabularRegressor(n_members=2, max_epochs=16, hidden_layer_sizes=(64,))]


def name_of(value):
    check = getattr(value, "func", value)
    more = "".join(f"-{k}={v}" for k, v in getattr(value, "keywords", {}).items())
    return f"{check.__name__}{more}" if hasattr(check, "__name__") else type(value).__name__


@pytest.mark.filterwarnings("ignore")       # scikit-learn's own code warns in some checks
@pytest.mark.parametrize("estimator, check", [pair for each in ESTIMATORS for pair in estimator_checks_generator(each)],
                         ids=name_of)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
