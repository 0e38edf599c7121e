"""The official rules of CI-SIS as this machine holds them: profiles, dated rule sets, and what is known to be wrong.

A rule set is named and hashed, so that a verdict says what it rests on. The pack is read in place, never written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relais.cda import templates
from relais.cda.errors import Issue, RelaisError, Severity

CURRENT = "tcc-3.0"
OF_2023_12 = "tcc-2023-12"

XML_SCHEMA = "infrastructure/cda/CDA_extended.xsd"
CODE_SYSTEM_FILES = "schematrons/profils/terminologies/terminologie"
UNITS_FILE = f"{CODE_SYSTEM_FILES}/2.16.840.1.113883.6.8.xml"
STRUCTURE = "structurationMinimale"
TERMINOLOGIES = "terminologies"
_MODEL_PREFIX = "CI-SIS_"


class RulesError(RelaisError):
    """The official rules are absent, incomplete, or of an unknown name."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A Schematron file of the pack. `official` is false for a pattern that no official schema includes."""

    name: str
    file: str
    official: bool = True


GENERIC_PROFILES = (
    Profile(STRUCTURE, "schematrons/profils/structurationMinimale/ASIP-STRUCT-MIN-StrucMin.sch"),
    Profile("IHE", "schematrons/profils/IHE.sch"),
    Profile("ModelesDeContenusCDA", "schematrons/profils/CI-SIS_ModelesDeContenusCDA.sch"),
    Profile("Modeles_ANS", "schematrons/profils/CI-SIS_Modeles_ANS.sch"),
    Profile(TERMINOLOGIES, "schematrons/profils/terminologies/schematron/terminologie.sch"),
)

_LABORATORY = ("BIO-CR-BIO", "CR-BIO")

MODELS: Mapping[str, tuple[str, ...]] = {
    templates.UNSTRUCTURED: (),
    templates.PPS_PAERPA: ("PPS-PAERPA",),
    "1.3.6.1.4.1.19376.1.3.3": _LABORATORY,
    "1.2.250.1.213.1.1.1.2.1.1": ("CARD-F-PRC-AVK", "F-PRC"),
    "1.2.250.1.213.1.1.1.2.1.2": ("CARD-F-PRC-TAP", "F-PRC"),
    "1.2.250.1.213.1.1.1.2.1.3": ("CARD-F-PRC-DCI", "F-PRC"),
    "1.2.250.1.213.1.1.1.2.1.4": ("CARD-F-PRC-PSC", "F-PRC"),
    "1.2.250.1.213.1.1.1.2.1.5": ("CARD-F-PRC-PPV", "F-PRC"),
    "1.2.250.1.213.1.1.1.5.1": ("CSE-CS8",),
    "1.2.250.1.213.1.1.1.5.2": ("CSE-CS9",),
    "1.2.250.1.213.1.1.1.5.3": ("CSE-CS24",),
    "1.2.250.1.213.1.1.1.5.4": ("CSE-MDE",),
    "1.2.250.1.213.1.1.1.8": ("CANCER-FRCP",),
    "1.2.250.1.213.1.1.1.12.1": ("OBP-SAP",),
    "1.2.250.1.213.1.1.1.12.2": ("OBP-SNM",),
    "1.2.250.1.213.1.1.1.12.3": ("OBP-SNE",),
    "1.2.250.1.213.1.1.1.12.4": ("OBP-SCM",),
    "1.2.250.1.213.1.1.1.12.5": ("OBP-SEM", "OBP-SCE"),
    "1.2.250.1.213.1.1.1.13": ("VSM",),
    "1.2.250.1.213.1.1.1.15": ("AVC-AUNV",),
    "1.2.250.1.213.1.1.1.16": ("AVC-EUNV",),
    "1.2.250.1.213.1.1.1.17": ("AVC-SUNV",),
    "1.2.250.1.213.1.1.1.18": ("OPH-CR-RTN",),
    "1.2.250.1.213.1.1.1.21": ("LDL-EES",),
    "1.2.250.1.213.1.1.1.22": ("DLU-EHPAD-DLU", "DLU-DLU"),
    "1.2.250.1.213.1.1.1.23": ("DLU-EHPAD-FLUDT", "DLU-FLUDT"),
    "1.2.250.1.213.1.1.1.24": ("DLU-EHPAD-FLUDR", "DLU-FLUDR"),
    "1.2.250.1.213.1.1.1.25": ("AVC-PAVC",),
    "1.2.250.1.213.1.1.1.26": ("CANCER-PPS",),
    "1.2.250.1.213.1.1.1.27": ("CANCER-D2LM-FIN",),
    "1.2.250.1.213.1.1.1.28": ("CANCER-D2LM-FIDD",),
    "1.2.250.1.213.1.1.1.29": ("LDL-SES",),
    "1.2.250.1.213.1.1.1.30": ("SDM-MR",),
    "1.2.250.1.213.1.1.1.32": ("CANCER-CR-GM",),
    "1.2.250.1.213.1.1.1.36": ("CNAM-HR",),
    "1.2.250.1.213.1.1.1.37": ("VAC",),
    "1.2.250.1.213.1.1.1.38": ("TLM-DA",),
    "1.2.250.1.213.1.1.1.39": ("EP-MED-DM",),
    "1.2.250.1.213.1.1.1.40": ("ANEST-CR-ANEST",),
    "1.2.250.1.213.1.1.1.41": ("ANEST-CR-CPA",),
    "1.2.250.1.213.1.1.1.42": ("OPH-BRE",),
    "1.2.250.1.213.1.1.1.45": ("IMG-CR-IMG",),
    "1.2.250.1.213.1.1.1.46": ("VAC-NOTE",),
    "1.2.250.1.213.1.1.1.47": ("IMG-DA-IMG",),
    "1.2.250.1.213.1.1.1.51": ("IPS-FR",),
    "1.2.250.1.213.1.1.1.54": ("eDISP-MED",),
    "1.2.250.1.213.1.1.1.55": _LABORATORY,
    "1.2.250.1.213.1.1.1.59": ("BIO-TROD",),
    "1.2.250.1.213.1.1.1.61": ("DLU-FT-SU",),
    "1.2.250.1.213.1.1.1.62": ("DLU-FR-SU",),
}
"""The document model that a templateId names, by the names its Schematrons have had (`CI-SIS_name_version.sch`)."""

