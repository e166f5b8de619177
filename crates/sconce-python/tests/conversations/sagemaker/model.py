"""The functions that SageMaker's containers know, in place of what the handler does."""

import json

import numpy as np
from table import Sums


def model_fn(model_dir):
    return Sums(3)


def input_fn(request_body, content_type):
    if content_type == "text/bad":
        return [1, 2, 3]
    return np.array(json.loads(request_body)["features"])


def predict_fn(input_data, model):
    return model.predict(input_data) * 2


def output_fn(prediction, accept):
    if accept != "application/json":
        raise ValueError(f"Unsupported accept: {accept}")
    return json.dumps({"doubled": prediction.tolist()})
