"""The warehouse's file: who may open it when, its names and permissions, and what cannot be used."""

import errno
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from tests.uploader.uploader_samples import ORIGIN, batch_of, loaded_lines, opened, rows, sample_lines

from snowledger_queue import OsFilesystem
from snowledger_uploader import DuckDBWarehouse, WarehouseRefusedError, WarehouseUnavailableError

HOLDER = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


@contextmanager
def held_by_another_program(path: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        yield
        holder.communicate(b"")


async def test_a_file_that_another_program_has_open_is_worth_a_retry(path: Path, tmp_path: Path) -> None:
    async with opened(path):
        pass
    warehouse = DuckDBWarehouse(path, tmp_path, ORIGIN)
    with held_by_another_program(path), pytest.raises(WarehouseUnavailableError, match=r"warehouse\.duckdb") as caught:
        await warehouse.open()
    assert caught.value.transient
    await warehouse.open()
    assert (await warehouse.load(batch_of(tmp_path, sample_lines(2)))).inserted == 2
    await warehouse.close()


async def test_a_file_that_is_no_database_is_refused_and_untouched(path: Path, tmp_path: Path) -> None:
    text = b"these are somebody's notes\n" * 1000
    path.write_bytes(text)
    with pytest.raises(WarehouseRefusedError, match="not a DuckDB database") as caught:
        await DuckDBWarehouse(path, tmp_path, ORIGIN).open()
    assert not caught.value.transient
    assert path.read_bytes() == text


async def test_the_names_of_its_files_are_durable_before_a_load_is_confirmed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []

    def sync_folder(_filesystem: OsFilesystem, folder: Path) -> None:
        assert path.with_name("warehouse.duckdb.wal").exists()
        synced.append(folder)

    monkeypatch.setattr(OsFilesystem, "sync_folder", sync_folder)
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(tmp_path, sample_lines(2)))
        assert synced == [tmp_path]


async def test_an_error_of_the_operating_system_is_worth_a_retry(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_filesystem: OsFilesystem, folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(folder))

    async with opened(path) as warehouse:
        batch = batch_of(tmp_path, sample_lines(2))
        monkeypatch.setattr(OsFilesystem, "sync_folder", fail)
        with pytest.raises(WarehouseUnavailableError, match="Input/output error"):
            await warehouse.load(batch)
        await warehouse.open()
        assert (await warehouse.find_receipt(batch.batch_id)) is not None


async def test_a_new_file_is_private(path: Path) -> None:
    async with opened(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["warehouse.duckdb", "team's ledger.db", "memory"])
async def test_the_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(tmp_path, sample_lines(2)))
    assert rows(path, "SELECT count(*) FROM activities.events") == [(3,)]
    assert rows(path, "SELECT count(*) FROM activities.insight_atoms") == [(0,)]


async def test_a_closed_warehouse_can_be_opened_by_another_program(path: Path, tmp_path: Path) -> None:
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(tmp_path, sample_lines(2)))
        await warehouse.close()
        with held_by_another_program(path):
            pass
        await warehouse.open()
        assert (await warehouse.load(batch_of(tmp_path, sample_lines(3)))).inserted == 1


@pytest.mark.parametrize("by", ["deletion", "another file"])
async def test_a_file_replaced_while_closed_gets_its_schema_again(path: Path, tmp_path: Path, by: str) -> None:
    batch = batch_of(tmp_path, sample_lines(2))
    async with opened(path) as warehouse:
        await warehouse.load(batch)
        await warehouse.close()
        path.unlink()
        if by == "another file":
            duckdb.connect(str(path)).close()
        await warehouse.open()
        assert (await warehouse.load(batch)).inserted == 2


async def test_any_folder_name_can_hold_the_queue(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "id=1 [a-b]* ? json=2 é'"
    folder.mkdir()
    (folder / "payload=3").mkdir()
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(folder / "payload=3", sample_lines(2)))
    assert loaded_lines(path) == sample_lines(2)


async def test_an_empty_file_is_no_obstacle(path: Path, tmp_path: Path) -> None:
    path.touch()  # what a full disk leaves of a file that was being created
    async with opened(path) as warehouse:
        await warehouse.load(batch_of(tmp_path, sample_lines(2)))
    assert loaded_lines(path) == sample_lines(2)


@pytest.mark.parametrize("by", ["nothing", "another"])
async def test_a_batch_is_not_confirmed_when_its_file_was_replaced_under_it(
    path: Path, tmp_path: Path, by: str
) -> None:
    first, second = batch_of(tmp_path, sample_lines(2)), batch_of(tmp_path, sample_lines(2, start=2))
    async with opened(path) as warehouse:
        await warehouse.load(first)
        path.unlink()
        if by == "another":
            path.write_bytes(b"")
        with pytest.raises(WarehouseUnavailableError, match="deleted or replaced"):
            await warehouse.load(second)
        with pytest.raises(WarehouseUnavailableError, match="deleted or replaced"):
            await warehouse.find_receipt(second.batch_id)
        await warehouse.close()
        await warehouse.open()
        assert await warehouse.find_receipt(second.batch_id) is None
        assert (await warehouse.load(second)).inserted == 2
    assert loaded_lines(path) == sample_lines(2, start=2)
