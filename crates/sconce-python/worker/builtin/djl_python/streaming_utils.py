"""Text of a transformers model as it is generated, for `Output.add_stream_content`."""

import logging
from queue import Queue
from threading import Thread

from transformers.generation.streamers import BaseStreamer


class HFStreamer(BaseStreamer):
    """Iterates over what `generate` puts into it: a list of texts, one for each input, at a time.
    The first are the prompts.
    """

    def __init__(self, tokenizer, **decode_kwargs):
        self.tokenizer = tokenizer
        self.decode_kwargs = decode_kwargs
        self.stop_signal = None
        self.queue = Queue()

    def put(self, value):
        rows = [[token] for token in value] if len(value.shape) == 1 else value
        self.queue.put([self.tokenizer.decode(row, **self.decode_kwargs) for row in rows])

    def put_text(self, value):
        self.queue.put(value)

    def end(self):
        self.queue.put(self.stop_signal)

    def __iter__(self):
        return self

    def __next__(self):
        value = self.queue.get()
        if value is self.stop_signal:
            raise StopIteration
        return value


class StreamingUtils:
    DEFAULT_MAX_NEW_TOKENS = 50
    BUILTIN_ENGINES = {"Accelerate"}

    @staticmethod
    def use_hf_default_streamer(model, tokenizer, inputs, device, **kwargs) -> HFStreamer:
        """Starts generating; a failure is the last text.

        :param kwargs: of `generate`
        """
        return _start(model, tokenizer, inputs, device, {"skip_special_tokens": True}, kwargs)

    @staticmethod
    def get_stream_generator(execution_engine: str):
        """A generator of the new texts of all inputs: `(model, tokenizer, inputs, device, **kwargs)`.

        :param execution_engine: `Accelerate` is the only one
        """
        if execution_engine not in StreamingUtils.BUILTIN_ENGINES:
            raise ValueError(f"{execution_engine} engine is not supported for streaming")
        return _new_texts


def _new_texts(model, tokenizer, inputs, device, **kwargs):
    if not isinstance(inputs, list) or not inputs:
        raise ValueError("inputs to stream generator must be a list of strings")
    if kwargs.get("beam_size", 1) > 1:
        raise NotImplementedError("beam search is not supported yet!")
    kwargs.setdefault("max_new_tokens", StreamingUtils.DEFAULT_MAX_NEW_TOKENS)
    samples = any(name in kwargs for name in ("temperature", "top_p", "top_k", "typical_p"))
    kwargs.setdefault("do_sample", samples)
    texts = _start(model, tokenizer, inputs, device, {}, kwargs)
    # The first are the prompts; of encoder-decoders the beginning of the answer.
    next(texts, None)
    yield from texts


def _start(model, tokenizer, inputs, device, decode_kwargs: dict, kwargs: dict) -> HFStreamer:
    if not tokenizer.pad_token:
        tokenizer.pad_token = tokenizer.eos_token
    tokens = tokenizer(inputs, padding=True, return_tensors="pt")
    tokens = tokens.to(model.device if device is None else device)
    streamer = HFStreamer(tokenizer, **decode_kwargs)

    def run():
        try:
            model.generate(**tokens, streamer=streamer, **kwargs)
        except Exception as e:  # whatever transformers raises
            logging.warning("stream generation failed", exc_info=True)
            streamer.put_text(str(e))
        finally:
            streamer.end()

    Thread(target=run, daemon=True).start()
    return streamer
