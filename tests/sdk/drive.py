#!/usr/bin/env python3
"""Talks to emulated endpoints with the SageMaker SDK that PYTHONPATH names, and with boto3.

The argument is a plan that tests/sdk.rs writes: a list of endpoints, each with its URL and what
its model has to answer. Every difference is a line on standard output; the exit code tells
whether there was one.
"""
import inspect
import json
import sys
import traceback

import boto3
import botocore.config
import botocore.exceptions
import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.djl_inference import DJLPredictor
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer, IdentitySerializer, JSONLinesSerializer

try:
    from sagemaker.iterators import ByteIterator, LineIterator
    from sagemaker.serializers import StringSerializer
except ImportError:  # The first generation has neither.
    ByteIterator = LineIterator = None
    StringSerializer = lambda: IdentitySerializer("text/plain")

ENDPOINT = "my-endpoint"


class Case:
    """One endpoint, and what it is asked."""

    def __init__(self, plan):
        self.name, self.dialect = plan["name"], plan["dialect"]
        self.prompt, self.text, self.exact = plan["prompt"], plan["text"], plan["exact"]
        self.parameters = {"max_new_tokens": plan["tokens"], "do_sample": False}
        session = boto3.Session(
            aws_access_key_id="any", aws_secret_access_key="any", region_name="us-east-1"
        )
        # What fails shall fail at once.
        config = botocore.config.Config(retries={"max_attempts": 0}, read_timeout=60)
        place = {"endpoint_url": plan["url"], "config": config}
        self.runtime = session.client("sagemaker-runtime", **place)
        self.session = sagemaker.Session(
            boto_session=session,
            # The predictors look for nothing there.
            sagemaker_client=session.client("sagemaker", **place),
            sagemaker_runtime_client=self.runtime,
        )
        self.checks = EVERY + (STATIC if self.dialect == "static" else STREAMING)

    def request(self, **more):
        return {"inputs": self.prompt, "parameters": self.parameters, **more}

    def djl(self):
        return DJLPredictor(ENDPOINT, sagemaker_session=self.session)

    def predictor(self, serializer):
        return Predictor(
            ENDPOINT,
            sagemaker_session=self.session,
            serializer=serializer,
            deserializer=JSONDeserializer(),
        )

    def text_of(self, answer):
        """The generated text of an answer that has the dialect's shape."""
        if self.dialect == "static":
            expect(isinstance(answer, list) and len(answer) == 1, f"{answer} is no list of one")
            [only] = answer
            full = only["generated_text"]
            expect(list(only) == ["generated_text"], f"keys of {only}")
            expect(full.startswith(self.prompt), f"{full!r} does not begin with the prompt")
            return full[len(self.prompt):]
        expect(isinstance(answer, dict), f"{answer} is no object")
        return answer["generated_text"]

    def compare(self, text):
        if self.exact:
            expect(text == self.text, f"{text!r} is not {self.text!r}")
        else:
            expect(text != "", "no text")


def expect(holds, otherwise):
    if not holds:
        raise AssertionError(otherwise)


def predict(case):
    case.compare(case.text_of(case.djl().predict(case.request())))


def attributes_pass(case):
    """Arguments that become headers; the server must bear them."""
    attributes = {"inference_id": "id-1", "custom_attributes": "trace=1",
                  "target_variant": "AllTraffic"}
    # The first generation has no custom attributes.
    known = inspect.signature(Predictor.predict).parameters
    attributes = {name: value for name, value in attributes.items() if name in known}
    answer = case.djl().predict(case.request(), **attributes)
    case.compare(case.text_of(answer))


def bytes_of_json(case):
    predictor = case.predictor(IdentitySerializer("application/json"))
    case.compare(case.text_of(predictor.predict(json.dumps(case.request()))))


def boto3_invoke(case):
    answer = case.runtime.invoke_endpoint(
        EndpointName=ENDPOINT, ContentType="application/json", Body=json.dumps(case.request())
    )
    expect(answer["ContentType"] == "application/json", answer["ContentType"])
    expect(answer["InvokedProductionVariant"] == "AllTraffic", answer)
    expect(len(answer["ResponseMetadata"]["RequestId"]) == 36, answer["ResponseMetadata"])
    case.compare(case.text_of(json.loads(answer["Body"].read())))


def boto3_stream_of_a_whole_answer(case):
    """A body without `stream` is answered whole, in however many parts."""
    answer = stream(case, case.request())
    expect(answer["ContentType"] == "application/json", answer["ContentType"])
    case.compare(case.text_of(json.loads(b"".join(parts(answer)))))


