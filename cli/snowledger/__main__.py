"""``snowledger`` and ``python -m snowledger``: run a command; whatever happens, its user sees one line."""

from __future__ import annotations

import os
import sys
import traceback

from . import logs
from .app import app
from .errors import CommandError, ExitCode
from .redaction import redacted
from .terminal import printable


def main() -> None:
    """Run the command line and leave with its exit code; no traceback unless SNOWLEDGER_DEBUG is set."""
    sys.exit(_run())


def _run() -> int | str | None:
    try:
        try:
            app(prog_name="snowledger")
        except SystemExit as end:
            # Output that is still buffered may find its reader gone: better now than when Python ends.
            sys.stdout.flush()
            return end.code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # What remains in the buffer is flushed at exit, and has to go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - the one place that turns any failure into a line
        return _explain(error)
    return 0


def _explain(error: BaseException) -> int:
    """Say what went wrong in one line and choose the exit code."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if os.environ.get("SNOWLEDGER_DEBUG", "0") not in {"", "0"}:
        sys.stderr.write(redacted("".join(traceback.format_exception(error))))
    code, message = _classify(error)
    line = redacted(" ".join(message.split()))
    if not logs.tell(line):
        sys.stderr.write(f"snowledger: {printable(line)}\n")
    return code


def _classify(error: BaseException) -> tuple[int, str]:
    from snowledger_queue import LockHeldError, QueueError, SpoolError

    # Only a command that loaded the uploader (and with it a warehouse driver) can have raised its errors.
    uploader_error: type[Exception] | tuple[()] = getattr(sys.modules.get("snowledger_uploader"), "UploaderError", ())
    message = str(error)
    match error:
        case CommandError():
            code = error.exit_code
        case LockHeldError():
            code = ExitCode.HELD
        case SpoolError():
            code = ExitCode.NOT_STARTED
        case OSError(filename=str(path), strerror=str(reason)):
            code, message = ExitCode.FAILED, f"{path}: {reason}"
        case QueueError() | OSError():
            code = ExitCode.FAILED
        case _ if isinstance(error, uploader_error):
            code = ExitCode.FAILED
        case _:
            code = ExitCode.UNEXPECTED
            message = f"unexpected {type(error).__name__}: {message}; run with SNOWLEDGER_DEBUG=1 for the traceback"
    return code, message


if __name__ == "__main__":
    main()
