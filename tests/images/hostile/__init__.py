"""Images that must be refused, one defect each. Importing this package fills HOSTILE."""

from .registry import HOSTILE, Hostile  # noqa: F401
from . import bombs, entries, framing, manifests, sparse  # noqa: F401
