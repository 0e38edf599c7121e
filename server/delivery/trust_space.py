"""The trust space of MSSanté: the domains whose mailboxes may be written to, and believed (référentiel MSSanté #2).

The official list (namespace https://listeblanche.mssante.fr/schema, elements Domaine/Nom) or one domain a line. A
domain is in it or it is not: a longer name that ends alike is another domain.
"""

from __future__ import annotations

import encodings.idna
from dataclasses import dataclass
from pathlib import Path

from relais.cda import parsing
from relais.cda.errors import Issue, RelaisError
from relais.server.settings import Settings

NATIONAL = "mssante.fr"
"""Without a list: this domain and those below it."""

_NAME = "{https://listeblanche.mssante.fr/schema}Nom"


@dataclass(frozen=True, slots=True)
class TrustSpace:
    """The domains of a list, in their ASCII form; None: those below `NATIONAL`."""

    domains: frozenset[str] | None = None

    @classmethod
    def of(cls, settings: Settings) -> TrustSpace:
        """The trust space of the settings. Raises RelaisError when its list cannot be read, or is empty."""
        if not settings.mss_domains_file:
            return cls()
        try:
            data = Path(settings.mss_domains_file).read_bytes()
        except OSError as error:
            raise _unusable(f"the list cannot be read: {error.strerror}") from error
        names = _xml_names(data) if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else _lines(data)
        domains = frozenset(ascii_domain(name) for name in names)
        if not domains:
            raise _unusable("the list names no domain")
        return cls(domains)

    def holds(self, mailbox: str) -> bool:
        """Whether the domain of a mailbox is one of the trust space."""
        try:
            domain = ascii_domain(mailbox.rpartition("@")[2])
        except RelaisError:
            return False
        if self.domains is None:
            return domain == NATIONAL or domain.endswith(f".{NATIONAL}")
        return domain in self.domains


def ascii_domain(name: str) -> str:
    """A domain name in lower case, labels outside ASCII as IDNA writes them. Raises RelaisError when it is none."""
    try:
        labels = [encodings.idna.ToASCII(label) for label in name.strip().lower().split(".")]
    except UnicodeError as error:
        raise _unusable("the list holds a name that is no domain") from error
    return b".".join(labels).decode("ascii")


def _xml_names(data: bytes) -> list[str]:
    names = ("".join(map(str, element.itertext())).strip() for element in parsing.parse(data).getroot().iter(_NAME))
    return [name for name in names if name]


def _lines(data: bytes) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in data.decode("utf-8-sig", "replace").splitlines())
    return [line for line in lines if line]


def _unusable(message: str) -> RelaisError:
    return RelaisError(Issue("fatal", "invalid", message, "mss_domains_file", "MSSanté: espace de confiance"))
