"""Asks the process that commands are forked from for one (see ``command_server``).

As a script it stands for that command: whoever has to start a program gets it by the arguments
``[ADDRESS, *ARGUMENTS]``, with the script's own streams, folder and environment. Run with ``-I -S`` it
takes a fiftieth of the time of a new interpreter that loads the command.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from types import FrameType


def request(
    address: str,
    arguments: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    streams: Sequence[int],
    script: str | None = None,
) -> socket.socket:
    """Have a command run, or a script, with these standard streams.

    `told` then tells its process id, and in the end its exit code or, negative, the signal that ended it.
    """
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(address)
    asked = {"script": script, "arguments": arguments, "folder": folder, "environment": dict(environment)}
    text = json.dumps(asked).encode()
    socket.send_fds(channel, [len(text).to_bytes(4, "big")], streams)
    channel.sendall(text)
    return channel


def told(channel: socket.socket) -> int:
    data = channel.recv(4, socket.MSG_WAITALL)
    if len(data) < 4:
        raise ConnectionError("whatever the command was forked from has ended")
    return int.from_bytes(data, "big", signed=True)


def main() -> None:
    folder = os.getcwd()  # noqa: PTH109 - pathlib would take as long as all the rest
    channel = request(sys.argv[1], sys.argv[2:], folder, os.environ, [0, 1, 2])
    pid = told(channel)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        os.kill(pid, number)

    signal.signal(signal.SIGTERM, pass_on)
    for stream in (0, 1):
        os.close(stream)  # they are the command's now: it alone decides when their other ends see the end
    code = told(channel)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
