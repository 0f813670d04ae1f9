"""Settings that stand in files: the variable ``NAME_FILE`` names the file that the setting ``NAME`` is read from.

A file that cannot be read, that has more than one line, that is empty where a value is needed, or that is named beside
the setting itself, stops the start with its name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource, SettingsError

MOST_BYTES = 65_536


class FromFiles(PydanticBaseSettingsSource):
    """The settings that stand in files, by the variables ``<NAME>_FILE``; a last line end is not part of the value."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = field_name.upper()
        path = os.environ.get(f"{name}_FILE", "")
        if not path:
            return None, field_name, False
        if os.environ.get(name):
            raise SettingsError(f"{name} and {name}_FILE are both set; keep one of them")
        try:
            raw = Path(path).read_bytes()[: MOST_BYTES + 1]
        except OSError as error:
            raise SettingsError(f"{name}_FILE: {path} cannot be read: {error.strerror}") from None
        if len(raw) > MOST_BYTES:
            raise SettingsError(f"{name}_FILE: {path} is larger than {MOST_BYTES} bytes; name the file of one secret")
        try:
            text = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise SettingsError(f"{name}_FILE: {path} is not UTF-8 text") from None
        if not text.strip() and not field.is_required():
            return None, field_name, False
        if not text.strip():
            raise SettingsError(f"{name}_FILE: {path} is empty; write the value into it")
        if "\n" in text or "\r" in text:
            raise SettingsError(f"{name}_FILE: {path} has more than one line; keep the value alone in it")
        return text, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def with_password(url: str, password: str, name: str) -> str:
    """The URL of a server with a password that was told apart from it."""
    parts = urlsplit(url)
    if parts.password:
        raise ValueError(f"{name}_URL has a password already; take it out, or leave {name}_PASSWORD unset")
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{host}").geturl()
