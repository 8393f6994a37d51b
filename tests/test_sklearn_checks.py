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

#: A row twice is not the same as a row of weight 2 where rows are set aside by chance: of two equal ones one may be. scikit-learn
#: says the same of its own that draw rows (RandomForestClassifier). To merge equal rows before would pass, and set whole kinds
#: of rows aside: with Titanic's 2,201 rows of 24 kinds log-loss went from 0.485 to 0.59.
SETS_ROWS_ASIDE = {"check_sample_weight_equivalence_on_dense_data"}


def name_of(value):
    check = getattr(value, "func", value)
    more = "".join(f"-{k}={v}" for k, v in getattr(value, "keywords", {}).items())
    return f"{check.__name__}{more}" if hasattr(check, "__name__") else type(value).__name__


@pytest.mark.filterwarnings("ignore")       # scikit-learn's own code warns in some checks
@pytest.mark.parametrize("estimator, check", [
    (own, check) for each in ESTIMATORS for own, check in estimator_checks_generator(each)
    if not (name_of(check) in SETS_ROWS_ASIDE and isinstance(own, (TabularClassifier, TabularRegressor)))], ids=name_of)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
