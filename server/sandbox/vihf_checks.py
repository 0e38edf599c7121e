"""The VIHF as the sandbox DMP checks it: signature on the received bytes, signer, validity, every attribute.

CI-SIS couche Transport (VIHF 4.0) and SEL-MP-037. Refuses by default: what is not shown to be right is a SOAP fault.
The certificate of a structure bears its legal entity, the VIHF a geographic one: that both are one house is not
checked, only that TLS and signature are of the same certificate holder.
"""

from __future__ import annotations

import base64
import functools
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from cryptography import x509
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from relais.cda.identifiers import is_ps_idnat, is_struct_idnat
from relais.cda.xds_types import CX
from relais.server.sandbox.authority import Authority, load_certificate
from relais.server.sandbox.soap import SoapFaultError

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
TOLERANCE = timedelta(minutes=5)
MODES = ("DIRECTE", "INDIRECTE", "INDIRECTE_RENFORCEE")

_VALUE = f"{{{SAML}}}AttributeValue"
_NAMES = {"saml": SAML, "ds": "http://www.w3.org/2000/09/xmldsig#", "h": "urn:hl7-org:v3"}
_TRANSFORMS = ["http://www.w3.org/2000/09/xmldsig#enveloped-signature", "http://www.w3.org/2001/10/xml-exc-c14n#"]
_ISSUER_FORMAT = "urn:oasis:names:tc:SAML:1.1:nameid-format:X509SubjectName"
_CLASSES = re.compile(r"urn:oasis:names:tc:SAML:2\.0:ac:classes:[A-Za-z]+")
_SUBJECT_ID = "urn:oasis:names:tc:xspa:1.0:subject:subject-id"
_ROLE = "urn:oasis:names:tc:xacml:2.0:subject:role"
_RESOURCE = "urn:oasis:names:tc:xacml:2.0:resource:resource-id"
_PURPOSE = "urn:oasis:names:tc:xspa:1.0:subject:purposeofuse"
_TEXTS = {
    "VIHF_Version": re.compile(r"4\.0"),
    "Authentification_Mode": re.compile("|".join(MODES)),
    "Identifiant_Structure": re.compile(r"\S+"),
    "Secteur_Activite": re.compile(r"SA[0-9]{2}\^1\.2\.250\.1\.71\.4\.2\.4"),
    _SUBJECT_ID: re.compile(r".*\S.*"),
    _RESOURCE: re.compile(r".+"),
    "Ressource_URN": re.compile(r"urn:dmp"),
    "LPS_Nom": re.compile(r".+"),
    "LPS_Version": re.compile(r".+"),
    "LPS_ID_HOMOLOGATION_DMP": re.compile(r".+"),
}
"""Required attributes of one text, and the form of each."""
_OPTIONAL = {"LPS_ID"}
_CODED = {_ROLE: ("Role", 1, 2), _PURPOSE: ("PurposeOfUse", 1, 1)}
_SECRET = {"urn:oasis:names:tc:xspa:1.0:resource:patient:hl7:confidentiality-code": ("ConfidentialityCode", 1, 1)}
"""Of a secret connection alone."""
_ROLE_SYSTEMS = {
    "1.2.250.1.71.1.2.7",  # TRE_G15
    "1.2.250.1.71.1.2.8",  # TRE_G16
    "1.2.250.1.71.4.2.5",  # TRE_R01
    "1.2.250.1.71.4.2.6",  # TRE_G05
    "1.2.250.1.213.1.1.4.6",  # TRE_A00
    "1.2.250.1.213.1.6.1.4",  # TRE_R94
    "1.2.250.1.213.1.6.1.107",  # TRE_R85
    "1.2.250.1.213.1.6.1.109",  # TRE_R95
    "1.2.250.1.213.1.6.1.110",  # TRE_R96
    "1.2.250.1.213.1.6.1.140",  # TRE_R291
}
_KNOWN_NAMES = {
    x509.NameOID.SURNAME: "SN",
    x509.NameOID.GIVEN_NAME: "GN",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, on whose DMP (CX), in which mode."""

    identifier: str
    structure: str
    mode: str
    patient: str


class VihfChecks:
    """The checks, with the memory of the assertions seen; safe for threads."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._lock = threading.Lock()
        self._seen: set[str] = set()

    def check(self, assertion: etree._Element, client: x509.Certificate, now: datetime | None = None) -> Caller:
        """Who the assertion names. `client` is the TLS certificate of the connection. Raises SoapFaultError."""
        now = now or datetime.now(UTC)
        self._check_frame(assertion, now)
        certificate = self._check_signature(assertion, now)
        if _unit(certificate) != _unit(client):
            _refuse("the signer of the VIHF is not the holder of the TLS certificate")
        issuer = assertion.find("saml:Issuer", _NAMES)
        if issuer is None or issuer.text != _name(certificate) or issuer.get("Format") != _ISSUER_FORMAT:
            _refuse("Issuer is not the subject of the signing certificate")
        identifier = assertion.findtext("saml:Subject/saml:NameID", "", _NAMES)
        if not is_ps_idnat(identifier):
            _refuse("NameID is no PS_IdNat")
        self._check_authentication(assertion)
        texts = _check_attributes(assertion)
        if not is_struct_idnat(texts["Identifiant_Structure"]):
            _refuse("Identifiant_Structure is no Struct_IdNat")
        if CX.parse(texts[_RESOURCE]).problems():
            _refuse("resource-id is no identifier of a patient")
        with self._lock:
            own_id = str(assertion.get("ID"))
            if own_id in self._seen:
                _refuse("this VIHF was received before")
            self._seen.add(own_id)
        return Caller(identifier, texts["Identifiant_Structure"], texts["Authentification_Mode"], texts[_RESOURCE])

    @staticmethod
    def _check_frame(assertion: etree._Element, now: datetime) -> None:
        if assertion.get("Version") != "2.0" or not re.fullmatch(r"[A-Za-z_][\w.-]*", assertion.get("ID", "")):
            _refuse("Version must be 2.0 and ID an NCName")
        if abs(now - _instant(assertion.get("IssueInstant", ""))) > TOLERANCE:
            _refuse("IssueInstant is more than five minutes away")
        conditions = assertion.find("saml:Conditions", _NAMES)
        if conditions is not None:
            if conditions.find("saml:AudienceRestriction", _NAMES) is not None:
                _refuse("AudienceRestriction is not used")
            if conditions.get("NotBefore") and now < _instant(conditions.get("NotBefore", "")):
                _refuse("the VIHF is not valid yet")
            if conditions.get("NotOnOrAfter") and now >= _instant(conditions.get("NotOnOrAfter", "")):
                _refuse("the VIHF has expired")

    @staticmethod
    def _check_authentication(assertion: etree._Element) -> None:
        statements = assertion.findall("saml:AuthnStatement", _NAMES)
        if len(statements) != 1:
            _refuse("exactly one AuthnStatement is needed")
        _instant(statements[0].get("AuthnInstant", ""))
        used = statements[0].findtext("saml:AuthnContext/saml:AuthnContextClassRef", "", _NAMES)
        if not _CLASSES.fullmatch(used):
            _refuse("AuthnContextClassRef is no class of SAML 2.0")

    def _check_signature(self, assertion: etree._Element, now: datetime) -> x509.Certificate:
        children = [child.tag for child in assertion]
        if children[:2] != [f"{{{SAML}}}Issuer", f"{{{_NAMES['ds']}}}Signature"]:
            _refuse("the signature must follow Issuer")
        signature = assertion[1]
        references = signature.findall("ds:SignedInfo/ds:Reference", _NAMES)
        if [one.get("URI") for one in references] != [f"#{assertion.get('ID')}"]:
            _refuse("the signature must refer to the assertion and nothing else")
        used = [one.get("Algorithm") for one in references[0].iterfind("ds:Transforms/ds:Transform", _NAMES)]
        if used != _TRANSFORMS:
            _refuse("the transforms must be enveloped-signature and exclusive c14n")
        certificate = _certificate(signature)
        self._check_certificate(certificate, now)
        config = SignatureConfiguration(
            location="./",
            signature_methods=frozenset([SignatureMethod.RSA_SHA256]),
            digest_algorithms=frozenset([DigestAlgorithm.SHA256]),
            verification_time=now,
        )
        try:
            verified = XMLVerifier().verify(assertion, x509_cert=certificate, id_attribute="ID", expect_config=config)
        except (SignXMLException, ValueError) as error:
            raise SoapFaultError(f"the signature of the VIHF is wrong ({type(error).__name__})") from error
        seen = verified.signed_xml if isinstance(verified, VerifyResult) else None
        if seen is None or seen.get("ID") != assertion.get("ID"):
            _refuse("the signature is not over the assertion")
        return certificate

    def _check_certificate(self, certificate: x509.Certificate, now: datetime) -> None:
        if objection := self._authority.objection(certificate, now):
            _refuse(objection)


def _check_attributes(assertion: etree._Element) -> dict[str, str]:
    """The attributes of one text, once all are present, known and well-formed."""
    attributes = assertion.findall("saml:AttributeStatement/saml:Attribute", _NAMES)
    names = [one.get("Name", "") for one in attributes]
    if len(set(names)) < len(names):
        _refuse("an attribute is given twice")
    missing = sorted((_TEXTS.keys() | _CODED.keys()) - set(names))
    unknown = sorted(set(names) - _TEXTS.keys() - _CODED.keys() - _SECRET.keys() - _OPTIONAL)
    if missing or unknown:
        _refuse(f"attribute {(missing or unknown)[0]} is {'missing' if missing else 'not known'}")
    texts: dict[str, str] = {}
    for attribute in attributes:
        name = attribute.get("Name", "")
        values = [one for one in attribute if one.tag == _VALUE]
        if name in _CODED | _SECRET:
            _check_codes(name, values)
            continue
        text = (values[0].text or "").strip() if len(values) == 1 and not len(values[0]) else ""
        if name in _TEXTS and not _TEXTS[name].fullmatch(text):
            _refuse(f"attribute {name} has not the right value")
        texts[name] = text
    return texts


def _check_codes(name: str, values: list[etree._Element]) -> None:
    tag, least, most = (_CODED | _SECRET)[name]
    codes = [value.find(f"h:{tag}", _NAMES) for value in values]
    if not least <= len(codes) <= most:
        _refuse(f"attribute {name} has {len(codes)} values")
    for code in codes:
        kind = "" if code is None else code.get("{http://www.w3.org/2001/XMLSchema-instance}type", "")
        if code is None or kind != "CE" or not all(code.get(one) for one in ("code", "codeSystem", "displayName")):
            _refuse(f"attribute {name} must be a CE with code, codeSystem and displayName")
        elif tag == "Role" and code.get("codeSystem") not in _ROLE_SYSTEMS:
            _refuse("a role is of no code system of JDV_J65")
        elif tag == "PurposeOfUse" and (code.get("code"), code.get("codeSystem")) != (
            "normal",
            "1.2.250.1.213.1.1.4.248",
        ):
            _refuse("the purpose of use must be normal")
        elif tag == "ConfidentialityCode" and (code.get("code"), code.get("codeSystem")) != (
            "INVISIBLE_REPRESENTANTS_LEGAUX",
            "1.2.250.1.213.1.1.4.13",
        ):
            _refuse("a secret connection is one that the legal representatives do not see")


def _certificate(signature: etree._Element) -> x509.Certificate:
    text = signature.findtext("ds:KeyInfo/ds:X509Data/ds:X509Certificate", "", _NAMES)
    try:
        return load_certificate(base64.b64decode(text))
    except ValueError as error:
        raise SoapFaultError("KeyInfo holds no X.509 certificate") from error


@functools.lru_cache(maxsize=64)
def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string(_KNOWN_NAMES)


def _unit(certificate: x509.Certificate) -> list[str | bytes]:
    return [one.value for one in certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)]


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SoapFaultError("a time of the VIHF is none") from None
    if found.tzinfo is None:
        _refuse("a time of the VIHF is not in UTC")
    return found


def _refuse(reason: str) -> NoReturn:
    raise SoapFaultError(reason)
