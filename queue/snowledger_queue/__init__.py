"""The durable queue between the MCP server and the uploader.

Invariants:

1. An append is acknowledged only after its bytes are on stable storage: one write and one flush for all that wait
   (group commit). A new or renamed file's folder is flushed too.
2. A line is one JSON object, UTF-8, ended by one newline. Its first member is ``activity_id``, its last ``_crc``:
   the CRC-32 (zlib's) of all bytes of the line before ``,"_crc"``, as 8 lower-case hex digits. A segment is plain
   NDJSON::

       {"activity_id":"01936d1c…","ts":"2026-11-21T04:20:47.123456Z", … ,"_schema_version":1,"_crc":"5c0f3a19"}

3. Only the process that holds an active segment's lock writes it. A segment whose writer is gone is recovered: the
   torn tail (what follows the last newline) is cut and kept aside, the rest is sealed.
4. A sealed segment never changes. It is deleted only after the warehouse has confirmed the receipt of its batch.
5. A segment is sealed by size, by age while it is not empty, and at shutdown.
6. After a failed or short write the file is cut back to its last good offset before anything else is appended;
   after a failed flush that file is never written again.

Life of a segment: created and locked (``….open``) → appended to → sealed (renamed to ``…-<events>.ndjson``) →
verified and loaded by the uploader → deleted.
"""

from ._context_reader import ActivityCount, ContextReader, CustomerContext, Queued
from ._context_store import Changes, ContextStore, Folded
from ._context_tickets import CONTEXT_TICKETS, ContextTicket
from ._correlation import correlated, correlation_id
from ._dead_letter import CLASSES, DeadLetter, KeptFile, dead_letter
from ._dead_letter_counts import DeadLetterCounter, LetterCounts
from ._dead_letters import DeadLetterBox
from ._errors import (
    InvalidEventError,
    KillSwitchError,
    LockHeldError,
    QueueClosedError,
    QueueError,
    QueueFullError,
    QueueWriteError,
    SpoolError,
    StateError,
    TooManyTicketsError,
    UncertainWriteError,
    UnsafeFileError,
)
from ._event import Event, Origin, event_from_envelope, new_event, parse_timestamp, timestamp
from ._filesystem import File, Filesystem, OsFilesystem
from ._ids import derived_id, new_query_tag
from ._insights import Position
from ._json import check_text, check_value, parse_strict
from ._kill_switch import KillSwitch, KillSwitchUser
from ._line import damage, with_checksum
from ._load import Load, LoadMeter
from ._locks import ProcessLock, live_servers, lock_holder, server_presence
from ._names import SegmentName, parse_segment_name
from ._notify import Notifier
from ._platform import make_private_folder
from ._pressure import Pressure, PressureGauge, PressureLimits
from ._reader import DamagedLine, VerifiedSegment, intact_lines, verify_segment
from ._recall import INSIGHT_ACTIVITY, MAX_FEATURE_PREVIEW_BYTES, Atom, Contribution, RecentEvent, contribution
from ._recent import RECENT_EVENTS
from ._recovery import recover
from ._rotation import RotationPolicy
from ._rules import OPERATIONAL_CUSTOMER, RESERVED_ACTIVITIES, check_customer
from ._sampling import LOW_VALUE, SAMPLE_RATE, kept_by_sample, may_sample
from ._spool import SealedSegment, Spool, SpoolStatistics, open_spool, write_small_file
from ._status import BatchStatus, BreakerStatus, UploaderStatus, read_uploader_status, write_uploader_status
from ._tail import QueueTail
from ._ticket import Ticket
from ._ticket_retention import Pruned
from ._ticket_runner import QueryResult, RunnerTickets
from ._tickets import MAX_OPEN_TICKETS, Tickets
from ._writer import QueueWriter, WriterStatistics, open_writer

__all__ = [
    "CLASSES",
    "CONTEXT_TICKETS",
    "INSIGHT_ACTIVITY",
    "LOW_VALUE",
    "MAX_FEATURE_PREVIEW_BYTES",
    "MAX_OPEN_TICKETS",
    "OPERATIONAL_CUSTOMER",
    "RECENT_EVENTS",
    "RESERVED_ACTIVITIES",
    "SAMPLE_RATE",
    "ActivityCount",
    "Atom",
    "BatchStatus",
    "BreakerStatus",
    "Changes",
    "ContextReader",
    "ContextStore",
    "ContextTicket",
    "Contribution",
    "CustomerContext",
    "DamagedLine",
    "DeadLetter",
    "DeadLetterBox",
    "DeadLetterCounter",
    "Event",
    "File",
    "Filesystem",
    "Folded",
    "InvalidEventError",
    "KeptFile",
    "KillSwitch",
    "KillSwitchError",
    "KillSwitchUser",
    "LetterCounts",
    "Load",
    "LoadMeter",
    "LockHeldError",
    "Notifier",
    "Origin",
    "OsFilesystem",
    "Position",
    "Pressure",
    "PressureGauge",
    "PressureLimits",
    "ProcessLock",
    "Pruned",
    "QueryResult",
    "QueueClosedError",
    "QueueError",
    "QueueFullError",
    "QueueTail",
    "QueueWriteError",
    "QueueWriter",
    "Queued",
    "RecentEvent",
    "RotationPolicy",
    "RunnerTickets",
    "SealedSegment",
    "SegmentName",
    "Spool",
    "SpoolError",
    "SpoolStatistics",
    "StateError",
    "Ticket",
    "Tickets",
    "TooManyTicketsError",
    "UncertainWriteError",
    "UnsafeFileError",
    "UploaderStatus",
    "VerifiedSegment",
    "WriterStatistics",
    "check_customer",
    "check_text",
    "check_value",
    "contribution",
    "correlated",
    "correlation_id",
    "damage",
    "dead_letter",
    "derived_id",
    "event_from_envelope",
    "intact_lines",
    "kept_by_sample",
    "live_servers",
    "lock_holder",
    "make_private_folder",
    "may_sample",
    "new_event",
    "new_query_tag",
    "open_spool",
    "open_writer",
    "parse_segment_name",
    "parse_strict",
    "parse_timestamp",
    "read_uploader_status",
    "recover",
    "server_presence",
    "timestamp",
    "verify_segment",
    "with_checksum",
    "write_small_file",
    "write_uploader_status",
]
