"""What a header is made from: the carrier (the main resource of the document), and who a Composition names."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from relais.cda.model import II, Code, Interval
from relais.mappings import extensions
from relais.mappings.context import Resource


class Carrier(msgspec.Struct, gc=False):
    """What a kind of document takes from its main resource; pairs are (Reference, path).

    `by_software`: the emitter's software is the author where no person is, for the structure that an author may be;
    then `responsible` lists who may answer for the document, as (resource, path), best first. `performer` did the act,
    when that is not who answers; `orders` are (Reference, target, path); `encounter` is the Encounter and its path.
    `labels` (Coding) are the security labels of what goes with it, beside its own.
    """

    resource: Resource
    path: str
    kind: str
    templates: list[II]
    code: Code
    title: str
    authored: str | None = None
    event: Resource | None = None  # Period of the documented act
    act_time: Interval | None = None  # the same, already read
    authors: list[tuple[Resource, str]] = []
    custodians: list[tuple[Resource, str]] = []
    contributors: list[tuple[Resource, str]] = []
    teams: list[tuple[Resource, str]] = []  # (CareTeam, path)
    approver: tuple[Resource, str, Resource] | None = None  # Reference, path, the resource that holds it
    approved: str | None = None  # FHIR dateTime
    act: Code | None = None  # what the documented act is
    start_path: str = ""  # where one says when the act began; `<path>.period.start` unless given
    performer: tuple[Resource, str] | None = None
    responsible: list[tuple[Resource, str]] = []
    by_software: bool = False
    responsible_path: str = ""  # where one says who answers; `<path>.author` unless given
    custodian_path: str = ""  # where one says who keeps it; an extension of the CarePlan unless given
    relatives: bool = True  # whether every relative is an informant when no Composition names them
    recipients: list[tuple[Resource, str]] = []
    orders: list[tuple[Resource, Resource | None, str]] = []
    encounter: tuple[Resource, str] | None = None
    labels: list[Resource] = []


def attesters(composition: Resource, mode: str) -> Iterator[tuple[Resource, str]]:
    """The attesters of a Composition in that mode, with their paths."""
    for index, attester in enumerate(composition.get("attester", ())):
        if attester.get("mode") == mode:
            yield attester, f"Composition.attester[{index}]"


def participations(composition: Resource, url: str) -> Iterator[tuple[Resource, str]]:
    """The sub-extensions of each participation extension, by name, with the path of its party."""
    for index, extension in enumerate(extensions.extensions(composition, url)):
        parts = {
            part["url"]: content
            for part in extension.get("extension", ())
            for name, content in part.items()
            if name.startswith("value")
        }
        yield parts, f"Composition.extension('{url}')[{index}].extension('party').value"
