#!/usr/bin/env python3
"""Makes the folders beside this file: tiny random encoders and what transformers' pipelines answer with them.

    pip install torch "transformers<5" "tokenizers<0.23" "huggingface-hub<1" safetensors sentence-transformers gguf
    python models/tasks/make.py [folder ...]

transformers 4 is what DJL Serving's containers have, and the last with the pipeline question-answering. Every folder
is an ordinary Hugging Face checkpoint plus golden.json:
  task      the value of option.task
  logits    texts (and pairs), their ids, and what the model gives for them, row after row
  similarity  the same for cosines, of models whose texts have vectors, which sentence-transformers computes
  rounded   the same as logits, with weights rounded to blocks of fewer bits (models/rounding.py)
  requests  inputs and parameters of requests, and the answers: what DJL Serving's handler hands a pipeline, and the
            list that the pipeline returns. For one question, and for one text with masks, pipelines return less than
            a list of one, which the handler cuts wrongly; the answer here is the whole of it, in a list for questions.
Everything is seeded. A seed is taken only when no answer decides by a narrow margin.
"""

import json
import os
import platform
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import safetensors
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import (
    Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers,
)
from transformers import pipeline

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from rounding import rounded

NARROWEST = 0.002  # least relative distance of neighbours in an answer

CORPUS = """
A candle stands in its sconce on the wall of the hall. When the evening comes, somebody lights the candle,
and the light of the candle falls on the wall, on the floor and on the faces of those who sit in the hall.
Ada Lovelace lives in London and works for the Analytical Engine company. Paris is the capital of France.
In the morning the wax is cold. They take the candle out of the sconce, and they put another one in its place.
"What is the time?" she asked. "It's ten past nine, and we don't know where they're going," he answered.
"""

LONG = (
    "When the evening comes, somebody lights the candle in the hall, and they tell of a king who read by that light "
    "until the wax was gone. Nobody asked what the time was. Ada Lovelace lives in London. Paris is the capital of "
    "France, and the candle stands in its sconce on the wall of the hall. In the morning the wax is cold."
)
TEXTS = ["The candle stands in the hall.", "Grüße, 世界 🕯 — 42. شمعة", "Ada Lovelace lives in London, they're cold"]

WORD_PIECE = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def template(tokenizer, first, last, double):
    """One text between `first` and `last`; pairs as BERT has them, or with two separators as RoBERTa has."""
    ids = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    if double:
        return processors.TemplateProcessing(f"{first} $A {last}", f"{first} $A {last} {last} $B {last}", ids)
    return processors.TemplateProcessing(f"{first} $A {last}", f"{first} $A {last} $B:1 {last}:1", ids)


def word_piece(specials=WORD_PIECE, double=False):
    tokenizer = Tokenizer(models.WordPiece(unk_token=specials[1] if "[UNK]" in specials else "[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    trainer = trainers.WordPieceTrainer(vocab_size=180, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(CORPUS.strip().splitlines(), trainer)
    first, last = ("<s>", "</s>") if double else ("[CLS]", "[SEP]")
    tokenizer.post_processor = template(tokenizer, first, last, double)
    return tokenizer


def byte_level(specials, double):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=specials, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.strip().splitlines(), trainer)
    if double:
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")), add_prefix_space=False
        )
    else:
        tokenizer.post_processor = template(tokenizer, "[CLS]", "[SEP]", False)
    return tokenizer


def unigram(specials, unknown, double):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=160, special_tokens=specials, unk_token=unknown, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS.strip().splitlines(), trainer)
    first, last = ("<s>", "</s>") if double else ("[CLS]", "[SEP]")
    tokenizer.post_processor = template(tokenizer, first, last, double)
    return tokenizer


def roles(specials):
    find = lambda *names: next(name for name in names if name in specials)
    return {
        "pad_token": find("[PAD]", "<pad>"), "unk_token": find("[UNK]", "<unk>"), "mask_token": find("[MASK]", "<mask>"),
        "cls_token": find("[CLS]", "<s>"), "sep_token": find("[SEP]", "</s>"),
    }


SIZES = dict(hidden_size=24, num_attention_heads=3, intermediate_size=40, num_hidden_layers=2)
MPNET = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]

