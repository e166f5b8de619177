"""Handlers of the asynchronous mode."""

import json

from djl_python import Input, Output
from djl_python.async_utils import create_non_stream_output, handle_streaming_response
from djl_python.encode_decode import decode


async def parts(count: int):
    for i in range(count):
        yield json.dumps({"token": i})
    yield "[DONE]"


async def handle(inputs: Input):
    if inputs.is_empty():
        return None
    body = decode(inputs, inputs.get_property("Content-Type"))
    if body.get("stream"):
        return own_stream(body["stream"])
    outputs = Output().add_property("x-own", "1")
    return outputs.add(Output.binary_encode({"data": body["inputs"], "last": True}))


async def own_stream(count: int):
    async for part in parts(count):
        payload = {"data": part, "last": part == "[DONE]"}
        yield Output().add(Output.binary_encode(payload))


async def with_helpers(inputs: Input):
    body = inputs.get_as_json()
    if "count" in body:
        return handle_streaming_response(parts(body["count"]), write, end=body.get("end"))
    return create_non_stream_output({"ü": body}, properties={"x-more": "y"})


def write(part: str, end=None):
    if part == f'{{"token": {end}}}':
        raise ValueError("not further")
    return part.upper(), part == "[DONE]"


async def failure(inputs: Input):
    return create_non_stream_output("", error="no answer", code=418)


async def fails(inputs: Input):
    raise ValueError("cannot do this")


async def no_output(inputs: Input):
    return None


async def wrong_type(inputs: Input):
    return 7
