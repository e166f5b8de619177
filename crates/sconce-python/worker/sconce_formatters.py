"""Runs the functions of `model.py` that change requests and answers of the native engine.

A worker has this file as its entry point, with whichever djl_python package it uses. The server says
by `handler` what is to be done:

    handle    the first call, which finds the functions
    describe  which there are, as JSON
    read      a request as it came: the JSON that the native engine is to read
    write     lines of JSON about what was generated: the bytes that the client gets
    forget    the rest of an answer is not wanted

`sconce_request` tells requests apart, `sconce_dialect` which handlers of DJL Serving are stood for:
`async` is the asynchronous service of vLLM, whose functions see decoded bodies and vLLM's answers;
`rolling` and `fixed` are the others, whose functions see an Input and a TextGenerationOutput.
"""

import collections
import inspect
import json
import logging
import time

from djl_python import Input, Output
from djl_python.encode_decode import decode
from djl_python.request_io import RequestOutput, TextGenerationOutput, TextInput, Token
from djl_python.service_loader import get_annotated_function, load_model_service

#: Requests whose end was never told are forgotten once there are more.
MOST_REQUESTS = 4096
#: What vLLM calls the reasons why a text ends.
VLLM_REASONS = {"eos_token": "stop", "stop_sequence": "stop", "length": "length"}


class Functions:
    """The functions of `model.py`, and the requests at hand."""

    def __init__(self):
        self.properties = {}
        self.input = None
        self.output = None
        self.tokenizer = None
        self.requests = collections.OrderedDict()

    def load(self, properties: dict):
        self.properties = properties
        model_dir = properties["model_dir"]
        self.input = get_annotated_function(model_dir, "is_input_formatter")
        named = properties.get("output_formatter")
        if isinstance(named, str):
            module = load_model_service(model_dir, "model.py", -1).module
            named = getattr(module, named, None)
        self.output = named if callable(named) else None
        if self.output is None:
            self.output = get_annotated_function(model_dir, "is_output_formatter")
        self.tokenizer = LazyTokenizer(properties.get("model_id") or model_dir)

    def known(self, inputs: Input) -> str:
        return inputs.get_property("sconce_request")

    def keep(self, key: str, request):
        self.requests[key] = request
        while len(self.requests) > MOST_REQUESTS:
            self.requests.popitem(last=False)


class LazyTokenizer:
    """The tokenizer of transformers, which is loaded when a function first uses it."""

    def __init__(self, place: str):
        self._place = place
        self._loaded = None

    def _load(self):
        if self._loaded is None:
            from transformers import AutoTokenizer

            self._loaded = AutoTokenizer.from_pretrained(self._place)
        return self._loaded

    def __getattr__(self, name):
        return getattr(self._load(), name)

    def __call__(self, *args, **kwargs):
        return self._load()(*args, **kwargs)


class Configs:
    """The model's properties as attributes; what nobody set is None."""

    def __init__(self, properties: dict):
        self.__dict__.update({key: value for key, value in properties.items() if key.isidentifier()})

    def __getattr__(self, name):
        return None


functions = Functions()


def handle(inputs: Input):
    """The first call."""
    functions.load(dict(inputs.get_properties()))
    return None


def describe(inputs: Input) -> Output:
    found = {"input": functions.input is not None, "output": functions.output is not None}
    return Output().add_as_json(found)


