"""Builds the guide: `python -m ig`. SUSHI, snapshots, verdicts, `package.tgz`, site; docs/guide.md."""

from __future__ import annotations

from pathlib import Path

import click

from ig import facade, packing, sushi, tables
from ig.site import Site
from relais.server.settings import Settings


@click.command()
@click.option(
    "--packages",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="folder of the official FHIR packages; default: `fhir` in the CI-SIS folder (RELAIS_CISIS_PACK)",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=sushi.HERE / "build",
    help="where the package and the site go; default: ig/build",
)
def main(packages: Path | None, output: Path) -> None:
    """Build the implementation guide of Relais."""
    try:
        sushi.check_tools()
        guide = build(output, packages or _official())
    except sushi.GuideError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{len(guide.definitions)} definitions, {len(guide.examples)} examples: {output / 'package.tgz'}")
    click.echo(f"site: {output / 'site' / 'index.html'}")


def build(output: Path, packages: Path) -> packing.Guide:
    """Compile, finish, judge, pack and render. Raises GuideError with everything that is wrong."""
    compiled = sushi.compile_sources(output / "sushi", packages, tables.resources())
    guide = compiled[0]
    facade.state_levels(compiled)
    statement = facade.statement(guide, compiled, packages)
    compiled.append(statement)
    listed = {"reference": {"reference": packing.key(statement)}, "name": statement["title"], "exampleBoolean": False}
    guide["definition"]["resource"].append(listed)
    made = packing.assemble(compiled, packages)
    packing.judge(made)
    data = packing.pack(made)
    (output / "package.tgz").write_bytes(data)
    Site(made, output / "site").write(data)
    return made


def _official() -> Path:
    rules = Settings.load().rules_folder
    if rules is None or not (rules / "fhir").is_dir():
        raise sushi.GuideError("no official FHIR packages: set RELAIS_CISIS_PACK to the folder that holds fhir/")
    return rules / "fhir"


if __name__ == "__main__":
    main()
