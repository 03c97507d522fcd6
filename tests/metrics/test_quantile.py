"""Quantiles of histograms."""

from __future__ import annotations

import pytest

from gateway.metrics.quantile import INFINITE, quantile


def test_quantile_is_interpolated_within_its_bucket() -> None:
    buckets = {1.0: 10.0, 2.0: 20.0, INFINITE: 20.0}
    assert quantile(buckets, 0.25) == pytest.approx(0.5)
    assert quantile(buckets, 0.75) == pytest.approx(1.5)


def test_value_above_all_buckets_is_the_highest_bound() -> None:
    assert quantile({1.0: 0.0, INFINITE: 5.0}, 0.5) == 1.0


def test_empty_histogram_has_no_quantile() -> None:
    assert quantile({1.0: 0.0, INFINITE: 0.0}, 0.5) is None
    assert quantile({}, 0.5) is None
