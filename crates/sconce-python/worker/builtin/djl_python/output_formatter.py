"""The decorator that marks the function of `model.py` which writes answers, and what it is given."""

from .request_io import RequestOutput, TextGenerationOutput

__all__ = ["RequestOutput", "TextGenerationOutput", "output_formatter"]


def output_formatter(function):
    """Marks the function that makes text of an answer."""
    function.is_output_formatter = True
    return function
