"""What a person does with a FHIR document share by hand: `relais share` (PDSm 3.1.1, IHE MHD ITI-67 and ITI-68).

A patient is a matricule INS, as for `relais dmp`. Every function raises DeliveryError.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from relais.cda.errors import Issue, RelaisError
from relais.cda.xds_types import CX
from relais.mappings import pdsm
from relais.mappings.context import Resource
from relais.server.delivery.mhd import Share
from relais.server.dmp_commands import Target
from relais.server.private_files import write_private

STATUSES = ("current", "superseded", "entered-in-error")


def search(target: Target, statuses: Sequence[str] = (), kind: str = "") -> list[dict[str, Any]]:
    """The documents of a patient with those statuses (`current` by default) and of that type (a code), newest last."""
    criteria = _of_patient(target) | {"status": ",".join(statuses or STATUSES[:1])}
    with closing(_share(target)) as share:
        found = share.search(criteria | ({"type": kind} if kind else {}))
    return sorted(map(_summary, found), key=lambda one: one["created"])


def get(target: Target, identifier: str, output: Path) -> dict[str, Any]:
    """Write the document of a patient with that identifier (an OID, or a URN) to a file."""
    urn = identifier if identifier.startswith("urn:") else f"urn:oid:{identifier}"
    criteria = _of_patient(target) | {"identifier": f"{pdsm.URI}|{urn}", "status": ",".join(STATUSES)}
    with closing(_share(target)) as share:
        found = share.search(criteria)
        if len(found) != 1:
            message = f"the share shows {len(found)} documents of this patient under this identifier"
            raise RelaisError(Issue("error", "not-found", message, identifier, "ITI-67"))
        content = share.retrieve(found[0])
    write_private(output, content)
    return _summary(found[0]) | {"file": str(output), "bytes": len(content)}


def as_text(found: Sequence[dict[str, Any]]) -> str:
    """One line for each document."""
    names = ("created", "status", "type", "identifier", "title")
    return "\n".join(" ".join(one[name] or "-" for name in names) for one in found) or "no document"


def _share(target: Target) -> Share:
    if not target.settings.mhd_url:
        raise RelaisError(Issue("error", "required", "no document share is configured", "mhd_url"))
    return Share(target.settings)


def _of_patient(target: Target) -> dict[str, str]:
    patient = CX.parse(target.patient)
    return {"patient.identifier": f"urn:oid:{patient.oid}|{patient.id}"}


def _summary(fiche: Resource) -> dict[str, Any]:
    attachment = fiche["content"][0]["attachment"]
    coding: Resource = next(iter(fiche.get("type", {}).get("coding", ())), {})
    return {
        "identifier": fiche.get("masterIdentifier", {}).get("value", ""),
        "status": fiche["status"],
        "type": coding.get("code", ""),
        "title": attachment.get("title") or fiche.get("description") or "",
        "created": attachment.get("creation") or fiche.get("date") or "",
        "size": attachment.get("size"),
        "securityLabel": [one["code"] for label in fiche.get("securityLabel", ()) for one in label.get("coding", ())],
    }
