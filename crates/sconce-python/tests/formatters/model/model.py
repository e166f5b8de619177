"""Functions for answers, in all signatures that DJL Serving calls."""

import json

from djl_python.request_io import RequestOutput, TextGenerationOutput


def each_token(output: TextGenerationOutput) -> str:
    sequence = output.sequences[output.best_sequence_index]
    token, index, first, last = sequence.get_next_token()
    line = {"token": token.as_dict(), "at": [index, first, last]}
    if last:
        line["finish_reason"] = sequence.finish_reason
        line["tokens"] = output.get_tokens_as_dict()
        line["prompt"] = output.get_prompt_tokens_as_dict()
        line["asked"] = output.input.parameters
        line["input"] = output.input.input_text
    return json.dumps(line, ensure_ascii=False) + "\n"


def at_the_end(output: RequestOutput) -> str:
    sequence = output.sequences[output.best_sequence_index]
    sequence.get_next_token()
    if not output.finished:
        return ""
    text = "".join(token.text for token in sequence.tokens)
    return json.dumps({"text": text, "last": sequence.get_last_token().id})


def with_alternatives(output: TextGenerationOutput) -> str:
    sequence = output.sequences[output.best_sequence_index]
    sequence.get_next_token()
    tops = sequence.get_next_top_tokens()
    return json.dumps([token.as_tgi_dict() for token in tops or []]) + "\n"


def old(token, first_token, last_token, details, generated_text, id):
    line = {"t": token.text, "f": first_token, "l": last_token, "g": generated_text, "id": id}
    if details:
        line["details"] = details
    return json.dumps(line, ensure_ascii=False) + "|"
