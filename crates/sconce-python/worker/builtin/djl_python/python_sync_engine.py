"""The loop of a worker that answers one request, or one batch of them, after the other."""

import logging
import os
import signal
import socket

from .inputs import Input
from .outputs import Output
from .service_loader import (get_annotated_function, has_function_in_module, load_model_service)

#: Seconds in which the server must connect.
SOCKET_ACCEPT_TIMEOUT = 30.0

_OUT_OF_MEMORY = ("No available memory for the cache blocks", "CUDA error: out of memory")


def failure(error: Exception, message: str = "invoke handler failure") -> Output:
    """The answer to a request whose handler has raised: 507 if memory is short, else 424."""
    short = type(error).__name__ in ("OutOfMemoryError", "MemoryError")
    if short or any(text in str(error) for text in _OUT_OF_MEMORY):
        return Output(code=507, message=str(error))
    return Output().error(str(error), message=message)


class PythonSyncEngine:

    def __init__(self, args, service):
        _spell_ranks()
        rank = os.environ.get("OMPI_COMM_WORLD_RANK")
        self.args = args
        self.service = service
        self.output_formatter = get_annotated_function(args.model_dir, "is_output_formatter")
        self.input_formatter = get_annotated_function(args.model_dir, "is_input_formatter")
        self.is_entry_point_verified = False
        self.cl_socket = None
        self.cancelled = False
        if args.sock_type == "unix":
            if args.sock_name is None:
                raise ValueError("Missing sock-name argument.")
            self.address = f"{args.sock_name}.{rank}" if rank else args.sock_name
            family = socket.AF_UNIX
            self.remove_socket()
        else:
            if args.port is None:
                raise ValueError("Missing port argument.")
            self.address = (args.sock_name or "0.0.0.0", int(args.port) + int(rank or 0))
            family = socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.settimeout(SOCKET_ACCEPT_TIMEOUT)

    def remove_socket(self):
        if isinstance(self.address, str) and os.path.exists(self.address):
            os.remove(self.address)

    def run_server(self):
        """Answers until the server closes the connection."""
        # The server asks so for the end of a stream whose client has left.
        signal.signal(signal.SIGUSR1, self._cancel)
        self._accept("Streams end at SIGUSR1.")
        while True:
            inputs, function_name = self._prepare_inputs()
            self.cancelled = False
            outputs = self._answer(inputs, function_name)
            try:
                outputs.send(self.cl_socket, lambda: self.cancelled)
            except OSError:
                raise
            except Exception as e:  # the handler's Output cannot be written
                logging.exception("Failed to encode the output")
                Output().error(str(e)).send(self.cl_socket)
            try:
                outputs.execute_finalize()
            except Exception as e:  # whatever the user's function raises
                logging.exception(f"Failed on finalize function: {e}")

    def _cancel(self, _signal, _frame):
        self.cancelled = True

    def _answer(self, inputs: Input, function_name: str) -> Output:
        try:
            outputs = self.service.invoke_handler(function_name, inputs)
        except Exception as e:  # whatever the user's handler raises
            logging.exception("Failed invoke service.invoke_handler()")
            return failure(e)
        if outputs is None:
            return Output(code=204, message="No content")
        if not isinstance(outputs, Output):
            return Output().error(f"Invalid output type: {type(outputs)}")
        return outputs

    def _accept(self, more: str = ""):
        """Listens and says so.

        :param more: what the server may do beyond DJL Serving's protocol
        """
        self.sock.bind(self.address)
        self.sock.listen(1)
        # Whatever the level of the log.
        logging.getLogger().setLevel(min(logging.INFO, logging.getLogger().level))
        logging.info(f"Python engine started. {more}")
        logging.getLogger().setLevel(self.args.log_level.upper())
        self.cl_socket, _ = self.sock.accept()
        self.cl_socket.setblocking(True)

    def _prepare_inputs(self):
        inputs = Input()
        inputs.read(self.cl_socket)
        self._add_properties(inputs.get_properties())
        function_name = inputs.get_function_name()
        self._verify_entry_point(function_name)
        return inputs, function_name

    def _add_properties(self, prop: dict):
        args = self.args
        if args.tensor_parallel_degree:
            prop["tensor_parallel_degree"] = args.tensor_parallel_degree
        if args.pipeline_parallel_degree:
            prop["pipeline_parallel_degree"] = args.pipeline_parallel_degree
        if args.cluster_size:
            prop["cluster_size"] = args.cluster_size
        prop["device_id"] = args.device_id
        named = prop.get("output_formatter")
        if named is None and self.output_formatter:
            prop["output_formatter"] = self.output_formatter
        elif named is not None and hasattr(self.service.module, named):
            prop["output_formatter"] = getattr(self.service.module, named)
        if self.input_formatter:
            prop["input_formatter"] = self.input_formatter

    def _verify_entry_point(self, function_name: str):
        """Takes the recommended entry point where the user's has no such function."""
        if self.is_entry_point_verified:
            return
        self.is_entry_point_verified = True
        recommended = self.args.recommended_entry_point
        if recommended and not has_function_in_module(self.service.module, function_name):
            logging.info(f"{self.args.entry_point} has no function {function_name}; "
                         f"{recommended} is taken")
            self.service = load_model_service(self.args.model_dir, recommended,
                                              self.args.device_id)


def _spell_ranks():
    """Spells the rank that Open MPI tells as torch and others read it."""
    for theirs, ours in (("OMPI_COMM_WORLD_SIZE", "WORLD_SIZE"),
                         ("OMPI_COMM_WORLD_LOCAL_RANK", "LOCAL_RANK"), ("OMPI_COMM_WORLD_RANK",
                                                                       "RANK")):
        if os.environ.get(theirs):
            os.environ[ours] = os.environ[theirs]
