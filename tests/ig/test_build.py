"""The guide as it is built by its one command: it agrees with the code, its examples hold, its site holds together."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from lxml import html

import relais.server.app  # noqa: F401 - registers the operations
from relais.mappings import extensions, terminology
from relais.profiles.packages import Registry, load
from relais.profiles.validator import Validator
from relais.server.fhir.operations import OPERATIONS
from support.facade import RunningFacade, running_facade

Resource = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
BASE = "https://relais.example/fhir/"
LEFT_ITS_GUIDE = {extensions.ROLE_NAME}
"""Extensions of versions of a French guide that are older than those of the packages."""

OWN_CODE_SYSTEM = re.compile(r"(?:RELAIS_CODES\}|https://relais\.example/fhir/CodeSystem/)([\w-]+)")


class Guide(NamedTuple):
    """What the build left: the folder, and the resources of `package.tgz` by `Type/id`."""

    folder: Path
    definitions: dict[str, Resource]
    examples: dict[str, Resource]

    def of_type(self, resource_type: str) -> list[Resource]:
        """The definitions of a type."""
        return [one for one in self.definitions.values() if one["resourceType"] == resource_type]

    def defined(self, resource_type: str) -> set[str]:
        """Their canonical URLs."""
        return {one["url"] for one in self.of_type(resource_type)}


def build(folder: Path, *options: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the build, as anybody does."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not on this machine: the guide cannot be compiled")
    if not (ROOT / "ig" / "node_modules" / ".bin" / "sushi").exists():
        pytest.skip("SUSHI is not installed: npm ci --prefix ig")
    command = [sys.executable, "-m", "ig", "--output", folder, *options]
    return subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True)


@pytest.fixture(scope="module")
def guide(cisis: Path, tmp_path_factory: pytest.TempPathFactory) -> Guide:
    folder = tmp_path_factory.mktemp("guide")
    built = build(folder, RELAIS_CISIS_PACK=str(cisis))
    assert built.returncode == 0, built.stderr
    with tarfile.open(folder / "package.tgz") as archive:
        held = {member.name: json.load(archive.extractfile(member)) for member in archive}  # type: ignore[arg-type]
    named = {
        name: {f"{one['resourceType']}/{one['id']}": one for path, one in held.items() if _holds(path, name)}
        for name in ("package", "package/example")
    }
    return Guide(folder, named["package"], named["package/example"])


def _holds(path: str, folder: str) -> bool:
    parent, _, name = path.rpartition("/")
    return parent == folder and name not in ("package.json", ".index.json")


@pytest.fixture(scope="module")
def registry(guide: Guide, cisis: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The official packages and that of the guide, as anybody loads them."""
    folder = tmp_path_factory.mktemp("packages")
    for package in (cisis / "fhir").glob("*#*"):
        (folder / package.name).symlink_to(package)
    shutil.copy(guide.folder / "package.tgz", folder)
    return load(folder)


@pytest.fixture(scope="module")
def validator(registry: Registry) -> Validator:
    return Validator(registry)


@pytest.fixture(scope="module")
def facade(guide: Guide, cisis: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacade]:
    """A facade that refuses what breaks a profile, of the official packages or of the guide, and shows the guide."""
    with running_facade(
        tmp_path_factory.mktemp("facade"),
        cisis_pack=cisis,
        fhir_packages=f"{cisis / 'fhir'},{guide.folder}",
        profiles="*=refuse",
        administration="true",
        base_url=BASE.removesuffix("/"),
        guide_folder=guide.folder / "site",
        mss_sender="relais@exemple.mssante.fr",
        dmp_url="http://127.0.0.1:9/dmp",
    ) as running:
        yield running


# It agrees with the code ----------------------------------------------------------------------------------------------


def _extension_urls() -> set[str]:
    found = {
        value for value in vars(extensions).values() if isinstance(value, str) and "/StructureDefinition/" in value
    }
    return {url for url in (found | set(extensions.ADDRESS_PARTS.values())) if not url.endswith("/")}


def test_every_extension_of_ours_that_the_mappings_use_is_defined(guide: Guide) -> None:
    own = {url for url in _extension_urls() if url.startswith(BASE)}
    defined = {one["url"] for one in guide.of_type("StructureDefinition") if one["type"] == "Extension"}
    assert own
    assert own == defined