UNSTRUCTURED_MODELS: Mapping[str, tuple[str, ...]] = {"85208-7": ("TLM-CR",)}
"""Models of unstructured documents, which have no templateId of their own, by type code (LOINC)."""

_VERSIONS: Mapping[tuple[str, str], str] = {
    ("1.2.250.1.213.1.1.1.2.1.1", "2021.01"): "1.4",
    ("1.2.250.1.213.1.1.1.13", "201310"): "1.4",
    ("1.2.250.1.213.1.1.1.15", "2020.01"): "2.2",
    ("1.2.250.1.213.1.1.1.16", "2020.01"): "2.2",
    ("1.2.250.1.213.1.1.1.17", "2020.01"): "2.2",
    ("1.2.250.1.213.1.1.1.25", "2020.01"): "2.2",
    ("1.2.250.1.213.1.1.1.36", "2020-1.0"): "2021.01",
}
"""The version in the name of the Schematron, where the extension of the templateId is another: old numberings."""

_ORPHAN_PATTERNS: Mapping[str, Profile] = {
    # The header pattern of the volet stands in the pack, but its schema neither includes nor activates it.
    "PPS-PAERPA_2022.01": Profile(
        "PPS-PAERPA_2022.01 header (orphan pattern)",
        "schematrons/include/specificationsVolets/PPS-PAERPA_2022.01/Entete/Entete_PPS-PAERPA.sch",
        official=False,
    ),
}


@dataclass(frozen=True, slots=True)
class Caveat:
    """What to say of a finding of a rule known to be unlike others; `severity` replaces the one of the rule."""

    note: str
    severity: Severity | None = None


CAVEATS: Mapping[str, Caveat] = {
    "schematrons/profils/structurationMinimale/ASIP-STRUCT-MIN-StrucMin.sch:145": Caveat(
        "without the right typeId no header rule applies: fatal, although the rule calls itself a warning", "fatal"
    ),
    "schematrons/include/entrees/E_procedureEntry_int.sch:61": Caveat(
        "the rule is known to be wrong: it looks for a code without namespace and fails on every internal reference"
    ),
    "schematrons/include/entrees/E_scoreBraden_fr.sch:55": Caveat(
        "the rule is known to be wrong: it looks for observations without namespace and can never be satisfied"
    ),
}
"""By rule, as `file:line` in the pack."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Something a profile means to verify and cannot, in documents where `present` (XPath, prefix `v3`) is true."""

    profile: str
    present: str
    reason: str
    rule: str


LIMITS = (
    Limit(
        TERMINOLOGIES,
        "//v3:maxDoseQuantity/*[@unit]",
        "units of maxDoseQuantity are not verified: the contexts of the rules misspell its name",
        f"{CODE_SYSTEM_FILES.rpartition('/')[0]}/schematron/terminologie.sch:123",
    ),
    Limit(
        TERMINOLOGIES,
        "//v3:value[substring-after(@xsi:type, ':') = 'CD' or substring-after(@xsi:type, ':') = 'CE']",
        "values whose xsi:type has a prefix are not verified: the rule compares the literal CD or CE",
        f"{CODE_SYSTEM_FILES.rpartition('/')[0]}/schematron/terminologie.sch:58",
    ),
    Limit(
        "CANCER-PPS_2025.01",
        "/*",
        "seven value sets of the model (addictions, démarche, examens, jours, mode d'administration, prise en charge, "
        "structures de soins) are not verified: the schema does not include their patterns",
        "schematrons/CI-SIS_CANCER-PPS_2025.01.sch",
    ),
)

# Problem and care codes that the PPS-PAERPA profile requires and that TerminologieCISIS no longer holds.
_WITHDRAWN_PPS_CODES = frozenset(f"MED-{number:03}" for number in range(56, 64)) | {"ORG-009", "ORG-010"}

