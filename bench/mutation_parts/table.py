"""All faults by file."""

from __future__ import annotations

from .choosing import CHOOSING
from .fault import Fault
from .flow import FLOW
from .hosting import HOSTING
from .learning import LEARNING
from .vectors import VECTORS

FAULTS: dict[str, list[Fault]] = {**VECTORS, **LEARNING, **CHOOSING, **HOSTING, **FLOW}
