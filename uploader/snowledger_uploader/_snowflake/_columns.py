"""A result as Snowflake sends it: what its columns are, and its values as streams of Arrow."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """A column of a result."""

    name: str
    type: str
    """As Snowflake stores it: FIXED, REAL, TEXT, TIMESTAMP_NTZ …"""
    precision: int
    scale: int
    """Digits after the point; of a time, of its seconds."""


class ArrowStream:
    """A part of a result as Arrow's C stream, for whatever takes ``__arrow_c_stream__``; may be read once.

    The values are as Snowflake sends them: a number with a scale is an integer or decimal with the metadata ``scale``,
    and a timestamp may be a struct of ``epoch`` and ``fraction``. Integers are as small as those of the part allow.
    """

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The capsule of the Arrow PyCapsule interface."""
        import ctypes

        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(self._pointer, b"arrow_array_stream", None)
