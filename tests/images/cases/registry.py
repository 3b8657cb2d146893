"""How a case is declared."""

from dataclasses import dataclass, field
from typing import Callable

from ..layout import OCI

CASES = {}


@dataclass
class Case:
    name: str
    about: str
    build: Callable  # () -> [Layer], bottom first
    vsize: int = 64
    types: dict = field(default_factory=lambda: OCI)
    max_blocks: dict = field(default_factory=dict)  # path -> most 512-byte sectors that it may occupy
    least_budget: int = 1  # MiB of metadata without which it is refused
    every_layer: bool = True  # whether each prefix of the layers is checked, or only the whole


def case(name=None, **options):
    """Registers a function that returns layers; its docstring says what is hard about it."""
    def register(function):
        key = (name or function.__name__).replace("_", "-")
        CASES[key] = Case(key, function.__doc__, function, **options)
        return function
    return register
