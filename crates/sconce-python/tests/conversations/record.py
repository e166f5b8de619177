"""Records what a worker of DJL Serving answers, byte for byte.

    python record.py DJL_PYTHON_ENGINE.py > recorded.json

The argument is `engines/python/setup/djl_python_engine.py` of a checkout of
deepjavalibrary/djl-serving; NumPy must be installed. The requests stand below, the handlers in
the folders beside this file. The test compares what the package of this repository answers.
"""

import io
import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))


def text(value):
    data = value.encode("utf-8")
    return struct.pack(">i", len(data)) + data


def message(handler, properties=(), content=()):
    properties = [*properties, ("handler", handler)]
    out = struct.pack(">h", len(properties))
    for key, value in properties:
        out += text(key) + text(value)
    out += struct.pack(">h", len(content))
    for key, value in content:
        value = value.encode("utf-8") if isinstance(value, str) else value
        out += text(key) + struct.pack(">i", len(value)) + value
    return out


def nd_list():
    """One array of float32, [[1, 2], [3, 4]], as DJL writes it."""

    def short(value):
        return struct.pack(">h", len(value)) + value.encode()

    data = struct.pack("<4f", 1, 2, 3, 4)
    return (struct.pack(">i", 1) + short("NDAR") + struct.pack(">ib", 3, 0) + short("default") +
            short("FLOAT32") + struct.pack(">i2q", 2, 2, 2) + struct.pack(">i2h", 2, 63, 63) +
            b"<" + struct.pack(">i", len(data)) + data)


def npz():
    import numpy as np

    file = io.BytesIO()
    np.savez(file, np.array([1.5, 2.5]), np.array([[1], [2]]))
    return file.getvalue()


def requests():
    data = [("data", "{\"inputs\": \"Hi\"}")]
    kind = [("Content-Type", "application/json")]
    batch = [("batch_size", "2"), ("batch_000.Accept", "a"), ("batch_001.Accept", "b")]
    pair = [("batch_000.data", "x"), ("batch_001.data", "y")]
    yield "init", message("handle", [("model_id", "x/y")])
    yield "echo", message("handle", kind, data)
    yield "echo_batch", message("handle", [("batch_size", "2")], pair)
    yield "batch_properties", message("batch_properties", batch, [*pair, ("batch_001.more", "z")])
    yield "seen", message("seen", [*kind, ("Accept", "*/*")], [("a", "1"), ("data", ""), ("a", "2")])
    yield "values", message("values", [], [("a", b"\x00\x01"), ("text", "ü"), ("json", "[1]"),
                                           ("csv", "q,c\n1,2\n")])
    for name, body in (("application/json", "{\"k\": [1]}"), ("text/plain", "plain")):
        yield f"data {name}", message("data", [("content-type", name)], [("data", body)])
    for handler in ("missing", "fails", "short_of_memory", "short_of_gpu_memory", "no_output",
                    "wrong_type", "own_error", "coded", "kinds", "not_json", "stream",
                    "raw_stream", "formatted_stream", "empty_stream", "broken_stream", "payload"):
        yield handler, message(handler, kind, data)
    yield "numpy arrays", message("arrays", [], [("data", nd_list())])
    yield "numpy archive", message("archive", [], [("data", npz())])


def part(text):
    """A request of the rolling batch, of so many words."""
    return json.dumps({"inputs": text, "parameters": {"max_length": len(text)}})


def rolling_requests():
    kinds = [("batch_000.Content-Type", "application/json"),
             ("batch_001.Content-Type", "application/json")]
    first = [("batch_000.data", part("ab")), ("batch_000.seed", "7")]
    yield "init", message("handle")
    yield "one", message("handle", [("batch_size", "1"), kinds[0]], first)
    joins = [("batch_000.data", ""), ("batch_001.data", part("x")), ("batch_001.seed", "8")]
    yield "another joins", message("handle", [("batch_size", "2"), kinds[1]], joins)
    yield "a failure", message("handle", [("batch_size", "1"), kinds[0]], [("batch_000.data", "{}")])
    reset = [("reset_rollingbatch", "true"), ("batch_size", "1"), kinds[0]]
    yield "anew", message("handle", reset, [("batch_000.data", part("c"))])
    for _ in range(2):
        yield "numpy accumulate", message("accumulate", [], [("data", nd_list())])
    for handler, name, content in (("register_adapter", "a", []), ("register_adapter", "b",
                                                                   [("error", "1")]),
                                   ("unregister_adapter", "c", [])):
        yield f"{handler} {name}", message(handler, [("name", name)], content)
    batch = [("batch_000.data", "x"), ("batch_000.adapter", "a"), ("batch_001.data", "y"),
             ("batch_001.adapter", "z"), ("batch_002.data", "w")]
    yield "adapted", message("adapted", [("batch_size", "3")], batch)
    yield "numpy session", message("session", [], [("path", "SESSIONS")])


def async_requests():
    kind = [("Content-Type", "application/json"), ("request_tracking_id", "id-1")]
    yield "init", message("handle", [("request_tracking_id", "id-0")])
    for label, handler, body in (
        ("whole", "handle", {"inputs": "ü"}), ("stream", "handle", {"stream": 2}),
        ("helper", "with_helpers", {"a": 1}), ("helper stream", "with_helpers", {"count": 2}),
        ("broken stream", "with_helpers", {"count": 3, "end": 1}), ("failure", "failure", {}),
        ("fails", "fails", {}), ("no_output", "no_output", {})):
        yield label, message(handler, kind, [("data", json.dumps(body))])


