#!/usr/bin/env bash
# scikit-learn 1.9.1 (NumPy 2.4.6, SciPy 1.17.1, pandas 3.1.1): CalibratedClassifierCV(method="temperature") of labels that are
# numbers.
#
# Guess: the labels' values do not matter, as with method="sigmoid" and "isotonic": classes 1, 2, 3 are calibrated as 0, 1, 2 are.
# Seen: only text is encoded first. Other labels are taken for the numbers of the columns of scores, whatever they are, so that the
# temperature is fitted to the wrong class of each row. Of the labels 1, 2, 3 it becomes 22,000, and all probabilities are 1/3, of a
# classifier that is right in seven of ten rows. Nothing warns, and the most probable class is as before, so accuracy does not show
# it. (And y[0] is asked of a pandas Series: where it has no row called 0, as after train_test_split by chance, fit raises
# KeyError.)
# Whoever calibrates so gives labels from 0 on, or text, as arrays.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict

X, y = make_classification(600, n_informative=5, n_classes=3, flip_y=0.2, random_state=0)
order = np.argsort(y != 0, kind="stable")[::-1]
X, y = X[order], y[order]
base = LogisticRegression(C=100)

scores = cross_val_predict(base, X, y, cv=3, method="decision_function")        # what the temperature is fitted to
betas = np.exp(np.linspace(-3, 3, 60001))
losses = [np.mean(np.log(np.exp(b * (scores - scores[np.arange(600), y][:, None])).sum(1))) for b in betas[::100]]
near = betas[100 * int(np.argmin(losses))]
print(f"by NumPy the log-loss is least where scores are multiplied by about {near:.3f}")

for name, labels in {"0, 1, 2": np.arange(3), "a, b, c": np.array(["a", "b", "c"]), "1, 2, 3": np.arange(3) + 1,
                     "1.0, 2.0, 3.0": np.arange(3) + 1.0}.items():
    found = {}
    for method in ("sigmoid", "temperature"):
        calibrated = CalibratedClassifierCV(base, method=method, cv=3, ensemble=False).fit(X, labels[y])
        p = calibrated.predict_proba(X)
        found[method] = log_loss(labels[y], p), np.mean(calibrated.predict(X) == labels[y])
    beta = calibrated.calibrated_classifiers_[0].calibrators[0].beta_
    print(f"labels {name:14s} beta {beta:.6f}; log-loss {found['temperature'][0]:.4f} (by sigmoid {found['sigmoid'][0]:.4f}), "
          f"accuracy {found['temperature'][1]:.3f}; probabilities {p.min():.3f} to {p.max():.3f}")
    assert abs(found["sigmoid"][0] - 0.823) < 0.02
    if name[0] in "0a":
        assert abs(beta / near - 1) < 0.02 and p.max() > 0.9
    else:
        assert beta < 1e-3 and abs(found["temperature"][0] - np.log(3)) < 1e-3 and np.abs(p - 1 / 3).max() < 1e-3
        assert found["temperature"][1] > 0.65
for method in ("sigmoid", "temperature"):
    try:
        CalibratedClassifierCV(base, method=method, cv=3).fit(X, pd.Series(y, index=np.arange(600) + 1))
        print(f"a Series whose rows are called 1 to 600, {method}: fitted")
        assert method == "sigmoid"
    except KeyError as error:
        print(f"a Series whose rows are called 1 to 600, {method}: KeyError {error}")
        assert method == "temperature"
PY
