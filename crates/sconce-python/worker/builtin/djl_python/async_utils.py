"""Answers of handlers that are coroutines: whole ones and parts of streams, in the form that the
server reads.
"""

import json
import logging
from typing import AsyncGenerator, Callable, Optional, Union

from .outputs import Output


def create_non_stream_output(data: Union[str, dict],
                             properties: Optional[dict] = None,
                             error: Optional[str] = None,
                             code: Optional[int] = None) -> Output:
    """A whole answer; with a code it is a failure, and the data is not sent."""
    return _output(data, True, "application/json", properties, error, code)


def create_stream_chunk_output(data: Union[str, dict],
                               last_chunk: bool,
                               error: Optional[str] = None,
                               code: Optional[int] = None) -> Output:
    """A part of a stream."""
    return _output(data, last_chunk, "application/jsonlines", None, error, code)


def _output(data, last: bool, kind: str, properties, error, code) -> Output:
    text = json.dumps(data, ensure_ascii=False) if isinstance(data, dict) else data
    payload = {"data": text + "\n", "last": last}
    if error:
        payload["error"] = error
    if code:
        payload["code"] = code
    outputs = Output().add_property("Content-Type", kind)
    for key, value in (properties or {}).items():
        outputs.add_property(key, value)
    return outputs.add(Output.binary_encode(payload))


async def handle_streaming_response(response: AsyncGenerator[str, None],
                                    stream_output_formatter: Callable,
                                    accumulate_chunks: bool = False,
                                    **kwargs) -> AsyncGenerator[Output, None]:
    """The parts of a stream.

    :param stream_output_formatter: makes `(data, last)` of a part; with `accumulate_chunks` it gets
        `history` too and returns it as the third
    """
    history = []
    async for chunk in response:
        try:
            if accumulate_chunks:
                data, last, history = stream_output_formatter(chunk, history=history, **kwargs)
            else:
                data, last = stream_output_formatter(chunk, **kwargs)
        except Exception as e:  # whatever the formatter raises
            logging.exception("stream_output_formatter failed")
            yield create_stream_chunk_output("", True, error=str(e), code=424)
            return
        yield create_stream_chunk_output(data, last)
        if last:
            return
