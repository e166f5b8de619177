#!/usr/bin/env python3
"""Makes the folders …-conversational beside this file and in models/dialogues: the checkpoints of others with what the
last transformers that had a pipeline for dialogues answers. Blenderbot has its class's template, T5 one of its own, and
GPT-2, which only continues texts, that of DialoGPT.

    pip install torch "transformers==4.41.2" "tokenizers==0.19.1" "huggingface-hub<0.25" safetensors
    python models/seq2seq/make_dialogues.py

golden.json has the logits and tokens of its sibling, which make.py made, where that reads and writes, and requests: inputs
and parameters as DJL Serving's handler took them up to 0.27, and the answers that it made of the pipeline's.
"""

import json
import shutil
import tempfile
from pathlib import Path

import transformers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, Conversation, pipeline

HERE = Path(__file__).parent
TEMPLATE = (
    "{% for message in messages %}\n    {{ message.role | upper }}: {{ message['content'].strip() }}{{ eos_token }}\n"
    "{% endfor %}\n{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
DIALOGPT = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"
# A folder: its sibling, a template, and the requests.
FOLDERS = {
    "blenderbot-conversational": ("blenderbot-text2text-generation", None, "REQUESTS"),
    "t5-conversational": ("flan-t5-text2text-generation", TEMPLATE, "REQUESTS"),
    "../dialogues/gpt2-conversational": ("../tiny/gpt2", DIALOGPT, "CONTINUED"),
}

REQUESTS = [
    ({"text": "Where does Ada Lovelace live?"}, {"max_new_tokens": 9}),
    ({"text": "And the time?", "past_user_inputs": ["Is the wax cold?"], "generated_responses": ["It is, in the morning."]},
     {"max_length": 14, "num_beams": 3}),
    ({"text": "Grüße, 世界 🕯", "past_user_inputs": ["a", "b"], "generated_responses": ["c", "d"]},
     {"max_new_tokens": 8, "no_repeat_ngram_size": 2}),
    ({"text": "x", "past_user_inputs": ["a", "b"], "generated_responses": ["c"]}, {"max_new_tokens": 7, "repetition_penalty": 1.3}),
    ({"text": "They're cold , aren't they ?", "past_user_inputs": [], "generated_responses": []},
     {"max_new_tokens": 10, "clean_up_tokenization_spaces": False}),
    ([{"role": "user", "content": "What is the time?"}, {"role": "assistant", "content": "Ten past nine."},
      {"role": "user", "content": "Who says so?"}], {"max_new_tokens": 6}),
]
# For a model that continues texts: nothing that only encoder-decoders keep to here.
CONTINUED = [
    ({"text": "Where does Ada Lovelace live?"}, {"max_new_tokens": 9}),
    ({"text": "And the time?", "past_user_inputs": ["Is the wax cold?"], "generated_responses": ["It is, in the morning."]},
     {"max_length": 60, "min_new_tokens": 4}),
    ({"text": "Grüße, 世界 🕯", "past_user_inputs": ["a", "b"], "generated_responses": ["c", "d"]}, {"max_new_tokens": 20}),
    ({"text": "x", "past_user_inputs": ["a", "b"], "generated_responses": ["c"]}, {"max_new_tokens": 12, "repetition_penalty": 1.3}),
    ({"text": "They're cold , aren't they ?", "past_user_inputs": [], "generated_responses": []},
     {"max_new_tokens": 16, "clean_up_tokenization_spaces": False}),
    ({"text": "They're cold , aren't they ?"}, {"max_new_tokens": 16}),
    ([{"role": "user", "content": "What is the time?"}, {"role": "assistant", "content": "Ten past nine."},
      {"role": "user", "content": "Who says so?"}], {"max_new_tokens": 6, "eos_token_id": 40}),
]


def answer(chat, inputs, parameters):
    """As the handler's `wrap_conversation_pipeline`."""
    if isinstance(inputs, list):
        conversation = Conversation([dict(message) for message in inputs])
    else:
        conversation = Conversation(
            inputs["text"], past_user_inputs=inputs.get("past_user_inputs", []),
            generated_responses=inputs.get("generated_responses", []))
    found = chat(conversation, **parameters)
    return {
        "generated_text": found.generated_responses[-1],
        "conversation": {"past_user_inputs": found.past_user_inputs, "generated_responses": found.generated_responses},
    }


def tokenizer_of(folder):
    """The tokenizer, its merges spelled as libraries of that time read them."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        file = Path(copy, "tokenizer.json")
        whole = json.loads(file.read_text())
        if "merges" in whole["model"]:
            whole["model"]["merges"] = [" ".join(pair) for pair in whole["model"]["merges"]]
        file.write_text(json.dumps(whole))
        return AutoTokenizer.from_pretrained(copy)


def make(name, sibling, template, requests):
    folder, sibling = HERE / name, HERE / sibling
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sibling, folder, ignore=shutil.ignore_patterns("golden.*"))
    if template:
        file = folder / "tokenizer_config.json"
        config = json.loads(file.read_text()) | {"chat_template": template}
        file.write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    continues = (sibling / "golden.safetensors").exists()
    kind = AutoModelForCausalLM if continues else AutoModelForSeq2SeqLM
    model = kind.from_pretrained(folder, attn_implementation="eager").float().eval()
    # As generation_config.json says; else this release would take what config.json says of generation in its place.
    model.generation_config._from_model_config = False
    chat = pipeline("conversational", model=model, tokenizer=tokenizer_of(folder), device="cpu")
    requests = [{"inputs": inputs, "parameters": parameters, "answer": answer(chat, inputs, parameters)}
                for inputs, parameters in requests]
    golden = json.loads((sibling / "golden.json").read_text())
    facts = {"made_by": "models/seq2seq/make_dialogues.py", "transformers": transformers.__version__, "task": "conversational"}
    lines = lambda items: ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in items)
    parts = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items()]
    lists = {key: golden[key] for key in ("logits", "tokens") if not continues} | {"requests": requests}
    parts += [f" {json.dumps(key)}: [\n  {lines(items)}\n ]" for key, items in lists.items()]
    (folder / "golden.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    transformers.utils.logging.set_verbosity_error()
    for wanted, (sibling, template, requests) in FOLDERS.items():
        make(wanted, sibling, template, globals()[requests])
