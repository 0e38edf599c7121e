"""FHIRPath (http://hl7.org/fhirpath/N1, with the FHIR R4 additions) compiled into functions over parsed JSON."""

from relais.profiles.fhirpath.engine import Environment, Expression, compile_expression
from relais.profiles.fhirpath.items import Item
from relais.profiles.fhirpath.scope import FhirPathError
from relais.profiles.fhirpath.syntax import FhirPathSyntaxError

__all__ = ["Environment", "Expression", "FhirPathError", "FhirPathSyntaxError", "Item", "compile_expression"]
