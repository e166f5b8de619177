//! Finds the checkpoint in a model folder, and says what to do when there is none that can be read.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::WeightSource;
use super::checkpoint::{Checkpoint, Format};
use super::error::WeightError;
use super::index;

/// Files that are tried, in this order, which is that of transformers.
pub(crate) const LOOKED_FOR: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Weight files of other tools: how their names begin and end, and what to do about them. The first match is taken.
const OTHERS: &[(&str, &str, &str)] = &[
    (
        "adapter_model",
        "",
        "is an adapter without its base model: merge it with `merge_and_unload` of peft and save the result",
    ),
    (
        "model-",
        ".safetensors",
        "is a shard: model.safetensors.index.json, which names all shards, is missing",
    ),
    (
        "pytorch_model-",
        ".bin",
        "is a shard: pytorch_model.bin.index.json, which names all shards, is missing",
    ),
    (
        "consolidated.",
        "",
        "is in the layout of the original authors: use the folder that was converted for transformers",
    ),
    (
        "",
        ".gguf",
        "is a GGUF file: use the checkpoint it was made from",
    ),
    (
        "tf_model",
        "",
        "is of TensorFlow: load it with `from_tf=True` in transformers and `save_pretrained` it",
    ),
    (
        "",
        ".h5",
        "is of TensorFlow: load it with `from_tf=True` in transformers and `save_pretrained` it",
    ),
    (
        "",
        ".msgpack",
        "is of Flax: load it with `from_flax=True` in transformers and `save_pretrained` it",
    ),
    (
        "",
        ".onnx",
        "is an ONNX graph: use the checkpoint it was exported from",
    ),
    (
        "",
        ".safetensors",
        "has another name: rename it to model.safetensors if it is the whole model",
    ),
    (
        "",
        ".bin",
        "has another name: rename it to pytorch_model.bin if it is the whole model",
    ),
    (
        "",
        ".pt",
        "has another name: rename it to pytorch_model.bin if it is the state dict of the whole model",
    ),
    (
        "",
        ".pth",
        "has another name: rename it to pytorch_model.bin if it is the state dict of the whole model",
    ),
    (
        "",
        ".ckpt",
        "is a training checkpoint: save its model with `save_pretrained`",
    ),
];

/// How many names of a folder an error lists.
const LISTED: usize = 8;

/// Opens the checkpoint of a model folder: maps its files and reads their headers, but none of the numbers.
pub fn open(dir: &Path) -> Result<Box<dyn WeightSource>, WeightError> {
    for name in LOOKED_FOR {
        let path = dir.join(name);
        match fs::symlink_metadata(&path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => continue,
            Err(cause) => return Err(WeightError::Read { path, cause }),
            Ok(_) => {}
        }
        let format = if name.starts_with("model.") {
            Format::Safetensors
        } else {
            Format::Torch
        };
        let checkpoint = if name.ends_with(".index.json") {
            index::read(&path, format)?
        } else {
            Checkpoint::read(path.clone(), format, vec![path])?
        };
        return Ok(Box::new(checkpoint));
    }
    let advice = advice(dir)?;
    Err(WeightError::NoWeights {
        dir: dir.to_owned(),
        advice,
    })
}

/// What is in the folder instead, and the cure where there is one.
fn advice(dir: &Path) -> Result<String, WeightError> {
    let fail = |cause| WeightError::Read {
        path: dir.to_owned(),
        cause,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        names.push(
            entry
                .map_err(fail)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    let known = OTHERS.iter().find_map(|(begin, end, cure)| {
        let name = names
            .iter()
            .find(|name| name.starts_with(begin) && name.ends_with(end))?;
        Some(format!("{name} {cure}"))
    });
    Ok(match (known, names.len()) {
        (Some(known), _) => known,
        (None, 0) => "the folder is empty".to_owned(),
        (None, count) => {
            let more = if count > LISTED {
                format!(" and {} more", count - LISTED)
            } else {
                String::new()
            };
            names.truncate(LISTED);
            format!("the folder has {}{more}", names.join(", "))
        }
    })
}
