"""What `relais validate` is asked for, for tests."""

from __future__ import annotations

from typing import Any

from relais.server.validate_command import Asked

_DEFAULTS: dict[str, Any] = {
    "rule_sets": (),
    "form": "json",
    "output": None,
    "language": "en",
    "processes": 1,
    "timeout": 60.0,
    "profiles": (),
}


def asked(**changes: Any) -> Asked:
    """The defaults of the command line, with changes; one process."""
    return Asked(**(_DEFAULTS | changes))
