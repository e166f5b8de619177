//! Finds the checkpoint in a model folder, and says what to do when there is none that can be read.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::WeightSource;
use super::checkpoint::{Checkpoint, Format};
use super::elsewhere::Numbers;
use super::error::WeightError;
use super::gguf::{self, Gguf};
use super::index;

/// Files that are tried, in this order, which is that of transformers; GGUF files come after them.
pub(crate) const LOOKED_FOR: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Weight files of other tools: how their names begin and end, the problem's stable name, and what to do about them.
/// The first match is taken.
const OTHERS: &[(&str, &str, &str, &str)] = &[
    (
        "adapter_model",
        "",
        "adapter-only",
        "is an adapter without its base model: serve that with option.enable_lora=true and put the adapter into its folder \
         adapters, or merge it with `merge_and_unload` of peft and save the result",
    ),
    (
        "ds_inference_config.json",
        "",
        "partitioned-checkpoint",
        PARTITIONED,
    ),
    ("tp_", ".pt", "partitioned-checkpoint", PARTITIONED),
    ("tp_", ".bin", "partitioned-checkpoint", PARTITIONED),
    ("rank", ".engine", "partitioned-checkpoint", PARTITIONED),
    (
        "model-",
        ".safetensors",
        "index-missing",
        "is a shard: model.safetensors.index.json, which names all shards, is missing",
    ),
    (
        "pytorch_model-",
        ".bin",
        "index-missing",
        "is a shard: pytorch_model.bin.index.json, which names all shards, is missing",
    ),
    (
        "consolidated.",
        "",
        "other-format",
        "is in the layout of the original authors: use the folder that was converted for transformers",
    ),
    (
        "tf_model",
        "",
        "other-format",
        "is of TensorFlow: load it with `from_tf=True` in transformers and `save_pretrained` it",
    ),
    (
        "",
        ".h5",
        "other-format",
        "is of TensorFlow: load it with `from_tf=True` in transformers and `save_pretrained` it",
    ),
    (
        "",
        ".msgpack",
        "other-format",
        "is of Flax: load it with `from_flax=True` in transformers and `save_pretrained` it",
    ),
    (
        "",
        ".onnx",
        "other-format",
        "is an ONNX graph: use the checkpoint it was exported from",
    ),
    (
        "",
        ".safetensors",
        "weights-misnamed",
        "has another name: rename it to model.safetensors if it is the whole model",
    ),
    (
        "",
        ".bin",
        "weights-misnamed",
        "has another name: rename it to pytorch_model.bin if it is the whole model",
    ),
    (
        "",
        ".pt",
        "weights-misnamed",
        "has another name: rename it to pytorch_model.bin if it is the state dict of the whole model",
    ),
    (
        "",
        ".pth",
        "weights-misnamed",
        "has another name: rename it to pytorch_model.bin if it is the state dict of the whole model",
    ),
    (
        "",
        ".ckpt",
        "other-format",
        "is a training checkpoint: save its model with `save_pretrained`",
    ),
    (
        "",
        ".tar.gz",
        "archive-only",
        "is an archive: unpack it, the files of the model belong into the folder itself",
    ),
    (
        "",
        ".zip",
        "archive-only",
        "is an archive: unpack it, the files of the model belong into the folder itself",
    ),
];

/// What to do about what DJL Serving's `partition` writes.
const PARTITIONED: &str =
    "is of a checkpoint that was cut for another engine: use the checkpoint it was cut from";

/// How many names of a folder an error lists.
const LISTED: usize = 8;

/// Files of a part of a pipeline of diffusers that are tried, in this order: whole before cut, full before half precision.
const PARTS_LOOKED_FOR: [&str; 11] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
    "model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
    "pytorch_model.fp16.bin",
];

/// Files of an adapter, in PEFT's order.
const ADAPTERS_LOOKED_FOR: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// Opens the weights of an adapter's folder.
pub fn open_adapter(dir: &Path) -> Result<Box<dyn WeightSource>, WeightError> {
    match first_of(dir, &ADAPTERS_LOOKED_FOR)? {
        Some(checkpoint) => Ok(Box::new(checkpoint)),
        None => Err(WeightError::NoPart {
            dir: dir.to_owned(),
            looked_for: ADAPTERS_LOOKED_FOR.join(", "),
        }),
    }
}

