"""Fixtures every test may use; property tests draw the same examples at every run.

`pytest --hypothesis-profile=explore` draws new ones: a search for faults, not a gate.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from relais.server.settings import Settings
from support.judged import judge  # noqa: F401 - a fixture
from support.rules import validator, validator_of_2023_12  # noqa: F401 - fixtures

settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def cisis() -> Path:
    """Folder of the official CI-SIS rules and examples; tests that judge by them skip where it is absent."""
    folder = Settings.load().rules_folder
    if folder is None:
        pytest.skip("official CI-SIS rules not found: set RELAIS_CISIS_PACK to the folder that holds cda/")
    return folder
