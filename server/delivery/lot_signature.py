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
from datetime import datetime
from typing import NamedTuple
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from lxml import etree

from relais.cda import parsing
from relais.cda.datatypes import uuid_oid
from relais.cda.templates import CONFIDENTIALITY
from relais.cda.xds import SET_ID, SIGNS, Association, CodedValue, DocumentEntry, Submission, SubmissionSet
from relais.cda.xds_registry import HIDDEN_FROM_PATIENT, HIDDEN_FROM_PROFESSIONALS, SIGNATURE_CLASS
from relais.server.delivery.dmp_identity import Certificate, Signer

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
    """The making of one signature: each part is written as text, and digested in the canonical form of what it says."""

    def __init__(self, algorithm: Algorithm, digest: str, signer: Signer) -> None:
        self._algorithm = algorithm
        self._digest_name = digest
        self._signer = signer

    def of(self, unique_id: str, lot: SubmissionSet, documents: Iterable[tuple[str, bytes]]) -> bytes:
        """The signature of the lot and of its documents (uniqueId, bytes)."""
        manifest = self._manifest(lot, documents)
        properties = self._properties(lot.submission_time)
        info = self._signed_info(manifest, properties)
        value = self._signer.key.sign(_canonical(info, with_comments=True), PKCS1v15(), self._algorithm.hash)
        return (
            "<?xml version='1.0' encoding='UTF-8'?>\n"
            f'<ds:Signature {_NAMESPACES} Id="{unique_id}">{info}'
            f"<ds:SignatureValue>{base64.b64encode(value).decode()}</ds:SignatureValue>"
            f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{self._signer.certificates[0].base64}</ds:X509Certificate>"
            "</ds:X509Data></ds:KeyInfo>"
            f"<ds:Object>{manifest}</ds:Object>"
            f'<ds:Object><ds:SignatureProperties><ds:SignatureProperty Id="{_PURPOSE}" Target="#{unique_id}">{SOURCE}'
            "</ds:SignatureProperty></ds:SignatureProperties></ds:Object>"
            f'<ds:Object><xades:QualifyingProperties Target="#{unique_id}">{properties}</xades:QualifyingProperties>'
            "</ds:Object></ds:Signature>"
        ).encode()

    def _signed_info(self, manifest: str, properties: str) -> str:
        return (
            f'<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="{C14N_WITH_COMMENTS}"/>'
            f'<ds:SignatureMethod Algorithm="{self._algorithm.signature}"/>'
            + self._reference(f"#{_MANIFEST}", self._digest(_canonical(manifest)), kind=f"{DS}Manifest")
            + self._reference(f"#{_PROPERTIES}", self._digest(_canonical(properties)), kind=f"{XADES}SignedProperties")
            + "</ds:SignedInfo>"
        )

    def _manifest(self, lot: SubmissionSet, documents: Iterable[tuple[str, bytes]]) -> str:
        references = [self._reference(f"urn:oid:{lot.unique_id}", _LOT_DIGEST)]
        for document_id, data in documents:
            digest = self._digest(etree.tostring(parsing.parse(data), method="c14n", with_comments=True))
            references.append(self._reference(f"urn:oid:{document_id}", digest, transform=C14N_WITH_COMMENTS))
        return f'<ds:Manifest Id="{_MANIFEST}">{"".join(references)}</ds:Manifest>'

    def _reference(self, uri: str, digest: str, *, kind: str = "", transform: str = "") -> str:
        kind = kind and f' Type="{kind}"'
        transform = transform and f'<ds:Transforms><ds:Transform Algorithm="{transform}"/></ds:Transforms>'
        return (
            f'<ds:Reference URI="{escape(uri, _QUOTE)}"{kind}>{transform}'
            f'<ds:DigestMethod Algorithm="{self._algorithm.digest}"/><ds:DigestValue>{digest}</ds:DigestValue>'
            "</ds:Reference>"
        )

    def _properties(self, time: str) -> str:
        instant = datetime.fromisoformat(f"{time[:8]}T{time[8:]}Z")
        certificates = "".join(map(self._certificate, self._signer.certificates))
        return (
            f'<xades:SignedProperties Id="{_PROPERTIES}"><xades:SignedSignatureProperties>'
            f"<xades:SigningTime>{instant:%Y-%m-%dT%H:%M:%SZ}</xades:SigningTime>"
            f"<xades:SigningCertificate>{certificates}</xades:SigningCertificate>"
            "<xades:SignaturePolicyIdentifier><xades:SignaturePolicyImplied/></xades:SignaturePolicyIdentifier>"
            "</xades:SignedSignatureProperties></xades:SignedProperties>"
        )

    def _certificate(self, certificate: Certificate) -> str:
        return (
            f'<xades:Cert><xades:CertDigest><xades:DigestMethod Algorithm="{self._algorithm.digest}"/>'
            f"<xades:DigestValue>{self._digest(certificate.der)}</xades:DigestValue></xades:CertDigest>"
            f"<xades:IssuerSerial><ds:X509IssuerName>{escape(certificate.issuer)}</ds:X509IssuerName>"
            f"<ds:X509SerialNumber>{certificate.number}</ds:X509SerialNumber></xades:IssuerSerial></xades:Cert>"
        )

    def _digest(self, data: bytes) -> str:
        return base64.b64encode(hashlib.new(self._digest_name, data).digest()).decode()


_NAMESPACES = f'xmlns:ds="{DS}" xmlns:xades="{XADES}"'
_QUOTE = {'"': "&quot;"}


def _canonical(part: str, *, with_comments: bool = False) -> bytes:
    """Inclusive canonical XML 1.0 of a part where it stands: the namespaces around it count."""
    [element] = etree.fromstring(f"<ds:Object {_NAMESPACES}>{part}</ds:Object>")
    return etree.tostring(element, method="c14n", with_comments=with_comments)
