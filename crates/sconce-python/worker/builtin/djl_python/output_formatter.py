"""The decorator that marks the function of `model.py` which writes answers."""


def output_formatter(function):
    """Marks the function that makes text of an answer."""
    function.is_output_formatter = True
    return function
