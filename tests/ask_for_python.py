"""In the place of Python, for a program of another parent, as a job of a batch system: a fork does the work.

Called with the address at which `forked.listen` waits, and what follows ``python``. The fork has the streams,
folder and environment of this process, gets its signals, and dies with it.
"""

import json
import os
import signal
import socket
import sys

status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as place, theirs:
    place.connect(sys.argv[1])
    request = {"arguments": sys.argv[2:], "cwd": os.getcwd(), "env": dict(os.environ), "has_children": True}
    socket.send_fds(place, [json.dumps(request).encode()], [theirs.fileno(), 0, 1, 2])
fork = int(status.recv(32))
signal.signal(signal.SIGTERM, lambda number, frame: os.kill(fork, number))
ended = int(status.recv(32))
if ended < 0:
    signal.signal(-ended, signal.SIG_DFL)
    os.kill(os.getpid(), -ended)
sys.exit(ended)
