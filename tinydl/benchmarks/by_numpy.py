"""NumPy by hand, as fast as plain NumPy reasonably gets: flat parameters, preallocated buffers, out= everywhere."""
from __future__ import annotations

import numpy as np

from tinydl.benchmarks.workloads import Array, Workload, data, weights

MODES = ("",)


class ByNumpy:
    def __init__(self, w: Workload, x: Array, y: Array, seed: int = 0) -> None:
        self.w, self.x, self.y = w, x, y
        first = [a for pair in weights(w, seed) for a in (pair[0].T, pair[1])]
        self.flat = np.concatenate([a.ravel() for a in first])
        self.gradient, self.m, self.v, self.t1, self.t2 = (np.zeros_like(self.flat) for _ in range(5))

        def views(vector: Array) -> list[Array]:
            ends = np.cumsum([a.size for a in first])
            return [vector[e - a.size:e].reshape(a.shape) for e, a in zip(ends, first, strict=True)]
        (self.p, self.g) = views(self.flat), views(self.gradient)
        self.act = [np.empty((w.batch, n), np.float32) for n in w.widths]
        self.err = [np.empty((w.batch, n), np.float32) for n in w.widths]
        self.rows, self.count = np.arange(w.batch), 0

    def batch(self, index: Array) -> float:
        w, act, err, last = self.w, self.act, self.err, len(self.w.widths) - 1
        np.take(self.x, index, 0, act[0], "clip")
        y = self.y[index]
        for k in range(last):
            np.matmul(act[k], self.p[2 * k], out=act[k + 1])
            act[k + 1] += self.p[2 * k + 1]
            if k < last - 1:
                np.maximum(act[k + 1], 0, out=act[k + 1])
        z = act[last]
        z -= z.max(1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(1, keepdims=True)
        loss = float(-np.log(z[self.rows, y]).mean())
        z[self.rows, y] -= 1
        np.multiply(z, 1 / w.batch, out=err[last])
        for k in range(last - 1, -1, -1):
            np.matmul(act[k].T, err[k + 1], out=self.g[2 * k])
            np.sum(err[k + 1], 0, out=self.g[2 * k + 1])
            if k:
                np.matmul(err[k + 1], self.p[2 * k].T, out=err[k])
                err[k] *= act[k] > 0
        self.update()
        return loss

    def update(self) -> None:
        w, g, m, v, t1, t2 = self.w, self.gradient, self.m, self.v, self.t1, self.t2
        self.count += 1
        if w.optimizer == "sgd":
            if w.momentum:
                np.multiply(m, w.momentum, out=m)
                np.add(m, g, out=m)
                g = m
            np.multiply(g, w.lr, out=t1)
            np.subtract(self.flat, t1, out=self.flat)
            return
        np.multiply(m, 0.9, out=m)
        np.multiply(g, 0.1, out=t1)
        np.add(m, t1, out=m)
        np.multiply(v, 0.999, out=v)
        np.multiply(g, g, out=t1)
        np.multiply(t1, 0.001, out=t1)
        np.add(v, t1, out=v)
        np.sqrt(v, out=t1)
        np.multiply(t1, np.float32(1 / np.sqrt(1 - 0.999 ** self.count)), out=t1)
        np.add(t1, np.float32(1e-8), out=t1)
        np.divide(m, t1, out=t2)
        np.multiply(t2, np.float32(w.lr / (1 - 0.9 ** self.count)), out=t2)
        np.subtract(self.flat, t2, out=self.flat)

    def step(self, indices: Array) -> float:
        loss = float("nan")
        for index in indices:
            loss = self.batch(index)
        return loss


def make(w: Workload, mode: str, threads: int) -> ByNumpy:
    return ByNumpy(w, *data(w))
