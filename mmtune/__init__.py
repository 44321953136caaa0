"""mmtune: Ray-distributed hyperparameter search for multimodal classification.

``run``, ``resume`` and ``open`` give a ``Study``, ``load_model`` a ``Model``; each is imported when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would be an import
if TYPE_CHECKING:
    from mmtune.api import StudyError as StudyError
    from mmtune.api import load_model as load_model
    from mmtune.api import open as open
    from mmtune.api import resume as resume
    from mmtune.api import run as run
    from mmtune.models.model import Model as Model
    from mmtune.spec.document import SpecError as SpecError
    from mmtune.study.study import Study as Study

__version__ = "0.1.0"

_HOMES = {
    "Model": "mmtune.models.model",
    "SpecError": "mmtune.spec.document",
    "Study": "mmtune.study.study",
    "StudyError": "mmtune.api",
    "load_model": "mmtune.api",
    "open": "mmtune.api",
    "resume": "mmtune.api",
    "run": "mmtune.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'mmtune' has no attribute '{name}'")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
