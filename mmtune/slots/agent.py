"""What a local Ray starts in place of its dashboard's agent: it says that nothing listens, and waits.

Without an agent Ray ends; where the dashboard is not installed Ray's own says the same. This is a program, which starts
with every study and imports little.
"""

import os
import select
import sys

_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")  # which the raylet waits for
_NOBODY = "-1"


def main(session: str, node: str) -> None:
    """Until the raylet's end.

    Args:
        session: folder of Ray's session, where agents write their ports.
        node: its id.
    """
    raylet = os.pidfd_open(int(os.environ["RAY_RAYLET_PID"]))
    for name in _PORTS:
        path = f"{session}/{name}_{node}"
        with open(f"{path}.unfinished", "w") as file:
            file.write(_NOBODY)
        os.replace(f"{path}.unfinished", path)
    select.select([raylet], [], [])


if __name__ == "__main__":
    main(*sys.argv[1:3])  # the raylet adds arguments of its own
