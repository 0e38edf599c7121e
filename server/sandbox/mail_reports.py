"""What an operator and a receiving software say of a mail: DSN (RFC 3464) and MDN (RFC 8098), written out by hand.

Independent of what Relais writes and reads itself; the two published forms of an MDN that tells an error are both here.
"""

from __future__ import annotations

import enum
from email.utils import formatdate, make_msgid

NO_MAILBOX = "550 5.1.1 No such mailbox"
_BOUNDARY = "=_sandbox_report"


class MdnForm(enum.Enum):
    """How an MDN tells an error."""

    RFC = "modifier and a field Error"
    VOLET = "the error in the disposition itself"


def delivery_report(
    message_id: str,
    envelope_id: str,
    recipient: str,
    action: str,
    status: str,
    sender: str,
    reason: str = NO_MAILBOX,
) -> bytes:
    """A DSN about one recipient; `action` and `status` as in RFC 3464 (`failed`, `5.1.1`), `reason` of a failure."""
    fields = [
        "Reporting-MTA: dns; sandbox.mssante.fr",
        *([f"Original-Envelope-Id: {envelope_id}"] if envelope_id else []),
        f"Arrival-Date: {formatdate(localtime=True)}",
        "",
        f"Original-Recipient: rfc822;{recipient}",
        f"Final-Recipient: rfc822;{recipient}",
        f"Action: {action}",
        f"Status: {status}",
        *([f"Diagnostic-Code: smtp; {reason}"] if action == "failed" else []),
    ]
    returned = [f"Message-ID: {message_id}", f"To: {recipient}"]
    return _report(
        sender="MAILER-DAEMON@sandbox.mssante.fr",
        to=sender,
        subject="Rapport de remise",
        kind="delivery-status",
        parts=[
            ("text/plain; charset=utf-8", [f"{action}: {recipient}"]),
            ("message/delivery-status", fields),
            ("text/rfc822-headers", returned),
        ],
    )


def read_receipt(
    message_id: str, subject: str, reader: str, sender: str, error: str = "", form: MdnForm = MdnForm.RFC
) -> bytes:
    """An MDN of software that processed a mail, or refused it: `error` is `902^Identifiant de patient inconnu`."""
    disposition = "automatic-action/MDN-sent-automatically; processed"
    if error:
        disposition += "/error" if form is MdnForm.RFC else f"/Error: {error}"
    fields = [
        f"Original-Recipient: rfc822;{reader}",
        f"Final-Recipient: rfc822;{reader}",
        f"Original-Message-ID: {message_id}",
        f"Disposition: {disposition}",
        *([f"Error: {error}"] if error and form is MdnForm.RFC else []),
    ]
    prefix = f"[KO =?utf-8?Q?Int=C3=A9gration_syst=C3=A8me?= !][{error.partition('^')[0]}] " if error else ""
    return _report(
        sender=reader,
        to=sender,
        subject=prefix + subject,
        kind="disposition-notification",
        parts=[("text/plain; charset=utf-8", ["Message lu."]), ("message/disposition-notification", fields)],
    )


def _report(*, sender: str, to: str, subject: str, kind: str, parts: list[tuple[str, list[str]]]) -> bytes:
    head = [
        f"From: <{sender}>",
        f"To: <{to}>",
        f"Subject: {subject}",
        f"Date: {formatdate(localtime=True)}",
        f"Message-ID: {make_msgid(domain='sandbox.mssante.fr')}",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type={kind}; boundary="{_BOUNDARY}"',
        "",
    ]
    body: list[str] = []
    for content_type, lines in parts:
        body += [f"--{_BOUNDARY}", f"Content-Type: {content_type}", "", *lines, ""]
    return "\r\n".join([*head, *body, f"--{_BOUNDARY}--", ""]).encode()
