#!/usr/bin/env bash
# MLflow 3.17.2, its SQLite store: metrics logged without a step by log_metric(..., synchronous=False), which does not wait.
#
# Guess: the history has each value, as the documentation says ("MLflow remembers the history of values for each metric"), and the
# run's metric is the one logged last.
# Seen: a point is its run, name, step, millisecond and value, and without a step all have step 0. Of the values of one
# millisecond the run's metric is the greatest, not the last: a loss of 2.0 and then 1.0 mostly stays 2.0. Of equal values of one
# millisecond one is kept. There is no warning, and searches and sorts by metrics.loss go by that number. log_metric that waits,
# as it does by default, takes more than a millisecond.
# Whoever logs to MLflow gives each value its step.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check mlflow==3.17.2 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY' 2>errors.txt || { cat errors.txt; exit 1; }
import warnings

import mlflow

mlflow.set_tracking_uri("sqlite:///runs.db")
n = 100
with mlflow.start_run() as run, warnings.catch_warnings():
    warnings.simplefilter("error")
    for k in range(n):
        mlflow.log_metric("accuracy", 1.0, synchronous=False)
        mlflow.log_metric("accuracy_by_step", 1.0, step=k, synchronous=False)
        for i, loss in enumerate((2.0, 1.0)):
            mlflow.log_metric(f"loss/{k}", loss, synchronous=False)
            mlflow.log_metric(f"loss_by_step/{k}", loss, step=i, synchronous=False)
    mlflow.flush_async_logging()
client = mlflow.MlflowClient()
last = client.get_run(run.info.run_id).data.metrics
points = {name: len(client.get_metric_history(run.info.run_id, name)) for name in ("accuracy", "accuracy_by_step")}
old = {name: sum(last[f"{name}/{k}"] == 2.0 for k in range(n)) for name in ("loss", "loss_by_step")}
for name in points:
    print(f"{name:16} 1.0 logged {n} times: {points[name]} points")
for name in old:
    print(f"{name:16} 2.0, then 1.0 logged for {n} names: 2.0 in the end for {old[name]} of them")
assert points["accuracy_by_step"] == n > points["accuracy"]
assert old["loss_by_step"] == 0 < old["loss"]
PY
