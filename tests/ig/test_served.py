"""`/ig`: static files of one folder, over real sockets."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from relais.server.app import create_app
from relais.server.settings import Settings
from support.facade import RunningFacade, running_facade


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    site = folder / "site"
    site.mkdir()
    (folder / "secret.html").write_text("outside")
    (site / "index.html").write_text("<h1>Guide</h1>", encoding="utf-8")
    (site / "style.css").write_text("h1 {}")
    (site / "CarePlan-a.json").write_text("{}")
    (site / "package.tgz").write_bytes(b"\x1f\x8b")
    (site / "notes.txt").write_text("not of a guide")
    return folder


@pytest.fixture(scope="module")
def facade(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacade]:
    with running_facade(
        tmp_path_factory.mktemp("facade"), guide_folder=folder / "site", fhir_packages="none"
    ) as running:
        yield running


def ask(facade: RunningFacade, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request with the target exactly as written."""
    connection = http.client.HTTPConnection("127.0.0.1", facade.port, timeout=30)
    try:
        connection.request(method, target, headers={name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("target", "media_type"),
    [
        ("/ig/", "text/html; charset=utf-8"),
        ("/ig/index.html", "text/html; charset=utf-8"),
        ("/ig/style.css", "text/css; charset=utf-8"),
        ("/ig/CarePlan-a.json", "application/fhir+json"),
        ("/ig/package.tgz", "application/gzip"),
    ],
)
def test_files_are_shown_with_their_type(facade: RunningFacade, target: str, media_type: str) -> None:
    status, headers, body = ask(facade, target)
    assert (status, headers["Content-Type"]) == (200, media_type)
    assert body
    assert headers["Cache-Control"] == "public, max-age=300"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_address_without_its_slash_leads_to_the_front_page(facade: RunningFacade) -> None:
    status, headers, _ = ask(facade, "/ig")
    assert (status, headers["Location"]) == (308, "ig/")


def test_what_has_not_changed_is_not_sent_again(facade: RunningFacade) -> None:
    _, headers, _ = ask(facade, "/ig/style.css")
    status, _, body = ask(facade, "/ig/style.css", If_None_Match=headers["ETag"])
    assert (status, body) == (304, b"")


@pytest.mark.parametrize(
    "target",
    [
        "/ig/../secret.html",
        "/ig/%2e%2e/secret.html",
        "/ig/..%2fsecret.html",
        "/ig/..%5csecret.html",
        "/ig//etc/passwd",
        "/ig/%2fetc/passwd.html",
        "/ig/%00.html",
        "/ig/notes.txt",
        "/ig/absent.html",
        "/ig/index.html/",
    ],
)
def test_nothing_else_is_shown(facade: RunningFacade, target: str) -> None:
    status, headers, body = ask(facade, target)
    assert status == 404
    assert headers["Cache-Control"] == "no-store"
    assert b"outside" not in body


def test_an_unknown_page_is_said_in_french(facade: RunningFacade) -> None:
    status, headers, body = ask(facade, "/ig/absent.html")
    assert (status, headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert b"Page inconnue" in body


def test_nothing_is_written(facade: RunningFacade) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert ask(facade, "/ig/index.html", method)[0] == 405


def test_a_facade_without_guide_says_so_in_french(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    settings = {"guide_folder": str(tmp_path / "nowhere"), "fhir_packages": "none", "database_url": url}
    app = create_app(Settings.of(settings))
    answer = app.test_client().get("/ig/")
    app.extensions["relais"].store.close()
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "Le guide n'est pas construit" in answer.get_data(as_text=True)
