"""Contextual Web access to a DMP (TD0.9): the address that opens the site on the right patient.

How the site learns who asks is not public; the address is a template of the settings, and never holds a secret.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from relais.cda.xds_types import CX
from relais.server.delivery.dmp_soap import failure
from relais.server.settings import Settings

PAGES = (
    "TableauDeBord",
    "DossierPatient",
    "GestionDMPPatient",
    "Documents",
    "ParcoursDeSoins",
    "HistoriqueAcces",
    "Parametrages",
    "VolontesEtDroits",
)


def web_address(patient: str, settings: Settings, page: str = PAGES[0]) -> str:
    """The address of a page of the DMP of `patient` (CX).

    Raises DeliveryError: no template, one that is not https or names no patient, a page that does not exist.
    """
    template = settings.dmp_web_url
    if not template:
        raise failure("not-supported", "no Web access is configured", "dmp_web_url")
    if not template.startswith("https://") or "{ins}" not in template:
        raise failure("value", "must be an https address with {ins}", "dmp_web_url")
    if page not in PAGES:
        raise failure("code-invalid", f"a page is one of {', '.join(PAGES)}", "page")
    identifier = CX.parse(patient)
    values = {"ins": identifier.id, "oid": identifier.oid, "page": page}
    if unknown := sorted(set(re.findall(r"\{(.*?)\}", template)) - values.keys()):
        raise failure("value", f"{{{unknown[0]}}} is none of {{ins}}, {{oid}}, {{page}}", "dmp_web_url")
    return re.sub(r"\{(.*?)\}", lambda name: quote(values[name[1]], safe=""), template)
