"""Losses that are a distribution's negative log likelihood, or a distance between distributions."""
from __future__ import annotations

from math import prod
from typing import Any

from tinydl import _hints
from tinydl.losses.base import Array
from tinydl.losses.kernel import KernelLoss


class KLDivergence(KernelLoss):
    """mean over samples of sum_c t_c (log(t_c) - x_c): outputs x are log-probabilities (R, ..., C), as of nn.LogSoftmax;
    targets t are probabilities of the same shape, 0 or more. A term whose t is 0 is 0.

    It is PyTorch's KLDivLoss(reduction="batchmean") of outputs (R, C); over more axes the mean is over all but the last, as
    Keras's.

        >>> import numpy as np
        >>> x = np.log(np.array([[0.5, 0.5]]))
        >>> round(KLDivergence()(x, np.array([[1.0, 0.0]])), 6)
        0.693147
    """

    kernel = "kl_divergence"

    def places(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        return output_shape[:-1]

    def numbers(self, output_shape: tuple[int, ...]) -> dict[str, float]:
        return {"scale": output_shape[-1] if output_shape else 1}

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        return _not_negative(self, super().check_targets(targets, output_shape))


class PoissonNLL(KernelLoss):
    """mean(exp(x) - t x): outputs x are logarithms of expected counts, targets t are counts, 0 or more, both (R, ...).

    It is the negative log likelihood of Poisson(exp(x)) but for log(t!), which no x changes: PyTorch's PoissonNLLLoss with its
    defaults. A model's prediction is np.exp(model.predict(x)).

        >>> import numpy as np
        >>> PoissonNLL()(np.zeros((2, 1)), np.array([3.0, 0.0]))
        1.0
    """

    kernel = "poisson_nll"

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        return _not_negative(self, super().check_targets(targets, output_shape))


class TweedieNLL(KernelLoss):
    """mean(exp((2 - p) x) / (2 - p) + t exp((1 - p) x) / (p - 1)): outputs x are logarithms of expected amounts, targets t are 0
    or more, both (R, ...); p is the power.

    power: above 1, at most 2. The variance of a target is in proportion to its mean to this power. Between 1 and 2 a target is 0
    with some probability, and else positive: what a policy costs in a year, rain, sales. With 2, where targets must be above 0,
    it is a gamma distribution's, mean(x + t exp(-x)): what one claim costs, durations. It leaves out what no x changes, as
    scikit-learn's TweedieRegressor and GammaRegressor do while they fit. (Jorgensen 1987; PoissonNLL is the case p = 1.)
    A model's prediction is np.exp(model.predict(x)); exposures are sample weights, with targets per unit of exposure.

        >>> import numpy as np
        >>> TweedieNLL(1.5)(np.zeros((2, 1)), np.array([3.0, 0.0]))
        5.0
    """

    kernel = "tweedie_nll"

    @_hints.arguments
    def __init__(self, power: float = 1.5) -> None:
        if not 1 < power <= 2:
            raise ValueError(f"TweedieNLL(power={power}): above 1, at most 2 (1 is losses.PoissonNLL())")
        self.power = float(power)

    def config(self) -> dict[str, Any]:
        return {"power": self.power}

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        t = _not_negative(self, super().check_targets(targets, output_shape))
        if self.power == 2 and t.size and not t.min() > 0:
            raise ValueError("TweedieNLL(power=2) needs targets above 0; y has 0: a power below 2 takes these")
        return t


class _Gaussian(KernelLoss):
    """Of outputs that are C means and, behind them, the C logarithms of variances; or in place of these other parameters."""

    def sizes(self, output_shape: tuple[int, ...]) -> dict[str, int]:
        return {"R": prod(output_shape[:-1]), "D": output_shape[-1], "C": output_shape[-1] // 2}

    def places(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        return output_shape[:-1]

    def target_shape(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        return several(self, output_shape, 2, "a mean and a logarithm of a variance for each target")


class GaussianNLL(_Gaussian):
    """mean((s + (m - t)^2 exp(-s)) / 2): a mean m and the logarithm s of a variance for each target t.

    Outputs are (R, 2 C) for targets (R, C), or (R, T, 2 C) for (R, T, C) of sequences: first the C means, then the C logarithms.
    (Nix and Weigend 1994; PyTorch's GaussianNLLLoss takes variances, so that they must be kept above 0.) It leaves out the
    constant log(2 pi) / 2.

        >>> import numpy as np
        >>> GaussianNLL()(np.array([[1.0, 0.0]]), np.array([3.0]))
        2.0
    """

    kernel = "gaussian_nll"


class NegativeBinomialNLL(_Gaussian):
    """mean(log gamma(r) - log gamma(t + r) + r log(1 + mu / r) + t log(1 + r / mu)): counts t, 0 or more, whose variance is
    mu + alpha mu^2, with mu = exp(m), alpha = exp(s) and r = 1 / alpha. Outputs are a logarithm m of a mean and a logarithm s of
    a dispersion for each target.

    Outputs are (R, 2 C) for targets (R, C), or (R, T, 2 C) for (R, T, C) of sequences: first the C m, then the C s. It is for
    counts that spread more than Poisson's, whose variance is mu: demand, visits, reads of genes (DeepAR, Salinas et al. 2020, has
    this mean and dispersion). It leaves out log(t!), which no output changes; s below -60, where it is a Poisson distribution to
    rounding, and above 60 counts as these. A model's mean is np.exp(model.predict(x)[:, :C]).

        >>> import numpy as np
        >>> round(NegativeBinomialNLL()(np.array([[0.0, 0.0]]), np.array([1.0])), 6)      # of 1/4, as t! is 1
        1.386294
    """

    kernel = "negative_binomial_nll"

    def target_shape(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        return several(self, output_shape, 2, "logarithms of a mean and of a dispersion for each target")

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        return _not_negative(self, super().check_targets(targets, output_shape))


class GaussianKL(_Gaussian):
    """mean over rows of sum_c (exp(s_c) - 1 - s_c + (m_c - t_c)^2) / 2: the Kullback-Leibler divergence of a normal
    distribution with means m and logarithms of variances s from one with means t and variances 1. With t = 0 it is the term
    that keeps the codes of a variational autoencoder near a standard normal distribution (Kingma and Welling 2014).

    Outputs are (R, 2 C) for targets (R, C), or (R, T, 2 C) for (R, T, C): first the C means, then the C logarithms, as
    nn.GaussianSample takes them.

        >>> import numpy as np
        >>> GaussianKL()(np.array([[1.0, 0.0]]), np.array([[0.0]]))
        0.5
    """

    kernel = "gaussian_kl"


def several(loss: KernelLoss, output_shape: tuple[int, ...], n: int, what: str) -> tuple[int, ...]:
    """The shape of targets, for each of which there are n outputs."""
    if not output_shape or output_shape[-1] % n:
        raise ValueError(f"{loss!r} needs {what}: outputs (samples, ..., {n} x targets); the model's output is {output_shape}")
    return *output_shape[:-1], output_shape[-1] // n


def _not_negative(loss: KernelLoss, targets: Array) -> Array:
    if targets.size and not targets.min() >= 0:
        raise ValueError(f"{type(loss).__name__} needs targets of 0 or more; y runs from {targets.min()} to {targets.max()}")
    return targets
