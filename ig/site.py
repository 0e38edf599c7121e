"""Renders the guide as a static site: pages of words, one page for each resource, downloads. No script, no address
outside of the site is needed to read it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from ig import trees
from ig.packing import Guide, key, manifest
from ig.sushi import HERE
from relais.profiles.definitions import resource_types

Resource = dict[str, Any]

_R4 = "https://hl7.org/fhir/R4/"
_HL7 = "http://hl7.org/fhir/"
_TYPE_PAGES = {
    "BackboneElement": "backboneelement.html",
    "Element": "element.html",
    "Extension": "extensibility.html",
    "Meta": "resource.html#Meta",
    "Narrative": "narrative.html",
    "Reference": "references.html",
    "Resource": "resource.html",
    "DomainResource": "domainresource.html",
}
_DIAGRAM = re.compile(r"<p>\[diagramme : (?P<name>\w+)\]</p>")


@dataclass(frozen=True)
class Page:
    """A page of words: file name, title, and the title of its entry in the menu (empty: not in the menu)."""

    name: str
    title: str
    menu: str = ""


PAGES = (
    Page("index", "Guide d'implémentation", "Accueil"),
    Page("acteurs", "Acteurs et flux", "Acteurs"),
    Page("plan", "Le plan : PPS et PPCS", "Plan"),
    Page("agenda", "Agenda et notifications", "Agenda"),
    Page("identite", "Identité de la personne", "Identité"),
    Page("transmission", "Transmission", "Transmission"),
)
MAPPINGS = (
    Page("mapping-pps", "Correspondance FHIR → CDA : le PPS"),
    Page("mapping-agenda", "Correspondance FHIR ⇄ CDA : l'agenda"),
    Page("mapping-notification", "Correspondance FHIR ⇄ CDA : la notification"),
    Page("mapping-hl7v2", "Correspondance HL7 v2"),
)
MENU = (
    *PAGES,
    Page("artefacts", "Artefacts", "Artefacts"),
    Page("correspondances", "Correspondances", "Correspondances"),
    Page("telechargements", "Téléchargements", "Téléchargements"),
    Page("verification", "Vérification", "Vérification"),
)


@dataclass(frozen=True)
class Kind:
    """A group of the list of artefacts."""

    title: str
    intro: str
    resources: tuple[Resource, ...]


class Site:
    """The site of one guide, written into a folder."""

    def __init__(self, guide: Guide, folder: Path) -> None:
        self._guide = guide
        self._folder = folder
        self._local = {one["url"]: one for one in guide.definitions}
        self._markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._templates.globals.update(
            guide=guide.guide, menu=MENU, href=self.href, page_of=page_of, title_of=self.title, markdown=self._render
        )
        self._templates.filters["pretty"] = partial(json.dumps, ensure_ascii=False, indent=2)

    def write(self, package: bytes) -> None:
        """Write every page and download. The folder is emptied first."""
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(HERE / "static", self._folder)
        (self._folder / "package.tgz").write_bytes(package)
        for page in PAGES:
            self._words(page, HERE / "pages" / f"{page.name}.md")
        for page in MAPPINGS:
            self._words(page, HERE.parent / "docs" / f"{page.name}.md", in_english=True)
        self._page("artefacts", "artefacts.html", "Artefacts", kinds=self._kinds())
        self._page(
            "correspondances",
            "correspondances.html",
            "Correspondances",
            maps=self._of_type("ConceptMap"),
            mappings=MAPPINGS,
        )
        self._page(
            "telechargements",
            "telechargements.html",
            "Téléchargements",
            kinds=self._kinds(),
            manifest=manifest(self._guide.guide),
            size=len(package),
        )
        self._page("verification", "verification.html", "Vérification", **self._verdicts())
        for resource in self._guide.resources:
            self._resource(resource)

    # Pages

    def _words(self, page: Page, source: Path, *, in_english: bool = False) -> None:
        text = source.read_text(encoding="utf-8")
        if in_english:
            text = _between_documents(text.partition("\n")[2])
        diagrams = self._templates.get_template("diagrams.html").module
        body = _DIAGRAM.sub(lambda match: getattr(diagrams, match["name"])(), self._render(text))
        self._page(page.name, "words.html", page.title, body=Markup(body), in_english=in_english)  # noqa: S704 - ours

    def _resource(self, resource: Resource) -> None:
        name = page_of(resource)
        data = json.dumps(resource, ensure_ascii=False, indent=2)
        (self._folder / f"{name}.json").write_text(data, encoding="utf-8")
        kind = resource["resourceType"]
        is_example = resource in self._guide.examples
        template = "example" if is_example else _TEMPLATES.get(kind, "other")
        self._page(
            name,
            f"{template}.html",
            self.title(resource),
            resource=resource,
            issues=self._told(resource),
            **(self._structure(resource) if template == "structure" else {}),
            **({"description": self._guide.described(resource).get("description", "")} if is_example else {}),
        )

    def _structure(self, structure: Resource) -> dict[str, Any]:
        return {
            "differential": trees.differential(structure),
            "snapshot": trees.snapshot(structure),
            "invariants": trees.invariants(structure),
            "examples": [
                one for one in self._guide.examples if structure["url"] in one.get("meta", {}).get("profile", ())
            ],
            "derived": [one for one in self._guide.definitions if one.get("baseDefinition") == structure["url"]],
        }

    def _page(self, name: str, template: str, title: str, **content: Any) -> None:
        text = self._templates.get_template(template).render(page=name, title=title, **content)
        (self._folder / f"{name}.html").write_text(text, encoding="utf-8")

    def _render(self, text: str) -> Markup:
        return Markup(self._markdown.render(text))  # noqa: S704 - words of the guide itself

    # What pages are made of

    def href(self, canonical: str) -> str:
        """Where a canonical URL leads: a page of the site, the R4 specification, or the URL itself."""
        url = canonical.partition("|")[0]
        if found := self._local.get(url):
            return f"{page_of(found)}.html"
        folder, _, name = url.removeprefix(_HL7).partition("/")
        if url.startswith(_HL7) and "/" not in name and folder in ("StructureDefinition", "ValueSet"):
            return _R4 + (f"valueset-{name}.html" if folder == "ValueSet" else _structure_of_r4(name))
        return url if url.startswith(("http://", "https://")) else ""

    def title(self, resource: Resource) -> str:
        """The title of a resource in words."""
        if resource in self._guide.examples:
            return str(self._guide.described(resource).get("name", resource["id"]))
        return str(resource.get("title", resource["id"]))

    def _of_type(self, resource_type: str) -> tuple[Resource, ...]:
        return tuple(one for one in self._guide.definitions if one["resourceType"] == resource_type)

    def _kinds(self) -> Iterable[Kind]:
        structures = self._of_type("StructureDefinition")
        official = self._guide.guide["dependsOn"]
        canonicals = tuple(str(one["uri"]).partition("/ImplementationGuide/")[0] for one in official)
        profiles = [one for one in structures if one["type"] != "Extension"]
        derived = tuple(one for one in profiles if one["baseDefinition"].startswith(canonicals))
        own = tuple(one for one in profiles if one not in derived)
        return (
            Kind("Profils propres", "Là où le CI-SIS n'en publie pas.", own),
            Kind("Profils dérivés", "Ce que Relais exige de plus que les volets officiels.", derived),
            Kind("Extensions", "", tuple(one for one in structures if one["type"] == "Extension")),
            Kind("Opérations", "", self._of_type("OperationDefinition")),
            Kind("Acteurs", "", self._of_type("CapabilityStatement")),
            Kind("Jeux de valeurs", "", self._of_type("ValueSet")),
            Kind("Systèmes de codes", "", self._of_type("CodeSystem")),
            Kind("Tables de correspondance", "", self._of_type("ConceptMap")),
            Kind("Exemples", "Tout le monde y est inventé.", tuple(self._guide.examples)),
        )

    def _told(self, resource: Resource) -> list[Any]:
        """What the validator says of a resource, but for an absent narrative and for what a snapshot inherits."""
        return [
            issue
            for issue in self._guide.issues[key(resource)]
            if issue.rule != "dom-6" and not issue.path.startswith("StructureDefinition.snapshot.")
        ]

    def _verdicts(self) -> dict[str, Any]:
        rows = [(one, Counter(issue.severity for issue in self._told(one))) for one in self._guide.resources]
        return {"rows": rows}


_TEMPLATES = {
    "StructureDefinition": "structure",
    "ValueSet": "value_set",
    "CodeSystem": "code_system",
    "ConceptMap": "concept_map",
    "OperationDefinition": "operation",
    "CapabilityStatement": "capability",
}


def page_of(resource: Resource) -> str:
    """The name of a resource's page, without suffix."""
    return f"{resource['resourceType']}-{resource['id']}"


def _structure_of_r4(name: str) -> str:
    if name in resource_types():
        return f"{name.lower()}.html"
    if "-" in name:
        return f"extension-{name.lower()}.html"
    return _TYPE_PAGES.get(name, f"datatypes.html#{name}")


def _between_documents(text: str) -> str:
    """Links between documents of docs/ lead to the pages made of them; those to other documents become words."""
    made = {page.name for page in MAPPINGS}

    def led(match: re.Match[str]) -> str:
        name = match["name"]
        return f"[{match['text']}]({name}.html{match['anchor']})" if name in made else match["text"]

    text = re.sub(r"^(#+ .*?)\s*\{#([\w-]+)\}$", r'<a id="\2"></a>\n\n\1', text, flags=re.MULTILINE)
    return re.sub(r"\[(?P<text>[^\]]+)\]\((?P<name>[\w-]+)\.md(?P<anchor>(?:#[\w-]+)?)\)", led, text)
