"""PyTorch. Modes: eager (fused optimizer), compile (model and loss compiled), whole (the whole step compiled)."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from tinydl.benchmarks.workloads import Array, Workload, data, weights

MODES = ("eager", "compile", "whole")


def network(w: Workload) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for i, o in zip(w.widths, w.widths[1:], strict=False):
        layers += [torch.nn.Linear(i, o), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for k, (weight, bias) in enumerate(weights(w)):
            net[2 * k].weight.copy_(torch.from_numpy(weight))
            net[2 * k].bias.copy_(torch.from_numpy(bias))
    return net


class ByTorch:
    def __init__(self, w: Workload, mode: str) -> None:
        self.x, self.y = map(torch.from_numpy, data(w))
        self.net = network(w)
        self.one = whole_step(w, self.net, self.x, self.y) if mode == "whole" else self.plain_step(w, mode)

    def plain_step(self, w: Workload, mode: str) -> Any:
        params = self.net.parameters()
        opt = (torch.optim.SGD(params, lr=w.lr, momentum=w.momentum, fused=True) if w.optimizer == "sgd"
               else torch.optim.Adam(params, lr=w.lr, fused=True))

        def loss_of(x: Any, y: Any) -> Any:
            return F.cross_entropy(self.net(x), y)
        if mode == "compile":
            loss_of = torch.compile(loss_of)

        def one(i: Any) -> Any:
            opt.zero_grad()
            loss = loss_of(self.x[i], self.y[i])
            loss.backward()
            opt.step()
            return loss.detach()
        return one

    def step(self, indices: Array) -> float:
        loss: Any = float("nan")
        for index in indices:
            loss = self.one(torch.from_numpy(index))
        return float(loss)


def whole_step(w: Workload, net: Any, x: Any, y: Any) -> Any:
    """Gather, loss, gradient and update in one compiled function."""
    p = {k: v.detach().clone() for k, v in net.named_parameters()}
    m, v = ({k: torch.zeros_like(a) for k, a in p.items()} for _ in range(2))
    t = torch.zeros(())
    gradient = torch.func.grad_and_value(lambda p, a, b: F.cross_entropy(torch.func.functional_call(net, p, (a,)), b))

    def one(p: Any, m: Any, v: Any, t: Any, i: Any) -> Any:
        g, loss = gradient(p, x[i], y[i])
        t.add_(1)
        for k in p:
            if w.optimizer == "sgd":
                p[k].sub_(w.lr * (m[k].mul_(w.momentum).add_(g[k]) if w.momentum else g[k]))
            else:
                m[k].mul_(0.9).add_(0.1 * g[k])
                v[k].mul_(0.999).add_(0.001 * g[k] * g[k])
                p[k].sub_(w.lr / (1 - 0.9 ** t) * m[k] / ((v[k] / (1 - 0.999 ** t)).sqrt() + 1e-8))
        return loss
    compiled = torch.compile(one)

    def call(i: Any) -> Any:
        with torch.no_grad():
            return compiled(p, m, v, t, i)
    return call


def make(w: Workload, mode: str, threads: int) -> ByTorch:
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    return ByTorch(w, mode)
