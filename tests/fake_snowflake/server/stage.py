"""Files in internal stages, kept in a local folder; PUT, LIST and REMOVE."""

import datetime as dt
import hashlib
import re
import shutil
from collections.abc import Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from tests.fake_snowflake.server import results
from tests.fake_snowflake.server.errors import missing, syntax_error
from tests.fake_snowflake.server.options import Path as StagePath
from tests.fake_snowflake.server.options import flag, statement_options
from tests.fake_snowflake.server.results import Outcome
from tests.fake_snowflake.server.sessions import Session

# The address under which clients store files: the driver thinks it is a bucket of Google's.
BUCKET = "stage"
_PUT = re.compile(r"PUT\s+('(?:[^']|'')+'|\S+)\s+('@[^']+'|@\S+)(.*)", re.IGNORECASE | re.DOTALL)


class StageFiles:
    """The files of all stages of an account."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        # What a client said about a file it stored, told when it asks whether the file is there.
        self.headers: dict[Path, dict[str, str]] = {}

    def folder(self, stage: tuple[str, str, str]) -> Path:
        return self._root.joinpath(*stage)

    def key(self, at: StagePath) -> str:
        return "/".join((*at.stage, at.path)).rstrip("/") + "/"

    def local(self, key: str) -> Path | None:
        """The file for a key that a client sent; None if it would lie outside."""
        path = (self._root / key).resolve()
        return path if path.is_relative_to(self._root.resolve()) else None

    def store(self, key: str, body: bytes, headers: dict[str, str]) -> bool:
        path = self.local(key)
        if not path:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        self.headers[path] = headers
        return True

    def files(self, at: StagePath) -> Iterator[tuple[str, Path]]:
        """Names within the stage and files whose names begin with a path."""
        folder = self.folder(at.stage)
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name.startswith(at.path):
                yield name, path

    def empty(self, stage: tuple[str, ...]) -> None:
        """Remove all files of a stage, or of all stages of a schema or database."""
        shutil.rmtree(self._root.joinpath(*stage), ignore_errors=True)

    def listed(self, at: StagePath, pattern: str | None) -> Outcome:
        rows = [
            [f"{at.stage[2].lower()}/{name}", path.stat().st_size, md5(path), _modified(path)]
            for name, path in self._matching(at, pattern)
        ]
        return Outcome.of_rows(results.LIST, ["name", "size", "md5", "last_modified"], rows)

    def removed(self, at: StagePath, pattern: str | None) -> Outcome:
        rows = []
        for name, path in self._matching(at, pattern):
            path.unlink()
            rows.append([f"{at.stage[2].lower()}/{name}", "removed"])
        return Outcome.of_rows(results.REMOVE, ["name", "result"], rows)

    def _matching(self, at: StagePath, pattern: str | None) -> list[tuple[str, Path]]:
        return [(name, path) for name, path in self.files(at) if pattern is None or re.fullmatch(pattern, name)]


def check_stage(session: Session, stage: tuple[str, str, str]) -> None:
    """Raise SnowflakeError if there is no such stage."""
    known = session.reader.execute(
        "SELECT count(*) FROM _fs_global._fs_information_schema._fs_stages"
        " WHERE database_name = ? AND schema_name = ? AND name = ?",
        list(stage),
    ).fetchone()
    if not known or not known[0]:
        raise missing("Stage", ".".join(stage))


def put_target(sql: str) -> str:
    """The stage that a PUT names."""
    return _put_parts(sql)[1]


def put_data(sql: str, key: str, address: str) -> dict[str, Any]:
    """Where a client shall upload files to: the driver speaks with this server as with Google's storage."""
    source, _, rest = _put_parts(sql)
    options = statement_options(rest)
    return {
        "command": "UPLOAD",
        "operation": "Node",
        "src_locations": [source.removeprefix("file://")],
        "parallel": int(str(options.get("PARALLEL", "4"))),
        "threshold": 209_715_200,  # Snowflake's: files larger than 200 MB are sent in parts where the cloud allows
        "autoCompress": flag(options.get("AUTO_COMPRESS"), default=True),
        "sourceCompression": str(options.get("SOURCE_COMPRESSION", "auto_detect")).lower(),
        "overwrite": flag(options.get("OVERWRITE"), default=False),
        "clientShowEncryptionParameter": False,
        "stageInfo": {
            "locationType": "GCS",
            "location": f"{BUCKET}/{key}",
            "path": "",
            "region": "local",
            "creds": {"GCS_ACCESS_TOKEN": "fake"},
            "endPoint": address,
            "presignedUrl": None,
            "isClientSideEncrypted": False,
        },
    }


def _put_parts(sql: str) -> tuple[str, str, str]:
    match = _PUT.fullmatch(sql)
    if not match:
        raise syntax_error("PUT needs a file and a stage")
    source = match[1][1:-1].replace("''", "'") if match[1].startswith("'") else match[1]
    return source, match[2], match[3]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _modified(path: Path) -> str:
    return format_datetime(dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC), usegmt=True)