def read(inputs: Input) -> Output:
    """The JSON of a request that the function for requests has changed."""
    own = _own_properties(inputs)
    try:
        if _takes_payload(functions.input, own["sconce_dialect"]):
            payload = decode(inputs, inputs.get_property("Content-Type"))
            payload = _call(functions.input, payload, tokenizer=functions.tokenizer)
            if not isinstance(payload, dict):
                raise TypeError(f"{functions.input.__name__} must return a dict, not "
                                f"{type(payload).__name__}")
        else:
            request = _call(functions.input,
                            inputs,
                            tokenizer=functions.tokenizer,
                            configs=Configs(functions.properties),
                            is_rolling_batch=own["sconce_dialect"] == "rolling")
            payload = _payload(request)
            request.client_request_id = inputs.get_property("requestId")
            if functions.output is not None:
                functions.keep(own["sconce_request"], request)
        return Output().add(json.dumps(payload, ensure_ascii=False))
    except Exception as e:  # whatever the user's function raises
        logging.exception("The custom input formatter failed")
        if own["sconce_dialect"] == "async":
            text = f"Custom formatter failed: {_told(e)}"
        else:
            what = f"Invalid Request Property: {e}" if isinstance(e, KeyError) else str(e)
            text = f"Input Parsing failed. Ensure that the request payload is valid. {what}"
        return _failed(text)


def write(inputs: Input) -> Output:
    """The bytes that the function for answers makes of what was generated."""
    key = functions.known(inputs)
    answer = functions.requests.pop(key, None)
    try:
        if not isinstance(answer, _Answer):
            kind = _Async if inputs.get_property("sconce_dialect") == "async" else _Rolling
            answer = kind(json.loads(inputs.get_as_string("request")), answer)
        # Not `splitlines`: texts may have other line breaks.
        lines = inputs.get_as_string("data").split("\n")
        text = "".join(answer.take(json.loads(line)) for line in lines if line)
    except Exception as e:  # whatever the user's function raises
        logging.exception("The custom output formatter failed")
        return _failed(f"Custom formatter failed: {_told(e)}")
    if not answer.has_ended:
        functions.keep(key, answer)
    return Output().add(text)


def forget(inputs: Input) -> Output:
    functions.requests.pop(functions.known(inputs), None)
    return Output()


def _own_properties(inputs: Input) -> dict:
    """Takes away what the server says to this file."""
    properties = inputs.get_properties()
    return {name: properties.pop(name, None) for name in ("sconce_request", "sconce_dialect")}


def _failed(text: str) -> Output:
    return Output(code=424, message="formatter failure").add(text)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _call(function, first, **more):
    """Calls a function with those of the further arguments that it takes."""
    parameters = inspect.signature(function).parameters.values()
    if not any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters):
        names = {p.name for p in parameters}
        more = {name: value for name, value in more.items() if name in names}
    return function(first, **more)


