"""The life of a worker: arguments, logging, the user's code, then requests until the end."""

import logging
import os
import socket
import sys

from .arg_parser import ArgParser
from .python_async_engine import PythonAsyncEngine
from .python_sync_engine import SOCKET_ACCEPT_TIMEOUT, PythonSyncEngine
from .service_loader import load_model_service


def main():
    args = ArgParser.python_engine_args().parse_args()
    logging.basicConfig(stream=sys.stdout,
                        format="%(levelname)s::%(message)s",
                        level=args.log_level.upper())
    engine = None
    try:
        entry_point = args.entry_point or args.recommended_entry_point
        service = load_model_service(args.model_dir, entry_point, args.device_id)
        kind = PythonAsyncEngine if args.async_mode else PythonSyncEngine
        engine = kind(args, service)
        engine.run_server()
    except socket.timeout:
        logging.error(f"Listener timed out in: {SOCKET_ACCEPT_TIMEOUT} s.")
    except Exception:  # whatever the user's code raises while it is loaded
        logging.exception("Python engine process died")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if engine is not None:
            engine.remove_socket()


if __name__ == "__main__":
    main()
    # A worker never ends of its own accord.
    os._exit(1)
