"""JAX's part of networks.py. Parameters are a dict with PyTorch's names and layouts; images are (B, C, H, W) there, and lie
channels last here, which is faster."""
import jax
import jax.numpy as jnp
import networks
import numpy as np
from jax import lax

SCAN = 8        # batches a call


def linear(p, name, x):
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def conv(x, weight, stride=1, padding=0, groups=1):
    return lax.conv_general_dilated(x, weight, (stride, stride), [(padding, padding)] * 2, feature_group_count=groups,
                                    dimension_numbers=("NHWC", "OIHW", "NHWC"))


def batch_norm(x, weight, bias):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * lax.rsqrt(var + 1e-5) * weight + bias


def max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def in_order(p, kinds):
    """An iterator over the parameters with those last names, in the order of the layers."""
    return iter([a for k, a in p.items() if k.rsplit(".", 1)[1] in kinds])


def cnn(p, x):
    x = jax.nn.relu(conv(x, p["0.weight"]) + p["0.bias"])
    x = max_pool(jax.nn.relu(conv(x, p["2.weight"]) + p["2.bias"]))
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return linear(p, "8", jax.nn.relu(linear(p, "6", x)))


def residual(p, x):
    each = in_order(p, ("weight", "bias"))

    def normed(x, stride=1, padding=1):
        return batch_norm(conv(x, next(each), stride, padding), next(each), next(each))
    x = jax.nn.relu(normed(x))
    for stride, short in ((1, False), (1, False), (2, True), (1, False), (2, True), (1, False)):
        y = normed(jax.nn.relu(normed(x, stride)))
        x = jax.nn.relu(y + (normed(x, stride, 0) if short else x))
    return x.mean((1, 2)) @ next(each).T + next(each)


def depthwise(p, x):
    each = in_order(p, ("weight", "bias"))

    def normed(x, padding=1, groups=1):
        return jax.nn.relu(batch_norm(conv(x, next(each), 1, padding, groups), next(each), next(each)))
    x = normed(x)
    for _ in range(2):
        x = normed(normed(x, 1, x.shape[3]), 0)
    return x.mean((1, 2)) @ next(each).T + next(each)


def lstm(p, name, x):
    w, bias = p[f"{name}.weight_hh_l0"], p[f"{name}.bias_hh_l0"]
    return lstm_layer(x, p[f"{name}.weight_ih_l0"], w, p[f"{name}.bias_ih_l0"] + bias)


