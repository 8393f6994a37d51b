#!/usr/bin/env bash
# TensorFlow.js 4.22.0, its layers on Node 20 (Keras 3.15.1 with JAX 0.10.2 beside it, NumPy 2.4.6): GlobalAveragePooling1D behind
# Masking, or behind Embedding with maskZero.
#
# Guess: layers that Keras has as well compute what they do in Keras, whose models they load: the mean is over the steps that are
# there.
# Seen: the mean is over all steps. Two words of a sentence padded to 8 have a quarter of their mean in Keras, and a sentence's
# result depends on how far it was padded. The layer takes the mask without a word, and the LSTM behind the same mask is right. A
# classifier of texts, Embedding(mask_zero=True), GlobalAveragePooling1D, Dense, answers otherwise than where it was trained.
# What helps is a model without a mask whose mean is written as a sum that is divided by the number of words.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init --yes > /dev/null
npm install --silent --no-audit --no-fund @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-layers@4.22.0 \
    @tensorflow/tfjs-backend-cpu@4.22.0
cat > run.mjs <<'JS'
import {writeFileSync} from "fs";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import * as layers from "@tensorflow/tfjs-layers";

await tf.setBackend("cpu");
const table = [[0, 0], [1, 2], [3, 5], [-2, 7]];
const found = {};
for (const steps of [2, 4, 8]) {
  const words = layers.input({shape: [steps]});
  const embedding = layers.layers.embedding({inputDim: 4, outputDim: 2, maskZero: true, weights: [tf.tensor2d(table)]});
  const y = embedding.apply(words);
  const ids = tf.tensor2d([[1, 2, ...Array(steps - 2).fill(0)]]);
  const mean = layers.model({inputs: words, outputs: layers.layers.globalAveragePooling1d().apply(y)});
  const lstm = layers.model({inputs: words, outputs: layers.layers.lstm(
    {units: 1, kernelInitializer: "ones", recurrentInitializer: "ones", recurrentActivation: "sigmoid"}).apply(y)});
  const numbers = layers.input({shape: [steps, 2]});
  const masked = layers.model({inputs: numbers, outputs: layers.layers.globalAveragePooling1d().apply(
    layers.layers.masking({maskValue: 0}).apply(numbers))});
  const rows = tf.tensor3d([[1, 2, 0, 3].map(k => table[k]).concat(Array(8).fill([0, 0])).slice(0, steps)]);
  found[steps] = {mean: Array.from(mean.predict(ids).dataSync()), lstm: Array.from(lstm.predict(ids).dataSync()),
                  masked: Array.from(masked.predict(rows).dataSync())};
}
writeFileSync("found.json", JSON.stringify(found));
JS
node run.mjs 2> /dev/null > /dev/null
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax venv/bin/python -W ignore - <<'PY'
import json

import keras
import numpy as np

with open("found.json", encoding="utf-8") as f:
    found = json.load(f)
table = np.array([[0, 0], [1, 2], [3, 5], [-2, 7]], np.float32)
for steps in (2, 4, 8):
    ids = np.zeros((1, steps), int)
    ids[0, :2] = 1, 2
    words = keras.Input((steps,))
    embedding = keras.layers.Embedding(4, 2, mask_zero=True)
    y = embedding(words)
    embedding.set_weights([table])
    mean = keras.Model(words, keras.layers.GlobalAveragePooling1D()(y)).predict(ids, verbose=0)[0]
    recurrent = keras.layers.LSTM(1, kernel_initializer="ones", recurrent_initializer="ones")
    lstm = keras.Model(words, recurrent(y)).predict(ids, verbose=0)[0]
    numbers = keras.Input((steps, 2))
    rows = np.concatenate([table[[1, 2, 0, 3]], np.zeros((4, 2))])[None, :steps].astype(np.float32)
    over = keras.layers.GlobalAveragePooling1D()(keras.layers.Masking()(numbers))
    masked = keras.Model(numbers, over).predict(rows, verbose=0)[0]
    seen = {name: np.array(v) for name, v in found[str(steps)].items()}
    print(f"two words and {steps - 2} of padding: mean {seen['mean']}, Keras {mean}; "
          f"LSTM {seen['lstm'].round(4)}, Keras {lstm.round(4)}")
    there = rows[0][(rows[0] != 0).any(1)]
    assert np.allclose(mean, table[[1, 2]].mean(0)) and np.allclose(masked, there.mean(0))
    assert np.allclose(lstm, seen["lstm"], atol=1e-5)
    assert np.allclose(seen["mean"], table[ids[0]].mean(0)) and np.allclose(seen["masked"], rows[0].mean(0)), "that changed"
    assert np.allclose(seen["mean"], mean) == (steps == 2), "that changed"
PY
