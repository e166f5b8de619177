"""The loop of a worker whose handler is a coroutine: requests run side by side.

Each message in either direction has the property `request_tracking_id`. A handler gives one Output,
or a generator of them, whose content is `Output.binary_encode({"data": …, "last": …})`.
"""

import asyncio
import logging
import struct
import types

from .inputs import Input
from .outputs import Output
from .python_sync_engine import PythonSyncEngine, failure

REQUEST_TRACKING_ID_KEY = "request_tracking_id"


class PythonAsyncEngine(PythonSyncEngine):

    def run_server(self):
        """Answers until the server closes the connection."""
        self._accept()
        asyncio.run(self._serve())

    async def _serve(self):
        reader, writer = await asyncio.open_connection(sock=self.cl_socket)
        tasks = set()
        while True:
            inputs = await _read(reader)
            self._add_properties(inputs.get_properties())
            function_name = inputs.get_function_name()
            self._verify_entry_point(function_name)
            task = asyncio.create_task(self._answer_all(function_name, inputs, writer))
            # The loop itself keeps no reference to its tasks.
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _answer_all(self, function_name: str, inputs: Input, writer):
        tracking_id = inputs.get_property(REQUEST_TRACKING_ID_KEY)

        async def send(output: Output):
            output.add_property(REQUEST_TRACKING_ID_KEY, tracking_id)
            # One call writes one message: messages never mix.
            writer.write(bytes(output.encoded()))
            await writer.drain()

        try:
            outputs = await self.service.invoke_handler_async(function_name, inputs)
            if isinstance(outputs, types.AsyncGeneratorType):
                async for output in outputs:
                    await send(output)
                return
            if outputs is None:
                outputs = Output(code=204, message="No content")
            elif not isinstance(outputs, Output):
                outputs = Output().error(f"Invalid output type: {type(outputs)}, neither an "
                                         "Output nor an asynchronous generator of them")
            await send(outputs)
        except OSError:
            raise
        except Exception as e:  # whatever the user's handler raises
            logging.exception("Failed invoke service.invoke_handler_async()")
            await send(failure(e, "service.invoke_handler_async() failure"))


async def _read(reader: asyncio.StreamReader) -> Input:
    """Reads a request."""

    async def number(form: str) -> int:
        return struct.unpack(form, await reader.readexactly(struct.calcsize(form)))[0]

    async def text():
        length = await number(">i")
        return None if length < 0 else (await reader.readexactly(length)).decode("utf-8")

    inputs = Input()
    for _ in range(await number(">h")):
        key = await text()
        inputs.properties[key] = await text()
    for _ in range(await number(">h")):
        key = await text()
        length = await number(">i")
        value = bytearray(await reader.readexactly(max(length, 0)))
        inputs.content.add(key=key, value=value)
    inputs.function_name = inputs.properties.get("handler")
    return inputs