def test_every_extension_of_a_french_guide_is_in_its_package(registry: Registry) -> None:
    french = {url for url in _extension_urls() if "esante.gouv.fr" in url or "hl7.fr" in url}
    assert french
    assert {url for url in french if registry.find("StructureDefinition", url) is None} == LEFT_ITS_GUIDE


def test_every_code_system_of_ours_is_defined(guide: Guide) -> None:
    """As they stand in the code of the mappings and of the server."""
    files = (path for folder in ("mappings", "server") for path in (ROOT / folder).rglob("*.py"))
    used = {name for path in files for name in OWN_CODE_SYSTEM.findall(path.read_text(encoding="utf-8"))}
    assert "plan-category" in used
    assert {f"{BASE}CodeSystem/{name}" for name in used} <= guide.defined("CodeSystem")


def test_operations_are_those_the_facade_serves(guide: Guide) -> None:
    served: dict[str, set[tuple[str, str]]] = {}
    for one in OPERATIONS:
        if not one.definition and not one.address:
            kinds = ("",) if one.level == "system" else one.resource_types or ("Resource",)
            served.setdefault(one.name, set()).update((one.level, kind) for kind in kinds)
    defined = {
        f"${one['code']}": {
            (level, kind)
            for level in ("system", "type", "instance")
            if one[level]
            for kind in ([""] if level == "system" else one["resource"])
        }
        for one in guide.of_type("OperationDefinition")
    }
    assert defined == served


def test_the_statement_of_the_guide_is_that_of_a_facade_with_its_package(guide: Guide, facade: RunningFacade) -> None:
    running = facade.get("metadata").json()["rest"][0]
    stated = copy.deepcopy(guide.definitions["CapabilityStatement/relais-facade"]["rest"][0])
    for one in [*running["resource"], *stated["resource"]]:
        one["supportedProfile"] = set(one.get("supportedProfile", ()))
    assert stated == running
    profiles = {url for one in stated["resource"] for url in one["supportedProfile"]}
    types = {one["type"] for one in stated["resource"]}
    ours = {f"{one['url']}|{one['version']}" for one in guide.of_type("StructureDefinition") if one["type"] in types}
    assert ours
    assert {url for url in profiles if url.startswith(BASE)} == ours
    operations = {one["definition"] for each in [stated, *stated["resource"]] for one in each.get("operation", ())}
    assert {url for url in operations if url.startswith(BASE)} == guide.defined("OperationDefinition")


def test_actors_name_only_what_is_defined(guide: Guide) -> None:
    for name in ("relais-producteur", "relais-consommateur"):
        rest = guide.definitions[f"CapabilityStatement/{name}"]["rest"][0]
        for resource in rest["resource"]:
            for profile in resource["supportedProfile"]:
                found = guide.definitions[f"StructureDefinition/{profile.rpartition('/')[2]}"]
                assert (found["url"], found["type"]) == (profile, resource["type"])
            for operation in resource.get("operation", ()):
                assert operation["definition"] in guide.defined("OperationDefinition")


def _pairs(guide: Guide, name: str) -> dict[tuple[str, str], str]:
    groups = guide.definitions[f"ConceptMap/{name}"]["group"]
    return {(group["source"], one["code"]): one["target"][0]["code"] for group in groups for one in group["element"]}


def _table(name: str) -> list[list[str]]:
    lines = (ROOT / "mappings" / "data" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("name", "table"), [("type-document-classe", "xds_type_class"), ("modele-format", "xds_format")]
)
def test_document_maps_are_the_tables(guide: Guide, name: str, table: str) -> None:
    _, *rows = _table(table)
    target = 2 if table == "xds_type_class" else 1
    assert {code: found for (_, code), found in _pairs(guide, name).items()} == {
        row[0]: row[target] for row in rows if row[0]
    }


@pytest.mark.parametrize(("name", "table"), [("parente", "kinship"), ("motif-annulation", "cancellation_reason")])
def test_code_maps_are_the_tables(guide: Guide, name: str, table: str) -> None:
    assert _pairs(guide, name) == {(terminology.uri_of(oid), code): target for code, oid, target in _table(table)}


