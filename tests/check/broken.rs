//! What can be wrong with a model's folder or its options, each with the name of the verdict. All
//! begin with a copy of the tiny Llama.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{edit, write};

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) damage: fn(&Path),
    pub(super) arguments: &'static [&'static str],
    pub(super) code: &'static str,
    pub(super) exit: i32,
}

const WEIGHTS: &str = "model.safetensors";
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n";

/// The configuration is wrong.
const fn options(name: &'static str, code: &'static str, damage: fn(&Path)) -> Case {
    Case {
        name,
        damage,
        arguments: &[],
        code,
        exit: 64,
    }
}

/// The model will not run.
const fn model(name: &'static str, code: &'static str, damage: fn(&Path)) -> Case {
    Case {
        exit: 1,
        ..options(name, code, damage)
    }
}

const fn on_gpu(
    name: &'static str,
    gpu: &'static [&'static str],
    code: &'static str,
    damage: fn(&Path),
) -> Case {
    Case {
        arguments: gpu,
        ..model(name, code, damage)
    }
}

fn properties(dir: &Path, text: &str) {
    write(dir, "serving.properties", text);
}

fn config(dir: &Path, change: impl Fn(&mut Value)) {
    edit(dir, "config.json", change);
}

fn remove(dir: &Path, name: &str) {
    fs::remove_file(dir.join(name)).unwrap();
}

/// Nothing but this file.
fn only(dir: &Path, name: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    if !name.is_empty() {
        write(dir, name, "{}");
    }
}

/// Another file in the place of the weights.
fn instead(dir: &Path, name: &str) {
    remove(dir, WEIGHTS);
    write(dir, name, "x");
}

/// Nothing but this GGUF file of the fixtures, changed.
fn gguf(dir: &Path, name: &str, change: impl Fn(&mut Vec<u8>)) {
    only(dir, "");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf");
    let mut bytes = fs::read(fixtures.join(name).with_extension("gguf")).unwrap();
    change(&mut bytes);
    write(dir, "m.gguf", bytes);
}

/// Writes over the end of the first place where these bytes stand.
fn replace(bytes: &mut [u8], find: &[u8], with: &[u8]) {
    let at = bytes.windows(find.len()).position(|window| window == find);
    let end = at.unwrap() + find.len();
    bytes[end - with.len()..end].copy_from_slice(with);
}

fn class(dir: &Path, name: &str) {
    config(dir, |c| c["architectures"] = json!([name]));
}

fn index(dir: &Path, tensor: &str, shard: &str) {
    fs::rename(dir.join(WEIGHTS), dir.join("one.safetensors")).unwrap();
    let map = json!({"weight_map": {"lm_head.weight": "one.safetensors", tensor: shard}});
    write(dir, "model.safetensors.index.json", map.to_string());
}

