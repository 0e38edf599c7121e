"""Every official document of the pack, whatever the volet: examples, documents of HL7 v2 messages and of archives."""

from __future__ import annotations

from pathlib import Path

from relais.server.settings import Settings


def official_documents() -> dict[str, Path]:
    """Path by name inside the pack; nothing where the pack is absent."""
    folder = Settings.load().rules_folder
    if folder is None:
        return {}
    places = [
        *folder.glob("cda/examples/*.xml"),
        *(path for path in folder.glob("hl7v2/*/*") if path.suffix.lower() == ".xml"),
        *(path for path in folder.glob("xdm/*/IHE_XDM/*/*") if path.suffix.lower() == ".xml"),
    ]
    return {str(path.relative_to(folder)): path for path in sorted(places) if path.name != "METADATA.XML"}
