"""The verdict of the fhir.resources models on a resource: independent of Relais' own check, and of release R4B.

For the types Relais serves, R4B differs from R4 only in what Extension.value[x] may hold besides.
"""

from __future__ import annotations

from typing import Any

from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError


def refusals(resource: dict[str, Any]) -> list[str]:
    """What the model of the resource's type refuses, one line for each place; nothing when it accepts."""
    model = get_fhir_model_class(resource["resourceType"])
    try:
        model.model_validate(resource)
    except ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return []
