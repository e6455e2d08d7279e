"""Disks that fail for real: one that loses power and small ones that fill up. For root on Linux, elsewhere a skip."""

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.acceptance.ledger import wait_until

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = (2).to_bytes(4, sys.byteorder)
"""Not even the journal's last commit is written: what was not flushed is gone."""

REQUIRED = "SNOWLEDGER_TORTURE_REQUIRED"
"""Set by `make torture`: what cannot be tried here is then a failure, not a skip."""


class PowerLossDisk:
    """An ext4 file system in a file, mounted at ``path`` until it loses power."""

    def __init__(self, folder: Path, megabytes: int = 512) -> None:
        self.path = folder / "disk"
        self._image = folder / "disk.ext4"
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(megabytes * 1024**2)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self.restore_power()

    def lose_power(self) -> None:
        """From now on every write and flush fails, and what was not flushed is gone when power is back."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def restore_power(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.path))

    def unmount(self) -> None:
        _unmount(self.path)


@contextlib.contextmanager
def power_loss_disk(folder: Path) -> Iterator[PowerLossDisk]:
    """Leaves nothing mounted."""
    _require_root()
    try:
        disk = PowerLossDisk(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        _cannot(f"no ext4 file system can be mounted from a file: {getattr(error, 'stderr', '') or error}")
    try:
        yield disk
    finally:
        _unmount(disk.path)


@contextlib.contextmanager
def small_disk(path: Path, *options: str) -> Iterator[Path]:
    """A tmpfs with these mount options, such as ``size=8m``."""
    _require_root()
    path.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", ",".join(("mode=0700", *options)), "tmpfs", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        _cannot(f"no tmpfs can be mounted: {getattr(error, 'stderr', '') or error}")
    try:
        yield path
    finally:
        _unmount(path)


def _require_root() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        _cannot("only root on Linux may mount a disk that fails")


def _cannot(reason: str) -> NoReturn:
    message = f"NOT TRIED: {reason}"
    if os.environ.get(REQUIRED):
        pytest.fail(message)
    pytest.skip(message)


def _unmount(path: Path) -> None:
    """Nobody may have a file open; one who was just killed may still have, for a moment."""
    try:
        wait_until(lambda: not os.path.ismount(path) or _ended("umount", str(path)), "the disk is unmounted")
    except AssertionError:
        _run("umount", "--lazy", str(path))  # it goes with the last who uses it
        raise


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _ended(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
