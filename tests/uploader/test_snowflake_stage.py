"""The folder of the stage that is a spool's own."""

import platform
import re
import shutil
import stat
from pathlib import Path

import pytest
from tests.fake_snowflake.control import FakeSnowflake
from tests.uploader.backends import emptied, ready_snowflake
from tests.uploader.snowflake_samples import opened
from tests.uploader.uploader_samples import batch_of, sample_lines

from snowledger_queue import Spool, open_spool
from snowledger_uploader import WarehouseUnavailableError
from snowledger_uploader._snowflake._stage import stage_folder

__all__ = ["ready_snowflake"]


def test_it_is_made_once_privately_and_is_another_for_each_spool(spool: Spool, tmp_path: Path) -> None:
    made = stage_folder(spool)
    assert re.fullmatch("[0-9a-f]{16}", made)
    assert stage_folder(open_spool(spool.home)) == made
    assert stat.S_IMODE(spool.stage_folder.stat().st_mode) == 0o600
    assert stage_folder(open_spool(tmp_path / "other")) != made


@pytest.mark.parametrize("content", [b"", b"0123", b"../../etc/passwd", b"\xff" * 16, b"0123456789ABCDEF"])
def test_a_file_without_a_name_is_replaced(spool: Spool, content: bytes) -> None:
    spool.stage_folder.write_bytes(content)
    made = stage_folder(spool)
    assert made.encode() != content
    assert stage_folder(spool) == made


def test_a_name_that_cannot_be_kept_is_no_name(spool: Spool) -> None:
    spool.stage_folder.mkdir()
    with pytest.raises(WarehouseUnavailableError, match="stage_folder"):
        stage_folder(spool)


async def test_what_an_uploader_left_is_removed_after_host_and_spool_got_other_names(
    ready_snowflake: FakeSnowflake, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied(ready_snowflake, tmp_path / "home", monkeypatch)
    async with opened(spool) as killed:
        await killed.load(batch_of(tmp_path, sample_lines(3)))
        killed._staged = 0  # so that it leaves its file
    moved = Path(shutil.move(spool.home, tmp_path / "elsewhere"))
    monkeypatch.setattr(platform, "node", lambda: "renamed")
    async with opened(open_spool(moved)) as warehouse:
        assert warehouse._session is not None
        assert len((await warehouse._session.run("LIST @_BATCHES")).rows) == 1
        await warehouse.rest(over=False)
        await warehouse.open()
        assert warehouse._session is not None
        assert (await warehouse._session.run("LIST @_BATCHES")).rows == []
