#!/usr/bin/env python3
"""Makes the folders beside this file: tiny random encoder-decoders and what transformers computes with them.

    pip install torch "transformers==4.57.6" "tokenizers<0.23" "huggingface-hub<1" safetensors sentencepiece sacremoses gguf
    python models/seq2seq/make.py [folder ...]

transformers 4 is what DJL Serving's containers have, and the last with the pipelines text2text-generation, summarization
and translation. Every folder is an ordinary Hugging Face checkpoint plus golden.json:
  task      the value of option.task
  logits    texts and their ids, tokens that the decoder is given one after the other, the logits behind each
  rounded   the same, with weights rounded to blocks of fewer bits (models/rounding.py)
  tokens    texts, arguments of `generate`, the sequences that it returns without their padding
  requests  inputs and parameters of requests, and the lists that the pipeline returns
Everything is seeded but the trainer of Unigram vocabularies, which differs in the last digits from run to run: the files of
a folder belong together. A seed is taken only when the same computation in float64 gives the same tokens everywhere, and
when a text ends before its greatest length somewhere.
"""

import json
import os
import platform
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import sentencepiece
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import pipeline

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from rounding import rounded

CORPUS = """
A candle stands in its sconce on the wall of the hall. When the evening comes, somebody lights the candle,
and the light of the candle falls on the wall, on the floor and on the faces of those who sit in the hall.
Ada Lovelace lives in London and works for the Analytical Engine company. Paris is the capital of France.
In the morning the wax is cold. They take the candle out of the sconce, and they put another one in its place.
"What is the time?" she asked. "It's ten past nine, and we don't know where they're going," he answered.
summarize: translate English to German: Die Kerze steht im Saal an der Wand, und das Wachs ist kalt.
"""
LONG = (
    "When the evening comes, somebody lights the candle in the hall, and they tell of a king who read by that light "
    "until the wax was gone. Nobody asked what the time was. Ada Lovelace lives in London."
)
TEXTS = ["The candle stands in the hall.", "Grüße, 世界 🕯 — 42. شمعة", "Ada Lovelace lives in London, they're cold"]


def lines():
    return CORPUS.strip().splitlines()


