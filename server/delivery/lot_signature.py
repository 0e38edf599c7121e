"""The signature of a lot: an enveloping XAdES of the submission set and its documents, itself one more document.

IHE DSG as the DMP takes it (SEL-MP-037): a manifest that names the lot and each canonical document by OID, signed with
the structure's certificate (ORG SIGN). One lot and one certificate give the same bytes on every attempt: its signing
time is that of the submission.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from relais.cda import parsing
from relais.cda.datatypes import uuid_oid
from relais.cda.templates import CONFIDENTIALITY
from relais.cda.xds import SET_ID, SIGNS, Association, CodedValue, DocumentEntry, Submission, SubmissionSet
from relais.cda.xds_registry import HIDDEN_FROM_PATIENT, HIDDEN_FROM_PROFESSIONALS, SIGNATURE_CLASS
from relais.server.delivery.dmp_identity import Signer

DS = "http://www.w3.org/2000/09/xmldsig#"
XADES = "http://uri.etsi.org/01903/v1.1.1#"
C14N_WITH_COMMENTS = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments"
SOURCE = "1.2.840.10065.1.12.1.14"
"""Purpose of the signature (ASTM E1762): it is that of the source of the documents."""

ENTRY_ID = "Signature01"
_MANIFEST, _PURPOSE, _PROPERTIES = "IHEManifest", "purposeOfSignature", "SignedProperties"
_LOT_DIGEST = base64.b64encode(b"\0").decode()  # the lot has no bytes of its own to digest


class Algorithm(NamedTuple):
    """Names and implementation of a digest and of RSA with it."""

    digest: str
    signature: str
    hash: hashes.HashAlgorithm


ALGORITHMS = {
    "sha256": Algorithm(
        "http://www.w3.org/2001/04/xmlenc#sha256",
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
        hashes.SHA256(),
    ),
    "sha1": Algorithm(f"{DS}sha1", f"{DS}rsa-sha1", hashes.SHA1()),  # noqa: S303 - what older platforms take
}


def signed(
    submission: Submission, documents: Mapping[str, bytes], signer: Signer, digest: str
) -> tuple[Submission, bytes]:
    """The submission with the entry of its signature, and the signature.

    `documents` are the bytes of each entry by `entry_id`, `digest` a key of ALGORITHMS. Raises UnreadableError when a
    document is not XML: it has no canonical form to sign.
    """
    lot = submission.submission_set
    unique_id = uuid_oid("lot-signature", lot.unique_id)
    named = [(entry.unique_id, documents[entry.entry_id]) for entry in submission.entries]
    data = _Signature(ALGORITHMS[digest], digest, signer).of(unique_id, lot, named)
    entry = _entry(lot, submission.entries[0], unique_id, data)
    return (
        replace(
            submission,
            entries=(*submission.entries, entry),
            associations=(*submission.associations, Association(SIGNS, ENTRY_ID, SET_ID)),
        ),
        data,
    )


def _entry(lot: SubmissionSet, document: DocumentEntry, unique_id: str, data: bytes) -> DocumentEntry:
    return DocumentEntry(
        entry_id=ENTRY_ID,
        unique_id=unique_id,
        patient_id=lot.patient_id,
        source_patient_id=lot.patient_id,
        mime_type="text/xml",
        title="Source",
        language="art",
        creation_time=lot.submission_time,
        hash=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        size=len(data),
        class_code=CodedValue(SIGNATURE_CLASS, "Digital Signature", "URN"),
        type_code=CodedValue("E1762", "Full Document", "ASTM"),
        format_code=CodedValue(DS, "Default Signature Style", "URN"),
        facility_type=document.facility_type,
        practice_setting=document.practice_setting,
        authors=(lot.author,),
        confidentiality=(
            CodedValue("N", "Normal", CONFIDENTIALITY),
            HIDDEN_FROM_PATIENT,
            HIDDEN_FROM_PROFESSIONALS,
        ),
        legal_authenticator=lot.author.person,
        service_start=lot.submission_time,
        service_stop=lot.submission_time,
        event_codes=(CodedValue(SOURCE, "Source", "1.2.840.10065.1.12"),),
    )


class _Signature:
    """The making of one signature."""

    def __init__(self, algorithm: Algorithm, digest: str, signer: Signer) -> None:
        self._algorithm = algorithm
        self._digest_name = digest
        self._signer = signer

    def of(self, unique_id: str, lot: SubmissionSet, documents: Iterable[tuple[str, bytes]]) -> bytes:
        """The signature of the lot and of its documents (uniqueId, bytes)."""
        root = etree.Element(f"{{{DS}}}Signature", Id=unique_id, nsmap={"ds": DS, "xades": XADES})
        signed_info = _add(root, DS, "SignedInfo")
        value = _add(root, DS, "SignatureValue")
        self._add_key(root)
        manifest = _add(_add(root, DS, "Object"), DS, "Manifest", Id=_MANIFEST)
        self._add_reference(manifest, f"urn:oid:{lot.unique_id}", _LOT_DIGEST)
        for document_id, data in documents:
            digest = self._digest(etree.tostring(parsing.parse(data), method="c14n", with_comments=True))
            self._add_reference(manifest, f"urn:oid:{document_id}", digest, transform=C14N_WITH_COMMENTS)
        purposes = _add(_add(root, DS, "Object"), DS, "SignatureProperties")
        _add(purposes, DS, "SignatureProperty", SOURCE, Id=_PURPOSE, Target=f"#{unique_id}")
        properties = self._add_properties(root, unique_id, lot.submission_time)
        _add(signed_info, DS, "CanonicalizationMethod", Algorithm=C14N_WITH_COMMENTS)
        _add(signed_info, DS, "SignatureMethod", Algorithm=self._algorithm.signature)
        self._add_reference(signed_info, f"#{_MANIFEST}", self._digest(_canonical(manifest)), kind=f"{DS}Manifest")
        self._add_reference(
            signed_info, f"#{_PROPERTIES}", self._digest(_canonical(properties)), kind=f"{XADES}SignedProperties"
        )
        info = _canonical(signed_info, with_comments=True)
        value.text = base64.b64encode(self._signer.key.sign(info, PKCS1v15(), self._algorithm.hash)).decode()
        return etree.tostring(root, xml_declaration=True, encoding="UTF-8")

    def _add_key(self, root: etree._Element) -> None:
        data = _add(_add(root, DS, "KeyInfo"), DS, "X509Data")
        _add(data, DS, "X509Certificate", base64.b64encode(_der(self._signer.certificate)).decode())

    def _add_reference(
        self, parent: etree._Element, uri: str, digest: str, *, kind: str = "", transform: str = ""
    ) -> None:
        reference = _add(parent, DS, "Reference", URI=uri, **({"Type": kind} if kind else {}))
        if transform:
            _add(_add(reference, DS, "Transforms"), DS, "Transform", Algorithm=transform)
        _add(reference, DS, "DigestMethod", Algorithm=self._algorithm.digest)
        _add(reference, DS, "DigestValue", digest)

    def _add_properties(self, root: etree._Element, unique_id: str, time: str) -> etree._Element:
        qualifying = _add(_add(root, DS, "Object"), XADES, "QualifyingProperties", Target=f"#{unique_id}")
        properties = _add(qualifying, XADES, "SignedProperties", Id=_PROPERTIES)
        signature = _add(properties, XADES, "SignedSignatureProperties")
        instant = datetime.strptime(time, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        _add(signature, XADES, "SigningTime", instant.strftime("%Y-%m-%dT%H:%M:%SZ"))
        certificates = _add(signature, XADES, "SigningCertificate")
        for certificate in (self._signer.certificate, *self._signer.chain):
            self._add_certificate(certificates, certificate)
        _add(_add(signature, XADES, "SignaturePolicyIdentifier"), XADES, "SignaturePolicyImplied")
        return properties

    def _add_certificate(self, parent: etree._Element, certificate: x509.Certificate) -> None:
        element = _add(parent, XADES, "Cert")
        digest = _add(element, XADES, "CertDigest")
        _add(digest, XADES, "DigestMethod", Algorithm=self._algorithm.digest)
        _add(digest, XADES, "DigestValue", self._digest(_der(certificate)))
        issuer = _add(element, XADES, "IssuerSerial")
        _add(issuer, DS, "X509IssuerName", certificate.issuer.rfc4514_string())
        _add(issuer, DS, "X509SerialNumber", str(certificate.serial_number))

    def _digest(self, data: bytes) -> str:
        return base64.b64encode(hashlib.new(self._digest_name, data).digest()).decode()


def _canonical(element: etree._Element, *, with_comments: bool = False) -> bytes:
    """Inclusive canonical XML 1.0 of a subtree where it stands: the namespaces around it count."""
    return etree.tostring(etree.fromstring(etree.tostring(element)), method="c14n", with_comments=with_comments)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _add(
    parent: etree._Element, namespace: str, tag: str, text: str | None = None, **attributes: str
) -> etree._Element:
    element = etree.SubElement(parent, f"{{{namespace}}}{tag}", attributes)
    element.text = text
    return element
