"""Serves a model of scikit-learn: `option.entryPoint=djl_python.sklearn_handler`."""

import importlib
import logging
import pickle
from typing import Optional

from .inputs import Input
from .outputs import Output
from .predictive import PredictiveHandler, require_trust


class SklearnHandler(PredictiveHandler):

    formats = {
        "skops": ["skops"],
        "joblib": ["joblib", "jl"],
        "pickle": ["pkl", "pickle"],
        "cloudpickle": ["pkl", "pickle", "cloudpkl"],
    }

    def format_of(self, properties: dict) -> str:
        return properties.get("model_format", "skops")

    def load(self, file: str, model_format: str, properties: dict):
        if model_format == "skops":
            from skops import io

            return io.load(file, trusted=_trusted_types(properties))
        require_trust(properties, f"{model_format} format", "only skops is secure by default")
        if model_format == "joblib":
            return importlib.import_module("joblib").load(file)
        loader = pickle if model_format == "pickle" else importlib.import_module("cloudpickle")
        with open(file, "rb") as f:
            return loader.load(f)

    def predict(self, rows):
        return self.model.predict(rows)


def _trusted_types(properties: dict) -> list:
    names = properties.get("skops_trusted_types", "")
    if not names:
        raise ValueError(
            "option.skops_trusted_types must be set to load skops models. Example: "
            "option.skops_trusted_types='sklearn.ensemble._forest.RandomForestClassifier,"
            "numpy.ndarray'")
    types = [name.strip() for name in names.split(",") if name.strip()]
    logging.info(f"Using trusted types for skops model loading: {types}")
    return types


service = SklearnHandler()


def handle(inputs: Input) -> Optional[Output]:
    if not service.initialized:
        service.initialize(inputs.get_properties())
    return None if inputs.is_empty() else service.inference(inputs)
