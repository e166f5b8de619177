//! Checkpoints that cannot be served: each ends the program with a message that names the cause,
//! before `/ping` ever says ready.

use std::fs;
use std::path::Path;
use std::thread;

use sconce_testkit::server::Launch;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PROGRAM, copy_checkpoint};

struct Case {
    name: &'static str,
    damage: fn(&Path),
    log_says: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "unsupported architecture",
        damage: |dir| {
            edit(dir, "config.json", |c| {
                c["architectures"] = json!(["MambaForCausalLM"])
            })
        },
        log_says: &[
            "MambaForCausalLM",
            "LlamaForCausalLM",
            "GPTNeoXForCausalLM",
            "GPT2LMHeadModel",
        ],
    },
    Case {
        name: "truncated weights",
        damage: |dir| {
            let file = dir.join("model.safetensors");
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
        },
        log_says: &["model.safetensors", "bytes"],
    },
    Case {
        name: "missing shard",
        damage: |dir| {
            fs::rename(
                dir.join("model.safetensors"),
                dir.join("model-00001-of-00002.safetensors"),
            )
            .unwrap();
            let index = json!({"metadata": {}, "weight_map": {
                "model.embed_tokens.weight": "model-00001-of-00002.safetensors",
                "lm_head.weight": "model-00002-of-00002.safetensors"}});
            fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
        },
        log_says: &["model-00002-of-00002.safetensors"],
    },
    Case {
        name: "index naming a tensor that its shard lacks",
        damage: |dir| {
            fs::rename(dir.join("model.safetensors"), dir.join("only.safetensors")).unwrap();
            let index =
                json!({"metadata": {}, "weight_map": {"model.absent.weight": "only.safetensors"}});
            fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
        },
        log_says: &["model.absent.weight", "only.safetensors"],
    },
    Case {
        name: "shape mismatch with the configuration",
        damage: |dir| edit(dir, "config.json", |c| c["intermediate_size"] = json!(7)),
        log_says: &["mlp", "7", "intermediate_size"],
    },
    Case {
        name: "tensor that nothing reads",
        damage: |dir| {
            edit(dir, "config.json", |c| {
                c["num_hidden_layers"] = json!(c["num_hidden_layers"].as_u64().unwrap() - 1);
            })
        },
        log_says: &["model.layers."],
    },
    Case {
        name: "missing tensor",
        damage: |dir| {
            edit(dir, "config.json", |c| {
                c["num_hidden_layers"] = json!(c["num_hidden_layers"].as_u64().unwrap() + 1);
            })
        },
        log_says: &["model.layers."],
    },
    Case {
        name: "missing tokenizer",
        damage: |dir| fs::remove_file(dir.join("tokenizer.json")).unwrap(),
        log_says: &["tokenizer.json"],
    },
    Case {
        name: "broken configuration",
        damage: |dir| fs::write(dir.join("config.json"), "{\"architectures\": [").unwrap(),
        log_says: &["config.json"],
    },
    Case {
        name: "unknown rope type",
        damage: |dir| {
            edit(dir, "config.json", |c| {
                for key in ["rope_scaling", "rope_parameters"] {
                    c[key] = json!({"rope_type": "spiral", "factor": 2.0, "rope_theta": 10000.0});
                }
            })
        },
        log_says: &["spiral", "llama3"],
    },
    Case {
        name: "quantised weights",
        damage: |dir| {
            edit(dir, "config.json", |c| {
                c["quantization_config"] = json!({"quant_method": "compressed-tensors"})
            })
        },
        log_says: &["quant_method", "compressed-tensors", "option.quantize=int4"],
    },
    Case {
        name: "context beyond the model's",
        damage: |dir| {
            fs::write(
                dir.join("serving.properties"),
                "option.max_model_len=1000000\n",
            )
            .unwrap()
        },
        log_says: &["option.max_model_len", "1000000"],
    },
    Case {
        name: "pickle that names a function",
        damage: |dir| {
            fs::remove_file(dir.join("model.safetensors")).unwrap();
            // cos\nsystem\n: what a hostile file would call; it is no archive either.
            fs::write(dir.join("pytorch_model.bin"), b"cos\nsystem\n(S'true'\ntR.").unwrap();
        },
        log_says: &["pytorch_model.bin"],
    },
];

#[test]
fn each_broken_checkpoint_is_refused_with_its_cause() {
    // Each case keeps its port open for some seconds after its failure: they wait together.
    let complaints: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = CASES
            .iter()
            .map(|case| scope.spawn(|| complaint(case)))
            .collect();
        let complaints = threads.into_iter().map(|thread| thread.join().unwrap());
        complaints.flatten().collect()
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What the program does wrong with a broken checkpoint.
fn complaint(case: &Case) -> Option<String> {
    let dir = TempDir::new().unwrap();
    let model = copy_checkpoint("llama", dir.path());
    (case.damage)(&model);
    let (status, log) = Launch::serve(PROGRAM, &model).run().unwrap();
    let missing = case.log_says.iter().find(|part| !log.contains(**part));
    let wrong = ["is ready after", "panicked"]
        .iter()
        .find(|part| log.contains(**part));
    if status.code() == Some(1) && missing.is_none() && wrong.is_none() {
        return None;
    }
    Some(format!(
        "{}: {status}, missing {missing:?}, wrong {wrong:?}:\n{log}",
        case.name
    ))
}

fn edit(dir: &Path, file: &str, change: fn(&mut Value)) {
    let path = dir.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}