def unigram(specials, template, first=None):
    """A vocabulary as the fast tokenizers of SentencePiece models have it; `specials` come first, `first` at the end."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=specials, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(lines(), trainer)
    tokenizer.add_special_tokens(first or [])
    find = tokenizer.token_to_id
    pieces = [token for token in template.split() if token != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(
        template, template.replace("$A", "$A $B"), [(token, find(token)) for token in pieces])
    return tokenizer


def byte_level(specials):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False)
    tokenizer.train_from_iterator(lines(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")), add_prefix_space=False)
    return tokenizer


BART = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
T5 = ["<pad>", "</s>", "<unk>"]


def fast(tokenizer, name, **settings):
    """Writes tokenizer.json and a configuration of that class."""
    def write(folder):
        tokenizer().save(str(folder / "tokenizer.json"))
        write_json(folder / "tokenizer_config.json", {
            "tokenizer_class": name, "model_max_length": 96, "clean_up_tokenization_spaces": True, **settings})
    return write


T5_TOKENS = dict(eos_token="</s>", pad_token="<pad>", unk_token="<unk>")
BART_TOKENS = dict(bos_token="<s>", cls_token="<s>", sep_token="</s>", mask_token="<mask>", **T5_TOKENS)
T5_SIZES = dict(d_model=16, d_kv=6, d_ff=28, num_layers=2, num_decoder_layers=2, num_heads=3,
                relative_attention_num_buckets=12, relative_attention_max_distance=20)
BART_SIZES = dict(d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=4,
                  encoder_ffn_dim=28, decoder_ffn_dim=20, max_position_embeddings=96)
T5_PARAMS = {
    "summarization": dict(early_stopping=True, length_penalty=2.0, max_length=18, min_length=6, no_repeat_ngram_size=3,
                          num_beams=4, prefix="summarize: "),
    "translation_en_to_de": dict(early_stopping=True, max_length=16, num_beams=4, prefix="translate English to German: "),
}
MBART_LANGUAGES = ["en_XX", "de_DE", "fr_XX"]
NLLB_LANGUAGES = ["eng_Latn", "deu_Latn", "fra_Latn"]


def t5_config(**more):
    return transformers.T5Config(**(T5_SIZES | dict(decoder_start_token_id=0, pad_token_id=0, eos_token_id=1) | more))


# A family: configuration, tokenizer, and what generation_config.json says.
FAMILIES = {
    "t5": dict(
        config=lambda **k: t5_config(feed_forward_proj="relu", task_specific_params=T5_PARAMS, **k),
        tokenizer=fast(lambda: unigram(T5, "$A </s>"), "T5TokenizerFast", extra_ids=0, **T5_TOKENS),
        generation=dict()),
    # Wide enough for blocks of 32 numbers.
    "wide-t5": dict(
        config=lambda **k: t5_config(feed_forward_proj="gated-gelu", d_model=64, d_kv=16, d_ff=96, num_heads=4, **k),
        tokenizer=fast(lambda: unigram(T5, "$A </s>"), "T5TokenizerFast", extra_ids=0, **T5_TOKENS),
        generation=dict(max_length=18), std=0.07),
    "flan-t5": dict(
        config=lambda **k: t5_config(feed_forward_proj="gated-gelu", tie_word_embeddings=False, **k),
        tokenizer=fast(lambda: unigram(T5, "$A </s>"), "T5TokenizerFast", extra_ids=0, **T5_TOKENS),
        generation=dict(max_length=18)),
    "mt5": dict(
        config=lambda **k: transformers.MT5Config(**(T5_SIZES | dict(decoder_start_token_id=0) | k)),
        tokenizer=fast(lambda: unigram(T5, "$A </s>"), "T5TokenizerFast", extra_ids=0, **T5_TOKENS),
        generation=dict(max_length=18)),
    "umt5": dict(
        config=lambda **k: transformers.UMT5Config(**(T5_SIZES | dict(tie_word_embeddings=False) | k)),
        tokenizer=fast(lambda: unigram(T5, "$A </s>"), "T5TokenizerFast", extra_ids=0, **T5_TOKENS),
        generation=dict(max_length=18)),
    # Bytes, and no file with a vocabulary.
    "byt5": dict(
        # Its tokenizer fails where an id is beyond its own.
        config=lambda vocab_size, **k: t5_config(feed_forward_proj="gated-gelu", tie_word_embeddings=False, vocab_size=384, **k),
        tokenizer=lambda folder: transformers.ByT5Tokenizer(model_max_length=96).save_pretrained(folder),
        generation=dict(max_length=18)),
    "longt5": dict(
        config=lambda **k: transformers.LongT5Config(
            **(T5_SIZES | dict(decoder_start_token_id=0, local_radius=7, feed_forward_proj="gated-gelu") | k)),
        tokenizer=fast(lambda: unigram(T5, "$A </s>"), "T5TokenizerFast", extra_ids=0, **T5_TOKENS),
        generation=dict(max_length=18)),
    "longt5-global": dict(
        config=lambda **k: transformers.LongT5Config(
            **(T5_SIZES | dict(decoder_start_token_id=0, local_radius=5, encoder_attention_type="transient-global",
                               global_block_size=4, feed_forward_proj="gated-gelu") | k)),
        tokenizer=fast(lambda: unigram(T5, "$A </s>"), "T5TokenizerFast", extra_ids=0, **T5_TOKENS),
        generation=dict(max_length=18)),
    "led": dict(
        config=lambda **k: transformers.LEDConfig(
            attention_window=[4, 8], max_encoder_position_embeddings=96, max_decoder_position_embeddings=80,
            forced_eos_token_id=2, **{key: size for key, size in BART_SIZES.items() if key != "max_position_embeddings"}, **k),
        tokenizer=fast(lambda: byte_level(BART), "LEDTokenizerFast", **BART_TOKENS),
        generation=dict(max_length=18)),
    "bart": dict(
        config=lambda **k: transformers.BartConfig(
            forced_bos_token_id=0, forced_eos_token_id=2, scale_embedding=True, **BART_SIZES, **k),
        tokenizer=fast(lambda: byte_level(BART), "BartTokenizerFast", **BART_TOKENS),
        generation=dict(num_beams=4, max_length=19, min_length=4, early_stopping=True, no_repeat_ngram_size=3,
                        length_penalty=2.0)),
    "mbart": dict(
        config=lambda **k: transformers.MBartConfig(
            decoder_start_token_id=2, scale_embedding=True, activation_function="relu", forced_eos_token_id=2,
            **BART_SIZES, **k),
        tokenizer=fast(lambda: unigram(["<s>", "<pad>", "</s>", "<unk>"], "$A </s> en_XX", MBART_LANGUAGES + ["<mask>"]),
                       "MBartTokenizerFast", src_lang="en_XX", additional_special_tokens=MBART_LANGUAGES, **BART_TOKENS),
        generation=dict(max_length=18)),
    "mbart50": dict(
        config=lambda **k: transformers.MBartConfig(
            decoder_start_token_id=2, scale_embedding=True, activation_function="relu", forced_eos_token_id=2,
            **BART_SIZES, **k),
        tokenizer=fast(lambda: unigram(["<s>", "<pad>", "</s>", "<unk>"], "en_XX $A </s>", MBART_LANGUAGES + ["<mask>"]),
                       "MBart50TokenizerFast", src_lang="en_XX", additional_special_tokens=MBART_LANGUAGES, **BART_TOKENS),
        generation=dict(max_length=18)),
    "blenderbot": dict(
        config=lambda **k: transformers.BlenderbotConfig(
            bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=0, encoder_no_repeat_ngram_size=3,
            forced_eos_token_id=2, **BART_SIZES, **k),
        tokenizer=fast(lambda: byte_level(BART), "BlenderbotTokenizerFast", **BART_TOKENS),
        generation=dict(max_length=18, min_length=3)),
    "marian": dict(
        config=lambda **k: transformers.MarianConfig(
            bos_token_id=1, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=1,
            activation_function="swish", scale_embedding=True, **BART_SIZES, **k),
        tokenizer=fast(lambda: unigram(T5, "$A </s>"), "PreTrainedTokenizerFast", **T5_TOKENS),
        generation=dict(max_length=18, bad_words_ids=[[0]])),
    "pegasus": dict(
        config=lambda **k: transformers.PegasusConfig(
            pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=1, scale_embedding=True,
            activation_function="relu", **BART_SIZES, **k),
        tokenizer=fast(lambda: unigram(T5, "$A </s>"), "PegasusTokenizerFast", offset=0, mask_token_sent=None,
                       mask_token="<unk>", **T5_TOKENS),
        generation=dict(num_beams=4, max_length=18, length_penalty=0.6)),
    "nllb": dict(
        config=lambda **k: transformers.M2M100Config(decoder_start_token_id=2, **BART_SIZES, **k),
        tokenizer=fast(lambda: unigram(["<s>", "<pad>", "</s>", "<unk>"], "eng_Latn $A </s>", NLLB_LANGUAGES + ["<mask>"]),
                       "NllbTokenizerFast", src_lang="eng_Latn", additional_special_tokens=NLLB_LANGUAGES, **BART_TOKENS),
        generation=dict(max_length=18)),
}

GENERATE = [
    {"num_beams": 1, "max_new_tokens": 12},
    {"num_beams": 1, "max_new_tokens": 12, "repetition_penalty": 1.7, "no_repeat_ngram_size": 2},
    {"num_beams": 1, "max_new_tokens": 9, "encoder_no_repeat_ngram_size": 2, "min_length": 5},
    {"num_beams": 3, "max_new_tokens": 12},
    {"num_beams": 4, "max_new_tokens": 10, "num_return_sequences": 3, "length_penalty": 2.0, "early_stopping": True},
    {"num_beams": 3, "max_length": 14, "min_length": 6, "length_penalty": 0.5, "early_stopping": "never"},
    {"num_beams": 2, "max_new_tokens": 9, "no_repeat_ngram_size": 2, "repetition_penalty": 1.4, "length_penalty": -0.5},
    {"num_beams": 3, "max_new_tokens": 8, "bad_words_ids": [[7], [9, 10], [11, 12, 13]], "min_new_tokens": 4},
    {"num_beams": 2, "max_new_tokens": 7, "forced_eos_token_id": "eos", "early_stopping": False},
    # Longer than a block of the cache.
    {"num_beams": 1, "max_new_tokens": 40, "min_new_tokens": 38, "no_repeat_ngram_size": 3},
    {"num_beams": 3, "max_new_tokens": 44, "min_new_tokens": 40, "no_repeat_ngram_size": 2},
]

ANY = [
    (TEXTS[0], {}),
    (TEXTS, {}),
    (TEXTS[2], {"num_beams": 2, "num_return_sequences": 2}),
    (TEXTS[0], {"num_beams": 1}),
    (TEXTS[1], {"max_new_tokens": 7, "min_new_tokens": 3, "length_penalty": 0.4}),
    ([LONG, ""], {"truncation": True}),
    (TEXTS[0], {"no_repeat_ngram_size": 2, "repetition_penalty": 1.3, "early_stopping": "never", "max_new_tokens": 9}),
    (TEXTS[0], {"clean_up_tokenization_spaces": True}),
]
# Folders: family, task, requests. Of lengths and beams the pipelines of this release let their own defaults win over those
# of task_specific_params, against what they document; requests name theirs there.
CASES = {
    "t5-text2text-generation": dict(family="t5", task="text2text-generation",
                                    requests=[(text, parameters | {"max_new_tokens": 9}) for text, parameters in ANY]),
    "t5-summarization": dict(family="t5", task="summarization",
                             requests=[(text, {"max_new_tokens": 12} | parameters) for text, parameters in ANY]),
    "t5-translation": dict(family="t5", task="translation_en_to_de",
                           requests=[(text, {"max_new_tokens": 11} | parameters) for text, parameters in ANY]),
    "wide-t5-text2text-generation": dict(
        family="wide-t5", task="text2text-generation", requests=ANY[:3], rounded=("int8", "int4")),
    "flan-t5-text2text-generation": dict(family="flan-t5", task="text2text-generation", requests=ANY),
    "mt5-summarization": dict(family="mt5", task="summarization", requests=ANY),
    "byt5-text2text-generation": dict(family="byt5", task="text2text-generation", requests=ANY),
    "umt5-text2text-generation": dict(family="umt5", task="text2text-generation", requests=ANY),
    "longt5-summarization": dict(family="longt5", task="summarization", requests=ANY),
    "longt5-global-summarization": dict(family="longt5-global", task="summarization", requests=ANY),
    "led-summarization": dict(family="led", task="summarization", requests=ANY),
    "bart-summarization": dict(family="bart", task="summarization", requests=ANY),
    "bart-text2text-generation": dict(family="bart", task="text2text-generation", requests=ANY),
    "mbart-translation": dict(family="mbart", task="translation",
                              requests=[(text, parameters | {"src_lang": "en_XX", "tgt_lang": "de_DE"})
                                        for text, parameters in ANY] + [(TEXTS[0], {"src_lang": "fr_XX", "tgt_lang": "en_XX"})]),
    "mbart50-translation": dict(family="mbart50", task="translation",
                                requests=[(text, parameters | {"src_lang": "en_XX", "tgt_lang": "fr_XX"})
                                          for text, parameters in ANY] + [(TEXTS[0], {"src_lang": "de_DE", "tgt_lang": "en_XX"})]),
    "blenderbot-text2text-generation": dict(family="blenderbot", task="text2text-generation", requests=ANY),
    "marian-translation": dict(family="marian", task="translation", requests=ANY),
    "pegasus-summarization": dict(family="pegasus", task="summarization", requests=ANY),
    "nllb-translation": dict(family="nllb", task="translation",
                             requests=[(text, parameters | {"src_lang": "eng_Latn", "tgt_lang": "deu_Latn"})
                                       for text, parameters in ANY] + [(TEXTS[2], {"src_lang": "fra_Latn", "tgt_lang": "eng_Latn"})]),
    "nllb-text2text-generation": dict(family="nllb", task="text2text-generation",
                                      generation=dict(forced_bos_token_id="deu_Latn"), requests=ANY[:3]),
}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def fill_weights(model, seed, eos, std=0.4):
    """Random weights of a scale at which the layers matter: norms near 1, everything else normal; texts that may end."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if "embed_positions" in name and not weight.requires_grad:
                continue
            noise = torch.randn(weight.shape, generator=generator)
            norm = weight.dim() == 1 and name.endswith("weight")
            # Half precision holds them exactly, so that the files are small.
            weight.copy_((1.0 + 0.2 * noise if norm else std * noise).half().float())
        head = model.get_output_embeddings().weight
        head[eos] = (1.6 * head[eos]).half().float()
        if hasattr(model, "final_logits_bias"):
            bias = 0.3 * torch.randn(model.final_logits_bias.shape, generator=generator)
            model.final_logits_bias.copy_(bias.half().float())


