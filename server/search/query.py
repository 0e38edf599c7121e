"""The tree of a search: what a query string asks for, typed, normalised, and free of HTTP and SQL.

FHIR R4 §3.1.1 (Search). Criteria are joined by AND, the values of one criterion by OR. A chain and a reverse chain hold
a criterion on another resource.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relais.profiles.definitions import SearchParameter
from relais.server.search.values import Span

Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
Total = Literal["none", "accurate"]


@dataclass(frozen=True, slots=True)
class TokenValue:
    """`system` or `code` None: any; `system` empty: none."""

    system: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class TokenSetValue:
    """Any of the codes of one system (empty: of none)."""

    system: str
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StringValue:
    """`normalised` for comparison, `text` as asked for."""

    normalised: str
    text: str


@dataclass(frozen=True, slots=True)
class DateValue:
    """A span to compare with; of `ap` already widened."""

    prefix: Prefix
    span: Span


@dataclass(frozen=True, slots=True)
class QuantityValue:
    """A number, the bounds its precision gives (of `ap`: its tenth), and its unit.

    `unit` is a code in `system`, or, when `system` is None, a code or the unit as displayed; None: any.
    """

    prefix: Prefix
    number: float
    low: float
    high: float
    system: str | None
    unit: str | None
    canonical: bool = False
    """Whether number and unit are those of the canonical unit of the dimension."""


@dataclass(frozen=True, slots=True)
class NearValue:
    """A point on the unit sphere and the longest straight distance from it."""

    x: float
    y: float
    z: float
    chord: float


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """A target of this server (`type` None: any) or, with an empty `type`, a URL; `version` None: any."""

    type: str | None
    target: str
    version: str | None


@dataclass(frozen=True, slots=True)
class UriValue:
    """A URI as asked for."""

    uri: str


@dataclass(frozen=True, slots=True)
class CompositeValue:
    """One value for each component, in order; all must hold of the same element."""

    parts: tuple[Value, ...]


Value = (
    TokenValue
    | TokenSetValue
    | StringValue
    | DateValue
    | QuantityValue
    | ReferenceValue
    | UriValue
    | CompositeValue
    | NearValue
)


@dataclass(frozen=True, slots=True)
class Match:
    """The resource has one of `values` under the parameter; `modifier` is empty or as written, without colon.

    What no modifier says, and `_filter` does: `equals` and `ends` of a string, `differs`: a value other than these.
    `others` are the further types of a search of several, which have the parameter too.
    """

    resource_type: str
    parameter: SearchParameter
    modifier: str
    values: tuple[Value, ...]
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """The resource has (`missing` False) or lacks (True) the element of the parameter."""

    resource_type: str
    parameter: SearchParameter
    missing: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """The parameter refers to a resource for which one of `targets` (criteria of one resource type each) holds."""

    resource_type: str
    parameter: SearchParameter
    targets: tuple[tuple[str, Criterion], ...]


@dataclass(frozen=True, slots=True)
class Has:
    """A resource of type `source` refers to this one by `parameter`, and `criterion` holds for it (`_has`, `_list`)."""

    source: str
    parameter: SearchParameter
    criterion: Criterion


@dataclass(frozen=True, slots=True)
class FullText:
    """Every group has a word in the text: `_text` (`part` narrative) or `_content` (everything)."""

    part: str
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of the criteria holds."""

    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of the criteria hold."""

    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """The criterion does not hold."""

    criterion: Criterion


@dataclass(frozen=True, slots=True)
class OfType:
    """The resource is of that type, and the criterion, which is about such resources, holds."""

    resource_type: str
    criterion: Criterion


Criterion = Match | Missing | Chain | Has | FullText | AnyOf | AllOf | Negation | OfType


@dataclass(frozen=True, slots=True)
class Sort:
    """A key of the order: the smallest value of the parameter (descending: the largest), those without any last."""

    parameter: SearchParameter
    descending: bool

    @property
    def code(self) -> str:
        """The code of the parameter."""
        return self.parameter.code


@dataclass(frozen=True, slots=True)
class Include:
    """Resources to add to the matches: those that `source` refers to by `code`, or (`reverse`) that refer to them.

    `source` None: any type; `code` None: any reference; `target` None: any type; `iterate`: also of what was added.
    """

    source: str | None
    code: str | None
    target: str | None
    iterate: bool
    reverse: bool


@dataclass(frozen=True, slots=True)
class Query:
    """One search of one resource type, or of several. `applied` are the pairs understood, for the self link."""

    types: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    sort: tuple[Sort, ...]
    count: int
    total: Total
    includes: tuple[Include, ...]
    applied: tuple[tuple[str, str], ...]
