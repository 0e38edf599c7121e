"""The VIHF: every attribute, a signature that others verify, and a sandbox that refuses each deviation."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from lxml import etree

from relais.cda.xds import MetadataAuthor
from relais.server.delivery import circuits, dmp_identity, lot_signature, vihf
from relais.server.delivery.channel import DeliveryError, recording
from relais.server.delivery.dmp import DmpChannel
from relais.server.sandbox import Sandbox
from relais.server.sandbox.authority import Authority
from relais.server.sandbox.soap import SoapFaultError
from relais.server.sandbox.vihf_checks import VihfChecks
from relais.server.settings import Settings
from support.dmp import dmp_settings, errors, raw_answer, reason
from support.shipments import AUTHOR, PATIENT_ID, small_shipment

NOW = datetime(2026, 1, 12, 8, 5, 0, 250_000, tzinfo=UTC)
NAMES = {"saml": vihf.SAML, "ds": vihf.DS, "h": vihf.HL7}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("vihf") / "sandbox") as running:
        yield running


@pytest.fixture
def settings(sandbox: Sandbox) -> Settings:
    return dmp_settings(sandbox)


def made(settings: Settings, now: datetime | None = None) -> etree._Element:
    signer = dmp_identity.signer(settings)
    data = vihf.assertion(vihf.requester(settings), PATIENT_ID, signer, settings, now or datetime.now(UTC))
    return etree.fromstring(data)


def attribute(assertion: etree._Element, name: str) -> list[Any]:
    path = f"saml:AttributeStatement/saml:Attribute[@Name='{name}']/saml:AttributeValue"
    found = assertion.findall(path, NAMES)
    return [dict(value[0].attrib) if len(value) else value.text for value in found]


# === what it says ===================================================================================================


def test_every_attribute(settings: Settings) -> None:
    assertion = made(replace(settings, dmp_installation="SITE-1"), NOW)
    ce = "{http://www.w3.org/2001/XMLSchema-instance}type"
    names = [one.get("Name") for one in assertion.iterfind(".//saml:Attribute", NAMES)]
    assert {name: attribute(assertion, name) for name in names} == {
        "VIHF_Version": ["4.0"],
        "Authentification_Mode": ["INDIRECTE_RENFORCEE"],
        "Identifiant_Structure": ["1750099996"],
        "Secteur_Activite": ["SA07^1.2.250.1.71.4.2.4"],
        "urn:oasis:names:tc:xspa:1.0:subject:subject-id": [f"Relais {version('relais')}"],
        "urn:oasis:names:tc:xacml:2.0:subject:role": [
            {ce: "CE", "code": "AUTOMATE", "codeSystem": "1.2.250.1.213.1.1.4.6", "displayName": "Automate"}
        ],
        "urn:oasis:names:tc:xacml:2.0:resource:resource-id": [PATIENT_ID],
        "Ressource_URN": ["urn:dmp"],
        "urn:oasis:names:tc:xspa:1.0:subject:purposeofuse": [
            {
                ce: "CE",
                "code": "normal",
                "codeSystem": "1.2.250.1.213.1.1.4.248",
                "codeSystemName": "mode acces VIHF 1.0",
                "displayName": "Accès normal",
            }
        ],
        "LPS_Nom": ["Relais"],
        "LPS_Version": ["0.1.0"],
        "LPS_ID_HOMOLOGATION_DMP": ["SANDBOX"],
        "LPS_ID": ["SITE-1"],
    }
    assert assertion.findtext("saml:Subject/saml:NameID", "", NAMES) == "810101234564"
    conditions = assertion.find("saml:Conditions", NAMES)
    assert conditions is not None
    assert dict(conditions.attrib) == {
        "NotBefore": "2026-01-12T08:03:00.250Z",
        "NotOnOrAfter": "2026-01-12T08:10:00.250Z",
    }
    assert assertion.get("IssueInstant") == "2026-01-12T08:05:00.250Z"


def test_a_secret_connection_of_a_minor(settings: Settings) -> None:
    who = replace(vihf.requester(settings), secret=True)
    signer, name = (
        dmp_identity.signer(settings),
        "urn:oasis:names:tc:xspa:1.0:resource:patient:hl7:confidentiality-code",
    )
    assert attribute(made(settings), name) == []
    assertion = etree.fromstring(vihf.assertion(who, PATIENT_ID, signer, settings, datetime.now(UTC)))
    [code] = attribute(assertion, name)
    assert (code["code"], code["codeSystem"]) == ("INVISIBLE_REPRESENTANTS_LEGAUX", "1.2.250.1.213.1.1.4.13")
    with recording() as exchanges, pytest.raises(DeliveryError, match="no document to delete"):
        DmpChannel(settings).send(replace(small_shipment(), secret=True, action="withdraw"))
    assert [name.encode() in exchange.request for exchange in exchanges] == [True]


@pytest.mark.parametrize(("mode", "declared"), [("INDIRECTE_RENFORCEE", "APP_BROWSER_AUTH"), ("INDIRECTE", None)])
def test_only_the_reinforced_mode_declares_how_users_are_authenticated(
    settings: Settings, mode: str, declared: str | None
) -> None:
    changed = replace(settings, dmp_mode=mode, dmp_authentication_context="APP_BROWSER_AUTH")
    context = made(changed, NOW).find("saml:AuthnStatement/saml:AuthnContext", NAMES)
    assert context is not None
    assert [etree.QName(one).localname for one in context][:1] == ["AuthnContextClassRef"]
    assert context.findtext("saml:AuthnContextDecl", None, NAMES) == declared


def test_the_issuer_is_the_subject_of_the_certificate_as_rfc_2253_writes_it(settings: Settings) -> None:
    issuer = made(settings).find("saml:Issuer", NAMES)
    assert issuer is not None
    assert issuer.text == "CN=dmp-signing,OU=1750000013,O=STRUCTURE INVENTEE,ST=Paris (75),C=FR"
    assert issuer.get("Format") == "urn:oasis:names:tc:SAML:1.1:nameid-format:X509SubjectName"


def test_each_has_its_own_id(settings: Settings) -> None:
    assert made(settings, NOW).get("ID") != made(settings, NOW).get("ID")


@pytest.mark.parametrize(
    ("specialty", "roles"),
    [
        (
            "G15_10/SM26^Médecin - Qualifié en médecine générale (SM)^1.2.250.1.213.1.1.4.5",
            [
                ("10", "1.2.250.1.71.1.2.7", "Médecin"),
                ("SM26", "1.2.250.1.71.4.2.5", "Qualifié en médecine générale (SM)"),
            ],
        ),
        ("G15_60^Infirmier^1.2.250.1.213.1.1.4.5", [("60", "1.2.250.1.71.1.2.7", "Infirmier")]),
        ("G16_10^Médecin en formation^1.2.250.1.213.1.1.4.5", [("10", "1.2.250.1.71.1.2.8", "Médecin en formation")]),
        (
            "G15_21/A^Pharmacien titulaire d'officine^1.2.250.1.213.1.1.4.5",
            [
                ("21", "1.2.250.1.71.1.2.7", "Pharmacien"),
                ("A", "1.2.250.1.71.4.2.6", "Pharmacien titulaire d'officine"),
            ],
        ),
        (
            "G15_21/FQ04^Pharmacien - Expérience pratique article R.5124-18 du CSP^1.2.250.1.213.1.1.4.5",
            [("21", "1.2.250.1.71.1.2.7", "Pharmacien")],
        ),
        (
            "G15_60/SI04^Infirmier - Exercice infirmier en pratique avancée santé mentale (SI)^1.2.250.1.213.1.1.4.5",
            [("60", "1.2.250.1.71.1.2.7", "Infirmier")],
        ),
        ("93^Psychologue^1.2.250.1.213.1.6.1.109", [("93", "1.2.250.1.213.1.6.1.109", "Psychologue")]),
        ("41^A \\T\\ B^1.2.250.1.213.1.6.1.4", [("41", "1.2.250.1.213.1.6.1.4", "A & B")]),
        (
            "304^Assistant de service social^1.2.250.1.213.1.6.1.107",
            [
                ("AUTOMATE", "1.2.250.1.213.1.1.4.6", "Automate"),
                ("304", "1.2.250.1.213.1.6.1.107", "Assistant de service social"),
            ],
        ),
        (
            "SECRETARIAT_MEDICAL^Secrétariat médical^1.2.250.1.213.1.1.4.6",
            [("SECRETARIAT_MEDICAL", "1.2.250.1.213.1.1.4.6", "Secrétariat médical")],
        ),
    ],
)
def test_the_roles_of_the_sender_of_a_lot(settings: Settings, specialty: str, roles: list[tuple[str, ...]]) -> None:
    who = vihf.sender(replace(AUTHOR, specialties=(specialty,)), settings)
    assert [(role.code, role.system, role.display) for role in who.roles] == roles
    assert (who.identifier, who.name, who.structure) == ("810101234564", "LEMOINE Hélène", "1750099996")


def test_a_doctor_who_answers_here_has_two_roles(settings: Settings) -> None:
    role = "10^Médecin^1.2.250.1.71.1.2.7~SM26^Qualifié en médecine générale (SM)^1.2.250.1.71.4.2.5"
    assertion = made(replace(settings, dmp_role=role))
    roles = attribute(assertion, "urn:oasis:names:tc:xacml:2.0:subject:role")
    assert [(one["code"], one["codeSystem"]) for one in roles] == [
        ("10", "1.2.250.1.71.1.2.7"),
        ("SM26", "1.2.250.1.71.4.2.5"),
    ]
    assert attribute(assertion, "urn:oasis:names:tc:xspa:1.0:subject:subject-id") == ["LEMOINE Hélène"]


@pytest.mark.parametrize("specialty", ["", "Coordination^sans code^"])
def test_a_software_is_no_person(settings: Settings, specialty: str) -> None:
    """Nothing tells what the author is: the software acts, under the number of who answers for it."""
    who = vihf.sender(replace(AUTHOR, specialties=(specialty,) if specialty else ()), settings)
    assert (who.identifier, who.name) == ("810101234564", f"Relais {version('relais')}")
    assert [role.code for role in who.roles] == ["AUTOMATE"]
    named = vihf.sender(AUTHOR, replace(settings, dmp_role="60^Infirmier^1.2.250.1.71.1.2.7"))
    assert [role.code for role in named.roles] != ["AUTOMATE"]
    assert named.name == "LEMOINE Hélène"


def test_who_answers_for_a_software_is_named_in_its_place(settings: Settings) -> None:
    software = "1750099996/9^Relais^1^^^^^^&1.2.250.1.71.4.2.1&ISO^U^^^RI"
    who = vihf.sender(MetadataAuthor(software, AUTHOR.institutions), settings)
    assert (who.identifier, who.name) == ("810101234564", f"Relais {version('relais')}")
    role = "60^Infirmier^1.2.250.1.71.1.2.7"
    who = vihf.sender(MetadataAuthor(software, AUTHOR.institutions), replace(settings, dmp_role=role))
    assert (who.identifier, who.name) == ("810101234564", "LEMOINE Hélène")


@pytest.mark.parametrize(
    ("author", "changes", "path"),
    [
        (replace(AUTHOR, institutions=()), {}, "SubmissionSet.author.authorInstitution"),
        (AUTHOR, {"organization_finess": "750000018"}, "SubmissionSet.author.authorInstitution"),
        (replace(AUTHOR, person=""), {"responsible_rpps": ""}, "responsible_rpps"),
        (AUTHOR, {"dmp_role": "60"}, "dmp_role"),
        (AUTHOR, {"dmp_role": "~".join(["60^Infirmier^1.2.250.1.71.1.2.7"] * 3)}, "dmp_role"),
    ],
)
def test_a_sender_that_the_dmp_would_refuse(
    settings: Settings, author: MetadataAuthor, changes: dict[str, str], path: str
) -> None:
    with pytest.raises(DeliveryError) as caught:
        vihf.sender(author, replace(settings, **changes))  # type: ignore[arg-type]
    assert (caught.value.issues[0].path, caught.value.retry) == (path, False)


def test_without_homologation_there_is_no_assertion(settings: Settings) -> None:
    with pytest.raises(DeliveryError, match="dmp_homologation"):
        made(replace(settings, dmp_homologation=""))


# === its signature, judged by xmlsec1 ===============================================================================


def verified_by_xmlsec1(xml: bytes, folder: Path, ca_file: Path, *options: str) -> str:
    if shutil.which("xmlsec1") is None:
        pytest.skip("xmlsec1 is not installed")
    path = folder / "signed.xml"
    path.write_bytes(xml)
    command = ["xmlsec1", "--verify", "--trusted-pem", str(ca_file), *options, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "OK" if done.returncode == 0 else done.stdout + done.stderr


def test_xmlsec1_verifies_the_assertion_inside_its_envelope(
    settings: Settings, sandbox: Sandbox, tmp_path: Path
) -> None:
    envelope = etree.Element("{urn:x}Envelope", nsmap={"x": "urn:x", "other": "urn:other"})
    envelope.append(made(settings))
    options = ("--id-attr:ID", f"{vihf.SAML}:Assertion")
    xml = etree.tostring(envelope)
    assert verified_by_xmlsec1(xml, tmp_path, sandbox.ca_file, *options) == "OK"
    changed = xml.replace(b"1750099996", b"1750099997")
    assert verified_by_xmlsec1(changed, tmp_path, sandbox.ca_file, *options) != "OK"


@pytest.mark.parametrize("digest", ["sha256", "sha1"])
def test_xmlsec1_verifies_the_signature_of_a_lot(
    settings: Settings, sandbox: Sandbox, tmp_path: Path, digest: str
) -> None:
    shipment = small_shipment()
    signer = dmp_identity.signer(settings)
    documents = {"Document01": shipment.document}
    _, data = lot_signature.signed(shipment.submission, documents, signer, digest)
    options = ("--ignore-manifests", "--id-attr:Id", f"{vihf.DS}:Manifest")
    options += ("--id-attr:Id", f"{lot_signature.XADES}:SignedProperties")
    assert verified_by_xmlsec1(data, tmp_path, sandbox.ca_file, *options) == "OK"
    changed = data.replace(b"AA==", b"AB==")
    assert verified_by_xmlsec1(changed, tmp_path, sandbox.ca_file, *options) != "OK"


# === what the sandbox refuses =======================================================================================


def set_text(path: str, text: str) -> Any:
    def change(assertion: etree._Element) -> None:
        found = assertion.find(path, NAMES)
        assert found is not None
        found.text = text

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (set_text("saml:Subject/saml:NameID", "810101234565"), "signature of the VIHF is wrong"),
        (set_text(".//saml:Attribute[@Name='Identifiant_Structure']/saml:AttributeValue", "1"), "signature"),
        (lambda assertion: assertion.append(assertion[1]), "must follow Issuer"),
        (lambda assertion: assertion.remove(assertion[1]), "must follow Issuer"),
        (lambda assertion: assertion.set("ID", "VIHF-other"), "refer to the assertion"),
        (lambda assertion: assertion.set("Version", "1.1"), "Version must be 2.0"),
        (lambda assertion: assertion[1][0].remove(assertion[1][0][-1]), "refer to the assertion"),
    ],
)
def test_an_assertion_changed_on_its_way_is_refused(sandbox: Sandbox, change: Any, expected: str) -> None:
    assert expected in reason(raw_answer(sandbox, small_shipment(), assertion=change))
    assert not sandbox.documents()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dmp_authentication": "not a class"}, "AuthnContextClassRef"),
        ({"facility_type": "X"}, "Secteur_Activite"),
        ({"dmp_role": "60^Infirmier^1.2.3"}, "JDV_J65"),
        ({"responsible_rpps": "1"}, "NameID"),
        ({"organization_finess": "1"}, "Identifiant_Structure is no"),
    ],
)
def test_an_assertion_that_says_something_wrong_is_refused(
    sandbox: Sandbox, changes: dict[str, str], expected: str
) -> None:
    assert expected in reason(raw_answer(sandbox, small_shipment(), **changes))


@pytest.mark.parametrize(
    ("minutes", "expected"), [(-30, "IssueInstant"), (30, "IssueInstant"), (2, "expired"), (-4, "not valid yet")]
)
def test_the_validity_window(
    sandbox: Sandbox, settings: Settings, monkeypatch: pytest.MonkeyPatch, minutes: int, expected: str
) -> None:
    """The assertion is looked at so many minutes after it was made."""
    monkeypatch.setattr(vihf, "VALIDITY", timedelta(minutes=1))
    now = datetime.now(UTC)
    assertion = made(settings, now)
    client = x509.load_pem_x509_certificate(Path(settings.dmp_certificate).read_bytes())
    checks = VihfChecks(sandbox.authority)
    with pytest.raises(SoapFaultError, match=expected):
        checks.check(assertion, client, now + timedelta(minutes=minutes))
    assert checks.check(assertion, client, now - vihf.SKEW).patient == PATIENT_ID
    with pytest.raises(SoapFaultError, match="received before"):
        checks.check(assertion, client, now)


def test_a_signer_of_another_authority_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "127.0.0.1").signing_certificate()
    answer = raw_answer(sandbox, small_shipment(), dmp_signing_certificate=str(stranger))
    assert "of another authority" in reason(answer)


def test_the_tls_certificate_does_not_sign(sandbox: Sandbox) -> None:
    with pytest.raises(DeliveryError, match="not an RSA key"):
        raw_answer(sandbox, small_shipment(), dmp_signing_certificate=str(sandbox.settings["dmp_certificate"]))


def test_a_revoked_signer_is_refused(sandbox: Sandbox) -> None:
    revoked = sandbox.authority.signing_certificate("revoked-signing")
    sandbox.authority.revoke(revoked)
    assert "was revoked" in reason(raw_answer(sandbox, small_shipment(), dmp_signing_certificate=str(revoked)))


def test_structure_and_person_of_vihf_and_lot_are_the_same(sandbox: Sandbox) -> None:
    for changes in ({"organization_finess": "750000018"}, {"responsible_rpps": "10199999999"}):
        assert errors(raw_answer(sandbox, small_shipment(), **changes)) == ["XDSRepositoryMetadataError"]


# === certificate of the settings ====================================================================================


def test_a_key_under_a_passphrase(sandbox: Sandbox) -> None:
    path = sandbox.authority.signing_certificate("locked", passphrase="secret")
    settings = dmp_settings(sandbox, dmp_signing_certificate=str(path), dmp_signing_passphrase="secret")
    assert dmp_identity.signer(settings).certificate.serial_number
    for passphrase in ("", "wrong"):
        with pytest.raises(DeliveryError, match="passphrase") as caught:
            dmp_identity.signer(replace(settings, dmp_signing_passphrase=passphrase))
        assert caught.value.issues[0].path == "dmp_signing_certificate"


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((timedelta(days=-9), timedelta(days=-1)), "has expired on"),
        ((timedelta(days=1), timedelta(days=9)), "is not valid before"),
    ],
)
def test_our_own_certificate_out_of_date_is_said_before_anything_is_sent(
    sandbox: Sandbox, window: tuple[timedelta, timedelta], expected: str
) -> None:
    now = datetime.now(UTC)
    dates = {"not_before": now + window[0], "not_after": now + window[1]}
    signing = sandbox.authority.signing_certificate("dated-signing", **dates)
    client = sandbox.authority.client_certificate("dated-client", **dates)
    with pytest.raises(DeliveryError, match=expected):
        dmp_identity.signer(dmp_settings(sandbox, dmp_signing_certificate=str(signing)))
    with pytest.raises(DeliveryError, match=expected) as caught:
        dmp_identity.tls_context(dmp_settings(sandbox, dmp_certificate=str(client)))
    assert circuits.is_trouble(caught.value.issues)


def test_a_renewed_certificate_is_read_without_a_restart(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    path.write_bytes(sandbox.authority.signing_certificate("before").read_bytes())
    settings = dmp_settings(sandbox, dmp_signing_certificate=str(path))
    before = dmp_identity.signer(settings).name
    path.write_bytes(sandbox.authority.signing_certificate("after").read_bytes())
    assert (before.partition(",")[0], dmp_identity.signer(settings).name.partition(",")[0]) == ("CN=before", "CN=after")


@pytest.mark.parametrize("name", ["dmp_certificate", "dmp_signing_certificate"])
@pytest.mark.parametrize(("value", "expected"), [("", "takes nothing without"), ("/nowhere.pem", "no such file")])
def test_missing_certificates_are_named(sandbox: Sandbox, name: str, value: str, expected: str) -> None:
    settings = dmp_settings(sandbox, **{name: value})
    load = dmp_identity.tls_context if name == "dmp_certificate" else dmp_identity.signer
    with pytest.raises(DeliveryError, match=expected) as caught:
        load(settings)  # type: ignore[operator]
    assert caught.value.issues[0].path == name
    assert circuits.is_trouble(caught.value.issues)  # deliveries wait until it is mended: none is given up at once
