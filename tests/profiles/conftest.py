"""The official packages and a validator over them, made once for all tests of profiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from relais.profiles.packages import Registry, load
from relais.profiles.validator import Validator


@pytest.fixture(scope="session")
def packages(cisis: Path) -> Path:
    """Folder of the official FHIR packages."""
    folder = cisis / "fhir"
    if not folder.is_dir():
        pytest.skip("official FHIR packages not found")
    return folder


@pytest.fixture(scope="session")
def registry(packages: Path) -> Registry:
    """Every official package."""
    return load(packages)


@pytest.fixture(scope="session")
def validator(registry: Registry) -> Validator:
    """A validator over every official package."""
    return Validator(registry)