# A family: configuration, tokenizer and its special tokens, whether it knows segments.
FAMILIES = {
    "bert": dict(
        config=lambda **k: transformers.BertConfig(max_position_embeddings=96, **SIZES, **k),
        tokenizer=lambda: word_piece(), specials=WORD_PIECE, types=True,
    ),
    "roberta": dict(
        config=lambda **k: transformers.RobertaConfig(
            max_position_embeddings=98, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5, **SIZES, **k),
        tokenizer=lambda: byte_level(ROBERTA, True), specials=ROBERTA, types=False,
    ),
    "xlm-roberta": dict(
        config=lambda **k: transformers.XLMRobertaConfig(
            max_position_embeddings=98, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5, **SIZES, **k),
        tokenizer=lambda: unigram(ROBERTA, "<unk>", True), specials=ROBERTA, types=False,
    ),
    "camembert": dict(
        config=lambda **k: transformers.CamembertConfig(
            max_position_embeddings=98, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5, hidden_act="gelu_new",
            **SIZES, **k),
        tokenizer=lambda: unigram(ROBERTA, "<unk>", True), specials=ROBERTA, types=False,
    ),
    "distilbert": dict(
        config=lambda **k: transformers.DistilBertConfig(
            max_position_embeddings=96, dim=24, n_heads=3, hidden_dim=40, n_layers=2, **k),
        tokenizer=lambda: word_piece(), specials=WORD_PIECE, types=False,
    ),
    "albert": dict(
        config=lambda **k: transformers.AlbertConfig(
            max_position_embeddings=96, embedding_size=20, num_hidden_groups=2, **(SIZES | dict(num_hidden_layers=3)), **k),
        tokenizer=lambda: unigram(WORD_PIECE, "[UNK]", False), specials=WORD_PIECE, types=True,
    ),
    "albert-groups": dict(
        config=lambda **k: transformers.AlbertConfig(
            max_position_embeddings=96, embedding_size=20, num_hidden_groups=2, inner_group_num=2,
            **(SIZES | dict(num_hidden_layers=4)), **k),
        tokenizer=lambda: unigram(WORD_PIECE, "[UNK]", False), specials=WORD_PIECE, types=True,
    ),
    "electra": dict(
        config=lambda **k: transformers.ElectraConfig(max_position_embeddings=96, embedding_size=20, **SIZES, **k),
        tokenizer=lambda: word_piece(), specials=WORD_PIECE, types=True,
    ),
    "mpnet": dict(
        config=lambda **k: transformers.MPNetConfig(
            max_position_embeddings=98, layer_norm_eps=1e-5, **SIZES, **k),
        tokenizer=lambda: word_piece(MPNET, True), specials=MPNET, types=False,
    ),
    "deberta": dict(
        config=lambda **k: transformers.DebertaV2Config(
            max_position_embeddings=96, relative_attention=True, position_buckets=8, max_relative_positions=-1,
            share_att_key=True, pos_att_type="p2c|c2p", norm_rel_ebd="layer_norm", position_biased_input=False,
            type_vocab_size=0, **SIZES, **k),
        tokenizer=lambda: unigram(WORD_PIECE, "[UNK]", False), specials=WORD_PIECE, types=True,
    ),
    "deberta-own": dict(
        config=lambda **k: transformers.DebertaV2Config(
            max_position_embeddings=96, relative_attention=True, max_relative_positions=20, share_att_key=False,
            pos_att_type=["c2p", "p2c"], position_biased_input=True, type_vocab_size=2, embedding_size=20, **SIZES, **k),
        tokenizer=lambda: unigram(WORD_PIECE, "[UNK]", False), specials=WORD_PIECE, types=True,
    ),
    "deberta-conv": dict(
        config=lambda **k: transformers.DebertaV2Config(
            max_position_embeddings=96, relative_attention=True, position_buckets=8, max_relative_positions=-1,
            share_att_key=True, pos_att_type="p2c|c2p", norm_rel_ebd="layer_norm", position_biased_input=False,
            type_vocab_size=0, conv_kernel_size=3, conv_act="gelu", **SIZES, **k),
        tokenizer=lambda: unigram(WORD_PIECE, "[UNK]", False), specials=WORD_PIECE, types=True,
    ),
    # Wide enough for blocks of 32 numbers.
    "wide-bert": dict(
        config=lambda **k: transformers.BertConfig(
            max_position_embeddings=96, hidden_size=64, num_attention_heads=4, intermediate_size=96, num_hidden_layers=2, **k),
        tokenizer=lambda: word_piece(), specials=WORD_PIECE, types=True, std=0.15,
    ),
    "modernbert": dict(
        config=lambda **k: transformers.ModernBertConfig(
            max_position_embeddings=96, global_attn_every_n_layers=3, local_attention=16, pad_token_id=0,
            cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3, reference_compile=False,
            **(SIZES | dict(num_hidden_layers=4)), **k),
        tokenizer=lambda: byte_level(WORD_PIECE, False), specials=WORD_PIECE, types=False,
    ),
}

