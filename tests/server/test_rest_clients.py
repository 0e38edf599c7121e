"""Clients that others wrote, against the running server: fhirpy (both kinds), fhir-kit-client, requests, curl."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
from fhirpy import AsyncFHIRClient, SyncFHIRClient
from fhirpy.base.exceptions import ResourceNotFound

from support.facade import RunningFacade

SYSTEM = "urn:oid:1.2.3"
FHIR_KIT_CLIENT = "fhir-kit-client@2.0.3"


def patient(value: str) -> dict[str, Any]:
    return {"identifier": [{"system": SYSTEM, "value": value}], "name": [{"family": "Essai"}], "gender": "female"}


def test_fhirpy(facade: RunningFacade) -> None:
    client = SyncFHIRClient(facade.base)
    saved = client.resource("Patient", **patient("fhirpy-1"))
    saved.save()
    saved.patch(gender="other")
    assert client.reference("Patient", saved.id).to_resource()["gender"] == "other"
    found = client.resources("Patient").search(identifier=f"{SYSTEM}|fhirpy-1").sort("-_lastUpdated").limit(1)
    assert [one.id for one in found.fetch()] == [saved.id]
    for number in range(5):
        client.resource("Flag", status="active", code={"text": str(number)}, subject=saved.to_reference()).save()
    flags = client.resources("Flag").search(patient=saved.id).limit(2)
    assert len(flags.fetch_all()) == 5
    mine = client.resources("Patient").search(identifier="fhirpy-1")
    assert set(mine.elements("gender").fetch()[0]) >= {"resourceType", "id", "gender"}
    assert "name" not in mine.elements("gender").fetch()[0]
    with_flags = mine.revinclude("Flag", "patient", recursive=True).fetch_raw()
    assert len(with_flags["entry"]) == 6
    changed, created = mine.update(client.resource("Patient", **patient("fhirpy-1"), active=True))
    assert (changed.id, created) == (saved.id, False)
    assert mine.patch(gender="female")["active"] is True
    assert client.execute(f"Patient/{saved.id}/$everything", method="get")["resourceType"] == "Bundle"
    saved.delete()
    with pytest.raises(ResourceNotFound):
        client.reference("Patient", "nobody").to_resource()


def test_fhirpy_async(facade: RunningFacade) -> None:
    async def journey() -> tuple[str, int, list[str]]:
        client = AsyncFHIRClient(facade.base)
        saved = client.resource("Patient", **patient("fhirpy-2"))
        await saved.save()
        await saved.patch(gender="male")
        read = await client.reference("Patient", saved.id).to_resource()
        count = await client.resources("Patient").search(identifier="fhirpy-2").count()
        found = await client.resources("Patient").search(identifier="fhirpy-2").fetch_all()
        return read["gender"], count, [one.id for one in found] + [saved.id]

    gender, count, ids = asyncio.run(journey())
    assert (gender, count, ids[0]) == ("male", 1, ids[1])


_JOURNEY = """
import { Client } from 'fhir-kit-client';
const client = new Client({ baseUrl: process.argv[2] });
const identifier = [{ system: 'urn:oid:1.2.3', value: process.argv[3] }];
const said = {};
const statement = await client.capabilityStatement();
said.statement = statement.resourceType;
const created = await client.create({ resourceType: 'Patient', body: { resourceType: 'Patient', identifier } });
const id = created.id;
said.read = (await client.read({ resourceType: 'Patient', id })).id === id;
said.vread = (await client.vread({ resourceType: 'Patient', id, version: '1' })).meta.versionId;
const updated = await client.update({ resourceType: 'Patient', id, body: { ...created, gender: 'male' } });
said.update = updated.meta.versionId;
const jsonPatch = [{ op: 'replace', path: '/gender', value: 'other' }];
said.patch = (await client.patch({ resourceType: 'Patient', id, jsonPatch })).gender;
const searchParams = { identifier: process.argv[3] };
said.search = (await client.resourceSearch({ resourceType: 'Patient', searchParams })).entry.length;
said.post = (await client.resourceSearch({
  resourceType: 'Patient', searchParams, options: { postSearch: true } })).entry.length;
