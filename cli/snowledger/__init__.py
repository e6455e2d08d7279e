"""snowledger's command line: reads settings, wires the components and runs one command.

The commands are built on typer, and each loads only what it runs: ``serve`` never loads a warehouse driver,
and nothing loads rich that does not draw. Components get their configuration as one argument: nothing outside
this package reads a settings file or the environment.
"""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """Look ``__version__`` up when it is asked for: reading the metadata takes longer than most commands."""
    if name != "__version__":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("snowledger")
    except PackageNotFoundError:
        return "0+unknown"  # run from a source folder that was never installed