_CISIS_TERMINOLOGY = f"{CODE_SYSTEM_FILES}/{templates.TERMINOLOGIE_CISIS}.rdf"


@dataclass(frozen=True, slots=True)
class _Definition:
    """How a rule set differs from the pack: files read in place of others, codes in known contradiction."""

    replaced: Mapping[str, str] = field(default_factory=dict)
    contradictory_codes: frozenset[str] = frozenset()


_RULE_SETS: Mapping[str, _Definition] = {
    CURRENT: _Definition(contradictory_codes=_WITHDRAWN_PPS_CODES),
    OF_2023_12: _Definition({_CISIS_TERMINOLOGY: f"terminologies-2023-12/{templates.TERMINOLOGIE_CISIS}.rdf"}),
}


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One dated state of the official rules.

    `folder` is the `cda` folder of the pack; `replaced` gives files to read in place of others;
    `contradictory_codes` are the TerminologieCISIS codes that one official profile of PPS-PAERPA requires and another
    refuses. `models` gives the profiles of document models by name and version.
    """

    name: str
    digest: str
    folder: Path
    replaced: Mapping[Path, Path]
    contradictory_codes: frozenset[str]
    models: Mapping[str, Mapping[str, Profile]]

    @property
    def identity(self) -> str:
        """Name and content, as in `tcc-3.0@d2a84f4b8b65`."""
        return f"{self.name}@{self.digest[:12]}"

    @classmethod
    def load(cls, pack: Path, name: str = CURRENT) -> RuleSet:
        """The rule set of that name in `pack`, the folder that holds `cda/`; or `name=folder`, another such folder.

        Raises RulesError.
        """
        own, _, elsewhere = name.partition("=")
        if elsewhere and own not in _RULE_SETS:
            return cls._read(Path(elsewhere), own, _Definition())
        if elsewhere or own not in _RULE_SETS:
            message = f"unknown rule set {own}; known: {', '.join(_RULE_SETS)}; another: name=folder, under a new name"
            raise RulesError(Issue("fatal", "not-found", message))
        return cls._read(pack, own, _RULE_SETS[own])

    @classmethod
    def _read(cls, pack: Path, name: str, definition: _Definition) -> RuleSet:
        folder = pack.resolve() / "cda"
        replaced = {folder / file: folder / by for file, by in definition.replaced.items()}
        needed = (folder / XML_SCHEMA, *(folder / profile.file for profile in GENERIC_PROFILES), *replaced.values())
        absent = [file.relative_to(folder).as_posix() for file in needed if not file.is_file()]
        if absent:
            raise RulesError(
                Issue("fatal", "not-found", "file of the official rules not found", file) for file in absent
            )
        digest = _digest(folder, replaced)
        return cls(name, digest, folder, replaced, definition.contradictory_codes, _models(folder))

    def versions(self, names: Iterable[str], template: Iterable[tuple[str, str]]) -> Mapping[str, Profile]:
        """The profiles of a document model (its names) that `template` may call for, by version.

        `template` are the templateId (root and extension) that name the model: those whose extension is the version
        of a profile call for that one, those without extension for any.
        """
        held = {version: profile for name in names for version, profile in self.models.get(name, {}).items()}
        said = {_VERSIONS.get((root, extension), extension) for root, extension in template if extension}
        # Some files name two numberings: VSM_1.4_2022.01.
        return {version: held[version] for version in held if not said or said & set(version.split("_"))}

    def orphan_of(self, profile: Profile) -> Profile | None:
        """The pattern of a document model that its schema forgets, where the rule set holds it."""
        orphan = _ORPHAN_PATTERNS.get(profile.name)
        return orphan if orphan and (self.folder / orphan.file).is_file() else None

    def code_systems(self) -> frozenset[str]:
        """OIDs of the code systems that the terminologies profile can look into."""
        return frozenset(file.stem for file in (self.folder / CODE_SYSTEM_FILES).glob("*.rdf"))


def _models(folder: Path) -> Mapping[str, Mapping[str, Profile]]:
    """The profiles of document models, by name and version: `schematrons/CI-SIS_name_version.sch`."""
    found: dict[str, dict[str, Profile]] = {}
    for file in sorted((folder / "schematrons").glob(f"{_MODEL_PREFIX}*.sch")):
        profile = Profile(file.stem.removeprefix(_MODEL_PREFIX), file.relative_to(folder).as_posix())
        name, _, version = profile.name.partition("_")
        found.setdefault(name, {})[version] = profile
    return found


def _digest(folder: Path, replaced: Mapping[Path, Path]) -> str:
    """SHA-256 of the paths and contents of all the rules."""
    digest = hashlib.sha256()
    for part in ("infrastructure", "jeuxDeValeurs", "schematrons"):
        for file in sorted((folder / part).rglob("*")):
            if file.is_file():
                content = hashlib.sha256(replaced.get(file, file).read_bytes()).hexdigest()
                digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
