"""Records what a worker of DJL Serving answers, byte for byte.

    python record.py DJL_PYTHON_ENGINE.py > recorded.json

The argument is `engines/python/setup/djl_python_engine.py` of a checkout of
deepjavalibrary/djl-serving; NumPy must be installed. The requests stand below, the handlers in
`model/model.py`. The test compares what the package of this repository answers.
"""

import io
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile

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


def converse(engine):
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "socket")
        worker = subprocess.Popen(
            [sys.executable, engine, "--sock-type", "unix", "--sock-name", name, "--model-dir",
             os.path.join(HERE, "model"), "--entry-point", "model.py", "--device-id", "-1",
             "--cluster-size", "1", "--recommended-entry-point", "", "--log-level", "info",
             "--no-async-mode"],
            stdout=subprocess.PIPE, text=True, cwd=os.path.join(HERE, "model"))
        for line in worker.stdout:
            if "Python engine started." in line:
                break
        conn = socket.socket(socket.AF_UNIX)
        conn.connect(name)
        conversation = []
        for label, request in requests():
            conn.sendall(request)
            conversation.append({"name": label, "request": request.hex(),
                                 "answer": answer(conn).hex()})
        conn.close()
        worker.kill()
        worker.wait()
        return conversation


def main():
    engine = os.path.abspath(sys.argv[1])
    sys.path.insert(0, os.path.dirname(engine))
    import djl_python
    import numpy

    recorded = {
        "djl_python": djl_python.__version__,
        "python": sys.version.split()[0],
        "numpy": numpy.__version__,
        "conversation": converse(engine),
    }
    print(json.dumps(recorded, indent=1))


if __name__ == "__main__":
    main()
