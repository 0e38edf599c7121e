"""Settings: read from file and environment, refused with a name, documented."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from relais.mappings.context import Deployment
from relais.server.settings import Settings, SettingsError, reference

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "relais.toml"
    file.write_text("port = 9000\nmss_starttls = false\nsender_timeout = 2\n")
    loaded = Settings.load({"RELAIS_CONFIG": str(file), "RELAIS_PORT": "9001"})
    assert (loaded.port, loaded.mss_starttls, loaded.sender_timeout) == (9001, False, 2.0)
    assert loaded.fhir_base == "http://127.0.0.1:9001/fhir"


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.of({"port": "eighty", "mss_starttls": "perhaps", "problem_codes": "2030", "colour": "red"})
    assert {issue.path for issue in refused.value.issues} == {"port", "mss_starttls", "problem_codes", "colour"}


def test_types_of_notification_documents() -> None:
    assert Settings().deployment == replace(Deployment(), practice_setting="AMBULATOIRE", facility_type="SA07")
    chosen = Settings.of({"notification_types": "SOR=86531-1, NOT = 28653-4"}).deployment.notification_types
    assert chosen == (("SOR", "86531-1"), ("NOT", "28653-4"))
    with pytest.raises(SettingsError, match="name=value is expected") as refused:
        Settings.of({"notification_types": "SOR"})
    assert refused.value.issues[0].path == "notification_types"


def test_a_misspelt_variable_is_refused() -> None:
    with pytest.raises(SettingsError, match="unknown setting ins_enviroment"):
        Settings.load({"RELAIS_INS_ENVIROMENT": "production"})


@pytest.mark.parametrize("content", ["port = ", "[[[["])
def test_a_file_that_is_not_toml(tmp_path: Path, content: str) -> None:
    file = tmp_path / "relais.toml"
    file.write_text(content)
    with pytest.raises(SettingsError, match="not TOML"):
        Settings.load({"RELAIS_CONFIG": str(file)})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        Settings.load({"RELAIS_CONFIG": str(tmp_path / "none.toml")})


def test_the_reference_is_what_the_settings_are() -> None:
    assert DOCS.read_text(encoding="utf-8") == reference()
