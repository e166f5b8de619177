"""Records what the functions of `model/model.py` make of a generation under DJL Serving's own package.

    python record.py PATH > recorded.json

The argument is `engines/python/setup` of a checkout of deepjavalibrary/djl-serving, whose package
djl_python is used; typing_extensions must be installed. The tokens are put into its `Request` as its
rolling batches do.
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

TOKENS = [
    {"id": 15043, "text": "Hé", "logprob": -0.5, "special": False,
     "top": [{"id": 15043, "text": "Hé", "logprob": -0.5, "special": False}]},
    {"id": 3186, "text": " \u2028\"w\"", "logprob": -0.25, "special": False,
     "top": [{"id": 7, "text": "x", "logprob": -0.125, "special": False}]},
    {"id": 2, "text": "", "logprob": -2.0, "special": True,
     "top": [{"id": 2, "text": "", "logprob": -2.0, "special": True}]},
]
PROMPT = [{"id": 1, "text": "H", "logprob": None}, {"id": 9, "text": "i", "logprob": -1.5}]

CASES = [
    ("each_token", {"max_new_tokens": 3, "stream": True}),
    ("each_token", {"stream": False}),
    ("at_the_end", {"stream": False}),
    ("at_the_end", {"stream": True}),
    ("with_alternatives", {"stream": True}),
    ("old", {"stream": True}),
    ("old", {"details": True, "return_full_text": True, "stream": False}),
]


def main():
    sys.path.insert(0, os.path.abspath(sys.argv[1]))
    sys.path.insert(0, os.path.join(HERE, "model"))
    import djl_python
    import model
    from djl_python.request import Request
    from djl_python.request_io import TextInput, Token

    cases = []
    for name, parameters in CASES:
        request_input = TextInput()
        request_input.input_text = "Hi"
        request_input.parameters = dict(parameters)
        request_input.request_id = 0
        request_input.output_formatter = getattr(model, name)
        request = Request(request_input=request_input)
        chunks = []
        for at, token in enumerate(TOKENS):
            last = at == len(TOKENS) - 1
            if last:
                # When they are known is the engine's matter.
                request.request_output.prompt_tokens_details = [
                    Token(t["id"], t["text"], t["logprob"]) for t in PROMPT
                ]
            made = Token(token["id"], token["text"], token["logprob"], token["special"] or None)
            top = [Token(t["id"], t["text"], t["logprob"], t["special"] or None)
                   for t in token["top"]]
            request.request_output.set_next_top_tokens(top, 0)
            request.set_next_token(made, last, "eos_token" if last else None)
            chunks.append(request.get_next_token())
            request.reset_next_token()
        cases.append({"function": name, "parameters": parameters, "chunks": chunks})
    print(json.dumps({
        "djl_python": djl_python.__version__,
        "python": sys.version.split()[0],
        "tokens": TOKENS,
        "prompt": PROMPT,
        "cases": cases,
    }, indent=1))


if __name__ == "__main__":
    main()