LABELS = {0: "gloomy", 1: "bright", 2: "neutral"}
TAGS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}
NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}


def labelled(names):
    return dict(id2label=names, label2id={name: id for id, name in names.items()})


CLASSIFY = [
    (TEXTS, {}),
    (TEXTS[0], {}),
    (TEXTS, {"top_k": None}),
    ([TEXTS[1]], {"top_k": 2}),
    (TEXTS[:2], {"return_all_scores": True}),
    (TEXTS[0], {"function_to_apply": "none", "top_k": None}),
    (TEXTS[0], {"function_to_apply": "sigmoid", "top_k": None}),
    ({"text": TEXTS[0], "text_pair": TEXTS[2]}, {}),
    (["", "x"], {"top_k": None}),
    (LONG, {"truncation": True, "top_k": None}),
    (LONG, {"truncation": True, "max_length": 20, "top_k": None}),
    ({"text": LONG, "text_pair": LONG}, {"truncation": True, "max_length": 31, "top_k": None}),
]
TAG = [
    (TEXTS, {}),
    (TEXTS[2], {"ignore_labels": []}),
    *[(TEXTS + [LONG], {"aggregation_strategy": how}) for how in ("simple", "first", "average", "max")],
    (LONG, {"aggregation_strategy": "simple", "stride": 12}),
    (["", "x"], {}),
]
QUESTIONS = [
    {"question": "Where does Ada Lovelace live?", "context": TEXTS[2]},
    {"question": "What stands in the hall?", "context": LONG},
    {"question": "Qué? 🕯", "context": TEXTS[1]},
]
FIND = [
    (QUESTIONS[0], {}),
    (QUESTIONS, {}),
    (QUESTIONS[1], {"top_k": 3}),
    (QUESTIONS[1], {"max_seq_len": 40, "doc_stride": 12, "top_k": 2}),
    (QUESTIONS[0], {"handle_impossible_answer": True, "top_k": 2}),
    (QUESTIONS[0], {"align_to_words": False, "max_answer_len": 4}),
    (QUESTIONS[:2], {"max_answer_len": 1}),
]


def fill(mask):
    one = f"The candle stands in the {mask}."
    two = f"{mask} lives in {mask} — 🕯"
    return [
        (one, {}),
        ([one, two], {"top_k": 3}),
        ([one, one], {"top_k": 2}),
        (two, {"top_k": 2}),
        (one, {"targets": ["hall", "wall", "zzz"], "top_k": 5}),
        (one + " " + LONG, {"tokenizer_kwargs": {"truncation": True}, "top_k": 2}),
    ]


CHOOSE = [
    (TEXTS[0], {"candidate_labels": ["candles", "travel", "wax"]}),
    (TEXTS, {"candidate_labels": "candles, travel", "multi_label": True}),
    (TEXTS[0], {"candidate_labels": ["only one"]}),
    (TEXTS[0], {"candidate_labels": ["hall", "London"], "hypothesis_template": "It is about the {}!"}),
    (LONG, {"candidate_labels": ["hall", "wax"]}),
]
EXTRACT = [(TEXTS[0], {}), ([TEXTS[1], "x"], {}), (LONG, {"truncation": True})]

TASKS = {
    "text-classification": dict(head="SequenceClassification", config=labelled(LABELS), requests=CLASSIFY),
    "token-classification": dict(head="TokenClassification", config=labelled(TAGS), requests=TAG),
    "question-answering": dict(head="QuestionAnswering", config={}, requests=FIND),
    "fill-mask": dict(head="MaskedLM", config={}, requests=fill),
    "feature-extraction": dict(head=None, config={}, requests=EXTRACT),
    "zero-shot-classification": dict(head="SequenceClassification", config=labelled(NLI), requests=CHOOSE),
}

