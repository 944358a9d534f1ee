"""Wilson's interval, against SciPy's."""

import pytest
from scipy.stats import binomtest

from common.intervals import wilson


@pytest.mark.parametrize("count", [1, 7, 344, 1_000_000])
@pytest.mark.parametrize("share", [0, 0.25, 0.97, 1])
def test_given_a_share_then_its_interval_is_wilsons(count, share):
    hits = round(share * count)
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_given_nothing_counted_then_nothing_is_known():
    assert wilson(0, 0) == (0, 1)
