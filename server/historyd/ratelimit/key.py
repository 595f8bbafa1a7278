"""The key that names a budget, made of a template.

Grammar: `{name}` is replaced by its value. `{name?}` is replaced by its value or, where there is none, removed
together with the one character before it, if that is neither a word character nor a brace (`ccxt:{exchange}:{suffix?}`
without a suffix is `ccxt:binance`). Names: `exchange` (lower case), `exchange_id` (as given), `exchange_upper`, and
`suffix` = `key_suffix` = `account` = `account_id`. Blanks around the result are cut; a blank template, or a blank
result, stands for the default template.
A value is inserted as it is and never read as a template: a suffix cannot smuggle in a placeholder.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

DEFAULT_TEMPLATE: Final = "ccxt:{exchange}:{suffix?}"

_SUFFIX_NAMES: Final = ("suffix", "key_suffix", "account", "account_id")
_NAMES: Final = ("exchange", "exchange_id", "exchange_upper", *_SUFFIX_NAMES)
_PLACEHOLDER: Final = re.compile(r"(?P<before>[^{}\w])?\{(?P<name>\w+)(?P<optional>\?)?\}")


def limiter_key(exchange: str, suffix: str | None = None, template: str | None = None) -> str:
    """The key of an exchange's budget. Raises ValueError as `check_template` does."""
    chosen = template or DEFAULT_TEMPLATE
    check_template(chosen, suffix)
    return _render(chosen, exchange, suffix) or _render(DEFAULT_TEMPLATE, exchange, suffix)


def check_template(template: str, suffix: str | None) -> None:
    """Raises ValueError if the template has an unknown name or a stray brace, or needs a suffix that is not given."""
    for match in _PLACEHOLDER.finditer(template):
        name = match["name"]
        if name not in _NAMES:
            nearest = (get_close_matches(name, _NAMES, n=1, cutoff=0.5) or ["suffix"])[0]
            raise ValueError(
                f"key_template: there is no {{{name}}}; did you mean {{{nearest}}}? Known are {', '.join(_NAMES)}"
            )
        if name in _SUFFIX_NAMES and not match["optional"] and not suffix:
            raise ValueError(f"key_template: {{{name}}} needs a key_suffix; without one write {{{name}?}}")
    if set("{}") & set(_PLACEHOLDER.sub("", template)):
        raise ValueError("key_template: a brace outside of a {name} or {name?}")


def _render(template: str, exchange: str, suffix: str | None) -> str:
    values = {"exchange": exchange.lower(), "exchange_id": exchange, "exchange_upper": exchange.upper()}
    values |= dict.fromkeys(_SUFFIX_NAMES, suffix or "")

    def fill(match: re.Match[str]) -> str:
        value = values[match["name"]]
        return (match["before"] or "") + value if value or not match["optional"] else ""

    return _PLACEHOLDER.sub(fill, template).strip()