def _annotation(function):
    """What the first parameter is said to be."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return None if first is None else first.annotation


def _takes_payload(function, dialect: str) -> bool:
    """Whether a function for requests takes the decoded body; what it says of itself comes first."""
    annotation = _annotation(function)
    if annotation is Input or annotation == "Input":
        return False
    return dialect == "async" or annotation in (dict, "dict")


def _payload(request) -> dict:
    """The body that a RequestInput stands for."""
    if not hasattr(request, "input_text"):
        raise TypeError(f"{functions.input.__name__} must return a TextInput, not "
                        f"{type(request).__name__}")
    parameters = dict(request.parameters or {})
    payload = {"inputs": request.input_text, "parameters": parameters}
    if "stream" in parameters:
        payload["stream"] = bool(parameters.pop("stream"))
    for name in ("cached_prompt", "output_formatter"):
        if callable(parameters.get(name)) or parameters.get(name) is None:
            parameters.pop(name, None)
    return payload


class _Answer:
    """An answer on its way; `take` is told what was generated and gives text for the client."""
    has_ended = False


class _Rolling(_Answer):
    """One that a function sees as a TextGenerationOutput, after each token."""

    def __init__(self, payload: dict, request):
        self.function = functions.output
        annotation = _annotation(self.function)
        self.is_old = annotation not in (RequestOutput, TextGenerationOutput, "RequestOutput",
                                         "TextGenerationOutput")
        if request is None:
            request = TextInput()
            request.input_text = payload.get("inputs")
            request.parameters = dict(payload.get("parameters") or {})
            request.parameters["stream"] = payload.get("stream", False)
        request.request_id = 0
        request.tokenizer = functions.tokenizer
        request.server_parameters = dict(request.parameters)
        request.output_formatter = self.function
        request.tgi_compat = str(functions.properties.get("tgi_compat", "")).lower() == "true"
        self.request = request
        self.output = TextGenerationOutput(request_id=0, input=request)
        self.held = None

    def take(self, line: dict) -> str:
        if "token" in line:
            # The last one waits for the reason of the end.
            if line["token"]["last"]:
                self.held = line["token"]
                return ""
            return self._step(line["token"], None)
        done = line["done"]
        self.has_ended = True
        self.output.prompt_tokens_details = [
            Token(t["id"], t["text"], t["logprob"]) for t in done["prompt"]
        ]
        self.output.finished = True
        if self.held is None:
            self.output.set_finish_reason(done["finish_reason"])
            return "" if self.is_old else self._written()
        return self._step(self.held, done["finish_reason"])

    def _step(self, token: dict, reason) -> str:
        made = Token(token["id"], token["text"], token["logprob"], token["special"] or None)
        made.request_id = 0
        self.output.set_next_token(made, is_last_token=reason is not None, finish_reason=reason)
        if token["top"]:
            self.output.set_next_top_tokens([
                Token(t["id"], t["text"], t["logprob"], t["special"] or None) for t in token["top"]
            ], 0)
        return self._old() if self.is_old else self._written()

    def _written(self) -> str:
        sequence = self.output.sequences[self.output.best_sequence_index]
        if not self.request.parameters.get("stream"):
            return self.function(self.output) or ""
        text = ""
        # A function that does not go on to the next token is not called for ever.
        for _ in sequence.tokens:
            if not sequence.has_next_token():
                break
            text += self.function(self.output) or ""
        return text

    def _old(self) -> str:
        """The signature before 0.28: (token, first, last, details, generated_text, id)."""
        parameters = self.request.parameters
        sequence = self.output.sequences[self.output.best_sequence_index]
        details = {}
        if parameters.get("details", False):
            details = {
                "finish_reason": sequence.finish_reason,
                "tokens": self.output.get_tokens_as_dict(),
                "generated_tokens": len(sequence.tokens),
                "inputs": self.request.input_text,
                "parameters": parameters,
                "prompt_tokens": len(self.output.prompt_tokens_details),
            }
        token, _, first, last = sequence.get_next_token()
        generated = self.request.input_text if parameters.get("return_full_text") else ""
        if last:
            generated += "".join(t.text for t in sequence.tokens)
        return self.function(token, first, last, details, generated, self.output.request_id)


class _Async(_Answer):
    """One that a function sees as vLLM's answer, or as each event of vLLM's stream."""

    def __init__(self, payload: dict, _request):
        parameters = payload.get("parameters") or {}
        self.function = functions.output
        self.streams = bool(payload.get("stream", parameters.get("stream", False)))
        self.has_details = bool(parameters.get("details"))
        self.before = payload.get("inputs", "") if parameters.get("return_full_text") else ""
        self.tokens = []
        self.head = {
            "id": f"cmpl-{time.time_ns():x}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": functions.properties.get("served_model_name") or payload.get("model") or "lmi",
        }

    def take(self, line: dict) -> str:
        if "token" in line:
            self.tokens.append(line["token"])
            if not self.streams or line["token"]["last"]:
                return ""
            return self._event([line["token"]], None, len(self.tokens))
        done = line["done"]
        self.has_ended = True
        if not self.streams:
            return _text_of(self.function(self._response(done))) + "\n"
        last = [token for token in self.tokens[-1:] if token["last"]]
        text = self._event(last, done, len(self.tokens))
        return text + _text_of(self.function("data: [DONE]\n\n")) + "\n\n"

    def _event(self, tokens: list, done, count: int) -> str:
        choice = self._choice("".join(t["text"] for t in tokens), tokens, done)
        usage = {"completion_tokens": count}
        if done is not None:
            usage = _usage(done)
        event = json.dumps({**self.head, "choices": [choice], "usage": usage}, ensure_ascii=False)
        return _text_of(self.function(f"data: {event}\n\n")) + "\n"

    def _choice(self, text: str, tokens: list, done) -> dict:
        reason = None if done is None else VLLM_REASONS[done["finish_reason"]]
        return {
            "index": 0,
            "text": text,
            "logprobs": _logprobs(tokens) if self.streams or self.has_details else None,
            "finish_reason": reason,
            "stop_reason": None if done is None else done["matched"],
            "prompt_logprobs": None,
        }

    def _response(self, done: dict):
        text = self.before + done["text"]
        answer = {"generated_text": text}
        if self.has_details:
            answer["details"] = {
                "finish_reason": done["matched"],
                "generated_tokens": done["generated_tokens"],
                "tokens": [{name: t[name] for name in ("id", "text", "logprob")}
                           for t in self.tokens],
            }
        choice = self._choice(text, self.tokens, done)
        return Response({**self.head, "choices": [choice], "usage": _usage(done)}, answer)


def _usage(done: dict) -> dict:
    prompt, new = done["prompt_tokens"], done["generated_tokens"]
    return {"prompt_tokens": prompt, "total_tokens": prompt + new, "completion_tokens": new}


def _logprobs(tokens: list) -> dict:
    offsets, at = [], 0
    for token in tokens:
        offsets.append(at)
        at += len(token["text"])
    return {
        "text_offset": offsets,
        "token_logprobs": [token["logprob"] for token in tokens],
        "tokens": [token["text"] for token in tokens],
        "top_logprobs": [{token["text"]: token["logprob"]} for token in tokens],
    }


class Members:
    """A part of vLLM's answer: its members are attributes, as those of vLLM's own classes are."""

    def __init__(self, members: dict):
        # The most likely tokens are a dictionary there too.
        self.__dict__.update({
            key: value if key == "top_logprobs" else _members(value)
            for key, value in members.items()
        })

    def model_dump(self, **_) -> dict:
        return {key: _plain(value) for key, value in self.__dict__.items()}

    def model_dump_json(self, **_) -> str:
        return json.dumps(self.model_dump(), ensure_ascii=False, separators=(",", ":"))


def _members(value):
    if isinstance(value, dict):
        return Members(value)
    return [_members(item) for item in value] if isinstance(value, list) else value


def _plain(value):
    if isinstance(value, Members):
        return value.model_dump()
    return [_plain(item) for item in value] if isinstance(value, list) else value


class Response(dict):
    """An answer with two faces. DJL Serving hands over vLLM's answer, whose members are
    attributes; its documentation promises a dictionary with `generated_text`. The face that the
    function has changed is sent, and that of vLLM if it has changed neither.
    """

    def __init__(self, response: dict, answer: dict):
        super().__init__(answer)
        members = Members(response)
        self.__dict__.update(members.__dict__)
        self.__dict__["_answer"] = json.dumps(answer)

    def model_dump(self, **_) -> dict:
        if self.is_changed():
            return dict(self)
        return {key: _plain(value) for key, value in self.__dict__.items() if key != "_answer"}

    def model_dump_json(self, **_) -> str:
        return json.dumps(self.model_dump(), ensure_ascii=False, separators=(",", ":"))

    def is_changed(self) -> bool:
        """Whether the function has changed the dictionary."""
        return json.dumps(dict(self), default=str) != self._answer


def _text_of(made) -> str:
    """What a function has made, as text."""
    if isinstance(made, (str, bytes)):
        return made if isinstance(made, str) else made.decode("utf-8")
    if hasattr(made, "model_dump_json") and not (isinstance(made, Response) and made.is_changed()):
        return made.model_dump_json()
    if isinstance(made, dict):
        return json.dumps(made, ensure_ascii=False)
    raise TypeError(f"{functions.output.__name__} must return a text or a dict, not "
                    f"{type(made).__name__}")