def test_any_other_document_has_the_format_of_no_profile(guide: Guide) -> None:
    groups = guide.definitions["ConceptMap/modele-format"]["group"]
    assert [one["unmapped"]["code"] for one in groups if "unmapped" in one] == ["urn:asipSante:modelesHorsProfils:2011"]


def test_statuses_of_appointments_are_as_documented(guide: Guide) -> None:
    found = {code: target for (_, code), target in _pairs(guide, "statut-rendez-vous").items()}
    assert found["booked"] == "PLANIFIE"
    assert found["noshow"] == found["cancelled"] == "ANNULE"
    assert "entered-in-error" not in found


def test_sources_that_do_not_compile_are_told_and_leave_no_package(tmp_path: Path) -> None:
    """Without the official packages the parents of our profiles are unknown."""
    (tmp_path / "packages").mkdir()
    built = build(tmp_path / "guide", "--packages", tmp_path / "packages")
    assert built.returncode == 1
    assert "SUSHI refuses the sources" in built.stderr
    assert "hl7.fhir.fr.core" in built.stderr
    assert "Traceback" not in built.stderr
    assert not (tmp_path / "guide" / "package.tgz").exists()


# The package ----------------------------------------------------------------------------------------------------------


def test_definitions_are_complete(guide: Guide) -> None:
    for name, one in guide.definitions.items():
        assert one["url"] == f"{BASE}{name}"
        assert one["version"]
        assert one["status"] == "draft"
        if one["resourceType"] == "StructureDefinition":
            assert one["snapshot"]["element"]


def test_the_package_loads_beside_the_official_ones(guide: Guide, registry: Registry) -> None:
    manifest = next(one for one in registry.packages if one.name == "relais.fhir")
    available = {one.name for one in registry.packages}
    assert set(manifest.dependencies) <= available
    for one in guide.definitions.values():
        found = registry.find(one["resourceType"], one["url"])
        assert found is not None
        assert found.resource["id"] == one["id"]


def test_the_index_lists_every_file(guide: Guide) -> None:
    with tarfile.open(guide.folder / "package.tgz") as archive:
        for folder in ("package/", "package/example/"):
            index = json.load(archive.extractfile(f"{folder}.index.json"))  # type: ignore[arg-type]
            files = {name.removeprefix(folder) for name in archive.getnames() if _holds(name, folder[:-1])}
            assert {one["filename"] for one in index["files"]} == files


# The examples hold ----------------------------------------------------------------------------------------------------


