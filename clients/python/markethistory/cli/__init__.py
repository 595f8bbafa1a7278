"""The command line `markethistory`; needs the extra `cli`: `pip install 'markethistory[cli]'`."""

import os
import sys


def main() -> None:
    """The entry point."""
    # What gRPC itself writes to standard error is told by our own errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from markethistory.cli.app import app  # noqa: PLC0415 -- typer and rich come with an extra
    except ModuleNotFoundError as missing:
        sys.exit(f"markethistory: {missing.name} is missing: pip install 'markethistory[cli]'")
    app()
