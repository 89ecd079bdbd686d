"""All faults by file."""

from __future__ import annotations

from .choosing import CHOOSING
from .demo import DEMO
from .erasing import ERASING
from .fault import Fault
from .filing import FILING
from .flow import FLOW
from .guarding import GUARDING
from .hosting import HOSTING
from .hosting_models import HOSTING_MODELS
from .hosting_weights import HOSTING_WEIGHTS
from .inverting import INVERTING
from .keeping import KEEPING
from .learning import LEARNING
from .nodes import NODES
from .vectors import VECTORS

_TABLES = (
    VECTORS,
    FILING,
    LEARNING,
    INVERTING,
    ERASING,
    CHOOSING,
    HOSTING_MODELS,
    HOSTING_WEIGHTS,
    HOSTING,
    NODES,
    GUARDING,
    FLOW,
    DEMO,
    KEEPING,
)
FAULTS: dict[str, list[Fault]] = {}
for _table in _TABLES:
    for _file, _faults in _table.items():
        FAULTS.setdefault(_file, []).extend(_faults)