def _claims(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value.get("meta", {}).get("profile", ()) if isinstance(value.get("meta"), dict) else ()
        for one in value.values():
            yield from _claims(one)
    elif isinstance(value, list):
        for one in value:
            yield from _claims(one)


def test_every_profile_has_an_example(guide: Guide) -> None:
    profiles = {one["url"] for one in guide.of_type("StructureDefinition") if one["type"] != "Extension"}
    assert profiles <= set(_claims(list(guide.examples.values())))


def test_every_example_and_definition_is_valid(guide: Guide, validator: Validator) -> None:
    wrong = {
        name: [issue for issue in validator.validate(one) if issue.severity in ("fatal", "error")]
        for name, one in (guide.definitions | guide.examples).items()
    }
    assert {name: issues for name, issues in wrong.items() if issues} == {}


def _goalless(plan: Resource) -> None:
    del plan["goal"], plan["activity"]


def _dateless(plan: Resource) -> None:
    del plan["period"], plan["created"]


BROKEN: list[tuple[str, str, Callable[[Resource], Any]]] = [
    ("rel-plan-1", "CarePlan/exemple-pps", _goalless),
    ("rel-plan-2", "CarePlan/exemple-pps", lambda one: one.update(status="entered-in-error")),
    ("rel-plan-3", "CarePlan/exemple-pps", _dateless),
    ("rel-approbation-1", "CarePlan/exemple-pps", lambda one: one["extension"][0].pop("extension")),
    ("rel-texte-1", "Goal/exemple-objectif", lambda one: one.update(description={"coding": [{"code": "x"}]})),
    ("rel-probleme-1", "Condition/exemple-diabete", lambda one: one["code"].pop("text")),
    ("rel-action-1", "ServiceRequest/exemple-action", lambda one: one.update(code={"coding": [{"code": "x"}]})),
    ("rel-disposition-1", "Observation/exemple-apa", lambda one: one.update(valueString=str(one.pop("valueBoolean")))),
    ("rel-disposition-2", "Observation/exemple-apa", lambda one: one["component"][0].update(valueInteger=7)),
    (
        "rel-disposition-3",
        "Observation/exemple-priorites",
        lambda one: one.update(valueBoolean=bool(one.pop("valueString"))),
    ),
    ("rel-opposition-1", "Consent/exemple-opposition", lambda one: one["provision"].pop("provision")),
    ("rel-ins-1", "Patient/exemple-personne", lambda one: _identity(one).update(code="PROV")),
    ("rel-ins-2", "Patient/exemple-personne", lambda one: one["identifier"][0].update(value="2550699999999")),
    ("rel-rdv-1", "Appointment/exemple-rendez-vous-annule", lambda one: one.update(status="booked")),
    ("rel-rdv-2", "Appointment/exemple-rendez-vous", lambda one: [one.pop(name) for name in ("start", "end", "slot")]),
    ("rel-tache-1", "Task/exemple-tache", lambda one: one.pop("output")),
    ("rel-transmission-1", "Parameters/exemple-ordre", lambda one: one["parameter"][0].update(valueCode="dmp")),
]


def _identity(patient: Resource) -> Resource:
    found = next(one for one in patient["extension"] if one["url"] == extensions.IDENTITY_RELIABILITY)
    coding: Resource = found["extension"][0]["valueCoding"]
    return coding


@pytest.mark.parametrize(("rule", "name", "break_it"), BROKEN, ids=[rule for rule, _, _ in BROKEN])
def test_each_constraint_refuses_what_breaks_it(
    guide: Guide, validator: Validator, rule: str, name: str, break_it: Callable[[Resource], Any]
) -> None:
    assert rule not in {issue.rule for issue in validator.validate(guide.examples[name])}
    broken = copy.deepcopy(guide.examples[name])
    break_it(broken)
    assert rule in {issue.rule for issue in validator.validate(broken)}


def test_every_constraint_of_ours_is_tried(guide: Guide) -> None:
    stated = {
        rule["key"]
        for one in guide.of_type("StructureDefinition")
        for element in one["differential"]["element"]
        for rule in element.get("constraint", ())
    }
    assert {rule for rule, _, _ in BROKEN} == stated


# The facade takes them ------------------------------------------------------------------------------------------------

NOT_STORED = ("Bundle", "Parameters")


@pytest.fixture(scope="module")
def stored(guide: Guide, facade: RunningFacade) -> RunningFacade:
    """The facade, with every example that can be stored written in one transaction."""
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": name}}
        for name, one in guide.examples.items()
        if one["resourceType"] not in NOT_STORED
    ]
    answer = facade.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text
    return facade


def test_the_facade_accepts_each_example(guide: Guide, stored: RunningFacade) -> None:
    for name, one in guide.examples.items():
        if one["resourceType"] not in NOT_STORED:
            answer = stored.put(name, one)
            assert answer.status_code == 200, (name, answer.text)
    assert stored.post("", guide.examples["Bundle/exemple-transaction"]).status_code == 200


def test_the_facade_refuses_what_breaks_a_profile_of_the_guide(guide: Guide, stored: RunningFacade) -> None:
    broken = copy.deepcopy(guide.examples["CarePlan/exemple-pps"])
    _goalless(broken)
    answer = stored.put("CarePlan/exemple-pps", broken)
    assert answer.status_code == 422
    assert "rel-plan-1" in answer.text


@pytest.mark.parametrize("name", ["CarePlan/exemple-pps", "Appointment/exemple-rendez-vous"])
def test_documents_are_made_of_examples(stored: RunningFacade, name: str) -> None:
    answer = stored.get(f"{name}/$to-cda")
    assert answer.status_code == 200, answer.text
    assert b"ClinicalDocument" in answer.content


