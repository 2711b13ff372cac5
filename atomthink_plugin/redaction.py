"""Keeps secrets out of all that is kept or shown, and control characters of others out of the terminal.

The one place that knows secrets. Model replies and pages are redacted; errors, log lines and anything else of
others is shown pass through `printable`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from itertools import takewhile
from typing import Any, Final
from urllib.parse import urlsplit

MASK: Final = "[redacted]"
"""The mask that replaces a secret."""

MIN_SECRET: Final = 8
"""Shortest value that counts as a secret: local servers often get a word such as `none`, which replies contain."""

MIN_PREFIX: Final = 12
"""Characters of the beginning of a secret that count as the secret."""

_MIN_WORD: Final = 16  # characters of letters or digits alone that are neither a word nor a number
_NAME: Final = re.compile(r"(?:\A|_)(?:API)?(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)\Z", re.I)
_MARKER: Final = re.compile(r"(?:image|video|audio|pad|bos|eos|unk|sep|cls|mask|stop)_token\Z", re.I)  # of a tokenizer

# A terminal's command as a whole, or else its first character; then what reorders the text around it.
_CONTROLS: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\x9d\x90\x98\x9e\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)

_typed: set[str] = set()

_last: tuple[Any, list[str]] = (None, [])
"""What was secret when a text was last redacted, and the state that it was found in."""


def remember(arguments: Mapping[str, object]) -> None:
    """Registers values of `api_key=` and similar arguments as secrets."""
    _typed.update(str(value) for name, value in arguments.items() if _names_a_secret(name) and _is_secret(str(value)))


def redact(text: str) -> str:
    """Returns a text with all secrets, and prefixes of them, cut out, in any letter case.

    Secrets are the values of environment variables named like a key, token or password (`OPENAI_API_KEY`,
    `HF_TOKEN`, ...), passwords in URLs in other variables (`HTTPS_PROXY`, `HF_ENDPOINT`, ...), and the token that the
    model hub was given.
    """
    lower = text.lower()
    for secret in _secrets():
        if secret[:MIN_PREFIX].lower() in lower:
            text = _without(text, secret)
    return text


def printable(text: str) -> str:
    """Returns a text from a server, file or plugin without secrets, terminal commands and control characters."""
    return _CONTROLS.sub("", redact(text))


def masked(value: Any) -> Any:
    """Returns arguments with the mask in place of those that are named like a key, token or password.

    Args:
        value: What was typed; mappings and lists are searched.
    """
    if isinstance(value, Mapping):
        return {
            name: MASK if _names_a_secret(str(name)) and isinstance(inner, str) else masked(inner)
            for name, inner in value.items()
        }
    return [masked(inner) for inner in value] if isinstance(value, list) else value


class PrintableFormatter(logging.Formatter):
    """Formats log records, and errors among them, as they may be shown."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        return printable(super().format(record))


def _secrets() -> list[str]:
    """Returns the current secrets, the longest first: the environment may have changed since the last text."""
    global _last
    # Reading all variables takes as long as a search's step. Comparing what CPython keeps of them does not.
    environment = getattr(os.environ, "_data", None)
    state = environment, len(_typed), "huggingface_hub" in sys.modules
    if environment is None or state != _last[0]:
        _last = (dict(environment or {}), *state[1:]), _find_secrets()
    return _last[1]


def _find_secrets() -> list[str]:
    names = list(os.environ)
    secrets = {os.environ[name].strip() for name in names if _names_a_secret(name)}
    secrets |= {_password(os.environ[name]) for name in names}
    if "huggingface_hub" in sys.modules:  # it reads its token from a file as well, once it is used
        secrets.add(_hub_token())
    plain = {secret for secret in secrets if _is_secret(secret)} | _typed
    return sorted(plain.union(*map(_escaped, plain)), key=len, reverse=True)


def _password(url: str) -> str:
    """Returns the password in a URL, empty for anything else."""
    try:
        return urlsplit(url.strip()).password or ""
    except ValueError:  # such as an unclosed bracket
        return ""


@lru_cache(maxsize=1024)
def _escaped(secret: str) -> tuple[str, str]:
    """Returns a secret as JSON and Python write it within quotes."""
    return json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]


@lru_cache(maxsize=1024)
def _names_a_secret(name: str) -> bool:
    return _NAME.search(name) is not None and _MARKER.search(name) is None


@lru_cache(maxsize=1)
def _hub_token() -> str:
    from huggingface_hub import get_token

    try:
        return get_token() or ""
    except OSError:  # HF_HOME is no folder, or the file of the token cannot be read: then the hub has no token either
        return ""


@lru_cache(maxsize=1024)
def _is_secret(value: str) -> bool:
    word = value.isalpha() and value in (value.lower(), value.upper(), value.capitalize())
    if len(value) < (_MIN_WORD if word or value.isdigit() else MIN_SECRET):
        return False
    # `SSH_KEY` and the like name a file, whose folder is in many messages.
    return not (value.startswith(("/", "~", ".")) and os.path.exists(os.path.expanduser(value)))


def _without(text: str, secret: str) -> str:
    text = re.sub(re.escape(secret), MASK, text, flags=re.IGNORECASE)
    parts, end = [], 0
    for found in re.finditer(re.escape(secret[:MIN_PREFIX]), text, re.IGNORECASE):
        if found.start() >= end:
            parts += [text[end : found.start()], MASK]
            pairs = zip(text[found.start() :], secret, strict=False)
            end = found.start() + sum(1 for _ in takewhile(lambda pair: pair[0].lower() == pair[1].lower(), pairs))
    return "".join((*parts, text[end:]))
