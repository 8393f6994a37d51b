"""JAX. Modes: step (one jitted call a batch), scan (one jitted call for several batches)."""
from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tinydl.benchmarks.workloads import Array, Workload, data, weights

MODES = ("scan", "step")


class ByJax:
    def __init__(self, w: Workload, mode: str) -> None:
        x, y = data(w)
        self.x, self.y, self.mode, self.scan = jnp.asarray(x), jnp.asarray(y.astype(np.int32)), mode, w.scan
        tree = jax.tree_util.tree_map

        def loss_of(p: Any, x: Any, y: Any) -> Any:
            for k, (weight, bias) in enumerate(p):
                x = x @ weight.T + bias
                x = jax.nn.relu(x) if k < len(p) - 1 else x
            return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

        def update(state: Any, index: Any, x: Any, y: Any) -> Any:
            p, m, v, t = state
            loss, g = jax.value_and_grad(loss_of)(p, x[index], y[index])
            t = t + 1
            if w.optimizer == "sgd":
                if w.momentum:
                    m = tree(lambda a, b: w.momentum * a + b, m, g)
                    g = m
                p = tree(lambda a, b: a - w.lr * b, p, g)
            else:
                m = tree(lambda a, b: 0.9 * a + 0.1 * b, m, g)
                v = tree(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
                c1, c2 = w.lr / (1 - 0.9 ** t), 1 / (1 - 0.999 ** t)
                p = tree(lambda a, b, c: a - c1 * b / (jnp.sqrt(c * c2) + 1e-8), p, m, v)
            return (p, m, v, t), loss
        self.one = jax.jit(update, donate_argnums=0)
        self.many = jax.jit(lambda s, i, x, y: jax.lax.scan(lambda a, b: update(a, b, x, y), s, i), donate_argnums=0)
        p = tree(jnp.asarray, weights(w))
        self.state = (p, tree(jnp.zeros_like, p), tree(jnp.zeros_like, p), jnp.float32(0))

    def step(self, indices: Array) -> float:
        indices, loss = indices.astype(np.int32), None
        at = 0
        while at < len(indices):
            if self.mode == "scan" and at + self.scan <= len(indices):
                self.state, loss = self.many(self.state, indices[at:at + self.scan], self.x, self.y)
                at += self.scan
            else:
                self.state, loss = self.one(self.state, indices[at], self.x, self.y)
                at += 1
        jax.block_until_ready(self.state)
        return float(np.asarray(loss).ravel()[-1])


def make(w: Workload, mode: str, threads: int) -> ByJax:
    return ByJax(w, mode)
