"""The key of a budget: the specification's golden cases, and where ours differs from the original's accidents."""

from __future__ import annotations

import pytest

from historyd.ratelimit.key import DEFAULT_TEMPLATE, limiter_key


@pytest.mark.parametrize(
    ("template", "suffix", "key"),
    [
        (None, None, "ccxt:binanceus"),
        (None, "a1", "ccxt:binanceus:a1"),
        ("ccxt:{exchange}:{account?}", None, "ccxt:binanceus"),
        ("ccxt:{exchange}:{account?}", "", "ccxt:binanceus"),
        ("ccxt:{exchange}:{account?}", "a1", "ccxt:binanceus:a1"),
        ("ccxt:{exchange}:{account?}", "0", "ccxt:binanceus:0"),
        ("{exchange_id}-{suffix?}", "a", "BinanceUS-a"),
        ("{exchange_upper}/{account_id?}", None, "BINANCEUS"),
        ("{exchange}:{key_suffix}", "k", "binanceus:k"),
        ("x{account?}", "Z", "xZ"),
        ("x{account?}", None, "x"),
        ("{account?}:{exchange}", None, ":binanceus"),
        ("{exchange}::{account?}", None, "binanceus:"),
        ("  {exchange}  ", None, "binanceus"),
        ("  ", "a", "ccxt:binanceus:a"),
        ("", None, "ccxt:binanceus"),
        ("{suffix?}", None, "ccxt:binanceus"),
    ],
)
def test_golden_keys(template: str | None, suffix: str | None, key: str) -> None:
    """The same keys as the specification's original makes."""
    assert limiter_key("BinanceUS", suffix, template) == key


@pytest.mark.parametrize("suffix", ["{x}", "{exchange_upper}", "{suffix}", "a}b{", "{0.__class__}"])
def test_a_suffix_is_never_read_as_a_template(suffix: str) -> None:
    """The original formats the suffix again, and falls back to another key if that fails."""
    assert limiter_key("BinanceUS", suffix, "{exchange}:{account?}") == f"binanceus:{suffix}"
    assert limiter_key("BinanceUS", suffix) == f"ccxt:binanceus:{suffix}"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("ccxt:{nope}", "there is no {nope}"),
        ("{exchange}:{acount?}", "did you mean {account}"),
        ("{exchang}", "did you mean {exchange}"),
        ("ccxt:{exchange}{suffix}", "{suffix} needs a key_suffix"),
        ("{exchange", "brace outside"),
        ("{{exchange}}", "brace outside"),
        ("{}", "brace outside"),
        ("{exchange.__class__}", "brace outside"),
        ("{exchange!r}", "brace outside"),
    ],
)
def test_a_template_that_cannot_be_meant_is_an_error(template: str, complaint: str) -> None:
    """The original falls back to the default key in silence, or writes "None" into the key."""
    with pytest.raises(ValueError, match="key_template") as refused:
        limiter_key("binance", None, template)
    assert complaint in str(refused.value)


def test_exchanges_and_accounts_have_budgets_of_their_own() -> None:
    """The default template tells both apart."""
    keys = {limiter_key(exchange, suffix) for exchange in ("binance", "kraken") for suffix in (None, "a", "b")}
    assert len(keys) == 6
    assert DEFAULT_TEMPLATE == "ccxt:{exchange}:{suffix?}"
