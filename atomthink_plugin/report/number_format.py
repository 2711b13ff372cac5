"""Number formats of the tables in reports."""

from __future__ import annotations

from atomthink_plugin.accuracy_stats import Estimate


def percent(estimate: Estimate) -> str:
    """Returns a share with its interval in percent.

    Example:
        >>> percent((0.5, 0.412, 0.6))
        '50.0 [41, 60]'
    """
    value, low, high = (100 * number for number in estimate)
    return f"{value:.1f} [{low:.0f}, {high:.0f}]"


def points(estimate: Estimate) -> str:
    """Returns a difference with its interval in percentage points, signed.

    Example:
        >>> points((0.05, -0.012, 0.1))
        '+5.0 [-1, +10]'
    """
    value, low, high = (100 * number for number in estimate)
    return f"{value:+.1f} [{low:+.0f}, {high:+.0f}]"


def number(value: float | None, form: str) -> str:
    """Returns a number as text, empty for None."""
    return "" if value is None else format(value, form)
