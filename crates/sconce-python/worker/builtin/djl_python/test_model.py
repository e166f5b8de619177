"""Runs a handler without a server: `python -m djl_python.test_model --model-dir … --input …`.

The functions make requests and read answers; tests of handlers use them too.
"""

import os

from .arg_parser import ArgParser
from .inputs import Input
from .outputs import Output
from .service_loader import load_model_service

_KINDS = {
    ".json": "application/json",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".gif": "image/gif",
    ".png": "image/png",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".ndlist": "tensor/ndlist",
    ".npz": "tensor/npz",
}


def create_request(input_files, parameters=None) -> Input:
    """A request of files or texts, each perhaps with `key=` before it."""
    request = _request(None)
    for parameter in parameters or []:
        key, separator, value = parameter.partition("=")
        if not separator:
            raise ValueError(f"Invalid model parameter: {parameter}")
        request.properties[key] = value
    data = None
    for item in input_files:
        key, separator, value = item.partition("=")
        if not separator or item.startswith("{"):
            key, value = None, item
        if data is None or key == "data":
            data = value
        if os.path.exists(value):
            with open(value, "rb") as f:
                request.content.add(key=key, value=f.read())
        else:
            request.content.add(key=key, value=value.encode("utf-8"))
    request.properties["content-type"] = _kind(data or "")
    return request


def _kind(data: str) -> str:
    if os.path.exists(data):
        return _KINDS.get(os.path.splitext(data)[1].lower(), "application/octet-stream")
    return "application/json" if data.startswith("{") else "text/plain"


def _request(kind, value=None, key=None) -> Input:
    request = Input()
    request.properties["device_id"] = "-1"
    if kind is not None:
        request.properties["content-type"] = kind
        request.content.add(key=key, value=value)
    return request


def create_json_request(json_data, key=None) -> Input:
    return _request("application/json", Output._encode_json(json_data), key)


def create_text_request(text: str, key=None) -> Input:
    return _request("text/plain", text.encode("utf-8"), key)


def create_numpy_request(arrays, key=None) -> Input:
    from .np_util import to_nd_list

    return _request("tensor/ndlist", to_nd_list(arrays), key)


def create_npz_request(arrays, key=None) -> Input:
    return _request("tensor/npz", Output().add_as_npz(arrays).content.value_at(0), key)


def extract_output_as_input(outputs: Output) -> Input:
    inputs = Input()
    inputs.properties, inputs.content = outputs.properties, outputs.content
    return inputs


def extract_output_as_bytes(outputs: Output, key=None):
    return extract_output_as_input(outputs).get_as_bytes(key)


def extract_output_as_string(outputs: Output, key=None) -> str:
    return extract_output_as_input(outputs).get_as_string(key)


def extract_output_as_numpy(outputs: Output, key=None) -> list:
    return extract_output_as_input(outputs).get_as_numpy(key)


def extract_output_as_npz(outputs: Output, key=None) -> list:
    return extract_output_as_input(outputs).get_as_npz(key)


def load_properties(properties_dir: str) -> dict:
    """The keys of a directory's serving.properties, without `option.`."""
    file = os.path.join(properties_dir, "serving.properties")
    if not os.path.exists(file):
        return {}
    with open(file, encoding="utf-8") as f:
        lines = [line.strip() for line in f]
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key.strip().removeprefix("option."): value.strip() for key, _, value in pairs}


class TestHandler:
    """A handler that has been loaded, and is called as a server would call it."""

    #: It is no test itself, whatever its name looks like.
    __test__ = False

    def __init__(self, entry_point: str, model_dir: str = "./"):
        self.serving_properties = load_properties(model_dir)
        self.service = load_model_service(model_dir, entry_point, "-1")

    def init(self, function_name: str = "handle"):
        return self.inference(Input(), function_name)

    def inference(self, inputs: Input, function_name: str = "handle"):
        if inputs.is_empty():
            inputs.properties.update(self.serving_properties)
        inputs.function_name = function_name
        return self.service.invoke_handler(function_name, inputs)


def run():
    args = ArgParser.test_model_args().parse_args()
    os.chdir(args.model_dir)
    inputs = create_request(args.input, args.parameters)
    handler = TestHandler(args.entry_point, os.getcwd())
    handler.init(args.handler)
    outputs = handler.inference(inputs, args.handler)
    print("output: " + str(outputs))


if __name__ == "__main__":
    run()
