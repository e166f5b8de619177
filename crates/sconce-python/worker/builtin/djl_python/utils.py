"""Small things that handlers share."""

import glob
import inspect
import logging
import os
from typing import Callable, List, Optional

from .service_loader import load_model_service

#: The names of the parameters that a function for SageMaker's containers may have.
SAGEMAKER_SIGNATURES = {
    "model_fn": [["model_dir"]],
    "input_fn": [["request_body", "content_type"], ["request_body", "request_content_type"]],
    "predict_fn": [["input_data", "model"]],
    "output_fn": [["prediction", "accept"], ["prediction", "response_content_type"]],
}


class IdCounter:
    """Numbers from 0 that begin again after the largest."""
    MAX_ID = 999999

    def __init__(self):
        self.id = 0

    def get_id(self) -> int:
        return self.id

    def next_id(self) -> int:
        current = self.id
        self.id = (self.id + 1) % self.MAX_ID
        return current

    def reset(self):
        self.id = 0


def is_best_of(parameters: dict) -> bool:
    """Whether several answers are generated, of which the best is wanted."""
    return parameters.get("best_of", 1) > 1


def is_beam_search(parameters: dict) -> bool:
    return parameters.get("num_beams", 1) > 1


def is_multiple_sequences(parameters: dict) -> bool:
    return parameters.get("n", 1) > 1


def is_streaming(parameters: dict) -> bool:
    """Whether the answer is wanted as it is generated."""
    return bool(parameters.get("stream"))


def wait_till_generation_finished(parameters: dict) -> bool:
    return is_best_of(parameters) or is_multiple_sequences(parameters) or is_beam_search(parameters)


def find_model_file(model_dir: str, extensions: List[str]) -> Optional[str]:
    """The file of a directory with one of these endings; None if there is none.

    :raises ValueError: there are several
    """
    patterns = [os.path.join(glob.escape(model_dir), f"*.{end}") for end in extensions]
    found = [file for pattern in patterns for file in sorted(glob.glob(pattern))]
    if len(found) > 1:
        raise ValueError(f"Multiple model files found in {model_dir}: {found}. "
                         "Only one model file is supported per directory.")
    return found[0] if found else None


def get_sagemaker_function(model_dir: str, func_name: str) -> Optional[Callable]:
    """A function of `model.py` by the name and with the parameters that SageMaker's containers
    know; None if there is none.
    """
    known = SAGEMAKER_SIGNATURES.get(func_name)
    if known is None or not os.path.exists(os.path.join(model_dir, "model.py")):
        return None
    function = getattr(load_model_service(model_dir, "model.py", -1).module, func_name, None)
    if not callable(function):
        return None
    parameters = list(inspect.signature(function).parameters)
    if parameters in known:
        return function
    logging.warning(f"{func_name} of model.py has the parameters {parameters} and is not used; "
                    f"they must be one of {known}")
    return None
