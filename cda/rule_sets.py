"""The official rules of CI-SIS as this machine holds them: profiles, dated rule sets, and what is known to be wrong.

A rule set is named and hashed, so that a verdict says what it rests on. The pack is read in place, never written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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

_PPS_HEADER = "schematrons/include/specificationsVolets/PPS-PAERPA_2022.01/Entete/Entete_PPS-PAERPA.sch"

MODEL_PROFILES: Mapping[str, tuple[Profile, ...]] = {
    templates.UNSTRUCTURED: (),
    templates.PPS_PAERPA: (
        Profile("PPS-PAERPA_2022.01", "schematrons/CI-SIS_PPS-PAERPA_2022.01.sch"),
        # The header pattern of the volet stands in the pack, but its schema neither includes nor activates it.
        Profile("PPS-PAERPA_2022.01 header (orphan pattern)", _PPS_HEADER, official=False),
    ),
    "1.2.250.1.213.1.1.1.26": (Profile("CANCER-PPS_2025.01", "schematrons/CI-SIS_CANCER-PPS_2025.01.sch"),),
    "1.2.250.1.213.1.1.1.13": (Profile("VSM_2023.01", "schematrons/CI-SIS_VSM_2023.01.sch"),),
    "1.2.250.1.213.1.1.1.29": (Profile("LDL-SES_2022.01", "schematrons/CI-SIS_LDL-SES_2022.01.sch"),),
    "1.2.250.1.213.1.1.1.22": (Profile("DLU-EHPAD-DLU_2022.01", "schematrons/CI-SIS_DLU-EHPAD-DLU_2022.01.sch"),),
    "1.2.250.1.213.1.1.1.23": (Profile("DLU-EHPAD-FLUDT_2022.01", "schematrons/CI-SIS_DLU-EHPAD-FLUDT_2022.01.sch"),),
    "1.2.250.1.213.1.1.1.24": (Profile("DLU-EHPAD-FLUDR_2022.01", "schematrons/CI-SIS_DLU-EHPAD-FLUDR_2022.01.sch"),),
    "1.2.250.1.213.1.1.1.62": (Profile("DLU-FR-SU_2025.01", "schematrons/CI-SIS_DLU-FR-SU_2025.01.sch"),),
    "1.2.250.1.213.1.1.1.61": (Profile("DLU-FT-SU_2025.01", "schematrons/CI-SIS_DLU-FT-SU_2025.01.sch"),),
}
"""Document model profiles, by the templateId that calls for them."""


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
    refuses.
    """

    name: str
    digest: str
    folder: Path
    replaced: Mapping[Path, Path]
    contradictory_codes: frozenset[str]

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
        return cls(name, _digest(folder, replaced), folder, replaced, definition.contradictory_codes)

    def holds(self, profile: Profile) -> bool:
        """Whether the file of a profile is there: another state of the rules may lack a document model."""
        return (self.folder / profile.file).is_file()

    def code_systems(self) -> frozenset[str]:
        """OIDs of the code systems that the terminologies profile can look into."""
        return frozenset(file.stem for file in (self.folder / CODE_SYSTEM_FILES).glob("*.rdf"))


def _digest(folder: Path, replaced: Mapping[Path, Path]) -> str:
    """SHA-256 of the paths and contents of all the rules."""
    digest = hashlib.sha256()
    for part in ("infrastructure", "jeuxDeValeurs", "schematrons"):
        for file in sorted((folder / part).rglob("*")):
            if file.is_file():
                content = hashlib.sha256(replaced.get(file, file).read_bytes()).hexdigest()
                digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
