"""`rig panel`: the operator's page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rig.cli.terminal import say
from rig.errors import UsageProblem

HELP = "The operator's page, in a browser. Example: rig panel, then open http://127.0.0.1:8080"


def panel(
    out: Annotated[Path, typer.Option(help="Folder of the runs to show.")] = Path("runs"),
    host: Annotated[str, typer.Option(help="Address; for others, with TLS and a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one.")] = 8080,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM, without a password.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File (0600) with the token to log in with.")] = None,
    bench: Annotated[
        Path | None,
        typer.Option("--bench", metavar="FILE", help="The bench whose [records] url stations share: their page too."),
    ] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="That database itself.")] = None,
) -> None:
    try:
        from rig.panel.serve import door, listen, serve
    except ModuleNotFoundError as missing:
        raise UsageProblem(
            f"the page needs the extra \"panel\" ({missing.name} is missing): pip install -e '.[panel]'"
        ) from None
    access = door(host, tls_cert, tls_key, token_file)
    if out.exists() and not out.is_dir():
        raise UsageProblem(f"{out} is not a folder of runs")
    database = _database(out, bench, url)
    with listen(host, port) as place:
        name = f"[{host}]" if ":" in host else host
        scheme = "https" if access.secure else "http"
        say(f"Panel of {out}: {scheme}://{name}:{place.getsockname()[1]}/ (Ctrl-C ends it; the runs go on)")
        serve(out, access, place, tls_cert, tls_key, database)


def _database(out: Path, bench: Path | None, url: str | None) -> str | None:
    from rig.bench.bench import read_bench
    from rig.records.database import url_of

    if bench is not None and url is not None:
        raise UsageProblem("--url and --bench both name a database: give one of the two")
    if bench is None:
        return url
    configured = read_bench(bench).config.records.url
    if configured is None:
        raise UsageProblem(f"{bench} names no database: a page over all stations needs its [records] url")
    return url_of(out, configured, bench.absolute().parent)
