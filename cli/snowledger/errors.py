"""What a command may end with: an exit code, and one line that says why."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes beside 0. 2 is typer's, for a command line that it does not understand."""

    FAILED = 1
    """The command ran and the answer is no: lines rejected, a check failed, nothing there."""
    NOT_STARTED = 3
    """Settings or spool cannot be used. A supervisor should not restart: a person has to mend something."""
    HELD = 4
    """Another process holds the lock that this one needs; the message names it."""
    UNEXPECTED = 70
    """A defect of snowledger (``EX_SOFTWARE`` of sysexits.h)."""
    INTERRUPTED = 130
    """Ctrl-C (128 + SIGINT, as shells count)."""
    PIPE_CLOSED = 141
    """The reader of the output went away (128 + SIGPIPE)."""


class CommandError(Exception):
    """A command cannot go on; the message is for its user."""

    exit_code = ExitCode.FAILED


class StartError(CommandError):
    """A command cannot even begin."""

    exit_code = ExitCode.NOT_STARTED


class SettingsError(StartError):
    """A setting has a wrong value, or there is no such setting."""
