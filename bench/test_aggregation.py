"""The average of a group's gradients: k slots of as many values as W2 has parameters."""
import numpy as np
import pytest

from tinydl.parallel import GradientAggregator


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_aggregation(benchmark, k):
    benchmark.group = f"aggregation of {k} slots"
    gradients = np.random.default_rng(0).standard_normal((k, 101_770)).astype(np.float32)
    aggregator = GradientAggregator(k)

    def once():
        aggregator.reset()
        for slot in range(k):
            aggregator.submit_gradients(gradients[slot], 64, slot, copy=False)
        return aggregator.get_average_gradients(timeout=1)
    np.testing.assert_allclose(benchmark(once), gradients.mean(0), atol=1e-5)
