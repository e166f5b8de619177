"""Asks a server, and an emulated SageMaker endpoint in front of it, with the adapters of LangChain and litellm, and prints
what was answered.

    drive.py ADDRESS ENDPOINT RENDERED

RENDERED is the text that the model's template makes of the dialogue below. Whatever the adapter, the answer is the same.
"""
import json
import logging
import os
import sys
from importlib.metadata import version

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
               "AWS_REGION_NAME": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "OPENAI_API_KEY": "any"}

import boto3
import litellm
from langchain_aws.llms.sagemaker_endpoint import LLMContentHandler, SagemakerEndpoint
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from litellm.llms.sagemaker.completion.transformation import SagemakerConfig

base, endpoint, rendered = sys.argv[1:]
DIALOGUE = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]
PAIRS = [(message["role"], message["content"]) for message in DIALOGUE]
GREEDY = {"max_tokens": 8, "temperature": 0}
SCHEMA = {"title": "Answer", "type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2, 3]}},
          "required": ["ok", "n"], "additionalProperties": False}
litellm.suppress_debug_info = True
logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)


@tool
def get_weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"It rains in {city}."


def langchain_chat():
    chat = ChatOpenAI(base_url=f"{base}/v1", api_key="any", model="tiny", max_retries=0, **GREEDY)
    answer = chat.invoke(PAIRS)
    assert answer.usage_metadata["output_tokens"] <= 8 and answer.response_metadata["finish_reason"] in ("stop", "length")
    whole = AIMessageChunk(content="")
    for part in chat.stream(PAIRS):
        whole += part
    assert whole.content == answer.content, (whole.content, answer.content)
    assert [one.content for one in chat.batch([PAIRS, PAIRS])] == [answer.content] * 2
    telling = chat.bind(logprobs=True, top_logprobs=2).invoke(PAIRS)
    assert len(telling.response_metadata["logprobs"]["content"][0]["top_logprobs"]) == 2
    formed = ChatOpenAI(base_url=f"{base}/v1", api_key="any", model="tiny", temperature=1, max_tokens=120, seed=3, max_retries=0)
    found = formed.with_structured_output(SCHEMA, method="json_schema", strict=True).invoke(PAIRS)
    assert set(found) == {"ok", "n"} and found["n"] in (1, 2, 3), found
    called = formed.bind_tools([get_weather], tool_choice="get_weather").invoke(PAIRS)
    calls = called.tool_calls + called.invalid_tool_calls
    assert [call["name"] for call in calls] == ["get_weather"], called
    completion = OpenAI(base_url=f"{base}/v1", api_key="any", model="tiny", max_retries=0, **GREEDY)
    assert completion.invoke(rendered) == answer.content, (completion.invoke(rendered), answer.content)
    assert "".join(completion.stream(rendered)) == answer.content
    return answer.content


class Lines(LLMContentHandler):
    """LMI's bodies, whole and in lines."""

    content_type = accepts = "application/json"

    def transform_input(self, prompt, model_kwargs):
        return json.dumps({"inputs": prompt, "parameters": model_kwargs, **self.more}).encode()

    def transform_output(self, output):
        body = json.loads(output if isinstance(output, bytes) else output.read())
        return body["token"]["text"] if "token" in body else body["generated_text"]


def langchain_sagemaker(text):
    client = boto3.client("sagemaker-runtime", region_name="us-east-1", endpoint_url=endpoint)
    for streaming in (False, True):
        handler = Lines()
        handler.more = {"stream": True} if streaming else {}
        model = SagemakerEndpoint(endpoint_name="tiny", client=client, content_handler=handler, streaming=streaming,
                                  model_kwargs={"max_new_tokens": 8})
        assert model.invoke(rendered) == text, (streaming, model.invoke(rendered), text)
    assert "".join(model.stream(rendered)) == text


def litellm_openai(text):
    place = {"model": "openai/tiny", "api_base": f"{base}/v1", "api_key": "any", "num_retries": 0}
    answer = litellm.completion(messages=DIALOGUE, **GREEDY, **place)
    assert answer.choices[0].message.content == text and answer.usage.completion_tokens <= 8, answer
    parts = litellm.completion(messages=DIALOGUE, stream=True, **GREEDY, **place)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == text
    several = litellm.completion(messages=DIALOGUE, n=2, seed=5, temperature=1, max_tokens=6, **place)
    assert len(several.choices) == 2
    form = {"type": "json_schema", "json_schema": {"name": "Answer", "schema": SCHEMA, "strict": True}}
    formed = litellm.completion(messages=DIALOGUE, response_format=form, temperature=1, seed=1, max_tokens=120, **place)
    assert json.loads(formed.choices[0].message.content)["n"] in (1, 2, 3), formed
    completion = litellm.text_completion(prompt=rendered, **GREEDY, **place | {"model": "text-completion-openai/tiny"})
    assert completion.choices[0].text == text, completion
    try:
        litellm.completion(messages=DIALOGUE, max_tokens=100000, **place)
    except litellm.BadRequestError as error:
        assert "context" in str(error), error
    else:
        raise AssertionError("a prompt that is too long was not refused")


def litellm_sagemaker(text):
    whole = SagemakerConfig.transform_request

    def without_address(self, *arguments, **named):
        """litellm tells the endpoint the address that it was sent to, as a parameter of the model."""
        body = whole(self, *arguments, **named)
        body["parameters"].pop("sagemaker_base_url", None)
        return body

    SagemakerConfig.transform_request = without_address
    prompts = {"sagemaker/tiny": {"initial_prompt_value": "", "roles": {
        "system": {"pre_message": "", "post_message": "\n\n"},
        "user": {"pre_message": "user: ", "post_message": "\n"},
        "assistant": {"pre_message": "assistant: ", "post_message": "\n"}}, "final_prompt_value": "assistant:"}}
    litellm.register_prompt_template(model="tiny", **prompts["sagemaker/tiny"])
    place = {"model": "sagemaker/tiny", "sagemaker_base_url": f"{endpoint}/endpoints/tiny/invocations"}
    answer = litellm.completion(messages=DIALOGUE, max_tokens=8, **place)
    assert answer.choices[0].message.content.strip() == text.strip(), (answer, text)
    place["sagemaker_base_url"] += "-response-stream"
    parts = litellm.completion(messages=DIALOGUE, max_tokens=8, stream=True, **place)
    streamed = "".join(part.choices[0].delta.content or "" for part in parts)
    assert streamed.strip() == text.strip(), (streamed, text)


text = langchain_chat()
langchain_sagemaker(text)
litellm_openai(text)
litellm_sagemaker(text)
print(json.dumps({name: version(name) for name in ("langchain-openai", "langchain-aws", "litellm")} | {"text": text}))
