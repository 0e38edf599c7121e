"""Every setting of Relais, typed and documented; from a TOML file, then from the environment, which wins.

A setting `database_url` is read from the key `database_url` of the TOML file named by `RELAIS_CONFIG`, and from
`RELAIS_DATABASE_URL`. Nothing else in Relais reads the environment.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from relais.cda.datatypes import uuid_oid
from relais.cda.errors import Issue, RelaisError
from relais.cda.rule_sets import CURRENT
from relais.mappings.context import Deployment


class SettingsError(RelaisError):
    """A setting that cannot be read: unknown name, wrong type, value out of its list."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Sizes are bytes, durations seconds."""

    # Facade
    host: str = field(default="127.0.0.1", metadata={"doc": "Address the facade listens on."})
    port: int = field(default=8080, metadata={"doc": "Port the facade listens on."})
    base_url: str = field(default="", metadata={"doc": "Public FHIR base URL; empty: http://host:port/fhir."})
    workers: int = field(default=2, metadata={"doc": "Web processes."})
    threads: int = field(default=4, metadata={"doc": "Threads per web process."})
    max_body: int = field(default=20_000_000, metadata={"doc": "Largest request body accepted."})
    max_depth: int = field(default=60, metadata={"doc": "Deepest nesting of a JSON body."})
    max_entries: int = field(default=5000, metadata={"doc": "Most entries of a batch or transaction Bundle."})
    update_creates: bool = field(default=True, metadata={"doc": "A PUT to an unknown id creates the resource."})
    most_deleted: int = field(
        default=1, metadata={"doc": "Most resources that one conditional delete takes away; 412 when more match."}
    )
    check_references: bool = field(default=True, metadata={"doc": "Refuse references to nothing on this server."})
    cors_origins: str = field(
        default="", metadata={"doc": "Origins, by commas, whose browsers may call the facade; *: any; empty: none."}
    )
    versioned_update_types: str = field(
        default="", metadata={"doc": "Resource types, by commas, that are only changed under If-Match."}
    )
    administration: bool = field(
        default=False, metadata={"doc": "Offer $expunge and $reindex: only where an administrator alone gets through."}
    )
    export_folder: str = field(
        default="relais-export", metadata={"doc": "Folder of bulk export files, shared by the web processes."}
    )
    guide_folder: str = field(
        default="",
        metadata={"doc": "Folder of the built implementation guide, shown at /ig; empty: ig/build/site beside Relais."},
    )
    # Store
    database_url: str = field(
        default="sqlite:///relais.sqlite", metadata={"doc": "SQLAlchemy URL: sqlite:///file or postgresql+psycopg://…"}
    )
    # Rules
    cisis_pack: str = field(
        default="",
        metadata={"doc": "Folder of the official CI-SIS rules (holds cda/); empty: ../shared/cisis when present."},
    )
    fhir_packages: str = field(
        default="",
        metadata={"doc": "Folders of FHIR packages, by commas; empty: fhir/ of the CI-SIS rules, if any; none: none."},
    )
    fhir_package_names: str = field(
        default="",
        metadata={"doc": "Packages to load (id or id#version), by commas; one that is missing stops the start."},
    )
    profiles: str = field(
        default="",
        metadata={"doc": "What writes that break a profile meet, by type: off, warn, refuse. `CarePlan=refuse,*=warn`"},
    )
    required_profiles: str = field(
        default="",
        metadata={"doc": "Profiles that resources must meet whatever they claim, by commas: `CarePlan=https://…`"},
    )
    identity_rules: str = field(
        default="auto",
        metadata={
            "doc": "What false national numbers meet on writes; auto: refuse in production, else warn.",
            "choices": ("auto", "off", "warn", "refuse"),
        },
    )
    rule_sets: str = field(
        default=CURRENT,
        metadata={
            "doc": "Official rule sets, by commas, all of which must be met: a name, or name=folder for another."
        },
    )
    validation_processes: int = field(
        default=1, metadata={"doc": "Processes that each web process starts for `$validate`."}
    )
    validation_at_start: bool = field(
        default=True,
        metadata={"doc": "Compile the official rules when a web process starts, not at its first `$validate`."},
    )
    rules_required: bool = field(
        default=True, metadata={"doc": "Refuse to send a document that the official rules could not check."}
    )
    # Emitter: values of documents that no resource carries
    oid_arc: str = field(default="", metadata={"doc": "OID owned by the emitter; empty: ids under 2.25 (UUID)."})
    organization_name: str = field(default="", metadata={"doc": "Name of the emitting structure."})
    organization_finess: str = field(default="", metadata={"doc": "FINESS (9 characters) of the emitting structure."})
    organization_address: str = field(
        default="", metadata={"doc": "Its postal address, for README.TXT of the archives that it sends."}
    )
    organization_phone: str = field(
        default="", metadata={"doc": "Its telephone number, for README.TXT and INDEX.HTM of these archives."}
    )
    practice_setting: str = field(default="AMBULATOIRE", metadata={"doc": "Cadre d'exercice, code of JDV_J04."})
    facility_type: str = field(default="SA07", metadata={"doc": "Secteur d'activité, code of JDV_J02."})
    problem_codes: str = field(
        default="current", metadata={"doc": "How PPS problem codes are written.", "choices": ("current", "2022")}
    )
    ins_environment: str = field(
        default="test", metadata={"doc": "Which INS OIDs may leave.", "choices": ("test", "production")}
    )
    model_arc: str = field(
        default="", metadata={"doc": "OID under which the agenda and notification models are named; empty: under 2.25."}
    )
    notification_types: str = field(
        default="NOT=28653-4",
        metadata={
            "doc": "Type of document (JDV_J07) of notifications by event type (JDV_J46), as event=document by commas."
            " Any other: 51851-4."
        },
    )
    responsible_rpps: str = field(
        default="", metadata={"doc": "RPPS of who answers for documents that no professional made."}
    )
    responsible_family: str = field(default="", metadata={"doc": "Family name of that professional."})
    responsible_given: str = field(default="", metadata={"doc": "Given name of that professional."})
    # Delivery
    source_id: str = field(default="", metadata={"doc": "OID of this sending system (XDS sourceId); empty: derived."})
    mss_host: str = field(default="127.0.0.1", metadata={"doc": "MSSanté submission server."})
    mss_port: int = field(default=587, metadata={"doc": "Its port."})
    mss_sender: str = field(default="", metadata={"doc": "Mailbox (BAL) that sends."})
    mss_product_reference: str = field(
        default="", metadata={"doc": "Product reference (X-MSS-NIL) given by the Convergence platform."}
    )
    mss_starttls: bool = field(default=True, metadata={"doc": "Demand STARTTLS before anything is sent."})
    mss_ca_file: str = field(default="", metadata={"doc": "PEM of the authorities trusted for the mail server."})
    mss_max_size: int = field(
        default=10_000_000, metadata={"doc": "Largest message submitted when the mail server announces no SIZE."}
    )
    mss_certificate: str = field(
        default="", metadata={"doc": "PEM of the client certificate and its key, for the mail servers (SMTP and IMAP)."}
    )
    mss_crl_file: str = field(
        default="",
        metadata={
            "doc": "PEM of the revocation lists of every authority of mail server certificates; empty: none checked."
        },
    )
    mss_login: str = field(
        default="none",
        metadata={
            "doc": "Login after TLS, as the operator asks: none, by the certificate, by password.",
            "choices": ("none", "external", "plain"),
        },
    )
    mss_password_file: str = field(default="", metadata={"doc": "File of the password of a plain login."})
    mss_idle: float = field(default=30.0, metadata={"doc": "How long a mail connection is kept for the next message."})
    mss_pdf: bool = field(
        default=True, metadata={"doc": "Send a PDF of the document beside its archive (needs relais[pdf])."}
    )
    mss_reply_to: str = field(default="", metadata={"doc": "Mailbox that answers go to; empty: the one that sends."})
    mss_patient_may_answer: bool = field(
        default=True, metadata={"doc": "False: mails to patients say that they cannot be answered (X-MSS-MES)."}
    )
    mss_domains_file: str = field(
        default="",
        metadata={
            "doc": "Domains of the trust space: the official list (XML), or one a line; empty: all of mssante.fr."
        },
    )
    mailboxes: str = field(default="", metadata={"doc": "Mailboxes to read, by commas; empty: only mss_sender."})
    imap_host: str = field(default="", metadata={"doc": "IMAP server of the mailboxes; empty: mss_host."})
    imap_port: int = field(default=143, metadata={"doc": "Its port."})
    imap_starttls: bool = field(default=True, metadata={"doc": "Demand STARTTLS before the login."})
    imap_poll: float = field(default=60.0, metadata={"doc": "Longest time between two looks into a mailbox."})
    imap_done_folder: str = field(default="Relais-traites", metadata={"doc": "Folder of mails that were processed."})
    imap_quarantine_folder: str = field(
        default="Relais-quarantaine", metadata={"doc": "Folder of mails that could not be imported."}
    )
    imap_max_size: int = field(default=35_000_000, metadata={"doc": "Largest mail that is fetched."})
    dmp_url: str = field(default="", metadata={"doc": "ITI-41 endpoint of the DMP repository."})
    dmp_ca_file: str = field(default="", metadata={"doc": "PEM of the authorities trusted for the DMP."})
    dmp_registry_url: str = field(
        default="", metadata={"doc": "ITI-18 and ITI-57 endpoint; empty: `registry` beside `dmp_url`."}
    )
    dmp_patients_url: str = field(
        default="", metadata={"doc": "Endpoint of the existence test (TD0.2); empty: `patients` beside `dmp_url`."}
    )
    dmp_crl_file: str = field(
        default="", metadata={"doc": "PEM of the revocation lists of the authorities of the DMP; empty: none checked."}
    )
    dmp_certificate: str = field(
        default="", metadata={"doc": "PEM of the structure's TLS client certificate (ORG AUTH_CLI), chain and key."}
    )
    dmp_passphrase: str = field(default="", metadata={"doc": "Passphrase of its key."})
    dmp_signing_certificate: str = field(
        default="", metadata={"doc": "PEM of the structure's signature certificate (ORG SIGN), chain and key."}
    )
    dmp_signing_passphrase: str = field(default="", metadata={"doc": "Passphrase of its key."})
    dmp_homologation: str = field(
        default="", metadata={"doc": "DMP homologation number of this software (VIHF LPS_ID_HOMOLOGATION_DMP)."}
    )
    dmp_installation: str = field(default="", metadata={"doc": "Id of this installation (VIHF LPS_ID); may be empty."})
    dmp_mode: str = field(
        default="INDIRECTE",
        metadata={
            "doc": "How the VIHF says that users are authenticated; the second opens reading and masking.",
            "choices": ("INDIRECTE", "INDIRECTE_RENFORCEE"),
        },
    )
    dmp_authentication: str = field(
        default="unspecified", metadata={"doc": "Class of the local authentication (SAML ac:classes), e.g. Password."}
    )
    dmp_authentication_context: str = field(
        default="",
        metadata={"doc": "How users prove who they are in mode INDIRECTE_RENFORCEE (VIHF AuthnContextDecl)."},
    )
    dmp_role: str = field(
        default="",
        metadata={
            "doc": "VIHF role of who answers here, as `code^label^OID`, know-how after `~`; empty: software, AUTOMATE."
        },
    )
    dmp_lot_digest: str = field(
        default="sha256", metadata={"doc": "Digest of the signature of the lot.", "choices": ("sha256", "sha1")}
    )
    dmp_existence_check: bool = field(
        default=True, metadata={"doc": "Ask whether the patient has an open DMP before a document is sent (TD0.2)."}
    )
    dmp_minors: bool = field(
        default=False,
        metadata={
            "doc": "The DMP has switched the functions for minors on (its parameter file: fonctions-gestion-mineurs):"
            " secret connections may be ordered."
        },
    )
    dmp_majority: int = field(default=18, metadata={"doc": "Age of majority (that file: age-majorite)."})
    dmp_max_size: int = field(default=50_000_000, metadata={"doc": "Largest document sent to the DMP."})
    dmp_web_url: str = field(
        default="", metadata={"doc": "Template of the Web access to a DMP, with {ins}, {oid} and {page}; empty: none."}
    )
    hl7v2_host: str = field(default="", metadata={"doc": "HL7 v2 platform (MLLP); empty: no HL7 v2 channel."})
    hl7v2_port: int = field(default=2575, metadata={"doc": "Its port."})
    hl7v2_tls: bool = field(
        default=True, metadata={"doc": "MLLP over TLS; false only on a network protected otherwise."}
    )
    hl7v2_ca_file: str = field(default="", metadata={"doc": "PEM of the authorities trusted for the HL7 v2 platform."})
    hl7v2_certificate: str = field(
        default="", metadata={"doc": "PEM of the client certificate and its key, for a platform that asks for one."}
    )
    hl7v2_crl_file: str = field(
        default="",
        metadata={"doc": "PEM of the revocation lists of every authority of the platform's certificate; empty: none."},
    )
    hl7v2_timeout: float = field(default=30.0, metadata={"doc": "Longest wait for the platform's acknowledgement."})
    hl7v2_message: str = field(
        default="MDM",
        metadata={"doc": "Message that carries documents: MDM 2.6 or ORU 2.5.", "choices": ("MDM", "ORU")},
    )
    hl7v2_processing: str = field(
        default="P",
        metadata={
            "doc": "MSH-11: production, training or debugging. T or D towards a platform that is not in production.",
            "choices": ("P", "T", "D"),
        },
    )
    hl7v2_sending_application: str = field(default="RELAIS", metadata={"doc": "MSH-3."})
    hl7v2_sending_facility: str = field(default="", metadata={"doc": "MSH-4; empty: FINESS or name of the structure."})
    hl7v2_receiving_application: str = field(default="", metadata={"doc": "MSH-5, required: name of the platform."})
    hl7v2_receiving_facility: str = field(default="", metadata={"doc": "MSH-6, required: structure of the platform."})
    hl7v2_to_dmp: bool = field(
        default=True, metadata={"doc": "Ask the platform to feed the DMP with documents that the DMP takes."}
    )
    hl7v2_strict: bool = field(
        default=False, metadata={"doc": "Order only the combinations of flags that the HL7 v2 volet lists."}
    )
    hl7v2_listen_host: str = field(default="127.0.0.1", metadata={"doc": "Address HL7 v2 messages are received on."})
    hl7v2_listen_port: int = field(default=2576, metadata={"doc": "Port HL7 v2 messages are received on."})
    hl7v2_listen_certificate: str = field(
        default="", metadata={"doc": "PEM of the certificate and key of that port; empty: no TLS."}
    )
    hl7v2_listen_ca_file: str = field(
        default="", metadata={"doc": "PEM of the authorities whose client certificates that port demands; empty: none."}
    )
    hl7v2_listen_crl_file: str = field(
        default="",
        metadata={
            "doc": "PEM of the revocation lists of those authorities, of every one of the chain; empty: not asked. A"
            " list that is missing or out of date stops everything."
        },
    )
    hl7v2_listen_timeout: float = field(
        default=60.0, metadata={"doc": "Longest silence of a sender, and longest time for one message."}
    )
    hl7v2_listen_connections: int = field(default=32, metadata={"doc": "Most senders connected at a time."})
    hl7v2_listen_memory: int = field(
        default=400_000_000,
        metadata={
            "doc": "Most bytes of all messages under way at one time; a sender that would pass it is cut off and tries"
            " again. While messages are read they take several times their length."
        },
    )
    mhd_url: str = field(
        default="", metadata={"doc": "FHIR base (https) of the document share that the channel mhd (PDSm) sends to."}
    )
    mhd_deposit: str = field(
        default="comprehensive",
        metadata={
            "doc": "How the share is given a document: a Bundle with its lot (ITI-65), or a DocumentReference that"
            " holds it (ITI-105), where the share must know the patient.",
            "choices": ("comprehensive", "simplified"),
        },
    )
    mhd_ca_file: str = field(default="", metadata={"doc": "PEM of the authorities trusted for the share."})
    mhd_certificate: str = field(default="", metadata={"doc": "PEM of our client certificate and key for the share."})
    mhd_crl_file: str = field(
        default="",
        metadata={
            "doc": "PEM of the revocation lists of every authority of the share's certificate; empty: none checked."
        },
    )
    sender_timeout: float = field(default=20.0, metadata={"doc": "Longest wait for one network step of a delivery."})
    retry_base: float = field(default=5.0, metadata={"doc": "First wait before a delivery is tried again."})
    retry_attempts: int = field(default=12, metadata={"doc": "Attempts before a delivery is given up."})
    worker_threads: int = field(default=4, metadata={"doc": "Deliveries that one worker process tries at a time."})
    circuit_failures: int = field(
        default=5, metadata={"doc": "Failures in a row after which a destination is left alone for a while."}
    )
    circuit_pause: float = field(default=30.0, metadata={"doc": "How long, the first time; then twice as long."})
    acknowledgement_days: float = field(
        default=2.0, metadata={"doc": "Days after which an acknowledgement that did not come is flagged."}
    )
    evidence_days: float = field(
        default=90.0, metadata={"doc": "Days that requests and responses of deliveries are kept; 0: not at all."}
    )
    received_mail_days: float = field(
        default=90.0,
        metadata={
            "doc": "Days that the bytes of received mails are kept in the database; 0: until they are dealt with."
            " What they brought stays, and so do the mails in their mailbox."
        },
    )
    triggers: str = field(
        default="",
        metadata={
            "doc": "What is transmitted by itself, as event=channel+channel by commas. Events: validated-plan,"
            " moved-appointment, declared-event. Empty: nothing."
        },
    )

    @property
    def fhir_base(self) -> str:
        """The FHIR base URL without trailing slash."""
        return (self.base_url or f"http://{self.host}:{self.port}/fhir").rstrip("/")

    @property
    def versioned_types(self) -> frozenset[str]:
        """The resource types of `versioned_update_types`."""
        return frozenset(name.strip() for name in self.versioned_update_types.split(",") if name.strip())

    @property
    def rules_folder(self) -> Path | None:
        """Folder of the official rules, or None when this machine has none."""
        folder = Path(self.cisis_pack) if self.cisis_pack else Path(__file__).resolve().parents[2] / "shared" / "cisis"
        return folder if (folder / "cda").is_dir() else None

    @property
    def guide_site(self) -> Path:
        """Folder of the built implementation guide; it need not exist."""
        built = Path(__file__).resolve().parents[1] / "ig" / "build" / "site"
        return Path(self.guide_folder) if self.guide_folder else built

    @property
    def rule_set_names(self) -> tuple[str, ...]:
        """The names in `rule_sets`; never none."""
        return tuple(name.strip() for name in self.rule_sets.split(",") if name.strip()) or (CURRENT,)

    @property
    def package_folders(self) -> tuple[Path, ...]:
        """The folders of FHIR packages."""
        if self.fhir_packages:
            named = (name.strip() for name in self.fhir_packages.split(","))
            return tuple(Path(name) for name in named if name not in ("", "none"))
        return (self.rules_folder / "fhir",) if self.rules_folder else ()

    @property
    def deployment(self) -> Deployment:
        """What mappings need to know of the emitter. Raises SettingsError."""
        return Deployment(
            oid_arc=self.oid_arc or None,
            organization_name=self.organization_name or None,
            organization_finess=self.organization_finess or None,
            practice_setting=self.practice_setting or None,
            facility_type=self.facility_type or None,
            problem_codes="2022" if self.problem_codes == "2022" else "current",
            ins_environment="production" if self.ins_environment == "production" else "test",
            model_arc=self.model_arc or None,
            notification_types=tuple(named_values("notification_types", self.notification_types)),
            responsible_rpps=self.responsible_rpps or None,
            responsible_family=self.responsible_family or None,
            responsible_given=self.responsible_given or None,
        )

    @property
    def source_oid(self) -> str:
        """The XDS sourceId: as set, else the emitter's own arc, else made of the emitting structure."""
        return self.source_id or self.oid_arc or uuid_oid("source", self.organization_finess, self.organization_name)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the TOML file and the environment (default `os.environ`).

        Raises SettingsError with every wrong setting at once.
        """
        environ = os.environ if environ is None else environ
        raw: dict[str, Any] = _read_toml(environ["RELAIS_CONFIG"]) if environ.get("RELAIS_CONFIG") else {}
        raw |= {
            name.removeprefix("RELAIS_").lower(): value
            for name, value in environ.items()
            if name.startswith("RELAIS_") and name != "RELAIS_CONFIG"
        }
        return cls.of(raw)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Settings:
        """Settings from plain values (strings are converted). Raises SettingsError."""
        hints, known = get_type_hints(cls), {spec.name: spec for spec in fields(cls)}
        values: dict[str, Any] = {}
        issues: list[Issue] = []
        for name, given in raw.items():
            if name not in known:
                issues.append(Issue("error", "not-found", f"unknown setting {name}", name))
                continue
            try:
                values[name] = _convert(given, hints[name], known[name].metadata.get("choices"))
            except ValueError as error:
                issues.append(Issue("error", "value", str(error), name))
        if issues:
            raise SettingsError(issues)
        settings = cls(**values)
        _ = settings.deployment  # raises what only shows when it is put together
        return settings


def named_values(setting: str, text: str) -> Iterator[tuple[str, str]]:
    """(name, value) of a setting of the form `name=value,name=value`. Raises SettingsError."""
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            message = f"name=value is expected, by commas, instead of {part}"
            raise SettingsError(Issue("error", "value", message, setting))
        yield name, value


def reference() -> str:
    """Every setting with its default and meaning, as the Markdown table of docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made by `relais settings`. A setting is read from the TOML file that `RELAIS_CONFIG` names (key `port`), then",
        "from the environment (`RELAIS_PORT`), which wins. Unknown or malformed settings stop the start with one line",
        "each. Sizes are bytes, durations seconds.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    for spec in fields(Settings):
        choices = spec.metadata.get("choices")
        meaning = spec.metadata["doc"] + (
            f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else ""
        )
        default = str(spec.default).lower() if isinstance(spec.default, bool) else str(spec.default)
        lines.append(f"| `{spec.name}` | {f'`{default}`' if default else ''} | {meaning} |")
    return "\n".join(lines) + "\n"


def _read_toml(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(Issue("fatal", "not-found", f"cannot read {path}: {error.strerror}", path)) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(Issue("fatal", "structure", f"not TOML: {error}", path)) from error


def _convert(given: Any, wanted: type, choices: tuple[str, ...] | None) -> Any:
    if wanted is bool and isinstance(given, str):
        if given.lower() not in ("true", "false", "1", "0"):
            raise ValueError(f"{given!r} is neither true nor false")
        return given.lower() in ("true", "1")
    if not isinstance(given, str | int | float):
        raise ValueError(f"{given!r} is not a {wanted.__name__}")
    try:
        value = wanted(given)
    except ValueError:
        raise ValueError(f"{given!r} is not a {wanted.__name__}") from None
    if choices and value not in choices:
        raise ValueError(f"{value!r} is none of {', '.join(choices)}")
    return value
