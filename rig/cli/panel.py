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
    with listen(host, port) as place:
        name = f"[{host}]" if ":" in host else host
        scheme = "https" if access.secure else "http"
        say(f"Panel of {out}: {scheme}://{name}:{place.getsockname()[1]}/ (Ctrl-C ends it; the runs go on)")
        serve(out, access, place, tls_cert, tls_key)
