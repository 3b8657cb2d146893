"""How a hostile image is declared."""

from dataclasses import dataclass
from typing import Callable

from ..layout import Layer, Layout

HOSTILE = {}


@dataclass
class Hostile:
    name: str
    about: str
    write: Callable  # (Layout) -> None; tags the image `test`
    codes: tuple = (3,)  # exit codes that are right
    says: str = ""  # a pattern that the error line must match
    arguments: tuple = ()  # further arguments of convertor


def image(codes=(3,), says="", arguments=()):
    """Registers a function that writes a whole layout."""
    def register(function):
        name = function.__name__.replace("_", "-")
        HOSTILE[name] = Hostile(name, function.__doc__, function, codes, says, tuple(arguments))
        return function
    return register


def layer(codes=(3,), says="", arguments=(), lower=()):
    """Registers a function that fills the second layer of an otherwise good image.

    The error must name that layer; `says` holds what else it must match.
    """
    def register(function):
        def write(layout: Layout):
            bottom, top = Layer(), Layer()
            bottom.dir(b"dir").file(b"dir/file", b"good" * 2000).symlink(b"link", b"dir")
            top.file(b"good-before", b"still good")
            function(top)
            layout.tag("test", layout.image([bottom, top]))

        write.__name__, write.__doc__ = function.__name__, function.__doc__
        return image(codes, says, arguments)(write)
    return register