# Folders: family, task, and what is special.
SPECIAL = ("albert-groups", "deberta-conv", "wide-bert")
CASES = {
    f"{family}-{task}": dict(family=family, task=task)
    for family in FAMILIES if family not in SPECIAL
    for task in list(TASKS)[:5]
}
CASES |= {
    "albert-groups-token-classification": dict(family="albert-groups", task="token-classification"),
    "deberta-conv-fill-mask": dict(family="deberta-conv", task="fill-mask"),
    "deberta-conv-text-classification": dict(family="deberta-conv", task="text-classification"),
    "wide-bert-text-classification": dict(family="wide-bert", task="text-classification", rounded=("int8", "int4")),
    "bert-zero-shot-classification": dict(family="bert", task="zero-shot-classification"),
    "deberta-zero-shot-classification": dict(
        family="deberta", task="zero-shot-classification",
        config=labelled({0: "entailment", 1: "neutral", 2: "contradiction"})),
    "bert-multi-label": dict(
        family="bert", task="text-classification", config=dict(problem_type="multi_label_classification"), legacy=True),
    "roberta-regression": dict(
        family="roberta", task="text-classification", config=dict(problem_type="regression", num_labels=1, id2label={0: "LABEL_0"})),
    "distilbert-one-label": dict(
        family="distilbert", task="text-classification", config=dict(num_labels=1, id2label={0: "LABEL_0"})),
    "modernbert-mean": dict(family="modernbert", task="text-classification", config=dict(
        classifier_pooling="mean", norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True)),
}


# Encoders whose texts have vectors: pooling, and what comes behind it.
SENTENCES = {
    "bert-sentences": dict(family="bert", pooling="mean", normalize=True, prompts={"query": "What is the time? "}),
    "mpnet-sentences": dict(family="mpnet", pooling="cls"),
    "distilbert-sentences": dict(family="distilbert", pooling=("max", "mean"), dense=16, normalize=True),
    "roberta-sentences": dict(
        family="roberta", pooling="weightedmean", include_prompt=False,
        prompts={"query": "The candle ", "empty": ""}, default_prompt_name="query"),
    "modernbert-sentences": dict(family="modernbert", pooling=("mean_sqrt_len_tokens", "lasttoken"), max_seq_length=20),
}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def fill_weights(model, seed, std):
    """Random weights of a scale at which the layers matter: norms near 1, everything else normal."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            norm = weight.dim() == 1 and name.endswith("weight")
            # Half precision holds them exactly, so that the files are small.
            weight.copy_((1.0 + 0.2 * noise if norm else std * noise).half().float())


def make_tokenizer(folder, family):
    tokenizer = family["tokenizer"]()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ["input_ids", "token_type_ids", "attention_mask"] if family["types"] else ["input_ids", "attention_mask"]
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "model_max_length": 96,
        "model_input_names": names, **roles(family["specials"]),
    })
    return transformers.AutoTokenizer.from_pretrained(folder)


def model_class(task):
    head = TASKS[task]["head"]
    return getattr(transformers, f"AutoModelFor{head}" if head else "AutoModel")


def answers(pipe, task, requests):
    """What the handler hands a pipeline, and what it returns, as a list."""
    found = []
    for inputs, parameters in requests:
        as_list = inputs if isinstance(inputs, list) else [inputs]
        answer = pipe(as_list, **json.loads(json.dumps(parameters)))
        if task == "question-answering" and len(as_list) == 1:
            answer = [answer]
        found.append({"inputs": inputs, "parameters": parameters, "answer": plain(answer)})
    return found


def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        return value.item()
    return value


def is_narrow(value):
    """Whether neighbours in a list of scores, or the best of two, are too close to tell apart by their rounding."""
    if isinstance(value, dict):
        lists = [value["scores"]] if "scores" in value else []
        return any(map(close, lists))
    if isinstance(value, list):
        scores = [item["score"] for item in value if isinstance(item, dict) and "score" in item]
        ranked = len(scores) == len(value) and scores == sorted(scores, reverse=True)
        return (ranked and close(scores)) or any(map(is_narrow, value))
    return False


def close(scores):
    return any(abs(a - b) < NARROWEST * max(abs(a), abs(b)) for a, b in zip(scores, scores[1:]))


@torch.no_grad()
def logits(model, tokenizer, task):
    runs = []
    texts = [(TEXTS[0], None), (TEXTS[1], None), (TEXTS[0], TEXTS[2])]
    if task == "fill-mask":
        texts = [(f"The {tokenizer.mask_token} is cold", None)]
    for text, pair in texts:
        inputs = tokenizer(text, pair, return_tensors="pt")
        output = model(**inputs)
        rows = torch.stack([output.start_logits, output.end_logits], -1) if task == "question-answering" else output[0]
        rows = rows[0] if rows.dim() == 3 else rows
        types = inputs.get("token_type_ids", torch.zeros_like(inputs["input_ids"]))
        runs.append({
            "text": text, "pair": pair, "ids": inputs["input_ids"][0].tolist(), "types": types[0].tolist(),
            "rows": [[round(number, 6) for number in row] for row in rows.tolist()],
        })
    return runs


def margins_are_wide(model, tokenizer):
    """Whether every token's class is clear in all texts."""
    with torch.no_grad():
        for text in TEXTS + [LONG]:
            inputs = tokenizer(text, return_tensors="pt", truncation=True)
            best = model(**inputs).logits[0].softmax(-1).topk(2).values
            if (best[:, 0] - best[:, 1]).min() < 0.002:
                return False
    return True


