"""Serves a model of XGBoost: `option.entryPoint=djl_python.xgboost_handler`."""

import os
import pickle
from typing import Optional

from .inputs import Input
from .outputs import Output
from .predictive import PredictiveHandler, require_trust


class XGBoostHandler(PredictiveHandler):

    formats = {
        "json": ["json"],
        "ubj": ["ubj"],
        "pickle": ["pkl", "pickle"],
        "xgb": ["xgb", "model", "bst"],
    }

    def format_of(self, properties: dict) -> str:
        return properties.get("model_format") or os.environ.get("MODEL_FORMAT") or "json"

    def load(self, file: str, model_format: str, properties: dict):
        if model_format not in ("json", "ubj"):
            trust = properties.get("trust_insecure_model_files") or os.environ.get(
                "TRUST_INSECURE_MODEL_FILES")
            require_trust({"trust_insecure_model_files": trust}, "unsafe formats",
                          "only json/ubj are secure by default")
        if model_format == "pickle":
            with open(file, "rb") as f:
                return pickle.load(f)
        import xgboost

        model = xgboost.Booster()
        model.load_model(file)
        return model

    def predict(self, rows):
        import xgboost

        return self.model.predict(xgboost.DMatrix(rows))


service = XGBoostHandler()


def handle(inputs: Input) -> Optional[Output]:
    if not service.initialized:
        service.initialize(inputs.get_properties())
    return None if inputs.is_empty() else service.inference(inputs)
