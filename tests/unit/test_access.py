"""Who may ask: what is refused at the start, and what is warned of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from historyd.app import access_of
from historyd.config import Config
from historyd.config_errors import ConfigError
from historyd.service.access import Access, Tls
from tests.pki import Authority

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = ("0123456789abcdef",)
PLAIN = Tls(b"", b"")
MUTUAL = Tls(b"", b"", b"")


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_nothing_is_warned_of_on_the_loopback(listen: str) -> None:
    assert list(Access().warnings(listen)) == []


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "history.example:1", "192.168.0.1:1"])
def test_a_port_that_others_reach_is_warned_of_if_it_is_open(listen: str) -> None:
    for access in (Access(), Access(PLAIN)):
        assert [listen in warning and "is open" in warning for warning in access.warnings(listen)] == [True]


def test_tokens_without_tls_are_warned_of() -> None:
    assert ["no TLS" in warning for warning in Access(tokens=TOKENS).warnings("0.0.0.0:1")] == [True]


@pytest.mark.parametrize("access", [Access(PLAIN, TOKENS), Access(MUTUAL)])
def test_a_guarded_port_is_not_warned_of(access: Access) -> None:
    assert list(access.warnings("0.0.0.0:1")) == []


def test_neither_a_key_nor_a_token_is_shown() -> None:
    shown = repr(Access(Tls(b"certificate", b"s3cret"), TOKENS))
    assert "s3cret" not in shown
    assert TOKENS[0] not in shown


def config(**tls: Path) -> Config:
    return Config.model_validate({"tls": {"certificate": "none", "key": "none", **tls}})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tls: .*gone.pem cannot be read: No such file"):
        access_of(config(certificate=tmp_path / "gone.pem"))


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.pair("one"), authority.pair("other")
    with pytest.raises(ConfigError, match=r"one.crt and .*other.key are no certificate and its key"):
        access_of(config(certificate=one.certificate, key=other.key))


def test_an_authority_that_is_none_is_refused(tmp_path: Path) -> None:
    pair = Authority(tmp_path).pair("server")
    with pytest.raises(ConfigError, match=r"server.key holds no certificate"):
        access_of(config(certificate=pair.certificate, key=pair.key, client_ca=pair.key))
