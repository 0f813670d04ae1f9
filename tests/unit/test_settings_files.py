"""Secrets that stand in files instead of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from backend.settings.config import Config
from backend.settings.from_files import MOST_BYTES


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a file and name it as the variable ``NAME_FILE``, with ``NAME`` itself unset."""

    def write(name: str, text: str | bytes) -> Path:
        path = tmp_path / name.lower()
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(f"{name}_FILE", str(path))
        return path

    return write


def test_a_setting_is_read_from_the_file_that_its_variable_names(secret) -> None:
    secret("SECRET_KEY", "k" * 60 + "\n")
    secret("ALPACA_API_KEY", "PK1")
    config = Config()
    assert config.secret_key.get_secret_value() == "k" * 60
    assert config.alpaca_api_key.get_secret_value() == "PK1"


def test_the_environment_and_a_file_for_one_setting_are_refused(secret, monkeypatch) -> None:
    secret("SECRET_KEY", "k" * 60)
    monkeypatch.setenv("SECRET_KEY", "another")
    with pytest.raises(SettingsError, match="SECRET_KEY and SECRET_KEY_FILE are both set; keep one of them"):
        Config()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (" \n", "is empty; write the value into it"),
        ("one\ntwo\n", "has more than one line; keep the value alone in it"),
        (b"\xff\xfe", "is not UTF-8 text"),
        ("x" * (MOST_BYTES + 1), f"is larger than {MOST_BYTES} bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused_by_name(secret, content, problem) -> None:
    path = secret("SECRET_KEY", content)
    with pytest.raises(SettingsError) as refused:
        Config()
    assert str(refused.value).startswith(f"SECRET_KEY_FILE: {path} {problem}")


def test_an_empty_file_leaves_a_setting_that_has_a_default_unset(secret) -> None:
    secret("MAIL_URL", "\n")
    assert Config().mail_server is None


def test_a_file_that_is_not_there_is_refused_by_name(monkeypatch) -> None:
    monkeypatch.delenv("SECRET_KEY", raising=False)
    monkeypatch.setenv("SECRET_KEY_FILE", "/nowhere/key")
    with pytest.raises(SettingsError, match="SECRET_KEY_FILE: /nowhere/key cannot be read: No such file or directory"):
        Config()


def test_a_password_of_its_own_goes_into_the_url_as_it_is(secret, monkeypatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://tradingbot@db.example:5433/books?host=")
    monkeypatch.setenv("REDIS_URL", "redis://cache:6379/0")
    secret("DATABASE_PASSWORD", "p@ss/w:rd#%\n")
    secret("REDIS_PASSWORD", "sesame")
    config = Config()
    known = {name: config.database[name] for name in ("USER", "PASSWORD", "HOST", "PORT", "NAME")}
    assert known == {
        "USER": "tradingbot",
        "PASSWORD": "p@ss/w:rd#%",
        "HOST": "db.example",
        "PORT": "5433",
        "NAME": "books",
    }
    assert config.redis_url.get_secret_value() == "redis://:sesame@cache:6379/0"


def test_two_passwords_for_one_server_are_refused(secret, monkeypatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://a:b@db.example/books")
    secret("DATABASE_PASSWORD", "c")
    with pytest.raises(ValidationError, match="DATABASE_URL has a password already"):
        Config()
