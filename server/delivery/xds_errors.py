"""What a RegistryResponse says, and what follows from it: another try, a look at the registry, or an end.

Codes of ITI TF-3 table 4.2.4.1-2. Those of the DMP itself (SEL-MP-037, annex A7-1) are not public: they are shown as
they come and are final.
"""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from relais.cda.errors import Issue
from relais.server.delivery.channel import DeliveryError, UnsentError, quoted
from relais.server.delivery.dmp_soap import failure
from relais.server.delivery.https import LostAnswerError

RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
STATUS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:"
PARTIAL = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
WARNING = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning"


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of RegistryError is to be treated; `code` is the FHIR issue type it becomes."""

    code: str
    retry: bool
    advice: str
    codes: tuple[str, ...]


TRANSIENT = Family(
    "transient",
    True,
    "",
    (
        "XDSRegistryBusy",
        "XDSRepositoryBusy",
        "XDSRegistryOutOfResources",
        "XDSRepositoryOutOfResources",
        "XDSRegistryNotAvailable",
    ),
)
DUPLICATE = Family(
    "duplicate",
    False,
    "the registry says that it knows the identifier, but shows no such document: ask the DMP, or send it under another"
    " identifier",
    (
        "XDSDuplicateUniqueIdInRegistry",
        "XDSRegistryDuplicateUniqueIdInMessage",
        "XDSRepositoryDuplicateUniqueIdInMessage",
        "XDSNonIdenticalHash",
        "XDSNonIdenticalSize",
    ),
)
"""The registry knows the identifier: whether with our bytes, only a look at its entry tells."""
CONTENT = Family(
    "invalid",
    False,
    "",
    (
        "XDSRegistryMetadataError",
        "XDSRepositoryMetadataError",
        "XDSMetadataIdentifierError",
        "InvalidDocumentContent",
        "XDSMissingDocument",
        "XDSMissingDocumentMetadata",
        "XDSObjectTypeError",
    ),
)
PATIENT = Family(
    "not-found",
    False,
    "check the identity of the patient and that the DMP is open",
    (
        "XDSUnknownPatientId",
        "XDSPatientIdDoesNotMatch",
        "XDSPatientIDReconciliationError",
        "DMPClosed",
    ),
)
QUERY = Family(
    "invalid",
    False,
    "narrow the query",
    (
        "XDSStoredQueryMissingParam",
        "XDSStoredQueryParamNumber",
        "XDSUnknownStoredQuery",
        "XDSTooManyResults",
        "XDSResultNotSinglePatient",
    ),
)
CHANGE = Family(
    "conflict",
    False,
    "the entry has changed, or is not ours to change: read it again",
    (
        "XDSMetadataUpdateError",
        "XDSMetadataUpdateOperationError",
        "XDSMetadataVersionError",
        "XDSReplaceFailed",
        "XDSRegistryDeprecatedDocumentError",
        "UnresolvedReferenceException",
        "LocalPolicyRestrictionError",
        "UnmodifiableMetadataError",
    ),
)
RETRIEVAL = Family(
    "not-found", False, "", ("XDSDocumentUniqueIdError", "XDSUnknownRepositoryId", "XDSUnknownCommunity")
)
OTHER = Family("processing", False, "", ("XDSRegistryError", "XDSRepositoryError", "XDSInvalidRequestException"))
"""Also the family of every code that is not in this table: an unknown code is final."""

FAMILY_OF = {
    code: family
    for family in (TRANSIENT, DUPLICATE, CONTENT, PATIENT, QUERY, CHANGE, RETRIEVAL, OTHER)
    for code in family.codes
}


def check(response: etree._Element, *, partial: bool = False) -> list[str]:
    """The warnings of a response (any that holds status and RegistryErrorList) that reports success.

    Raises DeliveryError for anything else, UnsentError for what may pass. `partial` takes a partial success as one, its
    errors as warnings.
    """
    status = response.get("status", "")
    found = list(response.iterfind(f"{{{RS}}}RegistryErrorList/{{{RS}}}RegistryError"))
    errors = [error for error in found if error.get("severity") != WARNING]
    if (status == f"{STATUS}Success" and not errors) or (partial and status == PARTIAL):
        return [f"warning {_describe(error)}" for error in found]
    if not errors:
        name = status.removeprefix(STATUS) or "absent"
        raise failure("processing", quoted(f"answer status {name} without an error"), rule="ITI TF-3 §4.2.4")
    families = [FAMILY_OF.get(error.get("errorCode", ""), OTHER) for error in errors]
    issues = [_issue(error, family) for error, family in zip(errors, families, strict=True)]
    if status == f"{STATUS}Failure" and all(family.retry for family in families):
        raise UnsentError(issues)  # a failure means that nothing was done
    raise DeliveryError(issues, retry=False)


def is_settled_by_looking(error: DeliveryError) -> bool:
    """Whether what was asked for may be done all the same: the answer was lost, or says that it was done before."""
    known = {*DUPLICATE.codes, *CHANGE.codes}
    return isinstance(error, LostAnswerError) or any(issue.rule in known for issue in error.issues)


def _issue(error: etree._Element, family: Family) -> Issue:
    message = _describe(error) + (f"; {family.advice}" if family.advice else "")
    return Issue("error", family.code, message, quoted(error.get("location", "")), quoted(error.get("errorCode", "")))


def _describe(error: etree._Element) -> str:
    return quoted(f"{error.get('errorCode', 'no code')}: {error.get('codeContext', '')}")