def make(name, case):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    family, task = FAMILIES[case["family"]], case["task"]
    tokenizer = make_tokenizer(folder, family)
    settings = TASKS[task]["config"] | case.get("config", {})
    if "id2label" in settings:
        settings["label2id"] = {label: id for id, label in settings["id2label"].items()}
    config = family["config"](vocab_size=len(tokenizer) + 3, **settings)
    config._attn_implementation = "eager"
    model = model_class(task).from_config(config, dtype=torch.float32).eval()
    requests = TASKS[task]["requests"]
    requests = requests(tokenizer.mask_token) if callable(requests) else requests
    for seed in range(10_000):
        fill_weights(model, seed, family.get("std", 0.3))
        if task == "token-classification" and not margins_are_wide(model, tokenizer):
            continue
        model.save_pretrained(folder)
        again = model_class(task).from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
        pipe = pipeline(task, model=again, tokenizer=tokenizer, device="cpu")
        found = answers(pipe, task, requests)
        if not any(is_narrow(request["answer"]) for request in found):
            break
    runs = logits(again, tokenizer, task)
    file = folder / "model.safetensors"
    weights = {key: value.half() for key, value in load_file(file).items()}
    if case.get("legacy"):
        # As BERT's first checkpoints name their norms, and with the buffer of their time.
        rename = lambda key: key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        weights = {rename(key): value for key, value in weights.items()}
        weights["bert.embeddings.position_ids"] = torch.arange(96).unsqueeze(0)
    save_file(weights, file, metadata={"format": "pt"})
    for extra in folder.glob("generation_config.json"):
        extra.unlink()
    whole = ("position_embeddings", "token_type_embeddings", "pooler", "classifier")
    rounds = [{"format": name, "run": run} for name in case.get("rounded", ())
              for run in logits(rounded(again, name, whole, ()), tokenizer, task)]
    more = {"rounded": rounds} if rounds else {}
    write_golden(folder, {"task": task, "seed": seed}, logits=runs, requests=found, **more)
    report(folder, seed)


