"""Decorators that mark functions of `model.py` which take part in answering, and what they make."""

from .inputs import Input
from .request_io import RequestInput, TextInput

#: The header by which SageMaker names an adapter.
SAGEMAKER_ADAPTER_IDENTIFIER_HEADER = "X-Amzn-SageMaker-Adapter-Identifier"

__all__ = [
    "Input", "RequestInput", "SAGEMAKER_ADAPTER_IDENTIFIER_HEADER", "TextInput", "init_handler",
    "input_formatter", "prediction_handler"
]


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
