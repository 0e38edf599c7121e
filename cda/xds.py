"""XDS metadata: a submission set and its document entries, and their ebRIM 3.0 form.

IHE ITI TF-3 §4.2, restricted by CI-SIS volet Partage de documents de santé. The same form is METADATA.XML of an
IHE_XDM archive (ITI-32) and the metadata of Provide and Register Document Set-b (ITI-41).
Strings follow the HL7 v2 data types of ITI TF-3 table 4.2.3.1.7-2: XCN (person), XON (organisation), CX (identifier),
DTM (UTC, `YYYYMMDDhhmmss`); `xds_types` makes and reads them, `xds_attributes` says where each attribute stands.

What others need of `xds_model`, `xds_reading` and `xds_writing` is named here.
"""

from __future__ import annotations

from relais.cda.xds_model import (
    HAS_MEMBER,
    LCM,
    REPLACE,
    RIM,
    SET_ID,
    SIGNS,
    STABLE_DOCUMENT,
    SUBMISSION_SET_CLASS,
    Association,
    CodedValue,
    DocumentEntry,
    ExaminedSubmission,
    MetadataAuthor,
    MetadataError,
    Submission,
    SubmissionSet,
)
from relais.cda.xds_reading import (
    examine,
    read_submission,
    registered_entry,
    registered_set,
)
from relais.cda.xds_writing import (
    add_association,
    classify,
    escaped,
    lot_request,
    submit_objects_request,
    written,
)

__all__ = [
    "HAS_MEMBER",
    "LCM",
    "REPLACE",
    "RIM",
    "SET_ID",
    "SIGNS",
    "STABLE_DOCUMENT",
    "SUBMISSION_SET_CLASS",
    "Association",
    "CodedValue",
    "DocumentEntry",
    "ExaminedSubmission",
    "MetadataAuthor",
    "MetadataError",
    "Submission",
    "SubmissionSet",
    "add_association",
    "classify",
    "escaped",
    "examine",
    "lot_request",
    "read_submission",
    "registered_entry",
    "registered_set",
    "submit_objects_request",
    "written",
]