def bad_request(case):
    """A value that no dialect takes."""
    request = {"inputs": case.prompt, "parameters": {"max_new_tokens": "many"}}
    for call in (case.djl().predict, lambda body: parts(stream(case, body))):
        failure = refusal(case.runtime.exceptions.ModelError, lambda: call(request))
        expect(failure["ResponseMetadata"]["HTTPStatusCode"] == 424, failure)
        expect(failure["OriginalStatusCode"] == 424, failure)
        expect(failure["OriginalMessage"] in failure["Error"]["Message"], failure)
        expect(failure["LogStreamArn"].endswith(f"/{ENDPOINT}"), failure)


def unknown_endpoint(case):
    call = lambda: case.runtime.invoke_endpoint(EndpointName="other", Body=b"{}")
    failure = refusal(case.runtime.exceptions.ValidationError, call)
    expect("Endpoint other" in failure["Error"]["Message"], failure)


def plain_text(case):
    [only] = case.predictor(StringSerializer()).predict(case.prompt)
    expect(only["generated_text"].startswith(case.prompt), only)


def comma_separated(case):
    rows = [["inputs"], [case.prompt], ["The candle"]]
    first, second = case.predictor(CSVSerializer()).predict(rows)
    expect(first["generated_text"].startswith(case.prompt), first)
    expect(second["generated_text"].startswith("The candle"), second)


def several_prompts(case):
    request = case.request(inputs=[case.prompt, "The candle"])
    first, second = case.djl().predict(request)
    case.compare(case.text_of([first]))
    expect(second["generated_text"].startswith("The candle"), second)


def json_lines_of_one_request(case):
    """One line of JSON is JSON, if only it is called so."""
    serializer = JSONLinesSerializer(content_type="application/json")
    case.compare(case.text_of(case.predictor(serializer).predict([case.request()])))


def boto3_stream(case):
    answer = stream(case, case.request(stream=True))
    expect(answer["ContentType"] == "application/jsonlines", answer["ContentType"])
    expect(answer["InvokedProductionVariant"] == "AllTraffic", answer)
    case.compare(streamed_text(b"".join(parts(answer)).split(b"\n")))


def line_iterator(case):
    if LineIterator:
        lines = case.djl().predict_stream(case.request(stream=True), iterator=LineIterator)
        case.compare(streamed_text(lines))


def byte_iterator(case):
    if ByteIterator:
        pieces = case.djl().predict_stream(case.request(stream=True), iterator=ByteIterator)
        case.compare(streamed_text(b"".join(pieces).split(b"\n")))


def stream_as_one_answer(case):
    """InvokeEndpoint of a streamed answer gives all of its lines at once."""
    answer = case.runtime.invoke_endpoint(
        EndpointName=ENDPOINT, ContentType="application/json",
        Body=json.dumps(case.request(stream=True)),
    )
    case.compare(streamed_text(answer["Body"].read().split(b"\n")))


EVERY = [
    predict, attributes_pass, bytes_of_json, boto3_invoke, boto3_stream_of_a_whole_answer,
    json_lines_of_one_request, bad_request, unknown_endpoint,
]
STATIC = [plain_text, comma_separated, several_prompts]
STREAMING = [boto3_stream, line_iterator, byte_iterator, stream_as_one_answer]


def stream(case, request):
    return case.runtime.invoke_endpoint_with_response_stream(
        EndpointName=ENDPOINT, ContentType="application/json", Accept="application/jsonlines",
        Body=json.dumps(request),
    )


def parts(answer):
    return [event["PayloadPart"]["Bytes"] for event in answer["Body"]]


def streamed_text(lines):
    """The text that the last line repeats, which the tokens must add up to."""
    objects = [json.loads(line) for line in lines if line.strip()]
    pieces = "".join(line["token"]["text"] for line in objects)
    whole = objects[-1]["generated_text"]
    expect(pieces == whole, f"the tokens give {pieces!r}, the last line {whole!r}")
    return whole


def refusal(kind, call):
    """The parsed body of an error of this kind; anything else is a failure."""
    try:
        answer = call()
    except kind as error:
        return error.response
    except botocore.exceptions.ClientError as error:
        raise AssertionError(f"{error.response['Error']} is no {kind.__name__}") from error
    raise AssertionError(f"it was answered: {answer}")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = [Case(plan) for plan in json.load(file)]
    failed = done = 0
    for case in cases:
        for check in case.checks:
            done += 1
            try:
                check(case)
            except Exception as error:  # pylint: disable=broad-except
                failed += 1
                where = traceback.extract_tb(error.__traceback__)[-1]
                print(f"{case.name}: {check.__name__}: {error!r} (line {where.lineno})")
    print(f"sagemaker {sagemaker.__version__}, boto3 {boto3.__version__}: "
          f"{done - failed} of {done} checks passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
