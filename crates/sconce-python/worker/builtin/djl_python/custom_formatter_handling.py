"""The functions of a user's `model.py` that take part in what a handler does: found by decorators,
or by the names that SageMaker's containers know.
"""

import logging
from typing import Callable, Optional

from .service_loader import get_annotated_function
from .utils import get_sagemaker_function


class CustomFormatterError(Exception):
    """A function of the user's has failed."""

    def __init__(self, message: str, original_exception: Exception):
        super().__init__(message)
        self.original_exception = original_exception
        self.__cause__ = original_exception


class CustomFormatterHandler:
    """A handler that has the user's functions called, where there are any."""

    def __init__(self):
        self.input_formatter: Optional[Callable] = None
        self.output_formatter: Optional[Callable] = None
        self.prediction_handler: Optional[Callable] = None
        self.init_handler: Optional[Callable] = None
        self.is_sagemaker_script = False

    def load_formatters(self, model_dir: str, namespace: Optional[str] = None):
        """Finds the functions of `model.py`.

        :param namespace: makes the name of the module unique
        """

        def find(attribute: str):
            return get_annotated_function(model_dir, attribute, namespace=namespace)

        try:
            self.input_formatter = find("is_input_formatter")
            self.output_formatter = find("is_output_formatter")
            self.prediction_handler = find("is_prediction_handler")
            self.init_handler = find("is_init_handler")
            self._find_sagemaker_functions(model_dir)
        except Exception as e:
            raise CustomFormatterError(f"Failed to load custom code from {model_dir}: {e}", e)

    def _find_sagemaker_functions(self, model_dir: str):
        """Only a script without decorators is taken for one of SageMaker's."""
        if self.input_formatter or self.output_formatter or self.prediction_handler \
                or self.init_handler:
            return
        self.init_handler = get_sagemaker_function(model_dir, "model_fn")
        self.input_formatter = get_sagemaker_function(model_dir, "input_fn")
        self.prediction_handler = get_sagemaker_function(model_dir, "predict_fn")
        self.output_formatter = get_sagemaker_function(model_dir, "output_fn")
        self.is_sagemaker_script = any([
            self.init_handler, self.input_formatter, self.prediction_handler,
            self.output_formatter
        ])

    def apply_input_formatter(self, decoded_payload, **kwargs):
        """What the function makes of a request; the request itself if there is no function."""
        if self.input_formatter is None:
            return decoded_payload
        if self.is_sagemaker_script:
            arguments = (decoded_payload.get_as_bytes(), kwargs.get("content_type"))
            return _called("input formatter", self.input_formatter, *arguments)
        return _called("input formatter", self.input_formatter, decoded_payload, **kwargs)

    def apply_output_formatter(self, output, **kwargs):
        """What the function makes of a result; the result itself if there is no function."""
        if self.output_formatter is None:
            return output
        arguments = (output, kwargs.get("accept")) if self.is_sagemaker_script else (output,)
        return _called("output formatter", self.output_formatter, *arguments)

    async def apply_output_formatter_streaming_raw(self, stream_generator):
        """The same for each part of a stream."""
        async for response in stream_generator:
            yield self.apply_output_formatter(response)

    def apply_init_handler(self, model_dir, **kwargs):
        """What the function loads; None if there is no function."""
        if self.init_handler is None:
            return None
        return _called("init handler", self.init_handler, model_dir, **kwargs)

    def apply_prediction_handler(self, X, model, **kwargs):
        """What the function predicts; None if there is no function."""
        if self.prediction_handler is None:
            return None
        return _called("prediction handler", self.prediction_handler, X, model, **kwargs)


def _called(what: str, function: Callable, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as e:
        logging.exception(f"Custom {what} failed")
        raise CustomFormatterError(f"Custom {what} execution failed: {e}", e)
