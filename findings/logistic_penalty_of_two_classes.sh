#!/usr/bin/env bash
# scikit-learn 1.9.1 (NumPy 2.4.6, SciPy 1.17.1): LogisticRegression of two classes beside softmax regression with the same C.
#
# Guess: its documented loss for several classes, C times the sum of the cross-entropies plus half the sum of the squares of all
# coefficients, holds for two classes as well, where softmax and the sigmoid of a difference are the same model; so a softmax
# regression of two classes with the same penalty gives the same probabilities.
# Seen: they differ in the second decimal. Two classes have one row of coefficients, the difference of softmax's two, which at the
# optimum are w / 2 and -w / 2: their penalty is |w|^2 / 4 where LogisticRegression's is |w|^2 / 2. It gives the probabilities of
# a softmax regression with C / 2. With three classes the two agree at the same C.
# So the same C is a penalty twice as strong for two classes as for more; who ports a model or writes a baseline has to know.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
"$dir/venv/bin/python" - <<'PY'
import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))


def softmax_regression(y, C):
    K = y.max() + 1

    def probabilities(w):
        z = X @ w[:3 * K].reshape(3, K) + w[3 * K:]
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def loss(w):
        return -C * np.log(probabilities(w)[np.arange(60), y]).sum() + 0.5 * (w[:3 * K] ** 2).sum()
    return probabilities(minimize(loss, np.zeros(4 * K), method="BFGS", options={"gtol": 1e-7}).x)


two = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
three = np.digitize(X[:, 0] + rng.normal(size=60), [-0.5, 0.5])
for name, y in (("two", two), ("three", three)):
    p = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(X, y).predict_proba(X)
    same, half = (np.abs(p - softmax_regression(y, C)).max() for C in (1.0, 0.5))
    print(f"{name} classes: largest difference to softmax with the same C {same:.1e}, with half of it {half:.1e}")
    assert (same > 0.01 and half < 1e-5) if name == "two" else (same < 1e-5 and half > 0.01)
PY
