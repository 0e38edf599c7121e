"""Reads people and organisations, wherever a document names them."""

from __future__ import annotations

from functools import partial

from relais.cda.model import (
    AssignedEntity,
    Author,
    Device,
    EntryAuthor,
    Informant,
    Organization,
    Performer,
    RelatedEntity,
)
from relais.cda.reader_tables import XML, Account, Fields, Slot, below, each, moment, moved, one, reader
from relais.cda.reader_types import address, code, ii, interval, name, string, telecom, text_of


def _fill_organization_name(found: Fields, element: XML, account: Account) -> None:
    """A name; why there is none, as long as none was found."""
    null_flavor = element.get("nullFlavor")
    text = text_of(element, account)
    if len(element) or len(element.items()) > (null_flavor is not None) or (text and null_flavor is not None):
        account.is_complete = False
    if text:
        found.setdefault("names", []).append(text)
        found.pop("name_null_flavor", None)
    elif "names" not in found and null_flavor:
        found.setdefault("name_null_flavor", null_flavor)


CONTACT = {"addr": each("addresses", address), "telecom": each("telecoms", telecom)}
ROLE = {"id": each("ids", ii), "code": one("code", code)} | CONTACT
"""What every role has."""

organization = reader(
    Organization,
    {
        "id": each("ids", ii),
        "name": Slot(fill=_fill_organization_name, repeats=True),
        "standardIndustryClassCode": one("industry_class", code),
    }
    | CONTACT,
)
person = below("name", name)
device = reader(
    Device,
    {
        "manufacturerModelName": one("model_name", string),
        "softwareName": one("software_name", string),
        "code": one("code", code),
    },
)
assigned = reader(
    AssignedEntity,
    {
        "assignedPerson": one("person", person),
        "assignedAuthoringDevice": one("device", device),
        "representedOrganization": one("organization", organization),
    }
    | ROLE,
)
related = reader(
    partial(RelatedEntity, class_code=""),
    {"code": one("code", code), "relatedPerson": one("name", person)} | CONTACT,
    {"classCode": "class_code"},
)
author = reader(
    Author,
    {
        "functionCode": one("function_code", code),
        "time": moment("time", "time_null_flavor"),
        "assignedAuthor": one("assigned", assigned),
    },
)
entry_author = reader(
    EntryAuthor,
    {"time": moment("time", "time_null_flavor"), "assignedAuthor": one("assigned", assigned)},
)
informant = reader(Informant, {"assignedEntity": one("assigned", assigned), "relatedEntity": one("related", related)})
_PERFORMER = {"time": one("time", interval), "assignedEntity": one("assigned", assigned)}
_FUNCTION = one("function_code", code)
_MOVED_FUNCTION = one("function_code", moved(code))


def _performer(children: dict[str, Slot]) -> Slot:
    read_stated = reader(Performer, children | _PERFORMER, {"typeCode": "type_code"})

    def read_performer(element: XML, account: Account) -> Performer:
        return read_stated(element, account) or Performer()

    return each("performers", read_performer)


event_performer = _performer({"functionCode": _FUNCTION, "sdtc:functionCode": _MOVED_FUNCTION})
entry_performer = _performer({"functionCode": _MOVED_FUNCTION, "sdtc:functionCode": _FUNCTION})
