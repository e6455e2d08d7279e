"""Rotation: when a writer's active segment is sealed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._errors import UnsafeFileError

if TYPE_CHECKING:
    from pathlib import Path

    from ._filesystem import Filesystem


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """When an active segment is sealed, whichever comes first."""

    max_bytes: int = 16 * 1024 * 1024
    """Small enough to be read whole while draining, large enough that a backlog is few files."""
    max_age_s: float = 1.0
    """Bounds the ingestion lag: only sealed segments are drained."""
    behind: int = 60
    """When the segment that was sealed so many before the last one still waits, the drain is behind. At least 1."""
    behind_age_s: float = 10.0
    """Takes the place of a shorter ``max_age_s`` while the drain is behind: what waits for a minute waits for a sixth
    longer at most, and an outage of an hour leaves some 400 files of each writer, not 3,600, which every listing of the
    queue would meet."""


class Rotation:
    """The policy, applied to one writer's segments."""

    def __init__(self, policy: RotationPolicy, filesystem: Filesystem) -> None:
        self.max_bytes = policy.max_bytes
        self.max_age_s = policy.max_age_s
        """For the segment that is active now."""
        self._policy = policy
        self._filesystem = filesystem
        self._last: deque[Path] = deque(maxlen=policy.behind)

    def sealed(self, path: Path) -> None:
        """Note a segment that was sealed under this name."""
        # Not how many wait: the uploader may keep one back for long, and drain all others.
        behind = len(self._last) == self._last.maxlen and self._waits(self._last[0])
        self._last.append(path)
        policy = self._policy
        self.max_age_s = max(policy.max_age_s, policy.behind_age_s) if behind else policy.max_age_s

    def _waits(self, path: Path) -> bool:
        try:
            self._filesystem.look(path)
        except (OSError, UnsafeFileError):
            return False
        return True
