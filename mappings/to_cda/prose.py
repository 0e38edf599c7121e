"""French words for the narrative: dates, rhythms, free text with its line breaks, amounts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relais.cda.datatypes import PARIS, datetime_from_ts, ts_from_fhir
from relais.cda.narrative import Element, Node, bullet_list, paragraph
from relais.mappings.context import Resource
from relais.mappings.identity import codes
from relais.mappings.to_cda.conversion import Conversion
from relais.mappings.to_cda.datatypes import concept_text, current_name, display_name

UCUM = "http://unitsofmeasure.org"
_DATES = ("DateTime", "Date")
_UNITS = {
    "h": ("heure", "toutes les {} heures"),
    "d": ("jour", "tous les {} jours"),
    "wk": ("semaine", "toutes les {} semaines"),
    "mo": ("mois", "tous les {} mois"),
    "a": ("an", "tous les {} ans"),
    "min": ("minute", "toutes les {} minutes"),
}
_LENGTHS = {"s": "s", "min": "min", "h": "h", "d": "jour(s)", "wk": "semaine(s)", "mo": "mois", "a": "an(s)"}
_DAYS = {
    "mon": "le lundi",
    "tue": "le mardi",
    "wed": "le mercredi",
    "thu": "le jeudi",
    "fri": "le vendredi",
    "sat": "le samedi",
    "sun": "le dimanche",
}
_MOMENTS = {
    "MORN": "le matin",
    "MORN.early": "tôt le matin",
    "MORN.late": "en fin de matinée",
    "NOON": "à midi",
    "AFT": "l'après-midi",
    "AFT.early": "en début d'après-midi",
    "AFT.late": "en fin d'après-midi",
    "EVE": "le soir",
    "EVE.early": "en début de soirée",
    "EVE.late": "tard le soir",
    "NIGHT": "la nuit",
    "PHS": "après l'endormissement",
    "HS": "au coucher",
    "WAKE": "au réveil",
    "C": "au repas",
    "CM": "au petit-déjeuner",
    "CD": "au déjeuner",
    "CV": "au dîner",
    "AC": "avant le repas",
    "ACM": "avant le petit-déjeuner",
    "ACD": "avant le déjeuner",
    "ACV": "avant le dîner",
    "PC": "après le repas",
    "PCM": "après le petit-déjeuner",
    "PCD": "après le déjeuner",
    "PCV": "après le dîner",
}
"""Timing.repeat.when (event-timing) in the words of the narrative."""

_ABBREVIATIONS = {
    "QD": "1 fois par jour",
    "BID": "2 fois par jour",
    "TID": "3 fois par jour",
    "QID": "4 fois par jour",
    "QOD": "1 jour sur 2",
    "AM": "le matin",
    "PM": "l'après-midi",
    "Q4H": "toutes les 4 heures",
    "Q6H": "toutes les 6 heures",
    "WK": "1 fois par semaine",
    "MO": "1 fois par mois",
    "BED": "au coucher",
}
"""Timing.code (GTSAbbreviation of HL7 V3) in the words of the narrative."""

_AS_NEEDED = "si besoin"
_SAYS_AS_NEEDED = re.compile(r"\b(?:si|au) besoin\b", re.IGNORECASE)


def readable(concept: Resource | None) -> str:
    """What one reads of a CodeableConcept: its words, else its codes as they are."""
    return concept_text(concept) or ", ".join(codes(concept))


def annotation(conversion: Conversion, note: Resource, container: Resource) -> str:
    """An Annotation in words, with who said so."""
    text = (note.get("text") or "").strip()
    who = note.get("authorString") or ""
    if not who and "authorReference" in note:
        who = _author(conversion, note["authorReference"], container)
    return f"{text} ({who.strip()})" if text and who.strip() else text


def _author(conversion: Conversion, reference: Resource, container: Resource) -> str:
    """The name of who wrote an Annotation: a person, directly or by role, or whoever else has a name."""
    target = conversion.resources.resolve(reference, container) or {}
    person = conversion.resources.resolve(target.get("practitioner"), target) or target
    name = person.get("name")
    stated = display_name(current_name(name)) if isinstance(name, list) else name
    return stated or reference.get("display") or ""


def french_date(value: str | None) -> str:
    """A FHIR date or dateTime as one reads it in Paris, as precise as it is: `24/08/2021`, `08/2021`,
    `24/08/2021 à 09:30`. Nothing when it is no date."""
    if not value:
        return ""
    try:
        ts = ts_from_fhir(value)
    except ValueError:
        return ""
    day = f"{ts[6:8]}/{ts[4:6]}/{ts[:4]}".lstrip("/")
    return f"{day} à {ts[8:10]}:{ts[10:12]}{_which_hour(ts)}" if len(ts) > 8 else day


def _which_hour(ts: str) -> str:
    """Which one it is of two hours that the clocks of Paris show alike, when summer time ends."""
    if not (ts[4:6] == "10" and ts[8:10] == "02"):
        return ""
    moment = datetime_from_ts(ts).astimezone(PARIS)
    twice = moment.replace(fold=0).utcoffset() != moment.replace(fold=1).utcoffset()
    return "" if not twice else " (heure d'hiver)" if moment.fold else " (heure d'été)"


def french_period(period: Resource | None) -> str:
    """A Period in words."""
    if not period:
        return ""
    start, end = french_date(period.get("start")), french_date(period.get("end"))
    if start and end:
        return f"le {start}" if start == end else f"du {start} au {end}"
    return f"à partir du {start}" if start else f"jusqu'au {end}" if end else ""


def lines(text: str) -> list[Node]:
    """Free text with its line breaks, white space at the ends removed."""
    nodes: list[Node] = []
    for line in text.strip().splitlines():
        if nodes:
            nodes.append(Element("br"))
        nodes.append(line.strip())
    return nodes


def marked(text: str, narrative_id: str) -> Element:
    """Free text that an entry points to by `#narrative_id`."""
    return Element("content", {"ID": narrative_id}, lines(text))


def quantity(value: Resource) -> str:
    """A Quantity, Duration or Age in words: the digits as given."""
    amount = f"{value.get('comparator', '')} {value.get('value', '')}".strip()
    unit, code = value.get("unit"), value.get("code", "")
    return f"{amount} {unit or (_LENGTHS.get(code, code) if value.get('system') == UCUM else code)}".strip()


def measure(element: Resource, prefix: str) -> str:
    """A `prefix`[x] element (Quantity, Range, CodeableConcept, string, boolean, integer, Ratio…) in words."""
    for name in element:
        if name.startswith(prefix) and name != prefix:
            content = element[name]
            return french_date(content) if name.endswith(_DATES) and isinstance(content, str) else _words(content)
    return ""


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "oui" if value else "non"
    if not isinstance(value, dict):
        return str(value).strip()
    if "low" in value or "high" in value:
        bounds = [("à partir de ", value.get("low")), ("jusqu'à ", value.get("high"))]
        return ", ".join(f"{word}{quantity(bound)}" for word, bound in bounds if bound)
    if "numerator" in value or "denominator" in value:
        return f"{quantity(value.get('numerator', {}))} / {quantity(value.get('denominator', {}))}"
    if "coding" in value or "text" in value:
        return readable(value)
    return french_period(value) if "start" in value or "end" in value else quantity(value)


def rhythm(timing: Resource) -> str:
    """What a Timing says beyond the Period of its bounds: `2 fois par semaine, le lundi`, a code, single dates."""
    repeat = timing.get("repeat", {})
    parts = [_abbreviation(timing.get("code"))]
    if "frequency" in repeat or "period" in repeat:
        often = str(repeat.get("frequency", 1))
        often += f" à {repeat['frequencyMax']}" if "frequencyMax" in repeat else ""
        parts.append(f"{often} fois {_interval(repeat)}".strip())
    parts += [", ".join(_DAYS.get(day, day) for day in repeat.get("dayOfWeek", ()))]
    parts += [f"à {moment[:5]}" for moment in repeat.get("timeOfDay", ())]
    before = f"{repeat['offset']} min " if "offset" in repeat else ""
    parts += [f"{before}{_MOMENTS.get(moment, moment)}" for moment in repeat.get("when", ())]
    if "count" in repeat:
        parts.append(f"{_at_most(repeat, 'count')} fois en tout")
    if "duration" in repeat:
        parts.append(f"durée : {_length(_at_most(repeat, 'duration'), repeat.get('durationUnit', ''))}")
    if "boundsDuration" in repeat or "boundsRange" in repeat:
        parts.append(f"pendant {measure(repeat, 'bounds')}")
    parts += [french_date(event) for event in timing.get("event", ())]
    return ", ".join(part for part in parts if part)


def _abbreviation(code: Resource | None) -> str:
    """The code of a Timing in words."""
    known = next((_ABBREVIATIONS[one] for one in codes(code) if one in _ABBREVIATIONS), "")
    return concept_text(code) or known or readable(code)


def _at_most(repeat: Resource, name: str) -> str:
    """A number of Timing.repeat, and up to how many."""
    return f"{repeat[name]} à {repeat[f'{name}Max']}" if f"{name}Max" in repeat else str(repeat[name])


def _length(amount: object, unit: str) -> str:
    return f"{amount} {_LENGTHS.get(unit, unit)}".strip()


def dosage(instruction: Resource) -> str:
    """A Dosage in words: its own, else dose, route, rhythm; then what bounds it: condition and maximum."""
    text = (instruction.get("text") or "").strip()
    words = [text] if text else list(_dose(instruction))
    condition = as_needed(instruction)
    is_said = condition.lower() in text.lower() or (condition == _AS_NEEDED and _SAYS_AS_NEEDED.search(text))
    if not is_said:
        words.append(condition)
    words += [f"maximum : {most}" for most in _maximums(instruction)]
    return ", ".join(one.strip() for one in words if one and one.strip())


def _dose(instruction: Resource) -> Iterator[str]:
    """Dose, route, site, method, instructions and rhythm of a Dosage without words of its own."""
    for rate in instruction.get("doseAndRate", ()):
        kind = f" ({words})" if (words := readable(rate.get("type"))) else ""
        yield from (f"{words}{kind}" for words in (measure(rate, "dose"), measure(rate, "rate")) if words)
    concepts = (instruction.get("route"), instruction.get("site"), instruction.get("method"))
    yield from map(readable, (*concepts, *instruction.get("additionalInstruction", ())))
    timing = instruction.get("timing", {})
    yield from (rhythm(timing), french_period(timing.get("repeat", {}).get("boundsPeriod")))
    yield instruction.get("patientInstruction", "")


def _maximums(instruction: Resource) -> Iterator[str]:
    """What a Dosage never exceeds, by period, administration or lifetime."""
    if ratio := instruction.get("maxDosePerPeriod"):
        yield _words(ratio)
    for name, over in (("maxDosePerAdministration", "par prise"), ("maxDosePerLifetime", "au total")):
        if most := instruction.get(name):
            yield f"{quantity(most)} {over}"


def as_needed(element: Resource) -> str:
    """asNeeded[x] in words; nothing for what is not conditional."""
    if "asNeededCodeableConcept" in element:
        return f"{_AS_NEEDED} : {readable(element['asNeededCodeableConcept'])}".removesuffix(" : ")
    return _AS_NEEDED if element.get("asNeededBoolean") else ""


def _interval(repeat: Resource) -> str:
    if "period" not in repeat:
        return ""
    every, code = _at_most(repeat, "period"), repeat.get("periodUnit", "")
    one, several = _UNITS.get(code, (code, f"par {{}} {code}"))
    return f"par {one}" if repeat["period"] == 1 and "periodMax" not in repeat else several.format(every)


def remarks_block(remarks: list[str]) -> list[Node]:
    """Lines that have no element in CDA, each once, under their own heading; a final web address is a link."""
    if not remarks:
        return []
    items = ([_linked(remark)] for remark in dict.fromkeys(remarks))
    return [paragraph("Mentions complémentaires"), bullet_list(items)]


def _linked(remark: str) -> Node:
    url = remark.rsplit(" ", 1)[-1]
    return Element("linkHtml", {"href": url}, [remark]) if url.startswith("https://") else remark
