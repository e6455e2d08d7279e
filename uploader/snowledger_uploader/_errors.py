"""The uploader's errors: one base, and for each whether a retry can help."""

from __future__ import annotations


class UploaderError(Exception):
    """The uploader could not do its work."""

    transient = False
    """Whether the same work may succeed later without anybody changing anything."""


class WarehouseUnavailableError(UploaderError):
    """The warehouse did not answer, is locked or is out of space; the batch may or may not have been loaded.

    Look for its receipt before loading it again.
    """

    transient = True


class WarehouseRefusedError(UploaderError):
    """The warehouse cannot be used as it is (not a database, wrong permissions); somebody has to act."""


class AuthenticationNeededError(WarehouseRefusedError):
    """The warehouse does not accept the credentials: they are wrong, have expired, or are locked out."""


class BatchTooLargeError(UploaderError):
    """The warehouse has not enough memory for the batch, and nothing of it was loaded; a smaller one may fit."""


class MonitorError(UploaderError):
    """The address on which the uploader shall show how it goes cannot be used."""


class LockLostError(UploaderError):
    """The uploader's lock file was deleted or replaced, so a second uploader could start; this one must end.

    A restart takes the lock anew.
    """

    transient = True


class QueryFailedError(UploaderError):
    """A query cannot be answered; the message is for its owner: one line, without SQL and paths."""


class RowsRejectedError(UploaderError):
    """The warehouse rejected at least one row of the batch, and nothing of it was loaded."""


class UploadStoppedError(UploaderError):
    """The uploader was asked to stop before the batch was confirmed; its segments are still in the queue."""

    transient = True
