"""The configuration: what the file and the environment say, and what is told of faults."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from historyd.app import check_exchanges
from historyd.config import Config, load_config, with_listen
from historyd.config_errors import ConfigError
from historyd.ratelimit.options import Scope
from historyd.stores.questdb_options import QuestDbOptions


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("HISTORYD_"):
            monkeypatch.delenv(name)


def load(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "historyd.yaml"
    file.write_text(text)
    return load_config(file)


def faults(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return "\n".join(caught.value.faults)


WHOLE = """
listen: 0.0.0.0:6000
drain_s: 3
log_level: warning
store:
  embedded: {path: /var/lib/history.db}
connectors: {ccxt_rate_limiter_redis: redis://localhost:6379/0}
exchanges:
  binance:
    base_url: http://127.0.0.1:9000/
    ccxt: {apiKey: "${TEST_KEY}", options: {defaultType: spot}, timeout: null}
    rate_limiter: {scope: local, tokens_per_interval: 1200, interval_ms: 60000, penalty_backoff_ms: 5000}
    window_size: 1000
    max_retries: 3
    retry_backoff_s: 0.5
  kraken:
"""


def test_every_key_of_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "s3cret")
    config = load(tmp_path, WHOLE)
    binance = config.exchanges["binance"]
    assert (config.listen, config.drain_s, config.log_level) == ("0.0.0.0:6000", 3, "warning")
    assert config.store.embedded.path == Path("/var/lib/history.db")
    assert config.connectors.ccxt_rate_limiter_redis == "redis://localhost:6379/0"
    assert binance.base_url == "http://127.0.0.1:9000"
    assert binance.ccxt == {"apiKey": "s3cret", "options": {"defaultType": "spot"}, "timeout": None}
    assert (binance.rate_limiter.scope, binance.rate_limiter.tokens_per_interval) == (Scope.LOCAL, 1200)
    assert (binance.window_size, binance.max_retries, binance.retry_backoff_s) == (1000, 3, 0.5)
    assert list(config.exchanges) == ["binance"]


def test_without_a_file_there_are_defaults() -> None:
    config = load_config()
    assert (config.listen, config.drain_s, config.exchanges) == ("127.0.0.1:50051", 10.0, {})
    assert config.store.embedded.path == Path("markethistory.db")


def test_an_empty_file_and_empty_keys_are_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "# nothing\n") == load(tmp_path, "store:\nexchanges:\n") == load_config()


def test_the_environment_wins_over_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "s3cret")
    monkeypatch.setenv("HISTORYD_LISTEN", "127.0.0.1:7000")
    monkeypatch.setenv("HISTORYD_STORE__EMBEDDED__PATH", "/tmp/other.db")
    monkeypatch.setenv("HISTORYD_EXCHANGES__BINANCE__MAX_RETRIES", "9")
    monkeypatch.setenv("HISTORYD_EXCHANGES__BINANCE__RATE_LIMITER__SCOPE", "process")
    monkeypatch.setenv("HISTORYD_EXCHANGES__OKX__CCXT", '{"apiKey": "k"}')
    config = load(tmp_path, WHOLE)
    assert config.listen == "127.0.0.1:7000"
    assert config.store.embedded.path == Path("/tmp/other.db")
    assert config.exchanges["binance"].max_retries == 9
    assert config.exchanges["binance"].rate_limiter.scope is Scope.PROCESS
    assert config.exchanges["binance"].rate_limiter.tokens_per_interval == 1200
    assert config.exchanges["okx"].ccxt == {"apiKey": "k"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("listn: 127.0.0.1:1", ["listn: ", "did you mean 'listen'?"]),
        ("store: {embeded: {path: x}}", ["store.embeded: ", "did you mean 'embedded'?"]),
        (
            "exchanges: {binance: {rate_limitr: {}}}",
            ["exchanges.binance.rate_limitr: ", "did you mean 'rate_limiter'?"],
        ),
        (
            "exchanges: {binance: {rate_limiter: {tokens_per_intervall: 3}}}",
            ["exchanges.binance.rate_limiter.tokens_per_intervall: ", "did you mean 'tokens_per_interval'?"],
        ),
        ("exchanges: {binance: {rate_limiter: {scope: proces}}}", ["rate_limiter.scope", "did you mean 'process'?"]),
        (
            "exchanges: {binance: {rate_limiter: {scope: clutser}}}",
            ["rate_limiter.scope", "did you mean 'cluster'?"],
        ),
        ("exchanges: {Binance: {}}", ["exchanges: ", "'Binance'", "such as 'binance'"]),
        ("exchanges: {binance: {base_url: 127.0.0.1}}", ["exchanges.binance.base_url: must be a scheme and a host"]),
        ("exchanges: {binance: {base_url: 'http://h/api'}}", ["exchanges.binance.base_url: must be"]),
        ("exchanges: {binance: {max_retries: 0}}", ["exchanges.binance.max_retries: "]),
        ("exchanges: {binance: {window_size: many}}", ["exchanges.binance.window_size: "]),
        ("log_level: warn", ["log_level: must be one of debug, info, warning, error; did you mean 'warning'?"]),
        ("listen: 127.0.0.1", ["listen: must be HOST:PORT"]),
        ("listen: 127.0.0.1:65536", ["listen: must be HOST:PORT"]),
        ("drain_s: -1", ["drain_s: "]),
        ("store: {questdb: {dsn: secret}}", ["store.questdb: dsn must be like postgresql://"]),
        ("store: {questdb: {dsn: 'postgresql://u:p/w@h'}}", ["store.questdb: dsn must be like postgresql://"]),
        ("store: {questdb: {dsn: 'postgresql://h', port: 1}}", ["store.questdb: give dsn or its parts, not both"]),
        ("store: {questdb: {http: 'localhost:9000'}}", ["store.questdb: http must be a scheme and a host"]),
        ("store: {questdb: {table: a, table_prefix: b}}", ["store.questdb: give table or table_prefix, not both"]),
        ("store: {questdb: {table: 'a;b'}}", ["store.questdb: table must be a letter and up to 59 letters"]),
        ("store: {questdb: {tabel: a}}", ["store.questdb.tabel: ", "did you mean 'table'?"]),
        ("store: {questdb: {}, embedded: {path: x}}", ["store: there is one store: give embedded or questdb"]),
        ("- listen", ["must be a mapping"]),
        ("listen: [", ["is not YAML in line 1"]),
    ],
)
def test_a_fault_names_the_key_and_what_would_be_right(tmp_path: Path, text: str, told: list[str]) -> None:
    found = faults(tmp_path, text)
    assert all(part in found for part in told), found


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    assert len(faults(tmp_path, "listn: x\ndrain_s: -1\nlog_level: loud").splitlines()) == 3


def test_a_missing_variable_stops_the_start_by_name(tmp_path: Path) -> None:
    assert faults(tmp_path, 'exchanges: {binance: {ccxt: {apiKey: "${NO_SUCH_KEY}"}}}') == (
        "exchanges.binance.ccxt.apiKey: the environment has no variable NO_SUCH_KEY"
    )


def test_a_secret_is_never_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a fault of the section that holds it, nor in the configuration as text."""
    monkeypatch.setenv("TEST_KEY", "s3cret")
    assert "s3cret" not in faults(tmp_path, 'exchanges: {binance: {ccxt: "${TEST_KEY}", max_retries: "${TEST_KEY}"}}')
    assert "s3cret" not in repr(load(tmp_path, WHOLE))


def test_an_unknown_variable_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTORYD_LISTN", "x")
    with pytest.raises(ConfigError, match=r"HISTORYD_LISTN.*did you mean 'listen'"):
        load_config()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")


def test_the_command_line_s_address_is_checked_too() -> None:
    assert with_listen(load_config(), "[::1]:0").listen == "[::1]:0"
    with pytest.raises(ConfigError, match="listen: must be HOST:PORT"):
        with_listen(load_config(), "localhost")


def test_an_exchange_that_ccxt_does_not_have_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"exchanges\.binanse: CCXT has no such exchange; did you mean 'binance"):
        check_exchanges(load(tmp_path, "exchanges: {binanse: {max_retries: 2}}"))


