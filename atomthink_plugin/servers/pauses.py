"""When a request that failed is tried again: after the same pauses as in OpenAI's client library."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import mktime_tz, parsedate_tz
from typing import Final

_LONGEST: Final = 120.0  # seconds that a server may name
_FIRST: Final = 0.5  # seconds
_LAST: Final = 8.0  # seconds, unless the server names others
_JITTER: Final = 0.25  # largest share of a pause that is taken off by chance, so that not all try again at once

_AGAIN: Final = (408, 409, 429)  # and all errors of the server itself (5xx)


def pause_after(error: Exception, tried: int) -> float | None:
    """Returns the seconds until the next try of a request, None where another would not help.

    Args:
        error: How the last one failed.
        tried: Tries before that.
    """
    import openai

    pause = min(_FIRST * 2.0 ** min(tried, 10), _LAST) * random.uniform(1 - _JITTER, 1)
    if not isinstance(error, openai.APIStatusError):
        return pause
    headers = error.response.headers
    named = _named(headers)
    wish = headers.get("x-should-retry")
    again = wish == "true" or (wish != "false" and (error.status_code in _AGAIN or error.status_code >= 500))
    if not again or named > _LONGEST:
        return None
    return named if named > 0 else pause


def _named(headers: Mapping[str, str]) -> float:
    """Returns the seconds of a Retry-After header, 0 or less without one."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            pause = float(headers[name])
        except (KeyError, ValueError):
            continue
        if math.isfinite(pause):
            return pause / unit
    with suppress(ValueError, OverflowError, OSError):
        date = parsedate_tz(headers.get("retry-after", ""))
        return mktime_tz(date) - time.time() if date else 0.0
    return 0.0