/// Opens the weights of a part of a pipeline of diffusers, as [`open`] does those of a model.
pub fn open_part(dir: &Path) -> Result<Box<dyn WeightSource>, WeightError> {
    match first_of(dir, &PARTS_LOOKED_FOR)? {
        Some(checkpoint) => Ok(Box::new(checkpoint)),
        None => Err(WeightError::NoPart {
            dir: dir.to_owned(),
            looked_for: PARTS_LOOKED_FOR.join(", "),
        }),
    }
}

/// The first of these files that is there.
fn first_of(dir: &Path, names: &[&str]) -> Result<Option<Checkpoint>, WeightError> {
    for name in names {
        let path = dir.join(name);
        match fs::symlink_metadata(&path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => continue,
            Err(cause) => return Err(WeightError::Read { path, cause }),
            Ok(_) => {}
        }
        let format = if name.contains(".safetensors") {
            Format::Safetensors
        } else {
            Format::Torch
        };
        let checkpoint = if name.ends_with(".json") {
            index::read(&path, format)?
        } else {
            Checkpoint::read(path.clone(), format, vec![path])?
        };
        return Ok(Some(checkpoint));
    }
    Ok(None)
}

/// Opens the checkpoint of a model folder: maps its files and reads their headers, but none of the numbers.
pub fn open(dir: &Path) -> Result<Box<dyn WeightSource>, WeightError> {
    if let Some(checkpoint) = first_of(dir, &LOOKED_FOR)? {
        return Ok(Box::new(checkpoint));
    }
    if let Some(path) = gguf::find(dir, None)? {
        return Ok(Box::new(Gguf::open(&path)?));
    }
    let (code, advice) = advice(dir)?;
    Err(WeightError::NoWeights {
        dir: dir.to_owned(),
        code,
        advice,
    })
}

/// Opens the checkpoint of a folder whose weight files have headers alone, while `numbers` has what follows these. GGUF
/// files are opened by [`gguf::Gguf::elsewhere`].
pub fn open_elsewhere(
    dir: &Path,
    numbers: &Arc<dyn Numbers>,
) -> Result<Box<dyn WeightSource>, WeightError> {
    match first_of(dir, &LOOKED_FOR)? {
        Some(checkpoint) => Ok(Box::new(checkpoint.elsewhere(dir, numbers))),
        None => open(dir),
    }
}

