"""Asks a server with OpenAI's own client, and prints what it was asked and answered.

    drive.py ADDRESS RENDERED

RENDERED is the text that the model's template makes of the dialogue below.
"""
import json
import re
import sys

import jsonschema
import openai

base, rendered = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=f"{base}/v1", api_key="any", max_retries=0)
DIALOGUE = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]


def chat(**more):
    return client.chat.completions.create(model="tiny", messages=DIALOGUE, **{"max_tokens": 12, "temperature": 0, **more})


def refused(call, *parts):
    try:
        call()
    except openai.BadRequestError as error:
        assert error.body["type"] == "invalid_request_error", error.body
        assert all(part in error.message for part in parts), (parts, error.message)
        return
    raise AssertionError(f"not refused: {parts}")


def whole_and_streamed():
    answer = chat()
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    assert answer.id.startswith("chatcmpl-") and answer.model == "tiny" and answer.usage.completion_tokens <= 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    # What the template writes, sent as a text: the same tokens, so the same answer.
    completion = client.completions.create(model="tiny", prompt=rendered, max_tokens=12, temperature=0)
    assert completion.choices[0].text == choice.message.content, (completion.choices[0].text, choice.message.content)
    parts = list(chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == choice.message.content, (text, choice.message.content)
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-1].usage == answer.usage and parts[-1].choices == []
    assert parts[-2].choices[0].finish_reason == choice.finish_reason
    with client.chat.completions.stream(model="tiny", messages=DIALOGUE, max_tokens=12, temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.current_completion_snapshot.choices[0].message.content == choice.message.content
    return choice.message.content


def logprobs():
    choice = chat(logprobs=True, top_logprobs=3).choices[0]
    content = choice.logprobs.content
    assert all(len(token.top_logprobs) == 3 for token in content)
    # Greedy: the likeliest is the one that was picked.
    assert all(token.token == token.top_logprobs[0].token and token.logprob <= 0 for token in content)
    streamed = [token for part in chat(logprobs=True, top_logprobs=3, stream=True) if part.choices[0].logprobs
                for token in part.choices[0].logprobs.content]
    assert streamed == content
    completion = client.completions.create(model="tiny", prompt="Hello there", max_tokens=4, temperature=0, logprobs=2, echo=True)
    lists = completion.choices[0].logprobs
    assert completion.choices[0].text.startswith("Hello there"), completion.choices[0].text
    assert lists.token_logprobs[0] is None and len(lists.tokens) == len(lists.text_offset) == len(lists.top_logprobs)


def several():
    one = chat(n=3, seed=11, temperature=1.0, max_tokens=8)
    two = chat(n=3, seed=11, temperature=1.0, max_tokens=8)
    texts = [choice.message.content for choice in one.choices]
    assert [choice.index for choice in one.choices] == [0, 1, 2] and len(set(texts)) > 1, texts
    assert texts == [choice.message.content for choice in two.choices]
    # The second answer of three is the first one with the next seed.
    assert texts[1] == chat(seed=12, temperature=1.0, max_tokens=8).choices[0].message.content
    streamed = {0: "", 1: "", 2: ""}
    for part in chat(n=3, seed=11, temperature=1.0, max_tokens=8, stream=True):
        streamed[part.choices[0].index] += part.choices[0].delta.content or ""
    assert texts == [streamed[index] for index in range(3)], (texts, streamed)
    best = client.completions.create(model="tiny", prompt=["a b", "c d"], n=1, best_of=3, seed=5, max_tokens=5)
    assert [choice.index for choice in best.choices] == [0, 1]


def steered():
    usual = chat(logprobs=True, max_tokens=1).choices[0].logprobs.content[0].token
    completion = client.completions.create(model="tiny", prompt=[[5, 6, 7]], max_tokens=1, temperature=0, logit_bias={"9": 100})
    ruled = client.completions.create(model="tiny", prompt=[5, 6, 7], max_tokens=3, temperature=0, logit_bias={"9": 100}, logprobs=1)
    assert len(set(ruled.choices[0].logprobs.tokens)) == 1 and completion.choices[0].text
    text = chat(max_tokens=12).choices[0].message.content
    if len(text) > 4:
        stopped = chat(max_tokens=12, stop=[text[2:4]]).choices[0]
        assert stopped.message.content == text[: text.index(text[2:4])] and stopped.finish_reason == "stop"
    return usual


SCHEMAS = [
    {"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 20}},
     "required": ["ok", "n"], "additionalProperties": False},
    {"type": "array", "items": {"enum": ["red", "green", 3, None]}, "minItems": 1, "maxItems": 3},
    {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/pair"}}, "required": ["a"], "additionalProperties": False,
     "$defs": {"pair": {"type": "array", "prefixItems": [{"type": "boolean"}, {"const": "x"}], "items": False, "minItems": 2}}},
    {"type": "string", "pattern": "^[a-c]{2,4}$"},
    {"type": "number", "minimum": -1, "maximum": 1, "multipleOf": 0.5},
]
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "now", "parameters": {
        "type": "object", "properties": {"utc": {"$ref": "#/$defs/flag"}}, "required": ["utc"], "additionalProperties": False,
        "$defs": {"flag": {"type": "boolean"}}}}},
]


