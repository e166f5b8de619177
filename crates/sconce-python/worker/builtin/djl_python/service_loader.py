"""Loads the user's code and finds functions in it."""

import hashlib
import importlib
import importlib.util
import logging
import os
import sys
from typing import Callable, Optional

#: Modules that were loaded from a file, by their real path: a file runs once in a process.
_LOADED = {}


class ModelService:
    """A module whose functions answer requests."""

    def __init__(self, module, model_dir: str):
        self.module = module
        self.model_dir = model_dir

    def invoke_handler(self, function_name: str, inputs):
        return self._function(function_name, inputs)(inputs)

    async def invoke_handler_async(self, function_name: str, inputs):
        return await self._function(function_name, inputs)(inputs)

    def _function(self, name: str, inputs) -> Callable:
        inputs.properties["model_dir"] = self.model_dir
        function = getattr(self.module, name or "", None)
        if not callable(function):
            place = getattr(self.module, "__file__", None) or self.module.__name__
            raise AttributeError(
                f"{place} has no function {name}; define it, or name another with option.handler")
        return function


def load_model_service(model_dir: str,
                       entry_point: str,
                       device_id,
                       namespace: Optional[str] = None) -> ModelService:
    """Loads a file, absolute or within the model's directory, or a module.

    :param namespace: makes the name of the module unique; the file then runs once for each
    :raises ValueError: there is no such file
    """
    if os.path.exists(os.path.join(model_dir, "MAR-INF", "MANIFEST.json")):
        raise RuntimeError(f"{model_dir} is an archive of TorchServe, whose handlers are not run; "
                           "give its model a model.py with a function handle(inputs)")
    if os.path.isabs(entry_point):
        file = entry_point
    elif entry_point.endswith(".py"):
        file = os.path.join(model_dir, entry_point)
    else:
        return ModelService(importlib.import_module(entry_point), model_dir)
    if not os.path.exists(file):
        raise ValueError(f"entry-point file not found {file}.")
    return ModelService(_of_file(file, namespace), model_dir)


def _of_file(file: str, namespace: Optional[str]):
    key = (os.path.realpath(file), namespace)
    if key in _LOADED:
        return _LOADED[key]
    if namespace:
        name = "ns_" + namespace.replace("-", "_").replace(".", "_")
    else:
        name = "model_" + hashlib.md5(file.encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"Unable to load entry_point {file}")
    module = importlib.util.module_from_spec(spec)
    # Pickle and dataclasses look their module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _LOADED[key] = module
    return module


def has_function_in_module(module, function_name: str) -> bool:
    return callable(getattr(module, function_name or "", None))


def is_valid_dir(dir_path: str) -> bool:
    return os.path.exists(os.path.dirname(dir_path))


def find_decorated_function(module, decorator_attribute: str) -> Optional[Callable]:
    """The first function, in order of name, that a decorator has marked so."""
    for name in dir(module):
        function = getattr(module, name)
        if callable(function) and getattr(function, decorator_attribute, False) is True:
            return function
    return None


def get_annotated_function(model_dir: str,
                           decorator_attribute: str,
                           namespace: Optional[str] = None) -> Optional[Callable]:
    """The function of `model.py` that a decorator has marked; None if there is no such file."""
    if not os.path.exists(os.path.join(model_dir, "model.py")):
        return None
    service = load_model_service(model_dir, "model.py", -1, namespace=namespace)
    function = find_decorated_function(service.module, decorator_attribute)
    if function is not None:
        logging.info(f"Found decorated function: {function.__name__} for decorator attribute: "
                     f"{decorator_attribute}")
    return function
