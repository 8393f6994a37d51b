#!/usr/bin/env bash
# tsfresh 0.21.2 (NumPy 2.4.6, pandas 2.3.3): fft_aggregated with aggtype="kurtosis", one of the features of its default settings.
#
# Guess: centroid, variance, skew and kurtosis are those of the absolute spectrum taken as a distribution over its frequencies,
# whose kurtosis is documented as "the fourth standardized moment", the mean of ((k - centroid) / deviation)^4.
# Seen: the first three are. Of the kurtosis, expanded into moments, the last term is -3 c where it is -3 c^4, so that what comes
# out is larger by 3 (c^4 - c) / variance^2. Of noise it is 30 instead of 1.8, of a wave of 200 periods in 1000 points 236 instead
# of 8.4: it says where the spectrum is once more. Only where the centroid is at 0 or 1 is it right. Nothing warns.
# Whoever uses the feature computes it from rfft.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check tsfresh==0.21.2 numpy==2.4.6 pandas==2.3.3
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
from tsfresh.feature_extraction import ComprehensiveFCParameters
from tsfresh.feature_extraction.feature_calculators import fft_aggregated

KINDS = "centroid", "variance", "skew", "kurtosis"
assert {"aggtype": "kurtosis"} in ComprehensiveFCParameters()["fft_aggregated"]
rng = np.random.default_rng(0)
t = np.arange(1000)
SERIES = {"a slow trend": np.cumsum(rng.normal(size=1000)) + 0.001 * t, "noise": rng.normal(size=1000),
          "a wave, 50 periods": np.sin(2 * np.pi * 50 * t / 1000) + 0.01 * rng.normal(size=1000),
          "a wave, 200 periods": np.sin(2 * np.pi * 200 * t / 1000) + 0.01 * rng.normal(size=1000)}
for name, x in SERIES.items():
    spectrum = np.abs(np.fft.rfft(x))
    weight, k = spectrum / spectrum.sum(), np.arange(len(spectrum))
    c = weight @ k
    variance = weight @ (k - c) ** 2
    wanted = np.array([c, variance, weight @ (k - c) ** 3 / variance**1.5, weight @ (k - c) ** 4 / variance**2])
    seen = np.array([value for _, value in fft_aggregated(x, [{"aggtype": kind} for kind in KINDS])])
    print(f"{name:20}: " + ", ".join(f"{kind} {a:.4g}" for kind, a in zip(KINDS, seen, strict=True))
          + f"; by its definition {wanted[3]:.4g}")
    assert np.allclose(seen[:3], wanted[:3], rtol=1e-5)
    assert np.isclose(seen[3], wanted[3] + 3 * (c**4 - c) / variance**2, rtol=1e-5) and seen[3] > wanted[3] + 0.1, "that changed"
PY
