"""The hard cases, one image each. Importing this package fills CASES."""

from .registry import CASES, Case, case  # noqa: F401
from . import content, history, links, metadata, names, randomised, tars, whiteouts  # noqa: F401
