"""Fixtures every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from relais.server.settings import Settings
from support.rules import validator, validator_of_2023_12  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def cisis() -> Path:
    """Folder of the official CI-SIS rules and examples; tests that judge by them skip where it is absent."""
    folder = Settings.load().rules_folder
    if folder is None:
        pytest.skip("official CI-SIS rules not found: set RELAIS_CISIS_PACK to the folder that holds cda/")
    return folder
