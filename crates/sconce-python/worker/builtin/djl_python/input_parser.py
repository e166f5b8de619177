"""Decorators that mark functions of `model.py` which take part in answering."""


def input_formatter(function):
    """Marks the function that makes a request of an Input."""
    function.is_input_formatter = True
    return function


def prediction_handler(function):
    """Marks the function that predicts: `(data, model)`."""
    function.is_prediction_handler = True
    return function


def init_handler(function):
    """Marks the function that loads the model: `(model_dir)`."""
    function.is_init_handler = True
    return function
