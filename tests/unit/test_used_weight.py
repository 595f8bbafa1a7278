"""What is read of a venue's headers about the weight used."""

from __future__ import annotations

import pytest

from historyd.sources.used_weight import used_weights
from historyd.sources.venues import VENUES, traits_of

BINANCE = "x-mbx-used-weight-"


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"x-mbx-used-weight-1m": "240", "x-mbx-used-weight": "240", "date": "now"}, [(60_000, 240.0)]),
        ({"x-mbx-used-weight-10s": "3", "x-mbx-used-weight-1d": "9"}, [(10_000, 3.0), (86_400_000, 9.0)]),
        ({"x-mbx-used-weight-2h": "5"}, [(7_200_000, 5.0)]),
        ({"x-mbx-used-weight-1m": "many", "x-mbx-used-weight-1y": "5", "x-mbx-used-weight-m": "5"}, []),
        ({"x-mbx-used-weight-1m": "-5"}, []),
        ({"x-mbx-used-weight-1m": "\u0665"}, []),
        ({"x-mbx-order-count-1m": "7", "x-other-used-weight-1m": "7"}, []),
    ],
)
def test_the_interval_is_in_the_headers_name(headers: dict[str, str], told: list[tuple[int, float]]) -> None:
    """What cannot be read is passed over."""
    assert list(used_weights(headers, BINANCE)) == told


def test_a_venue_that_tells_nothing_is_asked_for_nothing() -> None:
    assert list(used_weights({"1m": "5", "x-mbx-used-weight-1m": "5"}, "")) == []


def test_only_venues_known_for_it_are_believed() -> None:
    """Binance's dialect; what others tell counts one endpoint, or one account, not the whole of a budget."""
    assert {name for name, traits in VENUES.items() if traits.used_weight} == {
        "binance",
        "binanceus",
        "binanceusdm",
        "binancecoinm",
    }
    assert traits_of("binance").used_weight == BINANCE
    assert traits_of("nowhere").used_weight == ""
