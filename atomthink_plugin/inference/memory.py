"""Recognises failed allocations."""

from __future__ import annotations


def out_of_memory(error: Exception) -> bool:
    """Whether `error` is a failed allocation, on the host or on an accelerator."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # torch's CPU allocator raises a plain RuntimeError, with a text for each platform.
    return any(text in str(error) for text in ("can't allocate memory", "not enough memory"))