def trimmed(ids, eos):
    """Up to the token that ends the text, which the decoder may begin with too; what follows fills the row."""
    ends = [at for at, id in enumerate(ids) if id == eos and at > 0]
    return ids[: ends[0] + 1] if ends else ids


@torch.no_grad()
def sequences(model, tokenizer, parameters, text):
    parameters = {key: model.config.eos_token_id if value == "eos" else value for key, value in parameters.items()}
    inputs = tokenizer(text, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    found = model.generate(**inputs, **parameters)
    return inputs["input_ids"][0].tolist(), [trimmed(ids, model.config.eos_token_id) for ids in found.tolist()]


def tokens(model, tokenizer):
    runs = []
    for text in TEXTS:
        for parameters in GENERATE:
            ids, found = sequences(model, tokenizer, parameters, text)
            runs.append({"text": text, "ids": ids, "parameters": {
                key: model.config.eos_token_id if value == "eos" else value for key, value in parameters.items()}, "sequences": found})
    return runs


@torch.no_grad()
def logits(model, tokenizer):
    runs = []
    for text in [*TEXTS, LONG]:
        inputs = tokenizer(text, return_tensors="pt", truncation=True)
        inputs.pop("token_type_ids", None)
        start = model.generation_config.decoder_start_token_id
        given = [start] + [(7 * at + len(text)) % model.config.vocab_size for at in range(5)]
        rows = model(**inputs, decoder_input_ids=torch.tensor([given])).logits[0]
        runs.append({"text": text, "ids": inputs["input_ids"][0].tolist(), "given": given,
                     "rows": [[round(number, 6) for number in row] for row in rows.tolist()]})
    return runs


def answers(pipe, requests):
    """What the handler hands a pipeline, and what it returns, as a list."""
    found = []
    for inputs, parameters in requests:
        as_list = inputs if isinstance(inputs, list) else [inputs]
        found.append({"inputs": inputs, "parameters": parameters, "answer": pipe(as_list, **json.loads(json.dumps(parameters)))})
    return found


def compute(model, folder, case):
    # Translating changes the tokenizer's language.
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pipe = pipeline(case["task"], model=model, tokenizer=tokenizer, device="cpu")
    return tokens(model, tokenizer), answers(pipe, case["requests"])


def make(name, case):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    family = FAMILIES[case["family"]]
    family["tokenizer"](folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = family["config"](vocab_size=len(tokenizer) + 3)
    model_class = transformers.AutoModelForSeq2SeqLM
    model = model_class.from_config(config, dtype=torch.float32).eval()
    for key, value in (family["generation"] | case.get("generation", {})).items():
        value = tokenizer.convert_tokens_to_ids(value) if isinstance(value, str) and key.endswith("_id") else value
        setattr(model.generation_config, key, value)
    eos = config.eos_token_id
    for seed in range(10_000):
        fill_weights(model, seed, eos, family.get("std", 0.4))
        model.save_pretrained(folder)
        again = model_class.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
        runs, requests = compute(again, folder, case)
        ends = [ids[-1] == eos and len(ids) < 8 and "forced_eos_token_id" not in run["parameters"]
                for run in runs for ids in run["sequences"]]
        if not 2 <= sum(ends) <= len(ends) * 3 // 4:
            continue
        exact = model_class.from_pretrained(folder, attn_implementation="eager", dtype=torch.float64).eval()
        if compute(exact, folder, case) == (runs, requests):
            break
    rows = logits(again, tokenizer)
    file = folder / "model.safetensors"
    save_file({key: value.half() for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    rounds = [{"format": name, "run": run} for name in case.get("rounded", ())
              for run in logits(rounded(again, name, ("relative_attention_bias",), ("shared",)), tokenizer)]
    more = {"rounded": rounds} if rounds else {}
    write_golden(folder, {"task": case["task"], "seed": seed}, logits=rows, tokens=runs, requests=requests, **more)
    report(folder, seed)


def write_golden(folder, facts, **lists):
    """An object with one item of its lists on each line."""
    lines = lambda items: ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in items)
    facts = {"made_by": "models/seq2seq/make.py", "versions": versions()} | facts
    parts = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items()]
    parts += [f" {json.dumps(key)}: [\n  {lines(items)}\n ]" for key, items in lists.items()]
    (folder / "golden.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


def versions():
    return {
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__,
    }


def report(folder, seed):
    size = sum(file.chmod(0o644) or file.stat().st_size for file in folder.rglob("*") if file.is_file()) // 1024
    print(f"{folder.name}: seed {seed}, {size} KiB", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for wanted in sys.argv[1:] or CASES:
        make(wanted, CASES[wanted])