/// What is in the folder instead, under its stable name and in words, and the cure where there is one.
fn advice(dir: &Path) -> Result<(&'static str, String), WeightError> {
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
    let known = OTHERS.iter().find_map(|(begin, end, code, cure)| {
        let name = names
            .iter()
            .find(|name| name.starts_with(begin) && name.ends_with(end))?;
        Some((*code, format!("{name} {cure}")))
    });
    Ok(match (known, names.len()) {
        (Some(known), _) => known,
        (None, 0) => ("weights-missing", "the folder is empty".to_owned()),
        (None, count) => {
            let more = if count > LISTED {
                format!(" and {} more", count - LISTED)
            } else {
                String::new()
            };
            names.truncate(LISTED);
            let text = format!("the folder has {}{more}", names.join(", "));
            ("weights-missing", text)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use safetensors::tensor::{Dtype, TensorView, serialize};
    use tempfile::TempDir;

    use super::*;

    /// A folder with the given files.
    fn folder(files: &[(&str, &[u8])]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        dir
    }

    /// A safetensors file of f32 scalars.
    fn scalars(names: &[&str]) -> Vec<u8> {
        let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        serialize(names.iter().map(|name| (name, view.clone())), None).unwrap()
    }

    fn torch_fixture(name: &str) -> Vec<u8> {
        let path: PathBuf = [
            env!("CARGO_MANIFEST_DIR"),
            "../../tests/fixtures/torch",
            name,
        ]
        .iter()
        .collect();
        fs::read(path).unwrap()
    }

    fn index(pairs: &[(&str, &str)]) -> Vec<u8> {
        let map: serde_json::Map<_, _> = pairs
            .iter()
            .map(|(name, file)| ((*name).to_owned(), (*file).into()))
            .collect();
        serde_json::to_vec(&serde_json::json!({ "weight_map": map })).unwrap()
    }

    fn refusal(files: &[(&str, &[u8])]) -> String {
        let dir = folder(files);
        open(dir.path())
            .map(|source| source.describe())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn safetensors_are_taken_before_torch_and_one_file_before_an_index() {
        let (one, torch) = (scalars(&["from.safetensors"]), torch_fixture("module.bin"));
        let bad = b"{}";
        let all: [(&str, &[u8]); 4] = [
            ("model.safetensors", &one),
            ("model.safetensors.index.json", bad),
            ("pytorch_model.bin", &torch),
            ("pytorch_model.bin.index.json", bad),
        ];
        let dir = folder(&all);
        let source = open(dir.path()).unwrap();
        assert_eq!(source.names(), ["from.safetensors"]);
        assert_eq!(source.total_bytes(), 4);
        assert!(source.describe().ends_with("/model.safetensors"));
        assert!(
            open(folder(&all[2..]).path())
                .unwrap()
                .get("0.weight")
                .is_ok()
        );
        assert!(refusal(&all[1..]).contains("no object `weight_map`"));
    }

    #[test]
    fn an_unknown_tensor_names_those_that_end_alike() {
        let dir = folder(&[(
            "model.safetensors",
            &scalars(&["model.norm.weight", "model.head.weight"]),
        )]);
        let message = open(dir.path())
            .unwrap()
            .get("norm.weight")
            .unwrap_err()
            .to_string();
        assert!(
            message.ends_with("similar names: model.norm.weight"),
            "{message}"
        );
    }

    #[test]
    fn a_folder_without_readable_weights_says_what_to_do() {
        for (name, part) in [
            ("tf_model.h5", "tf_model.h5 is of TensorFlow"),
            ("model-00002-of-00002.gguf", "is a later file of a set"),
            ("consolidated.00.pth", "layout of the original authors"),
            ("adapter_model.safetensors", "merge_and_unload"),
            (
                "model-00001-of-00002.safetensors",
                "model.safetensors.index.json, which names all shards, is missing",
            ),
            ("weights.safetensors", "rename it to model.safetensors"),
            ("config.json", "the folder has config.json"),
        ] {
            let message = refusal(&[(name, b"x")]);
            assert!(
                message.contains("looked for model.safetensors, ") && message.contains(part),
                "{message}"
            );
        }
        assert!(refusal(&[]).contains("the folder is empty"));
        assert!(open(Path::new("/nonexistent/model")).is_err());
    }

    #[test]
    fn files_that_are_not_weights_are_named_with_the_cure() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n";
        for name in LOOKED_FOR {
            assert!(
                refusal(&[(name, pointer)]).contains("git lfs pull"),
                "{name}"
            );
        }
        assert!(refusal(&[("model.safetensors", b"")]).contains("it is empty; download it again"));
        assert!(refusal(&[("pytorch_model.bin", b"")]).contains("it is empty; download it again"));
        assert!(
            refusal(&[("model.safetensors.index.json", b"nonsense")]).contains("checkpoint index")
        );
    }

    #[test]
    fn shards_must_fit_their_index() {
        let name = "model.safetensors.index.json";
        let (first, second) = (scalars(&["a", "unlisted"]), scalars(&["b"]));
        let good = index(&[("a", "1.safetensors"), ("b", "2.safetensors")]);
        let dir = folder(&[
            (name, &good),
            ("1.safetensors", &first),
            ("2.safetensors", &second),
        ]);
        let source = open(dir.path()).unwrap();
        assert_eq!(source.names(), ["a", "b", "unlisted"]);
        assert!(source.describe().ends_with("with 2 shards"));

        let message = refusal(&[(name, &good)]);
        assert!(
            message.contains("missing: 1.safetensors, 2.safetensors;"),
            "{message}"
        );
        let message = refusal(&[
            (name, &good),
            ("1.safetensors", &first),
            ("2.safetensors", &first),
        ]);
        assert!(
            message.contains("`a` is both in") && message.contains("2.safetensors"),
            "{message}"
        );
        let swapped = index(&[("a", "2.safetensors"), ("b", "1.safetensors")]);
        let message = refusal(&[
            (name, &swapped),
            ("1.safetensors", &first),
            ("2.safetensors", &second),
        ]);
        assert!(
            message.contains(
                "places 2 tensors in shards that lack them, the first is `a` in 2.safetensors"
            ),
            "{message}"
        );
        assert!(
            refusal(&[(name, &index(&[("a", "../a.safetensors")]))])
                .contains("not a file beside the index")
        );
        assert!(refusal(&[(name, &index(&[]))]).contains("names no tensors"));
    }
}
