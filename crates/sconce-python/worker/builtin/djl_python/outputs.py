"""An answer: status, message, properties, which become headers, and content or a stream."""

import datetime
import json
import logging
import struct

from .pair_list import PairList


class _JSONEncoder(json.JSONEncoder):
    """Writes times as text, and NumPy's numbers and arrays as numbers and lists."""

    def default(self, obj):
        if isinstance(obj, datetime.datetime):
            return str(obj)
        # Arrays and numbers of NumPy say of themselves what they are as Python's.
        for method in ("tolist", "item"):
            convert = getattr(obj, method, None)
            if callable(convert) and type(obj).__module__.split(".")[0] == "numpy":
                return convert()
        return super().default(obj)


def _default_stream_output_formatter(item) -> bytearray:
    return bytearray((json.dumps({"outputs": item}) + "\n").encode("utf-8"))


class Output:

    def __init__(self, code: int = 200, message: str = "OK"):
        self.code = code
        self.message = message
        self.properties = {}
        self.content = PairList()
        self.stream_content = None
        self.stream_output_formatter = None
        self.finalize_function = None
        self.finalize_args = None

    def __str__(self):
        content = {key: f"type: {type(value)}" for key, value in self.content}
        return json.dumps(
            {
                "code": self.code,
                "message": self.message,
                "properties": self.properties,
                "content": content,
            },
            indent=2,
            default=str)

    def set_code(self, code: int) -> "Output":
        self.code = code
        return self

    def set_message(self, message: str) -> "Output":
        self.message = message
        return self

    def error(self, error: str, code: int = 424,
              message: str = "invoke handler failure") -> "Output":
        """Makes this the answer to a request that failed."""
        self.code = code
        self.message = message
        self.add_property("content-type", "application/json")
        return self.add_as_json({"code": code, "message": message, "error": error})

    def add_property(self, key: str, val) -> "Output":
        self.properties[key] = val
        return self

    def get_properties(self) -> dict:
        return self.properties

    def get_property(self, key: str):
        return self.properties.get(key)

    def add(self, value, key=None, batch_index=None) -> "Output":
        """Adds content: text as UTF-8, bytes as they are, anything else as JSON.

        :param batch_index: the request that it answers, in a batch
        """
        if key is not None and not isinstance(key, str):
            logging.warning(f"Output key should be str type, got {type(key)}")
            key = str(key)
        if batch_index is not None:
            key = f"batch_{batch_index}.{key or ''}"
        self.content.add(key=key, value=_to_bytes(value))
        return self

    def add_as_json(self, val, key=None, batch_index=None) -> "Output":
        return self.add(self._encode_json(val), key=key, batch_index=batch_index)

    def add_as_numpy(self, np_list, key=None, batch_index=None) -> "Output":
        """Adds an array or a list of arrays as DJL's binary NDList."""
        from .np_util import to_nd_list

        return self.add(to_nd_list(np_list), key=key, batch_index=batch_index)

    def add_as_npz(self, np_list, key=None, batch_index=None) -> "Output":
        """Adds a list of arrays as NumPy's archive."""
        import io

        import numpy

        file = io.BytesIO()
        numpy.savez(file, *np_list)
        return self.add(file.getvalue(), key=key, batch_index=batch_index)

    def add_stream_content(self,
                           stream_content,
                           output_formatter=_default_stream_output_formatter) -> "Output":
        """Answers with a stream: each item is sent as it comes.

        :param output_formatter: makes bytes of an item; None: items are text or bytes
        """
        self.stream_content = stream_content
        self.stream_output_formatter = output_formatter
        return self

    def finalize(self, finalize_function, *args) -> "Output":
        """Sets a function that is called once the answer has been sent."""
        self.finalize_function = finalize_function
        self.finalize_args = args
        return self

    def execute_finalize(self):
        if self.finalize_function:
            return self.finalize_function(*self.finalize_args)
        return None

    @staticmethod
    def _encode_json(val) -> bytearray:
        text = json.dumps(val,
                          ensure_ascii=False,
                          allow_nan=False,
                          indent=2,
                          cls=_JSONEncoder,
                          separators=(",", ":"))
        return bytearray(text.encode("utf-8"))

    @staticmethod
    def binary_encode(data: dict) -> bytearray:
        """The payload of a rolling batch or of the asynchronous mode."""
        msg = bytearray(struct.pack(">h", len(data)))
        for key, value in data.items():
            Output.write_utf8(msg, key)
            Output.write_utf8(msg, str(value))
        return msg

    @staticmethod
    def write_utf8(msg: bytearray, val):
        if val is None:
            msg += struct.pack(">i", -1)
            return
        data = val.encode("utf-8")
        msg += struct.pack(">i", len(data))
        msg += data

    def _head(self) -> bytearray:
        if not isinstance(self.code, int) or not 100 <= self.code <= 999:
            raise ValueError(
                f"the code of an Output must be an HTTP status, a number, not {self.code!r}")
        msg = bytearray(struct.pack(">h", self.code))
        self.write_utf8(msg, None if self.message is None else str(self.message))
        msg += struct.pack(">h", len(self.properties))
        for key, value in self.properties.items():
            self.write_utf8(msg, str(key))
            self.write_utf8(msg, str(value))
        return msg

    def encoded(self) -> bytearray:
        """The answer as it is sent, without its stream."""
        msg = self._head()
        if self.stream_content is not None:
            msg += struct.pack(">h", -1)
            return msg
        msg += struct.pack(">h", self.content.size())
        for key, value in self.content:
            self.write_utf8(msg, key)
            msg += struct.pack(">i", len(value))
            msg += value
        return msg

    def send(self, cl_socket, cancelled=lambda: False):
        """Sends the answer.

        :param cancelled: asked before each item of a stream; True: nobody waits for more
        """
        cl_socket.sendall(self.encoded())
        if self.stream_content is None:
            return
        last = b""
        try:
            # A list will do as well as a generator.
            for item in iter(self.stream_content):
                if cancelled():
                    logging.info("The client has left; its stream ends")
                    break
                cl_socket.sendall(_frame(1, self._chunk(item)))
        except OSError:
            raise
        except Exception as e:  # whatever the user's generator raises
            logging.exception("Failed read streaming content from output")
            last = str(e).encode("utf-8")
        finally:
            close = getattr(self.stream_content, "close", None)
            if callable(close):
                close()
        cl_socket.sendall(_frame(0, last))

    def _chunk(self, item) -> bytes:
        if self.stream_output_formatter is not None:
            item = self.stream_output_formatter(item)
        return _to_bytes(item)


def _to_bytes(value):
    if isinstance(value, str):
        return bytearray(value.encode("utf-8"))
    if isinstance(value, bytearray):
        return value
    if isinstance(value, (bytes, memoryview)):
        return bytearray(value)
    return Output._encode_json(value)


def _frame(more: int, data) -> bytearray:
    frame = bytearray(struct.pack(">bi", more, len(data)))
    frame += data
    return frame
