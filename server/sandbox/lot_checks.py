"""The signature of a lot as the sandbox repository checks it (IHE DSG, SEL-MP-037).

The digests of the manifest are recomputed from the documents as received; the value of the signature and its two
references are verified by signxml, which shares nothing with the sender's own writing of them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, XMLVerifier

from relais.cda import xds
from relais.cda.errors import UnreadableError
from relais.cda.xds import DocumentEntry, Submission
from relais.server.sandbox.authority import Authority, load_certificate
from relais.server.sandbox.documents import Documents
from relais.server.sandbox.soap import RegistryError

SIGNATURE_CLASS = "urn:oid:1.3.6.1.4.1.19376.1.2.1.1.1"
SOURCE = "1.2.840.10065.1.12.1.14"

_NAMES = {"ds": "http://www.w3.org/2000/09/xmldsig#", "xades": "http://uri.etsi.org/01903/v1.1.1#"}
_WITH_COMMENTS = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments"
_DIGESTS = {
    "http://www.w3.org/2001/04/xmlenc#sha256": "sha256",
    "http://www.w3.org/2000/09/xmldsig#sha1": "sha1",
}
_CODES = {
    "class_code": (SIGNATURE_CLASS, "URN"),
    "type_code": ("E1762", "ASTM"),
    "format_code": (_NAMES["ds"], "URN"),
}
_CONFIDENTIALITY = {"N", "INVISIBLE_PATIENT", "MASQUE_PS"}


def is_signature(entry: DocumentEntry) -> bool:
    """Whether an entry describes the signature of a lot."""
    return entry.class_code.code == SIGNATURE_CLASS


def errors(submission: Submission, documents: Documents, authority: Authority | None) -> Iterator[RegistryError]:
    """What is wrong with the signature of a submission; with no `authority`, who signed is not looked at."""
    found = [entry for entry in submission.entries if is_signature(entry)]
    if len(found) != 1:
        yield _error(f"one signature of the lot is needed, {len(found)} found", "Signature")
        return
    entry = found[0]
    signs = [one for one in submission.associations if one.type == xds.SIGNS]
    if [one.source for one in signs] != [entry.entry_id]:
        yield _error("one association signs, from the signature to the lot, is needed", entry.entry_id)
    for message in (*_entry_problems(entry), *_signature_problems(submission, entry, documents, authority)):
        yield _error(message, entry.entry_id)


def _entry_problems(entry: DocumentEntry) -> Iterator[str]:
    for name, expected in _CODES.items():
        code = getattr(entry, name)
        if (code.code, code.system) != expected:
            yield f"{name} is not that of a signature"
    if [code.code for code in entry.event_codes] != [SOURCE]:
        yield "eventCodeList is not Source"
    if {code.code for code in entry.confidentiality} != _CONFIDENTIALITY:
        yield "confidentialityCode of a signature is N, INVISIBLE_PATIENT and MASQUE_PS"
    if (entry.title, entry.language, entry.mime_type) != ("Source", "art", "text/xml"):
        yield "title, languageCode or mimeType are not those of a signature"


def _signature_problems(
    submission: Submission, entry: DocumentEntry, documents: Documents, authority: Authority | None
) -> Iterator[str]:
    try:
        root = documents.tree(entry.entry_id).getroot()
    except UnreadableError as error:
        yield error.issues[0].message
        return
    if root.tag != f"{{{_NAMES['ds']}}}Signature" or root.get("Id") != entry.unique_id:
        yield "the root is no ds:Signature whose Id is the uniqueId"
        return
    if root.findtext(".//ds:SignatureProperty", "", _NAMES).strip() != SOURCE:
        yield "the purpose of the signature is not Source"
    if root.find(".//xades:SignedSignatureProperties/xades:SigningTime", _NAMES) is None:
        yield "no signing time"
    yield from _manifest_problems(root, submission, documents)
    yield from _value_problems(root, documents[entry.entry_id], authority)


def _manifest_problems(root: etree._Element, submission: Submission, documents: Documents) -> Iterator[str]:
    expected = {f"urn:oid:{submission.submission_set.unique_id}": b"\0"}
    references = root.findall("ds:Object/ds:Manifest[@Id='IHEManifest']/ds:Reference", _NAMES)
    algorithms = {one.get("Algorithm", "") for one in root.iterfind(".//ds:Manifest//ds:DigestMethod", _NAMES)}
    if len(algorithms) != 1 or not algorithms <= _DIGESTS.keys():
        yield "the digests of the manifest are not all SHA-256 or all SHA-1"
        return
    digest = _DIGESTS[algorithms.pop()]
    for entry in submission.entries:
        if not is_signature(entry):
            canonical = etree.tostring(documents.tree(entry.entry_id), method="c14n", with_comments=True)
            expected[f"urn:oid:{entry.unique_id}"] = hashlib.new(digest, canonical).digest()
    given = {one.get("URI", ""): base64.b64decode(one.findtext("ds:DigestValue", "", _NAMES)) for one in references}
    if given != expected:
        yield "the manifest does not hold the lot and its documents with their digests"
    for one in references[1:]:
        used = [step.get("Algorithm") for step in one.iterfind("ds:Transforms/ds:Transform", _NAMES)]
        if used != [_WITH_COMMENTS]:
            yield "a document of the manifest is not digested in canonical form with comments"


def _value_problems(root: etree._Element, data: bytes, authority: Authority | None) -> Iterator[str]:
    """`root` is that of the signature, `data` its bytes: signxml would write a tree anew to read it again."""
    uris = [one.get("URI") for one in root.iterfind("ds:SignedInfo/ds:Reference", _NAMES)]
    properties = root.find(".//xades:SignedProperties", _NAMES)
    if properties is None or uris != ["#IHEManifest", f"#{properties.get('Id')}"]:
        yield "the signature is not over the manifest and the signed properties"
        return
    try:
        der = base64.b64decode(root.findtext("ds:KeyInfo/ds:X509Data/ds:X509Certificate", "", _NAMES))
        certificate = load_certificate(der)
        if authority is not None and (objection := authority.objection(certificate, datetime.now(UTC))):
            yield objection
            return
        config = SignatureConfiguration(
            location="./",
            expect_references=2,
            signature_methods=frozenset([SignatureMethod.RSA_SHA256, SignatureMethod.RSA_SHA1]),
            digest_algorithms=frozenset([DigestAlgorithm.SHA256, DigestAlgorithm.SHA1]),
        )
        XMLVerifier().verify(data, x509_cert=certificate, expect_config=config, validate_schema=False)
    except (SignXMLException, ValueError) as error:
        yield f"the signature does not verify ({type(error).__name__})"


def _error(message: str, location: str) -> RegistryError:
    return RegistryError("XDSRepositoryMetadataError", message, location)
