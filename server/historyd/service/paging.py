"""Page tokens: where a list goes on, in a form that only this server makes and reads.

A token holds the last name of the page before and a digest of the question, so that a token of another list, another
pattern or of somebody's own making is refused instead of giving a wrong page. It holds no secret and does not expire.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final

from historyd.errors import InvalidField

_DIGEST_BYTES: Final = 8


def page_token(after: str, *question: str) -> str:
    """The token of the page that follows the item named `after` in the list that `question` asks for."""
    return base64.urlsafe_b64encode(_digest(after, question) + after.encode()).decode()


def after_of(token: str, *question: str) -> str:
    """The name after which the page begins; empty for the first page. Raises InvalidField if the token is none."""
    if not token:
        return ""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        after = raw[_DIGEST_BYTES:].decode()
    except (binascii.Error, ValueError):
        raise _foreign(token) from None
    if raw[:_DIGEST_BYTES] != _digest(after, question):
        raise _foreign(token)
    return after


def matcher(pattern: str) -> re.Pattern[str]:
    """A regular expression for a pattern in which `*` stands for any text and `?` for one character."""
    parts = (".*" if sign == "*" else "." if sign == "?" else re.escape(sign) for sign in pattern)
    return re.compile("".join(parts), re.DOTALL)


def _digest(after: str, question: tuple[str, ...]) -> bytes:
    return hashlib.blake2b("\0".join((*question, after)).encode(), digest_size=_DIGEST_BYTES).digest()


def _foreign(token: str) -> InvalidField:
    return InvalidField("page_token", token, "must be the next_page_token of the same question")