def make_sentences(name, case):
    """A model of sentence-transformers, and its vectors and cosines."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    folder, base = HERE / name, HERE / f".{name}"
    for place in (folder, base):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    family = FAMILIES[case["family"]]
    tokenizer = make_tokenizer(base, family)
    config = family["config"](vocab_size=len(tokenizer) + 3)
    model = transformers.AutoModel.from_config(config, dtype=torch.float32).eval()
    fill_weights(model, 1, 0.3)
    model.save_pretrained(base)
    options = dict(attn_implementation="eager", dtype=torch.float32)
    modules = [Transformer(str(base), max_seq_length=case.get("max_seq_length"), model_kwargs=options)]
    modules.append(Pooling(24, pooling_mode=case["pooling"], include_prompt=case.get("include_prompt", True)))
    if "dense" in case:
        modules.append(Dense(48, case["dense"], activation_function=torch.nn.Tanh()))
        fill_weights(modules[-1], 1, 0.3)
    if case.get("normalize"):
        modules.append(Normalize())
    prompts = dict(prompts=case.get("prompts"), default_prompt_name=case.get("default_prompt_name"))
    whole = SentenceTransformer(modules=modules, device="cpu", **prompts)
    whole.save(str(folder), create_model_card=False)
    shutil.rmtree(base)
    again = SentenceTransformer(str(folder), device="cpu", model_kwargs=options)
    encode = lambda texts, **how: [[round(x, 6) for x in vector] for vector in again.encode(texts, **how).tolist()]
    requests = [
        {"inputs": TEXTS, "parameters": {}, "answer": encode(TEXTS)},
        {"inputs": TEXTS[0], "parameters": {}, "answer": encode(TEXTS[:1])},
        {"inputs": ["", LONG], "parameters": {}, "answer": encode(["", LONG])},
        {"inputs": TEXTS[1], "parameters": {"normalize": True}, "answer": encode(TEXTS[1:2], normalize_embeddings=True)},
        # What had the length 1 has it again behind a cut.
        {"inputs": TEXTS[1], "parameters": {"dimensions": 5},
         "answer": encode(TEXTS[1:2], truncate_dim=5, normalize_embeddings=bool(case.get("normalize")))},
    ]
    for prompt in case.get("prompts", {}):
        requests.append({"inputs": TEXTS[2], "parameters": {"prompt_name": prompt},
                         "answer": encode(TEXTS[2:], prompt_name=prompt)})
    similar = again.similarity(again.encode(TEXTS[0]), again.encode(TEXTS[1:]))[0].tolist()
    compare = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}, "parameters": {}, "answer": similar}
    write_golden(folder, {"task": "text-embedding", "seed": 1}, logits=[], requests=requests, similarity=[compare])
    tidy_up(folder)


def make_ranker():
    """A cross-encoder of sentence-transformers, and its scores."""
    from sentence_transformers import CrossEncoder

    folder = HERE / "bert-ranking"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    family = FAMILIES["bert"]
    tokenizer = make_tokenizer(folder, family)
    config = family["config"](vocab_size=len(tokenizer) + 3, num_labels=1)
    model = transformers.AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    fill_weights(model, 1, 0.3)
    model.save_pretrained(folder)
    ranker = CrossEncoder(str(folder), device="cpu")
    texts = [*TEXTS[1:], LONG, ""]
    scores = lambda **how: [[score] for score in ranker.predict([(TEXTS[0], text) for text in texts], **how).tolist()]
    requests = [
        {"inputs": {"query": TEXTS[0], "texts": texts}, "parameters": {}, "answer": scores()},
        {"inputs": {"query": TEXTS[0], "texts": texts}, "parameters": {"raw_scores": True},
         "answer": scores(activation_fn=torch.nn.Identity())},
        {"inputs": [{"text": TEXTS[0], "text_pair": text} for text in texts], "parameters": {}, "answer": scores()},
    ]
    write_golden(folder, {"task": "text-ranking", "seed": 1}, logits=[], requests=requests)
    tidy_up(folder)


def tidy_up(folder):
    """Leaves what is read, and halves the weights."""
    for file in folder.rglob("*"):
        if file.name in ("README.md", "special_tokens_map.json", "vocab.txt"):
            file.unlink()
        elif file.name == "model.safetensors":
            save_file({key: value.half() for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    report(folder, 1)


def write_golden(folder, facts, **lists):
    """An object with one item of its lists on each line."""
    lines = lambda items: ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in items)
    facts = {"made_by": "models/tasks/make.py", "versions": versions()} | facts
    parts = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items()]
    parts += [f" {json.dumps(key)}: [\n  {lines(items)}\n ]" for key, items in lists.items()]
    (folder / "golden.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


def versions():
    import sentence_transformers

    return {
        "sentence-transformers": sentence_transformers.__version__, "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__, "safetensors": safetensors.__version__,
    }


def report(folder, seed):
    size = sum(file.chmod(0o644) or file.stat().st_size for file in folder.rglob("*") if file.is_file()) // 1024
    print(f"{folder.name}: seed {seed}, {size} KiB", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for wanted in sys.argv[1:] or [*CASES, *SENTENCES, "bert-ranking"]:
        if wanted == "bert-ranking":
            make_ranker()
        elif wanted in SENTENCES:
            make_sentences(wanted, SENTENCES[wanted])
        else:
            make(wanted, CASES[wanted])
