"""The arguments of a worker, which are DJL Serving's, and of the test of a model."""

import argparse


class ArgParser:

    @staticmethod
    def python_engine_args() -> argparse.ArgumentParser:
        """What the server passes to a worker."""
        parser = argparse.ArgumentParser(prog="djl_python_engine")
        parser.add_argument("--model-dir", required=True, help="directory of the model")
        parser.add_argument("--entry-point", help="file or module of the handler")
        parser.add_argument("--recommended-entry-point",
                            help="module of a handler, if the entry point has no such function")
        parser.add_argument("--sock-type", required=True, choices=["unix", "tcp"])
        parser.add_argument("--sock-name", help="path of the socket, or address to listen on")
        parser.add_argument("--port", help="port to listen on")
        parser.add_argument("--device-id", default="-1", help="-1: the CPU")
        parser.add_argument("--tensor-parallel-degree", type=int)
        parser.add_argument("--pipeline-parallel-degree", type=int)
        parser.add_argument("--cluster-size", type=int)
        parser.add_argument("--log-level", default="info")
        parser.add_argument("--async-mode", action=argparse.BooleanOptionalAction)
        return parser

    @staticmethod
    def test_model_args() -> argparse.ArgumentParser:
        """What `python -m djl_python.test_model` takes."""
        parser = argparse.ArgumentParser(prog="djl-test-model")
        parser.add_argument("--model-dir", required=True, help="directory of the model")
        parser.add_argument("--entry-point", default="model.py")
        parser.add_argument("--handler", default="handle")
        parser.add_argument("--input", required=True, nargs="+", metavar="[KEY=]FILE-OR-TEXT")
        parser.add_argument("--parameters", nargs="+", metavar="KEY=VALUE")
        return parser
