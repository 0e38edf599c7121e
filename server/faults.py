"""How a fault of Relais is told in a log: its kind and its place, not its message, since libraries quote values."""

from __future__ import annotations

import traceback


def described(error: BaseException) -> str:
    """Type of the error and the frames it came through."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