const body = { resourceType: 'Bundle', type: 'transaction', entry: [1, 2, 3].map(() => (
  { request: { method: 'POST', url: '/Patient/' }, resource: { resourceType: 'Patient', identifier } })) };
said.transaction = (await client.transaction({ body })).entry.length;
const bundle = await client.resourceSearch({ resourceType: 'Patient', searchParams: { ...searchParams, _count: 2 } });
const next = await client.nextPage({ bundle });
said.next = next.entry.length;
said.previous = (await client.prevPage({ bundle: next })).entry.map((one) => one.resource.id).join()
  === bundle.entry.map((one) => one.resource.id).join();
said.system = (await client.systemSearch({ searchParams: { _id: id } })).entry.length;
said.history = (await client.history({ resourceType: 'Patient', id })).total;
said.operation = (await client.operation({ name: 'everything', resourceType: 'Patient', id, method: 'GET' })).type;
const entry = [{ request: { method: 'GET', url: `Patient/${id}` } }];
said.batch = (await client.batch({ body: { resourceType: 'Bundle', type: 'batch', entry } })).type;
await client.delete({ resourceType: 'Patient', id });
try { await client.read({ resourceType: 'Patient', id }); } catch (error) { said.gone = error.response.status; }
console.log(JSON.stringify(said));
"""


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which node finds fhir-kit-client."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no node on this machine")
    folder = tmp_path_factory.mktemp("node")
    command = [npm, "install", "--silent", "--no-audit", "--no-fund", FHIR_KIT_CLIENT]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot install {FHIR_KIT_CLIENT}: {type(error).__name__}")
    (folder / "journey.mjs").write_text(_JOURNEY)
    return folder


def test_fhir_kit_client(facade: RunningFacade, node_folder: Path) -> None:
    command = ["node", "journey.mjs", facade.base, "fhir-kit"]
    done = subprocess.run(command, cwd=node_folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "statement": "CapabilityStatement",
        "read": True,
        "vread": "1",
        "update": "2",
        "patch": "other",
        "search": 1,
        "post": 1,
        "transaction": 3,
        "next": 2,
        "previous": True,
        "system": 1,
        "history": 3,
        "operation": "searchset",
        "batch": "batch-response",
        "gone": 410,
    }


def test_requests_session(facade: RunningFacade) -> None:
    with requests.Session() as session:  # one connection throughout
        created = session.post(f"{facade.base}/Patient", json={"resourceType": "Patient"}, timeout=10)
        assert created.status_code == 201
        address = created.headers["Location"].partition("/_history")[0]
        for _ in range(3):
            assert session.get(address, timeout=10).json() == created.json()
        changed = session.put(address, json=created.json(), headers={"If-Match": created.headers["ETag"]}, timeout=10)
        assert changed.headers["ETag"] == 'W/"2"'
        assert session.delete(address, timeout=10).status_code == 204


def test_curl(facade: RunningFacade) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl on this machine")

    def run(*arguments: str) -> str:
        command = [curl, "--silent", "--show-error", "--fail", "--max-time", "20", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    xml = '<Patient xmlns="http://hl7.org/fhir"><gender value="female"/></Patient>'
    created = json.loads(run("-H", "Content-Type: application/fhir+xml", "-d", xml, f"{facade.base}/Patient"))
    address = f"{facade.base}/Patient/{created['id']}"
    assert 'value="female"' in run("--compressed", "-H", "Accept: application/fhir+xml", address)
    assert json.loads(run("--get", "--data-urlencode", f"_id={created['id']}", f"{facade.base}/Patient"))["total"] == 1
    assert run("-X", "DELETE", "-w", "%{http_code}", address) == "204"
