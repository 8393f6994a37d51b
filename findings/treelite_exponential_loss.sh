#!/usr/bin/env bash
# Treelite 4.8.1 (scikit-learn 1.9.1, NumPy 2.4.6): GradientBoostingClassifier(loss="exponential") imported by treelite.sklearn.
#
# What one would expect (no guess was written before the run): what import_model takes predicts what scikit-learn predicts, as it
# does for loss="log_loss"; or a loss without a function of its own is refused.
# Seen: it is taken for log_loss. The exponential loss, AdaBoost's, has scores of half the logarithm of odds, so that
# probabilities are 1 / (1 + exp(-2 s)); Treelite computes 1 / (1 + exp(-s)). They are too near to 0.5, by up to 0.15, and the
# log-loss is worse, while labels, and the area under the curve, are as before, so that accuracy does not show it. Nothing warns.
# Whoever needs them takes raw scores (pred_margin=True) and computes the probabilities from those.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check treelite==4.8.1 scikit-learn==1.9.1 numpy==2.4.6
"$dir/venv/bin/python" -W error - <<'PY'
import numpy as np
import treelite
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import accuracy_score, log_loss

rng = np.random.default_rng(0)
x = rng.normal(size=(4000, 4)).astype(np.float32)
y = (x[:, 0] + x[:, 1] + rng.normal(size=4000) > 0).astype(int)
for loss, factor in (("log_loss", 1), ("exponential", 2)):
    model = GradientBoostingClassifier(loss=loss, n_estimators=100, random_state=0).fit(x[:2000], y[:2000])
    imported, test, labels = treelite.sklearn.import_model(model), x[2000:], y[2000:]
    theirs, scores = model.predict_proba(test)[:, 1], model.decision_function(test)
    seen = treelite.gtil.predict(imported, test).ravel()
    margins = treelite.gtil.predict(imported, test, pred_margin=True).ravel()
    print(f"{loss:11}: probabilities differ by up to {np.abs(seen - theirs).max():.3f}; log-loss {log_loss(labels, theirs):.3f}, "
          f"Treelite {log_loss(labels, seen):.3f}; "
          f"accuracy {accuracy_score(labels, theirs > 0.5):.4f}, {accuracy_score(labels, seen > 0.5):.4f}")
    assert np.allclose(theirs, 1 / (1 + np.exp(-factor * scores))) and np.allclose(margins, scores, atol=1e-6)
    assert np.allclose(seen, 1 / (1 + np.exp(-scores)), atol=1e-6), "that changed"
    assert (np.abs(seen - theirs).max() > 0.1) == (factor == 2), "that changed"
PY
