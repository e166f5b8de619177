"""The package that handlers of DJL Serving import, as sconce provides it.

It has the public classes and functions of the package of the same name in DJL Serving 0.36, so that a
`model.py` runs unchanged. NumPy and Pillow are imported only by what needs them.
"""

from .inputs import Input
from .outputs import Output
from .pair_list import PairList
from .session_manager import Session, SessionManager

__version__ = "0.36.0"

__all__ = ["Input", "Output", "PairList", "Session", "SessionManager"]
