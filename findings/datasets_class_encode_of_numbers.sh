#!/usr/bin/env bash
# Hugging Face datasets 5.2.0 (NumPy 2.4.6, pyarrow 26.0.1): class_encode_column of labels that are whole numbers, 0 to 11.
#
# What one would expect (no guess was written before the run): a column that holds 0 to 11 already is what a ClassLabel holds:
# the numbers stay, and get the names "0" to "11".
# Seen: numbers become text and the text is sorted, so the classes are "0", "1", "10", "11", "2", ...: a label of 2 becomes 4,
# 10 becomes 2. Ten of the twelve labels change; the column is whole numbers from 0 to 11 as before. Up to ten classes nothing
# changes. train_test_split(stratify_by_column=...) asks for a ClassLabel, and so for this call, so whoever stratifies by labels
# with more than ten classes trains on other numbers than a file of predictions, a list of names or a model trained before has.
# A cast to ClassLabel(num_classes=12) keeps the numbers.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 numpy==2.4.6 pyarrow==26.0.1
HF_HOME="$dir" HF_HUB_OFFLINE=1 "$dir/venv/bin/python" - <<'PY'
import datasets

datasets.disable_progress_bars()
for classes in (10, 12):
    plain = datasets.Dataset.from_dict({"label": list(range(classes)) * 20})
    encoded, cast = plain.class_encode_column("label"), plain.cast_column("label", datasets.ClassLabel(num_classes=classes))
    before, after = plain["label"][:classes], encoded["label"][:classes]
    print(f"{classes} classes, before {before}\n            after {after}")
    kept = [encoded.features["label"].int2str(label) for label in after] == [str(label) for label in before]
    assert kept and cast["label"][:classes] == before
    assert after == [sorted(map(str, before)).index(str(label)) for label in before]
    assert (after == before) == (classes == 10)
try:
    plain.train_test_split(0.25, stratify_by_column="label", seed=0)
    raise SystemExit("stratify_by_column takes whole numbers now")
except ValueError as error:
    print("stratify_by_column of the plain column:", str(error)[:90])
part = encoded.train_test_split(0.25, stratify_by_column="label", seed=0)["train"]
assert sorted(set(part["label"])) == list(range(12))
PY