pub(super) const CASES: &[Case] = &[
    options("a misspelt key", "unknown-key", |dir| {
        properties(dir, "option.tensor_paralel_degree=2\n")
    }),
    options("a number in words", "invalid-value", |dir| {
        properties(dir, "option.tensor_parallel_degree=two\n")
    }),
    options("a dtype that nobody has", "invalid-value", |dir| {
        properties(dir, "option.dtype=fp12\n")
    }),
    options("layers spread over devices", "unsupported-value", |dir| {
        properties(dir, "option.pipeline_parallel_degree=2\n")
    }),
    options("weights in fewer bits", "unsupported-value", |dir| {
        properties(dir, "option.quantize=smoothquant\n")
    }),
    options("two names of one option", "conflicting-options", |dir| {
        let text = "option.tensor_parallel_degree=1\noption.number_of_partitions=2\n";
        properties(dir, text);
    }),
    options("a key written twice", "bad-properties", |dir| {
        properties(dir, "option.dtype=fp16\noption.dtype=fp32\n")
    }),
    options("half an escape", "bad-properties", |dir| {
        properties(dir, "option.dtype=\\u12\n")
    }),
    options("bytes that are no text", "bad-properties", |dir| {
        write(dir, "serving.properties", b"option.dtype=\xff\n")
    }),
    options("a folder for a file", "unreadable", |dir| {
        fs::create_dir(dir.join("serving.properties")).unwrap()
    }),
    options(
        "code of the user's that must not run",
        "custom-code",
        |dir| {
            write(dir, "model.py", "def handle(inputs): pass\n");
            properties(dir, "option.trust_python=false\n");
        },
    ),
    options("a model that is nowhere", "no-such-model", |dir| {
        only(dir, "serving.properties");
        properties(dir, "option.model_id=/no/such/directory\n");
    }),
    options("a task of pictures", "unsupported-value", |dir| {
        properties(dir, "option.task=image-classification\n")
    }),
    options("an empty folder", "empty-directory", |dir| only(dir, "")),
    options("an archive alone", "archive-only", |dir| {
        only(dir, "model.tar.gz")
    }),
    options("an adapter alone", "adapter-only", |dir| {
        only(dir, "adapter_config.json")
    }),
    options(
        "a checkpoint in one file",
        "single-file-checkpoint",
        |dir| only(dir, "v1-5-pruned.ckpt"),
    ),
    model("a pipeline without parts", "unsupported-feature", |dir| {
        fs::remove_file(dir.join("config.json")).unwrap();
        write(
            dir,
            "model_index.json",
            r#"{"_class_name": "StableDiffusionDepth2ImgPipeline"}"#,
        )
    }),
    options(
        "a checkpoint cut by DeepSpeed",
        "partitioned-checkpoint",
        |dir| only(dir, "ds_inference_config.json"),
    ),
    options("the original authors' layout", "other-format", |dir| {
        only(dir, "consolidated.00.pth")
    }),
    options("something else", "no-checkpoint", |dir| {
        only(dir, "notes.txt")
    }),
    model(
        "an unknown architecture",
        "unsupported-architecture",
        |dir| class(dir, "MambaForCausalLM"),
    ),
    model("no architecture", "unsupported-architecture", |dir| {
        config(dir, |c| {
            c.as_object_mut().unwrap().remove("architectures");
        })
    }),
    model("multiple choice", "unsupported-task", |dir| {
        class(dir, "BertForMultipleChoice")
    }),
    model(
        "an encoder-decoder's class over a decoder's configuration",
        "bad-model-config",
        |dir| class(dir, "T5ForConditionalGeneration"),
    ),
    model(
        "an encoder's class over a decoder's weights",
        "tensor-missing",
        |dir| class(dir, "BertForMaskedLM"),
    ),
    model("an encoder without a task", "unknown-task", |dir| {
        class(dir, "BertModel")
    }),
    model("code that comes with it", "remote-code", |dir| {
        class(dir, "ChatGLMModel");
        config(dir, |c| {
            c["auto_map"] = json!({"AutoModel": "m.ChatGLMModel"})
        });
    }),
    model("half a configuration", "bad-json", |dir| {
        write(dir, "config.json", "{\"architectures\": [")
    }),
    model("a pointer for a configuration", "lfs-pointer", |dir| {
        write(dir, "config.json", POINTER)
    }),
    model("a pointer for weights", "lfs-pointer", |dir| {
        write(dir, WEIGHTS, POINTER)
    }),
    model("a pointer for a tokenizer", "lfs-pointer", |dir| {
        write(dir, "tokenizer.json", POINTER)
    }),
    model("weights cut short", "truncated-shard", |dir| {
        let bytes = fs::read(dir.join(WEIGHTS)).unwrap();
        write(dir, WEIGHTS, &bytes[..bytes.len() - 100]);
    }),
    model("empty weights", "bad-weights", |dir| {
        write(dir, WEIGHTS, "")
    }),
    model("a missing shard", "shard-missing", |dir| {
        index(dir, "model.norm.weight", "two.safetensors")
    }),
    model("an index of another model", "shards-disagree", |dir| {
        index(dir, "model.absent.weight", "one.safetensors")
    }),
    model("an index that is none", "bad-index", |dir| {
        instead(dir, "model.safetensors.index.json")
    }),
    model("a shard without an index", "index-missing", |dir| {
        instead(dir, "model-00001-of-00002.safetensors")
    }),
    model("no weights", "weights-missing", |dir| remove(dir, WEIGHTS)),
    model("a page for a GGUF file", "bad-weights", |dir| {
        only(dir, "");
        write(dir, "m.Q4_0.gguf", "<html>404</html>");
    }),
    model("a GGUF file cut short", "truncated-shard", |dir| {
        gguf(dir, "llama", |bytes| bytes.truncate(bytes.len() - 100))
    }),
    model("a pointer for a GGUF file", "lfs-pointer", |dir| {
        only(dir, "");
        write(dir, "m.gguf", POINTER);
    }),
    model("several GGUF files", "several-gguf", |dir| {
        gguf(dir, "llama", |_| ());
        write(dir, "other.gguf", "x");
    }),
    model("a GGUF file that is not there", "weights-missing", |dir| {
        gguf(dir, "llama", |_| ());
        properties(dir, "option.gguf_file=other.gguf\n");
    }),
    model("a later GGUF file of a set alone", "shard-missing", |dir| {
        only(dir, "m-00002-of-00002.gguf")
    }),
    model(
        "a GGUF file of another kind",
        "unsupported-architecture",
        |dir| {
            gguf(dir, "llama", |bytes| {
                replace(bytes, b"\x05\0\0\0\0\0\0\0llama", b"mamba")
            })
        },
    ),
    model(
        "a GGUF file with another tokenizer",
        "unsupported-tokenizer",
        |dir| {
            gguf(dir, "llama", |bytes| {
                replace(bytes, b"\x05\0\0\0\0\0\0\0gpt-2", b"gpt-9")
            })
        },
    ),
    model("a GGUF file without tokens", "bad-weights", |dir| {
        gguf(dir, "llama", |bytes| {
            replace(bytes, b"tokenizer.ggml.tokens", b"tokenX")
        })
    }),
    options("a path for a GGUF file", "invalid-value", |dir| {
        properties(dir, "option.gguf_file=sub/m.gguf\n")
    }),
    model("an adapter for weights", "adapter-only", |dir| {
        instead(dir, "adapter_model.safetensors")
    }),
    model("an archive for weights", "archive-only", |dir| {
        instead(dir, "model.tar.gz")
    }),
    model(
        "parts of ranks for weights",
        "partitioned-checkpoint",
        |dir| instead(dir, "tp_00_00.pt"),
    ),
    model("weights by another name", "weights-misnamed", |dir| {
        instead(dir, "weights.safetensors")
    }),
    model("TensorFlow's weights", "other-format", |dir| {
        instead(dir, "tf_model.h5")
    }),
    model("a pickle without an archive", "legacy-torch", |dir| {
        remove(dir, WEIGHTS);
        write(dir, "pytorch_model.bin", b"\x80\x02}q\x00.");
    }),
    model("a page for weights", "bad-weights", |dir| {
        remove(dir, WEIGHTS);
        write(dir, "pytorch_model.bin", "<html>404</html>");
    }),
    model("no tokenizer", "no-tokenizer", |dir| {
        remove(dir, "tokenizer.json")
    }),
    model("half a tokenizer", "bad-json", |dir| {
        write(dir, "tokenizer.json", "{\"version\":")
    }),
    model(
        "a tokenizer with more entries",
        "tokenizer-of-another-model",
        |dir| config(dir, |c| c["vocab_size"] = json!(200)),
    ),
    model("matrices of other sizes", "shape-mismatch", |dir| {
        config(dir, |c| c["intermediate_size"] = json!(7))
    }),
    model("a layer too many in the file", "tensors-left-over", |dir| {
        config(dir, |c| c["num_hidden_layers"] = json!(1))
    }),
    model("a layer too few in the file", "tensor-missing", |dir| {
        config(dir, |c| c["num_hidden_layers"] = json!(3))
    }),
    model(
        "weights quantised in another way",
        "quantised-weights",
        |dir| {
            config(dir, |c| {
                c["quantization_config"] = json!({"quant_method": "bitsandbytes"})
            })
        },
    ),
    model("weights that are not packed", "quantised-weights", |dir| {
        config(dir, |c| {
            c["quantization_config"] = json!({"quant_method": "gptq", "bits": 4})
        })
    }),
    model(
        "a packing that the weights do not have",
        "packed-otherwise",
        |dir| properties(dir, "option.quantize=awq\n"),
    ),
    model(
        "an activation that nobody has",
        "unsupported-feature",
        |dir| config(dir, |c| c["hidden_act"] = json!("wave")),
    ),
    model("heads of uneven groups", "bad-model-config", |dir| {
        config(dir, |c| c["num_key_value_heads"] = json!(4))
    }),
    model("no width", "bad-model-config", |dir| {
        config(dir, |c| c["hidden_size"] = json!(null))
    }),
    model("a context beyond the model's", "context-too-long", |dir| {
        properties(dir, "option.max_model_len=1000\n")
    }),
    model("a cache for no sequence", "cache-too-small", |dir| {
        properties(dir, "option.kv_cache_memory=20000\n")
    }),
    model("a cache beyond memory", "cache-too-large", |dir| {
        properties(dir, "option.kv_cache_memory=400000GiB\n")
    }),
    model(
        "a device that this build cannot use",
        if cfg!(feature = "cuda") {
            "gpu-unusable"
        } else {
            "no-cuda-in-this-build"
        },
        |dir| properties(dir, "option.device=cuda\n"),
    ),
    model(
        "ranks that share no heads",
        "tp-does-not-divide-heads",
        |dir| properties(dir, "option.tensor_parallel_degree=4\n"),
    ),
    on_gpu(
        "more ranks than GPUs",
        &["--gpu", "a10g:2"],
        "tp-exceeds-devices",
        |dir| properties(dir, "option.tensor_parallel_degree=6\n"),
    ),
    on_gpu(
        "bfloat16 on an old GPU",
        &["--gpu", "t4"],
        "bf16-unsupported",
        |dir| properties(dir, "option.dtype=bf16\n"),
    ),
    on_gpu(
        "a cache beyond a GPU",
        &["--gpu", "ml.g5.xlarge"],
        "cache-too-large",
        |dir| properties(dir, "option.kv_cache_memory=23GiB\n"),
    ),
];