def lstm_layer(x, w_ih, w_hh, bias):
    """(B, T, C) -> (B, T, H)"""
    nothing = jnp.zeros((x.shape[0], w_hh.shape[1]))

    def step(state, gates):
        h, c = state
        i, f, g, o = jnp.split(gates + h @ w_hh.T, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h
    _, out = lax.scan(step, (nothing, nothing), (x @ w_ih.T + bias).transpose(1, 0, 2))
    return out.transpose(1, 0, 2)


def gru(p, x):
    w_hh, b_hh = p["0.weight_hh_l0"], p["0.bias_hh_l0"]

    def step(h, gates):
        (xr, xz, xn), (hr, hz, hn) = jnp.split(gates, 3, 1), jnp.split(h @ w_hh.T + b_hh, 3, 1)
        z, n = jax.nn.sigmoid(xz + hz), jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
        h = (1 - z) * n + z * h
        return h, None
    gates = (x @ p["0.weight_ih_l0"].T + p["0.bias_ih_l0"]).transpose(1, 0, 2)
    h, _ = lax.scan(step, jnp.zeros((x.shape[0], w_hh.shape[1])), gates)
    return linear(p, "1", h)


def layer_norm(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def transformer(p, x):
    for k in range(2):
        q = {name.removeprefix(f"{k}."): a for name, a in p.items() if name.startswith(f"{k}.")}
        B, T, E = x.shape
        heads = (x @ q["self_attn.in_proj_weight"].T + q["self_attn.in_proj_bias"]).reshape(B, T, 3, 4, E // 4)
        scores = jnp.einsum("bihd,bjhd->bhij", heads[:, :, 0], heads[:, :, 1]) / np.sqrt(E // 4)
        seen = jnp.einsum("bhij,bjhd->bihd", jax.nn.softmax(scores), heads[:, :, 2]).reshape(B, T, E)
        x = layer_norm(x + linear(q, "self_attn.out_proj", seen), q["norm1.weight"], q["norm1.bias"])
        fed = linear(q, "linear2", jax.nn.relu(linear(q, "linear1", x)))
        x = layer_norm(x + fed, q["norm2.weight"], q["norm2.bias"])
    return linear(p, "3", x.mean(1))


def characters(p, x):
    x = p["0.weight"][x]
    for k in range(2):
        w_ih, w_hh, b_ih, b_hh = (p[f"1.{name}_l{k}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        x = lstm_layer(x, w_ih, w_hh, b_ih + b_hh)
    return linear(p, "2", x)


def silu(p, x):
    for layer in "024":
        x = jax.nn.silu(linear(p, layer, x))
    return linear(p, "6", x)


def gelu(p, x):
    for k in (0, 3):
        x = layer_norm(linear(p, f"{k}", x), p[f"{k + 1}.weight"], p[f"{k + 1}.bias"])
        x = jax.nn.gelu(x, approximate=False)
    return linear(p, "6", x)


NETS = {"silu": silu, "gelu": gelu, "cnn": cnn, "residual": residual, "depthwise": depthwise, "gru": gru,
        "transformer": transformer, "characters": characters,
        "lstm": lambda p, x: linear(p, "1", lstm(p, "0", x)[:, -1])}


class Network:
    def __init__(self, name, mode, threads):
        x, y = networks.arrays(name)
        if name in networks.IMAGES:
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        self.x, self.y, self.batch = jnp.asarray(x), jnp.asarray(y.astype(np.int32)), networks.NETS[name][1]
        self.mode, tree, net = mode, jax.tree_util.tree_map, NETS[name]

        start = {k: a for k, a in networks.parameters(name).items() if "running" not in k and "num_batches" not in k}

        def loss_of(p, x, y):       # JAX sorts dicts by their keys, and layers count in their own order
            z = jax.nn.log_softmax(net(dict(zip(start, p, strict=True)), x))
            return -jnp.take_along_axis(z, y[..., None], -1).mean()

        def update(state, index, x, y):
            p, m, v, t = state
            loss, g = jax.value_and_grad(loss_of)(p, x[index], y[index])
            t = t + 1
            m, v = tree(lambda a, b: 0.9 * a + 0.1 * b, m, g), tree(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
            rate, scale = 1e-3 / (1 - 0.9 ** t), 1 / (1 - 0.999 ** t)
            p = tree(lambda a, b, c: a - rate * b / (jnp.sqrt(c * scale) + 1e-8), p, m, v)
            return (p, m, v, t), loss
        self.one = jax.jit(update, donate_argnums=0)
        self.many = jax.jit(lambda s, i, x, y: lax.scan(lambda a, b: update(a, b, x, y), s, i), donate_argnums=0)
        given = [jnp.asarray(a) for a in start.values()]
        self.state = (given, tree(jnp.zeros_like, given), tree(jnp.zeros_like, given), jnp.float32(0))
        self.order = np.arange(len(x), dtype=np.int32).reshape(-1, self.batch)

    def epochs(self, n):
        for _ in range(n):
            if self.mode == "scan":
                self.state, _ = self.many(self.state, self.order, self.x, self.y)
            else:
                for index in self.order:
                    self.state, _ = self.one(self.state, index, self.x, self.y)
        jax.block_until_ready(self.state)

    def losses(self):
        out = []
        for step in range(10):
            self.state, loss = self.one(self.state, self.order[step % len(self.order)], self.x, self.y)
            out.append(float(loss))
        return out
