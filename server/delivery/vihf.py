"""VIHF 4.0: the SAML 2.0 assertion that says who acts on whose DMP, signed with the structure's certificate.

CI-SIS couche Transport, volet synchrone, and SEL-MP-037; the modes in which the structure is authenticated (INDIRECTE,
INDIRECTE_RENFORCEE). XML Signature: enveloped, exclusive canonicalisation, RSA with SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from uuid import uuid4

from lxml import etree
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureConstructionMethod, SignatureMethod
from signxml.signer import XMLSigner

from relais.cda.errors import Issue
from relais.cda.identifiers import is_struct_idnat
from relais.cda.xds import CodedValue, MetadataAuthor, escaped
from relais.cda.xds_attributes import PRODUCER_SYSTEM, SECTOR_SYSTEM
from relais.cda.xds_registry import HIDDEN_FROM_REPRESENTATIVES
from relais.cda.xds_types import XCN, XON, unescape
from relais.mappings.terminology import concept
from relais.server.delivery.channel import DeliveryError
from relais.server.delivery.dmp_identity import Signer
from relais.server.settings import Settings

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
DS = "http://www.w3.org/2000/09/xmldsig#"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
HL7 = "urn:hl7-org:v3"

VERSION = "4.0"
REINFORCED = "INDIRECTE_RENFORCEE"
ISSUER_FORMAT = "urn:oasis:names:tc:SAML:1.1:nameid-format:X509SubjectName"
AUTHENTICATION = "urn:oasis:names:tc:SAML:2.0:ac:classes:"
PROFESSION_SYSTEM = "1.2.250.1.71.1.2.7"  # TRE_G15
TRAINEE_SYSTEM = "1.2.250.1.71.1.2.8"  # TRE_G16
SPECIALTY_SYSTEM = "1.2.250.1.71.4.2.5"  # TRE_R01
SECTION_SYSTEM = "1.2.250.1.71.4.2.6"  # TRE_G05, sections of the order of pharmacists
CARE_ROLE_SYSTEM = "1.2.250.1.213.1.6.1.107"  # TRE_R85, people known by their role
OTHER_PROFESSIONS = {
    PRODUCER_SYSTEM,
    "1.2.250.1.213.1.6.1.4",  # TRE_R94, social work
    "1.2.250.1.213.1.6.1.109",  # TRE_R95, titles
    "1.2.250.1.213.1.6.1.110",  # TRE_R96
    "1.2.250.1.213.1.6.1.140",  # TRE_R291
}
"""Systems of JDV_J65 that stand where a profession of health does."""
CONFIDENTIALITY = "urn:oasis:names:tc:xspa:1.0:resource:patient:hl7:confidentiality-code"
NORMAL_ACCESS = CodedValue("normal", "Accès normal", "1.2.250.1.213.1.1.4.248")
DOCTOR, PHARMACIST = "10", "21"  # of TRE_G15
SOFTWARE = "Relais"
AUTOMATON = CodedValue("AUTOMATE", "Automate", PRODUCER_SYSTEM)

_SYSTEM_NAMES = {NORMAL_ACCESS.system: "mode acces VIHF 1.0"}
_VERSION = version("relais")  # which is read from files each time that it is asked for

VALIDITY = timedelta(minutes=5)
SKEW = timedelta(minutes=2)
"""An assertion is valid from SKEW before it was made, for clocks that are late, to VALIDITY after."""


@dataclass(frozen=True, slots=True)
class Requester:
    """Who acts: `identifier` PS_IdNat of the (responsible) person, `structure` Struct_IdNat, `sector` code SAxx.

    `name` is that of the person, or that of the software where nothing tells what the person is (role AUTOMATE alone).
    `secret`: by a secret connection, which the legal representatives of a minor do not see.
    """

    identifier: str
    name: str
    roles: tuple[CodedValue, ...]
    structure: str
    sector: str
    secret: bool = False


def requester(settings: Settings) -> Requester:
    """Who answers for this installation. Raises DeliveryError naming the settings that are missing."""
    needed = ("responsible_rpps", "responsible_family", "organization_finess")
    missing = [name for name in needed if not getattr(settings, name)]
    if missing:
        raise DeliveryError(
            [Issue("error", "required", "needed to say who asks the DMP", name, "VIHF") for name in missing],
            retry=False,
        )
    roles = _own_roles(settings)
    return Requester(
        identifier=f"8{settings.responsible_rpps}",
        name=_name(f"{settings.responsible_family} {settings.responsible_given}", roles),
        roles=roles,
        structure=f"1{settings.organization_finess}",
        sector=settings.facility_type,
    )


def sender(author: MetadataAuthor, settings: Settings) -> Requester:
    """The sender of a lot as its VIHF names it: the author of the lot, or who answers for it when that is a software.

    The structure of the VIHF must be one of the lot's (SEL-MP-037): that of the settings when they name one. Raises
    DeliveryError when there is none.
    """
    person = XCN.parse(author.person or "")
    structures = [XON.parse(text).id for text in author.institutions]
    structures = [structure for structure in structures if is_struct_idnat(structure)]
    own = f"1{settings.organization_finess}" if settings.organization_finess else ""
    if not structures or (own and own not in structures):
        whose = "the structure of the settings (organization_finess)" if own else "a structure with its identifier"
        issue = Issue("error", "business-rule", f"is not {whose}", "SubmissionSet.author.authorInstitution", "VIHF")
        raise DeliveryError(issue, retry=False)
    if person.type not in ("IDNPS", "EI"):
        return requester(settings)
    roles = _roles(author, settings)
    return Requester(
        identifier=person.id,
        name=_name(f"{person.family} {person.given}", roles),
        roles=roles,
        structure=own or structures[0],
        sector=settings.facility_type,
    )


def _name(person: str, roles: tuple[CodedValue, ...]) -> str:
    """The subject-id: the person, or the software where it acts by itself under the number of who answers for it."""
    return f"{SOFTWARE} {_VERSION}" if roles == (AUTOMATON,) else person.strip()


def _roles(author: MetadataAuthor, settings: Settings) -> tuple[CodedValue, ...]:
    """The profession of an authorSpecialty, and what JDV_J65 asks beside it; that of the settings without one.

    `G15_10/SM26^Médecin - … (SM)^OID` (JDV_J56) tells profession and know-how, or the section of a pharmacist; a code
    of another profession stands alone; a role (TRE_R85) comes second.
    """
    code, label, system = map(unescape, [*(author.specialties or ("",))[0].split("^"), "", ""][:3])
    table, _, profession = code.partition("/")[0].partition("_")
    if table in ("G15", "G16") and profession:
        name = concept("J01", f"{table}_{profession}")
        first = CodedValue(
            profession,
            name.display if name and name.display else label,
            PROFESSION_SYSTEM if table == "G15" else TRAINEE_SYSTEM,
        )
        return (first, *_know_how(profession, code.partition("/")[2], label))
    if system in OTHER_PROFESSIONS:
        return (CodedValue(code, label, system),)
    own = _own_roles(settings)
    return (own[0], CodedValue(code, label, system)) if system == CARE_ROLE_SYSTEM else own


def _know_how(profession: str, code: str, label: str) -> tuple[CodedValue, ...]:
    """The second role of doctors and pharmacists: nobody else has one, and functions (FQ…) are not in its tables."""
    system = {DOCTOR: SPECIALTY_SYSTEM, PHARMACIST: SECTION_SYSTEM}.get(profession)
    if system is None or not code or (profession == PHARMACIST and code.startswith("FQ")):
        return ()
    return (CodedValue(code, label.partition(" - ")[2] or label, system),)


def _own_roles(settings: Settings) -> tuple[CodedValue, ...]:
    if not settings.dmp_role:
        return (AUTOMATON,)
    roles = [role.split("^") for role in settings.dmp_role.split("~")]
    if len(roles) > 2 or any(len(parts) != 3 or not all(parts) for parts in roles):
        issue = Issue(
            "error", "value", "has not the form code^label^OID, or two of it with ~ between", "dmp_role", "VIHF"
        )
        raise DeliveryError(issue, retry=False)
    return tuple(CodedValue(*parts) for parts in roles)


def assertion(who: Requester, patient: str, signer: Signer, settings: Settings, now: datetime) -> bytes:
    """The signed assertion for one request on the DMP of `patient` (CX); `now` is aware. Its id is new each time.

    An element in UTF-8 with the namespaces it needs, which can stand in any other. Raises DeliveryError when the
    settings do not say what it must hold.
    """
    if not settings.dmp_homologation:
        issue = Issue("error", "required", "the DMP takes no request without it", "dmp_homologation", "VIHF")
        raise DeliveryError(issue, retry=False)
    now = now.astimezone(UTC)
    assertion = (
        f'<saml:Assertion xmlns:saml="{SAML}" ID="VIHF-{uuid4()}" Version="2.0" IssueInstant="{_instant(now)}">'
        f'<saml:Issuer Format="{ISSUER_FORMAT}">{escaped(signer.name)}</saml:Issuer>'
        f'<ds:Signature xmlns:ds="{DS}" Id="placeholder"/>'
        f"<saml:Subject><saml:NameID>{escaped(who.identifier)}</saml:NameID></saml:Subject>"
        f'<saml:Conditions NotBefore="{_instant(now - SKEW)}" NotOnOrAfter="{_instant(now + VALIDITY)}"/>'
        f'<saml:AuthnStatement AuthnInstant="{_instant(now)}"><saml:AuthnContext>{_authentication(settings)}'
        "</saml:AuthnContext></saml:AuthnStatement>"
        f"<saml:AttributeStatement>{_attributes(who, patient, settings)}</saml:AttributeStatement></saml:Assertion>"
    )
    signed = XMLSigner(
        method=SignatureConstructionMethod.enveloped,
        signature_algorithm=SignatureMethod.RSA_SHA256,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    ).sign(etree.fromstring(assertion), key=signer.key, key_info=_key_info(signer))
    return etree.tostring(signed, encoding="UTF-8", xml_declaration=False)


def _key_info(signer: Signer) -> etree._Element:
    """The ds:KeyInfo with the certificate and its chain."""
    certificates = "".join(f"<ds:X509Certificate>{one.base64}</ds:X509Certificate>" for one in signer.certificates)
    return etree.fromstring(f'<ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo>')


def _authentication(settings: Settings) -> str:
    """How the user was authenticated: the class, and what the reinforced mode declares beside it."""
    used = escaped(AUTHENTICATION + settings.dmp_authentication)
    declared = settings.dmp_authentication_context if settings.dmp_mode == REINFORCED else ""
    more = declared and f"<saml:AuthnContextDecl>{escaped(declared)}</saml:AuthnContextDecl>"
    return f"<saml:AuthnContextClassRef>{used}</saml:AuthnContextClassRef>{more}"


def _attributes(who: Requester, patient: str, settings: Settings) -> str:
    roles = [_coded("Role", role) for role in who.roles]
    values = [
        ("VIHF_Version", [VERSION]),
        ("Authentification_Mode", [escaped(settings.dmp_mode)]),
        ("Identifiant_Structure", [escaped(who.structure)]),
        ("Secteur_Activite", [escaped(f"{who.sector}^{SECTOR_SYSTEM}")]),
        ("urn:oasis:names:tc:xspa:1.0:subject:subject-id", [escaped(who.name)]),
        ("urn:oasis:names:tc:xacml:2.0:subject:role", roles),
        ("urn:oasis:names:tc:xacml:2.0:resource:resource-id", [escaped(patient)]),
        ("Ressource_URN", ["urn:dmp"]),
        ("urn:oasis:names:tc:xspa:1.0:subject:purposeofuse", [_coded("PurposeOfUse", NORMAL_ACCESS)]),
        ("LPS_Nom", [SOFTWARE]),
        ("LPS_Version", [_VERSION]),
        ("LPS_ID_HOMOLOGATION_DMP", [escaped(settings.dmp_homologation)]),
    ]
    if settings.dmp_installation:
        values.append(("LPS_ID", [escaped(settings.dmp_installation)]))
    if who.secret:
        values.append((CONFIDENTIALITY, [_coded("ConfidentialityCode", HIDDEN_FROM_REPRESENTATIVES)]))
    return "".join(
        f'<saml:Attribute Name="{name}">{"".join(map(_value, held))}</saml:Attribute>' for name, held in values
    )


def _value(inside: str) -> str:
    return f"<saml:AttributeValue>{inside}</saml:AttributeValue>"


def _coded(tag: str, code: CodedValue) -> str:
    """An HL7 V3 CE, as the VIHF carries roles and purposes."""
    name = f' codeSystemName="{_SYSTEM_NAMES[code.system]}"' if code.system in _SYSTEM_NAMES else ""
    return (
        f'<{tag} xmlns="{HL7}" xmlns:xsi="{XSI}" xsi:type="CE" code="{escaped(code.code)}"'
        f' codeSystem="{escaped(code.system)}"{name} displayName="{escaped(code.display)}"/>'
    )


def _instant(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"
