"""``mmtune``, which keeps beside it in a file which process is which rank: python mmtune_with_ranks.py FILE VERB ...

Ray's train workers have one title; the broker hears from each of them who it is.
"""

import contextlib
import json
import sys
import threading
import time
from pathlib import Path

from mmtune.cli import main
from trainables.files import write_atomic


def keep_ranks(path: Path) -> None:
    while True:
        time.sleep(0.3)
        ray = sys.modules.get("ray")
        if ray is None or not hasattr(ray, "is_initialized") or not ray.is_initialized():
            continue
        with contextlib.suppress(Exception):  # the broker is new, or gone
            for actor in ray.util.list_named_actors(all_namespaces=True):
                if not actor["name"].startswith("mmtune-broker"):
                    continue
                broker = ray.get_actor(actor["name"], actor["namespace"])
                places = ray.get(broker.__ray_call__.remote(lambda self: list(self._beats._heard.items())), timeout=5)
                write_atomic(path, json.dumps({rank: place.pid for (_, rank), (place, _) in places}))


if __name__ == "__main__":
    threading.Thread(target=keep_ranks, args=(Path(sys.argv.pop(1)),), daemon=True).start()
    main()