def guided():
    """Random weights write anything: what is valid here is so by the form alone."""
    ended = 0
    asked = [(schema, seed) for schema in SCHEMAS for seed in range(4)]
    for schema, seed in asked:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
        choice = chat(response_format=form, temperature=1.3, seed=seed, max_tokens=120).choices[0]
        if choice.finish_reason == "stop":
            ended += 1
            jsonschema.validate(json.loads(choice.message.content), schema)
    assert ended > len(asked) // 2, f"{ended} of {len(asked)} came to their end"
    for seed in range(4):
        extra = {"guided_choice": ["yes", "no", "perhaps"]}
        assert chat(seed=seed, temperature=1.0, extra_body=extra).choices[0].message.content in extra["guided_choice"]
        text = chat(seed=seed, temperature=1.0, extra_body={"guided_regex": "[0-9]{3}-[a-f]+x"}, max_tokens=100).choices[0]
        assert text.finish_reason != "stop" or re.fullmatch("[0-9]{3}-[a-f]+x", text.message.content), text
        grammar = {"guided_grammar": 'start: "a" ("b" | "c")~2'}
        assert chat(seed=seed, temperature=1.0, extra_body=grammar).choices[0].message.content in ("abb", "abc", "acb", "acc")
    # A form beside others in the batch, and alone: the same bytes.
    several = chat(n=4, seed=0, temperature=1.0, extra_body={"guided_choice": ["yes", "no", "perhaps"]})
    alone = [chat(seed=seed, temperature=1.0, extra_body={"guided_choice": ["yes", "no", "perhaps"]}) for seed in range(4)]
    assert [choice.message.content for choice in several.choices] == [one.choices[0].message.content for one in alone]
    remote = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "https://example.com/s.json"}}}
    refused(lambda: chat(response_format=remote), "response_format", "is not fetched")
    large = {"guided_grammar": "start: " + "x" * (1 << 20)}
    refused(lambda: chat(extra_body=large), "guided_grammar", "8192")
    never = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer", "minimum": 3, "maximum": 2}}}
    refused(lambda: chat(response_format=never), "response_format")


def tools():
    for seed in range(3):
        named = {"type": "function", "function": {"name": "get_weather"}}
        choice = chat(tools=TOOLS, tool_choice=named, seed=seed, temperature=1.0, max_tokens=150).choices[0]
        call = choice.message.tool_calls[0]
        assert call.function.name == "get_weather" and choice.message.content is None and len(call.id) == 9
        if choice.finish_reason == "tool_calls":
            assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
        asked = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "seed": seed, "temperature": 1.0, "max_tokens": 180}
        whole = chat(**asked).choices[0]
        if whole.finish_reason != "tool_calls":
            continue
        [call] = whole.message.tool_calls
        schema = next(tool["function"]["parameters"] for tool in TOOLS if tool["function"]["name"] == call.function.name)
        jsonschema.validate(json.loads(call.function.arguments), schema)
        name, arguments, ids, text = "", "", set(), ""
        for part in chat(**asked, stream=True):
            text += part.choices[0].delta.content or ""
            for delta in part.choices[0].delta.tool_calls or []:
                name += delta.function.name or ""
                arguments += delta.function.arguments or ""
                ids.add(delta.id)
        assert (name, arguments, text) == (call.function.name, call.function.arguments, ""), (name, arguments, text)
    free = chat(tools=TOOLS, tool_choice="auto")
    assert free.choices[0].message.tool_calls is None or free.choices[0].finish_reason in ("tool_calls", "length")
    refused(lambda: chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "x"}}), "tool_choice", "not among")
    refused(lambda: chat(tool_choice="required"), "tool_choice", "without tools")


def models():
    listed = client.models.list().data
    assert len(listed) == 1 and client.models.retrieve(listed[0].id).object == "model"
    try:
        client.models.retrieve("nobody")
    except openai.NotFoundError as error:
        assert "nobody" in error.message
    else:
        raise AssertionError("found a model that is not there")


def wrong():
    refused(lambda: chat(n=0), "`n`", "from 1 to 128")
    refused(lambda: chat(max_tokens=100000), "context")
    refused(lambda: client.chat.completions.create(model="tiny", messages=[]), "messages")
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]
    refused(lambda: client.chat.completions.create(model="tiny", messages=image), "reads text only")
    twice = [*DIALOGUE, DIALOGUE[1]]
    refused(lambda: client.chat.completions.create(model="tiny", messages=twice), "roles must alternate")
    refused(lambda: client.completions.create(model="tiny", prompt="a", suffix="b"), "suffix", "only continue")
    refused(lambda: client.completions.create(model="tiny", prompt=[99999]), "vocabulary")
    refused(lambda: chat(extra_body={"top_kk": 5}), "top_kk", "did you mean `top_k`")


text = whole_and_streamed()
logprobs()
several()
steered()
guided()
tools()
models()
wrong()
print(json.dumps({"openai": openai.__version__, "text": text}))
