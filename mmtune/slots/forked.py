"""What a local Ray starts for each of its processes: asks the fork server for one and ends, or starts it as Ray would.

It stands in the place of Ray's own ``setup_worker.py`` and imports little: it runs once for every process of Ray.
"""

import os
import re
import sys

SOCKET = "MMTUNE_FORK_SERVER"  # in the environment: where the server listens
HEADER = 8  # bytes, the length of what follows
ANSWER = b"1"  # a process was forked
_CONTEXT = "--serialized-runtime-env-context="
_FOR_SETUP = (_CONTEXT, "--language=")


def main() -> None:
    import json

    del sys.path[0]  # the folder of this file, whose modules are not for the top level
    given = sys.argv[1:]
    context = next((json.loads(said.removeprefix(_CONTEXT)) for said in given if said.startswith(_CONTEXT)), {})
    worker = [said for said in given if not said.startswith(_FOR_SETUP)]
    is_plain = not context.get("command_prefix") and context.get("py_executable", sys.executable) == sys.executable
    variables = {key: _expanded(value) for key, value in context.get("env_vars", {}).items()}
    if is_plain and asks(os.environ.get(SOCKET, ""), worker, os.environ | variables):
        return
    if context:
        worker = [os.path.join(os.path.dirname(worker[0]), "setup_worker.py"), *given]
    os.execv(sys.executable, [sys.executable, *worker])


def asks(path: str, arguments: list[str], environment: dict[str, str]) -> bool:
    """Whether the server at ``path`` has forked a process with these arguments and what else this process has."""
    import json
    import socket

    said = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": environment}).encode()
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(path)
            socket.send_fds(server, [len(said).to_bytes(HEADER)], [0, 1, 2])
            server.sendall(said)
            return server.recv(1) == ANSWER
    except OSError:
        return False


def _expanded(value: str) -> str:
    """As Ray reads a variable: other variables in it stand for their values, unknown ones for nothing."""
    return re.sub(r"\$\{[A-Z0-9_]+\}", "", os.path.expandvars(value))


if __name__ == "__main__":
    main()
