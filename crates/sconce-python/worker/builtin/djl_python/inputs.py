"""A request: properties, which are the headers, and content, which is the body or its parts."""

import io
import json
import re
import struct
from typing import List, Optional

from .pair_list import PairList

#: The key of a request within a batch: `batch_000.data`.
BATCH_KEY = re.compile(r"batch_(\d+)[._](.*)", re.DOTALL)


def retrieve_buffer(conn, length: int) -> bytearray:
    """Reads so many bytes.

    :raises ValueError: the other side has closed the connection
    """
    data = bytearray(length)
    view = memoryview(data)
    done = 0
    while done < length:
        count = conn.recv_into(view[done:])
        if count == 0:
            raise ValueError("Connection disconnected")
        done += count
    return data


def retrieve_int(conn) -> int:
    """Reads a signed number of 4 bytes, the highest first."""
    return struct.unpack(">i", retrieve_buffer(conn, 4))[0]


def retrieve_short(conn) -> int:
    """Reads a signed number of 2 bytes, the highest first."""
    return struct.unpack(">h", retrieve_buffer(conn, 2))[0]


def retrieve_utf8(conn) -> Optional[str]:
    """Reads a text with its length before it; a negative length stands for None."""
    length = retrieve_int(conn)
    return None if length < 0 else retrieve_buffer(conn, length).decode("utf-8")


class Input:

    def __init__(self):
        self.function_name = None
        self.properties = {}
        self.content = PairList()

    def __str__(self):
        sizes = [f"{key}: {len(value)} bytes" for key, value in self.content]
        return "\n".join([f"properties: {self.properties}", *sizes])

    def is_batch(self) -> bool:
        """Whether several requests came together."""
        return "batch_size" in self.properties

    def get_batch_size(self) -> int:
        return int(self.properties.get("batch_size", "1"))

    def get_batches(self) -> List["Input"]:
        """The requests of a batch, or the request itself."""
        if not self.is_batch():
            return [self]
        batch = [Input() for _ in range(self.get_batch_size())]
        for key, value in self.properties.items():
            found = BATCH_KEY.fullmatch(key) if key != "batch_size" else None
            if found:
                batch[int(found[1])].properties[found[2]] = value
        for key, value in self.content:
            found = BATCH_KEY.fullmatch(key or "")
            if not found:
                raise ValueError(f"the key {key!r} is of no request of the batch")
            batch[int(found[1])].content.add(found[2], value)
        for request in batch:
            request.function_name = self.function_name
        return batch

    def get_function_name(self) -> Optional[str]:
        """The name of the function that is to answer."""
        return self.function_name

    def get_properties(self) -> dict:
        return self.properties

    def get_property(self, key: str):
        """The value of a property, whatever the case of its name; None if it is not there."""
        wanted = key.lower()
        return next((value for name, value in self.properties.items()
                     if name is not None and name.lower() == wanted), None)

    def get_content(self) -> PairList:
        return self.content

    def contains_key(self, key) -> bool:
        return self.content.get(key) is not None

    def is_empty(self) -> bool:
        """Whether there is no content, as in the first call, which is to load the model."""
        return self.content.is_empty()

    def get_data(self, key=None):
        """The content as its Content-Type says."""
        kind = self.get_property("content-type") or ""
        if kind == "tensor/ndlist":
            return self.get_as_numpy(key)
        if kind == "tensor/npz":
            return self.get_as_npz(key)
        if kind.startswith("application/json"):
            return self.get_as_json(key)
        if kind.startswith("text/"):
            return self.get_as_string(key)
        if kind.startswith("image/"):
            return self.get_as_image(key)
        return self.get_as_bytes(key)

    def get_as_bytes(self, key=None):
        """The value of a key; without a key that of `data`, else the first. None if there is
        no content.

        :raises KeyError: there is no such key
        """
        if self.content.is_empty():
            return None
        if key:
            value = self.content.get(key)
            if value is None:
                raise KeyError(f"requested data for key:{key} is not found!")
            return value
        value = self.content.get("data")
        return self.content.value_at(0) if value is None else value

    def get_as_string(self, key=None) -> str:
        return self.get_as_bytes(key).decode("utf-8")

    def get_as_json(self, key=None):
        return json.loads(self.get_as_string(key))

    def get_as_image(self, key=None):
        """The content as an image of Pillow."""
        from PIL import Image

        return Image.open(io.BytesIO(self.get_as_bytes(key)))

    def get_as_numpy(self, key=None) -> list:
        """The arrays of DJL's binary NDList."""
        from .np_util import from_nd_list

        return from_nd_list(self.get_as_bytes(key))

    def get_as_npz(self, key=None) -> list:
        """The arrays of NumPy's archive."""
        import numpy

        with numpy.load(io.BytesIO(self.get_as_bytes(key))) as archive:
            return [archive[name] for name in archive.files]

    def get_as_csv(self, key=None) -> list:
        """The rows as dictionaries; the first row has the names."""
        import csv

        return list(csv.DictReader(io.StringIO(self.get_as_string(key))))

    def read(self, conn):
        """Reads a request from the server."""
        for _ in range(retrieve_short(conn)):
            key = retrieve_utf8(conn)
            self.properties[key] = retrieve_utf8(conn)
        for _ in range(retrieve_short(conn)):
            key = retrieve_utf8(conn)
            length = retrieve_int(conn)
            self.content.add(key=key, value=retrieve_buffer(conn, max(length, 0)))
        self.function_name = self.properties.get("handler")
