"""The MSSanté channel: one document as IHE_XDM.ZIP in a mail, submitted by SMTP with STARTTLS.

Référentiel socle MSSanté #2 (clients de messageries). The mail is made by `mail_message`, submitted by
`mail_submission`; what the mail servers and the receivers say of it later is read by `mail_inbox`.
"""

from __future__ import annotations

from importlib.util import find_spec

from relais.cda.errors import Issue, RelaisError
from relais.server.delivery.channel import DeliveryError, Receipt, Shipment
from relais.server.delivery.mail_message import PATIENT_MAX_SIZE, check_recipients, compose, is_of_patient
from relais.server.delivery.mail_submission import Envelope, SubmissionClient
from relais.server.delivery.trust_space import TrustSpace
from relais.server.settings import Settings

__all__ = ["MssChannel", "check_recipients"]


class MssChannel:
    """Sends documents through the submission server of the settings, over connections it keeps."""

    name = "mss"

    def __init__(self, settings: Settings) -> None:
        """Raises RelaisError when PDFs are to be sent and cannot be made, or the trust space cannot be read."""
        if settings.mss_pdf and find_spec("typst") is None:
            message = "mails carry a PDF of the document: pip install 'relais[pdf]', or send none (mss_pdf)"
            raise RelaisError(Issue("fatal", "not-supported", message, "mss_pdf", "ECO.2.1.5"))
        self._settings = settings
        self._trust = TrustSpace.of(settings)
        self._client = SubmissionClient(settings)

    def send(self, shipment: Shipment) -> Receipt:
        """Submit once; the Message-ID is the shipment's, so receivers recognise a second submission.

        A recipient that is refused, for good or for now, does not deprive the others: the message goes to them, and the
        error that is raised says who was refused and who was served. It is then not sent again, since those served
        would get it twice: who was refused needs an order of their own. While nobody is served and somebody may be
        later, the whole shipment may be sent again. Raises DeliveryError.
        """
        settings = self._settings
        if shipment.action != "send":
            raise DeliveryError(
                Issue("error", "not-supported", "a mail cannot be taken back", rule="MSSanté"), retry=False
            )
        message = compose(shipment, settings, self._trust)
        if len(message) > PATIENT_MAX_SIZE and any(map(is_of_patient, shipment.recipients)):
            text = f"the message has {len(message)} bytes, a patient's mailbox takes {PATIENT_MAX_SIZE}"
            raise DeliveryError(Issue("error", "too-long", text, rule="Mon espace santé"), retry=False)
        envelope_id = shipment.message_id.strip("<>") if "reception" in shipment.acknowledgements else ""
        return self._client.submit(Envelope(settings.mss_sender, shipment.recipients, envelope_id), message)

    def close(self) -> None:
        """End the connections that are kept."""
        self._client.close()