def predictive_requests():
    # One of the directory is of its own name there.
    yield "init", message("handle", [("model_format", "pickle"),
                                     ("trust_insecure_model_files", "true")])
    rows = json.dumps({"inputs": [[1, 2, 3], [4, 5, 6]]})
    for label, kind, accept, body in (
        ("json", "application/json", "application/json", rows),
        ("any", "application/json", "*/*", rows),
        ("one row", "application/json", "application/json", "[1, 2, 3]"),
        ("csv", "text/csv", "text/csv", "1,2,3\n\n4,5,6\n"),
        ("csv to json", "text/csv", "application/json", "1.5,2,3\n"),
        ("header", "text/csv", "text/csv", "a,b,c\n1,2,3\n"),
        ("ragged", "text/csv", "text/csv", "1,2,3\n1,2\n"),
        ("width", "application/json", "application/json", '{"inputs": [[1, 2]]}'),
        ("accept", "application/json", "image/png", rows)):
        yield f"numpy {label}", message("handle", [("Content-Type", kind), ("Accept", accept)],
                                        [("data", body)])


def sagemaker_requests():
    yield "init", message("handle")
    rows = json.dumps({"features": [[1, 2, 3]]})
    for label, kind, accept in (("own", "application/json", "application/json"),
                                ("output fails", "application/json", "text/csv"),
                                ("no array", "text/bad", "application/json")):
        yield f"numpy {label}", message("handle", [("Content-Type", kind), ("Accept", accept)],
                                        [("data", rows)])


#: Name, folder, entry point, whether it is asynchronous, requests.
CONVERSATIONS = [
    ("kinds", "model", "model.py", False, requests),
    ("kept", "model", "rolling.py", False, rolling_requests),
    ("asynchronous", "model", "coroutine.py", True, async_requests),
    ("predictive", "predictive", "djl_python.sklearn_handler", False, predictive_requests),
    ("sagemaker", "sagemaker", "djl_python.sklearn_handler", False, sagemaker_requests),
]


def receive(conn, length):
    data = b""
    while len(data) < length:
        part = conn.recv(length - len(data))
        if not part:
            raise EOFError("the worker has ended")
        data += part
    return data


def answer(conn):
    """The bytes of one answer, its stream included."""
    out = bytearray()

    def take(form):
        data = receive(conn, struct.calcsize(form))
        out.extend(data)
        return struct.unpack(form, data)[0]

    def value():
        out.extend(receive(conn, max(take(">i"), 0)))

    take(">h")
    value()
    for _ in range(take(">h")):
        value()
        value()
    count = take(">h")
    for _ in range(count):
        value()
        value()
    more = 1 if count == -1 else 0
    while more:
        more = take(">b")
        value()
    return bytes(out)


def last_of(answer):
    """Whether a message of the asynchronous mode ends its answer."""
    return b"\x00\x00\x00\x04last\x00\x00\x00\x05False" not in answer


def converse(engine, folder, entry_point, is_async, turns):
    with tempfile.TemporaryDirectory() as temporary:
        name = os.path.join(temporary, "socket")
        model = os.path.join(temporary, "model")
        shutil.copytree(os.path.join(HERE, folder), model)
        worker = subprocess.Popen(
            [sys.executable, engine, "--sock-type", "unix", "--sock-name", name, "--model-dir",
             model, "--entry-point", entry_point, "--device-id", "-1", "--cluster-size", "1",
             "--recommended-entry-point", "", "--log-level", "info",
             "--async-mode" if is_async else "--no-async-mode"],
            stdout=subprocess.PIPE, text=True, cwd=model, env={**os.environ, "PYTHONPATH": model})
        for line in worker.stdout:
            if "Python engine started." in line:
                break
        # What is logged must not fill the pipe.
        threading.Thread(target=worker.stdout.read, daemon=True).start()
        conn = socket.socket(socket.AF_UNIX)
        conn.connect(name)
        conversation = []
        for label, request in turns():
            sessions = os.path.join(temporary, "sessions").encode()
            told = request.replace(b"\x00\x00\x00\x08SESSIONS",
                                   struct.pack(">i", len(sessions)) + sessions)
            conn.sendall(told)
            message = answers = answer(conn)
            while is_async and not last_of(message):
                message = answer(conn)
                answers += message
            conversation.append({"name": label, "request": request.hex(),
                                 "answer": answers.hex()})
        conn.close()
        worker.kill()
        worker.wait()
        return conversation


def write_model():
    """The pickle that the handler of scikit-learn loads."""
    sys.path.insert(0, os.path.join(HERE, "predictive"))
    from table import Sums

    with open(os.path.join(HERE, "predictive", "model.pkl"), "wb") as f:
        pickle.dump(Sums(3), f, protocol=4)


def main():
    engine = os.path.abspath(sys.argv[1])
    sys.path.insert(0, os.path.dirname(engine))
    import djl_python
    import numpy

    write_model()
    recorded = {
        "djl_python": djl_python.__version__,
        "python": sys.version.split()[0],
        "numpy": numpy.__version__,
        "conversations": [{
            "name": name,
            "folder": folder,
            "entry_point": entry_point,
            "asynchronous": is_async,
            "turns": converse(engine, folder, entry_point, is_async, turns),
        } for name, folder, entry_point, is_async, turns in CONVERSATIONS],
    }
    print(json.dumps(recorded, indent=1))


if __name__ == "__main__":
    main()
