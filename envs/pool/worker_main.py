"""The program of a worker process: reads commands from a socket, runs them one after the other, and answers each at once.

A reply leaves as soon as its command is done, so that the parent always knows which command a hung or dead worker was at.
Two frames differ: the first holds the environment's maker, and an end of the stream means: close the environments and end.
Messages are pickled: nobody but parent and worker holds an end of the socket.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import threading
from typing import Any

from envs.common.ending import left_to_parent
from envs.common.streams import guarded
from envs.pool.seats import Outcome, Seats, describe

HEADER = struct.Struct("<I")


def frame(message: Any) -> bytes:
    """A message with its length in front."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(body)) + body


@guarded()
def main(descriptor: int) -> None:
    """Serve the socket `descriptor` until the parent closes it or dies."""
    left_to_parent()
    os.set_inheritable(descriptor, False)
    _die_with_parent()
    channel = socket.socket(fileno=descriptor)
    try:
        seats = Seats(pickle.loads(_receive(channel)))
        seats.warm_up()
    except BaseException as error:
        channel.sendall(frame((False, describe(error))))
        return
    channel.sendall(frame((True, None)))
    while body := _receive(channel):
        for command in pickle.loads(body):
            outcome = seats.run(command)
            if command[0] != "release":
                channel.sendall(_reply(outcome, seats, command[1]))
    seats.close()
    # Leaving now would end the lifeline before it ends what the environments started.
    os.killpg(os.getpid(), signal.SIGKILL)


def _reply(outcome: Outcome, seats: Seats, seat: int) -> bytes:
    try:
        return frame(outcome)
    except Exception as error:  # an info that cannot travel is this episode's fault, not the worker's
        seats.drop(seat)
        message, trace = describe(error)
        return frame((False, (f"the answer cannot be sent to another process: {message}", trace)))


def _receive(channel: socket.socket) -> bytes:
    """The next frame's body; empty at the end of the stream."""
    header = channel.recv(HEADER.size, socket.MSG_WAITALL)
    if len(header) < HEADER.size:
        return b""
    return channel.recv(HEADER.unpack(header)[0], socket.MSG_WAITALL)


def _die_with_parent() -> None:
    """End this process and its children when the parent is gone, even while an environment hangs.

    Standard input is a pipe of which only the parent holds the other end, so reading it returns when the parent is dead.
    """
    lifeline = os.dup(0)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)

    def watch() -> None:
        os.read(lifeline, 1)
        os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