def test_a_document_is_made_of_the_transaction(guide: Guide, facade: RunningFacade) -> None:
    answer = facade.post("$to-cda", guide.examples["Bundle/exemple-transaction"])
    assert answer.status_code == 200, answer.text
    assert b"ClinicalDocument" in answer.content


def test_the_order_of_the_guide_gives_a_task_of_the_guide(
    guide: Guide, stored: RunningFacade, validator: Validator
) -> None:
    order = copy.deepcopy(guide.examples["Parameters/exemple-ordre"])
    order["parameter"].append({"name": "dryRun", "valueBoolean": True})
    answer = stored.post("CarePlan/exemple-pps/$transmit", order)
    assert answer.status_code == 200, answer.text
    profile = f"{BASE}StructureDefinition/relais-tache-transmission"
    found = validator.validate(answer.json(), [profile])
    assert [issue for issue in found if issue.severity in ("fatal", "error")] == []


# The site holds together ----------------------------------------------------------------------------------------------


def _pages(guide: Guide) -> dict[str, html.HtmlElement]:
    return {path.name: html.parse(path).getroot() for path in sorted((guide.folder / "site").glob("*.html"))}


def test_every_link_leads_somewhere(guide: Guide) -> None:
    pages = _pages(guide)
    anchors = {name: set(page.xpath("//@id")) | {""} for name, page in pages.items()}
    files = {path.name for path in (guide.folder / "site").iterdir()}
    broken = []
    for name, page in pages.items():
        for link in page.xpath("//a/@href"):
            parts = urlsplit(link)
            target = unquote(parts.path) or name
            if parts.scheme in ("http", "https"):
                continue
            if target not in files or parts.fragment not in anchors.get(target, {""}):
                broken.append((name, link))
    assert broken == []


def test_every_resource_has_its_page_and_its_download(guide: Guide) -> None:
    for name, one in (guide.definitions | guide.examples).items():
        stem = guide.folder / "site" / name.replace("/", "-")
        assert json.loads(stem.with_name(f"{stem.name}.json").read_bytes()) == one
        assert stem.with_name(f"{stem.name}.html").is_file()


def test_pages_need_no_script_and_nothing_from_elsewhere(guide: Guide) -> None:
    for name, page in _pages(guide).items():
        assert page.xpath("//script | //iframe | //object | //*[@onclick] | //*[@style]") == [], name
        sources = page.xpath("//link/@href | //img/@src")
        assert set(sources) <= {"style.css", "data:,"}, name
    assert "url(" not in (guide.folder / "site" / "style.css").read_text()


def test_pages_can_be_read_by_everybody(guide: Guide) -> None:
    for name, page in _pages(guide).items():
        assert page.get("lang") == "fr", name
        assert len(page.xpath("//h1")) == 1, name
        assert page.xpath("//main[@id='contenu']"), name
        assert page.xpath("//a[@class='skip']/@href") == ["#contenu"], name
        assert all(drawing.xpath("./*[local-name()='title']") for drawing in page.xpath("//svg")), name
        assert page.xpath("//table[not(.//th)]") == [], name


def test_a_profile_page_shows_its_tree(guide: Guide) -> None:
    page = html.parse(guide.folder / "site" / "StructureDefinition-relais-tache-transmission.html").getroot()
    rows = {row.xpath("./th/@title")[0]: row for row in page.xpath("(//table[@class='tree'])[1]/tbody/tr")}
    channel = rows["Task.input:channel"]
    assert channel.xpath("./td[@class='card']/text()") == ["0..3"]
    assert "MS" in channel.xpath("./td[@class='flags']//text()")
    value = rows["Task.input:channel.value[x]"]
    assert "code" in value.xpath("./td[@class='types']//text()")
    assert "ValueSet-relais-transmission-channel.html" in value.xpath(".//@href")


def test_the_facade_shows_the_guide(facade: RunningFacade) -> None:
    front = facade.get(facade.base.removesuffix("fhir") + "ig/")
    assert front.status_code == 200
    assert "Guide d'implémentation" in front.text.replace("&#39;", "'")
    package = facade.get(facade.base.removesuffix("fhir") + "ig/package.tgz")
    assert package.headers["Content-Type"] == "application/gzip"
