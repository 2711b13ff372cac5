"""Types of text fields in records."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, StringConstraints

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
MaybeText = Annotated[
    str, StringConstraints(strip_whitespace=True), BeforeValidator(lambda given: "" if given is None else given)
]
"""Text that may be unknown: then it is empty. Null is read as empty."""
