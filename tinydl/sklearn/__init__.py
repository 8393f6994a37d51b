"""Estimators for scikit-learn (1.6 and later): `pip install 'tinydl-parallel[sklearn]'`.

    TabularClassifier, TabularRegressor a table as it is: numbers, text, categories, gaps
    MLPClassifier, MLPRegressor         scikit-learn's own multilayer perceptrons, several times as fast
    NeuralClassifier, NeuralRegressor   any `tinydl.nn` network

They go into pipelines, searches, `clone` and pickles as scikit-learn's do, and pass its check_estimator; the tabular ones but for
its check that a row twice is a row of weight 2, since they set rows aside by chance.

    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from tinydl.sklearn import MLPClassifier
    >>> search = GridSearchCV(make_pipeline(StandardScaler(), MLPClassifier()), {"mlpclassifier__alpha": [1e-4, 1e-2]})

Each fit trains with one thread unless n_threads says otherwise, so a search with n_jobs=2 uses two CPUs and no more, by
processes or by threads (`joblib.parallel_config("threading")`), since training holds no GIL. What estimators have in common is
in base.py, labels.py and epochs.py.
"""
try:
    import sklearn as _scikit_learn
except ModuleNotFoundError as e:
    raise ImportError("tinydl.sklearn needs scikit-learn 1.6 or later: pip install 'tinydl-parallel[sklearn]'") from e
if tuple(map(int, _scikit_learn.__version__.split(".")[:2])) < (1, 6):
    raise ImportError(f"tinydl.sklearn needs scikit-learn 1.6 or later, and {_scikit_learn.__version__} is installed: "
                      "pip install -U 'tinydl-parallel[sklearn]'")

from tinydl.sklearn.mlp import MLPClassifier, MLPRegressor
from tinydl.sklearn.neural import NeuralClassifier, NeuralRegressor
from tinydl.sklearn.tabular import TabularClassifier, TabularRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "NeuralClassifier", "NeuralRegressor", "TabularClassifier",
           "TabularRegressor"]
