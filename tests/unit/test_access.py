"""Who may ask: what is refused at the start, and what is warned of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from historyd.app import access_of
from historyd.config import Config
from historyd.config_errors import ConfigError
from historyd.service.access import Access
from historyd.service.tls import Tls
from tests.pki import Authority

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = ("0123456789abcdef",)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def plain(authority: Authority) -> Tls:
    pair = authority.pair("server")
    return Tls(pair.certificate, pair.key)


@pytest.fixture
def mutual(authority: Authority) -> Tls:
    pair = authority.pair("server")
    return Tls(pair.certificate, pair.key, authority.file)


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_nothing_is_warned_of_on_the_loopback(listen: str) -> None:
    assert list(Access().warnings(listen)) == []


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "history.example:1", "192.168.0.1:1"])
def test_a_port_that_others_reach_is_warned_of_if_it_is_open(plain: Tls, listen: str) -> None:
    for access in (Access(), Access(plain)):
        assert [listen in warning and "is open" in warning for warning in access.warnings(listen)] == [True]


def test_tokens_without_tls_are_warned_of() -> None:
    assert ["no TLS" in warning for warning in Access(tokens=TOKENS).warnings("0.0.0.0:1")] == [True]


def test_a_guarded_port_is_not_warned_of(plain: Tls, mutual: Tls) -> None:
    for access in (Access(plain, TOKENS), Access(mutual)):
        assert list(access.warnings("0.0.0.0:1")) == []


def test_neither_a_key_nor_a_token_is_shown(plain: Tls) -> None:
    shown = repr(Access(plain, TOKENS))
    assert "PRIVATE KEY" not in shown
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


def test_files_are_read_anew_when_they_have_changed(tmp_path: Path, authority: Authority, mutual: Tls) -> None:
    assert mutual.renewed() is None
    for change in (lambda: authority.pair("server"), lambda: Authority(tmp_path)):  # the pair; who signs for clients
        change()
        assert mutual.renewed() is not None
        assert mutual.renewed() is None


def test_files_that_cannot_be_used_change_nothing_and_are_told_of_once(
    authority: Authority, plain: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    other = authority.pair("other")
    renewed = authority.pair("server")
    key = renewed.key.read_bytes()
    for problem, spoil in (
        ("are no certificate and its key", lambda: renewed.key.write_bytes(other.key.read_bytes())),
        ("No such file", renewed.key.unlink),
    ):
        spoil()
        caplog.clear()
        assert [plain.renewed(), plain.renewed()] == [None, None]
        (told,) = caplog.messages
        assert problem in told
        assert "stays in use" in told
    renewed.key.write_bytes(key)
    assert plain.renewed() is not None