def test_two_quotas_under_one_key_are_told(tmp_path: Path) -> None:
    """One key cannot stand for two budgets."""
    one, other = "{rate_limiter: {key_template: k}}", "{rate_limiter: {key_template: k, max_concurrency: 2}}"
    text = f"exchanges: {{binance: {one}, okx: {other}}}"
    with pytest.raises(ConfigError, match=r"exchanges\.okx\.rate_limiter: two different"):
        check_exchanges(load(tmp_path, text))


def test_questdb_is_told_by_its_parts_or_by_a_dsn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of tables are those of the specification; a password may have any characters."""
    monkeypatch.setenv("SECRET", "p@:/ w")
    config = load(tmp_path, 'store: {questdb: {host: db, user: me, password: "${SECRET}", table_prefix: crypto}}')
    options = config.store.place
    assert isinstance(options, QuestDbOptions)
    assert (options.address, options.database) == ("db:8812", "qdb")
    assert options.http_login == ("me", "p@:/ w")
    assert options.http_url == "http://db:9000"
    assert (options.tables.bars, options.tables.trades) == ("crypto_ohlcv", "crypto_trades")
    assert "p@" not in repr(config) + repr(options)
    dsn = load(tmp_path, "store: {questdb: {dsn: 'postgresql://a:b@h:1/d', http: 'https://x:y@w', table: bars}}")
    other = dsn.store.place
    assert isinstance(other, QuestDbOptions)
    assert (other.address, other.database, other.tables.bars) == ("h:1", "d", "bars")
    assert (other.http_url, other.http_login) == ("https://w", ("x", "y"))


def test_alerts_are_read_and_their_addresses_are_kept_out_of_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK", "slack://T/A/s3cret")
    config = load(tmp_path, "alerts: {to: ['${SLACK}'], stalled_after_s: 60, quarantine_share: 0}")
    assert (config.alerts.to, config.alerts.stalled_after_s) == (("slack://T/A/s3cret",), 60)
    assert (config.alerts.quarantine_share, config.alerts.most_per_hour) == (0, 30)
    assert "s3cret" not in repr(config)
    assert Config().alerts.to == ()


def test_a_wrong_key_of_alerts_is_named_with_the_nearest(tmp_path: Path) -> None:
    told = faults(tmp_path, "alerts: {stalled_after: 60, to: {slack: slack://s3cret}}")
    assert "alerts.stalled_after: there is no such key; did you mean 'stalled_after_s'?" in told
    assert "alerts.to" in told
    assert "s3cret" not in told
    assert load(tmp_path, "alerts: {to: json://host}").alerts.to == ("json://host",)


@pytest.mark.parametrize("token", ["", "short", "with spaces in between", "naïve-token-of-some-length"])
def test_a_token_that_is_none_stops_the_start_and_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("TEST_TOKEN", token)
    found = faults(tmp_path, 'tokens: ["${TEST_TOKEN}"]')
    assert found == "tokens.0: must be at least 16 printable ASCII characters, without spaces"


def test_tokens_can_be_given_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTORYD_TOKENS", '["0123456789abcdef"]')
    assert load(tmp_path, "").tokens == ("0123456789abcdef",)
    assert "0123456789abcdef" not in repr(load(tmp_path, ""))
