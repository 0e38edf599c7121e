"""The password of a plain login, where an operator asks for one beside or instead of the certificate."""

from __future__ import annotations

from pathlib import Path

from relais.cda.errors import Issue
from relais.server.delivery.channel import DeliveryError
from relais.server.settings import Settings


def password(settings: Settings) -> str:
    """What the file of `mss_password_file` says on its first line. Raises DeliveryError when there is none."""
    try:
        lines = Path(settings.mss_password_file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    if not lines or not lines[0]:
        raise DeliveryError(
            Issue("error", "security", "the password cannot be read", "mss_password_file", "RFC 4616"), retry=False
        )
    return lines[0]
