//! Which files of a repository serving needs.

use sconce_engine::{first_files, set_of};
use thiserror::Error;

/// The file in which sentence-transformers lists modules, some in folders of their own.
const MODULES: &str = "modules.json";

/// Why it cannot be told which weights of a repository are meant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Unclear {
    /// There are none.
    #[error("it has no weights")]
    NoWeights,
    /// There are several models.
    #[error(
        "it has several GGUF files, {}: name the one to serve with option.gguf_file",
        .0.join(", ")
    )]
    Several(Vec<String>),
    /// The file that is named is not there, or not all of its set.
    #[error("it has no file {name}, which option.gguf_file names or which belongs to its set; GGUF files there: {}", .files.join(", "))]
    Absent {
        /// The file.
        name: String,
        /// Those that are there.
        files: Vec<String>,
    },
}

impl Unclear {
    /// The stable name of the problem, for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoWeights | Self::Absent { .. } => "weights-missing",
            Self::Several(_) => "several-gguf",
        }
    }
}

/// The files of the top folder that serving needs: all JSON and vocabulary files, and as weights
/// the GGUF file that is named, else safetensors, else `pytorch_model*.bin`, else the only GGUF
/// file; beside `modules.json` also those of the folders of modules.
pub(crate) fn wanted_files<'a>(
    files: &[&'a str],
    gguf_file: Option<&str>,
) -> Result<Vec<&'a str>, Unclear> {
    let top = || files.iter().copied().filter(|file| !file.contains('/'));
    if gguf_file.is_none() && top().any(|file| file == PIPELINE) {
        return Ok(pipeline_files(files));
    }
    let is_safetensors = |file: &&str| {
        let stem = file.trim_end_matches(".index.json");
        stem.starts_with("model") && stem.ends_with(".safetensors")
    };
    let is_torch = |file: &&str| {
        let stem = file.trim_end_matches(".index.json");
        stem.starts_with("pytorch_model") && stem.ends_with(".bin")
    };
    let mut weights: Vec<&str> = Vec::new();
    if gguf_file.is_none() {
        weights = top().filter(is_safetensors).collect();
        if weights.is_empty() {
            weights = top().filter(is_torch).collect();
        }
    }
    if weights.is_empty() {
        weights = gguf_set(&top().collect::<Vec<_>>(), gguf_file)?;
    }
    let text = top().filter(|file| {
        let is_index = file.ends_with(".index.json");
        // SentencePiece: tokenizer.model, spiece.model and the like.
        (file.ends_with(".json") && !is_index)
            || file.ends_with(".model")
            || *file == "chat_template.jinja"
            || matches!(*file, "merges.txt" | "vocab.txt")
    });
    let has_modules = top().any(|file| file == MODULES);
    let modules = files
        .iter()
        .copied()
        .filter(|file| has_modules && is_of_module(file, files));
    Ok(text.chain(weights).chain(modules).collect())
}

/// What makes a folder one of diffusers.
const PIPELINE: &str = "model_index.json";

/// Folders of a pipeline that are served.
const PARTS: [&str; 9] = [
    "feature_extractor",
    "safety_checker",
    "scheduler",
    "text_encoder",
    "text_encoder_2",
    "tokenizer",
    "tokenizer_2",
    "unet",
    "vae",
];

/// The text of a pipeline's parts, and for each the weights that loading takes first: safetensors before torch's files,
/// full before half precision.
fn pipeline_files<'a>(files: &[&'a str]) -> Vec<&'a str> {
    let mut wanted = vec![PIPELINE];
    for part in PARTS {
        let own = files.iter().copied().filter(|file| {
            let name = file
                .strip_prefix(part)
                .and_then(|rest| rest.strip_prefix('/'));
            name.is_some_and(|name| !name.contains('/'))
        });
        let own: Vec<&str> = own.collect();
        let is_weight = |file: &&&str| {
            let stem = file.trim_end_matches(".json");
            [".safetensors", ".bin", ".safetensors.index", ".index.fp16"]
                .iter()
                .any(|end| stem.ends_with(end))
        };
        let text = own.iter().filter(|file| !is_weight(file));
        wanted.extend(text.filter(|file| file.ends_with(".json") || file.ends_with(".txt")));
        let kinds: [fn(&str) -> bool; 4] = [
            |file| file.contains(".safetensors") && !file.contains("fp16"),
            |file| file.contains(".safetensors"),
            |file| file.ends_with(".bin") && !file.contains("fp16"),
            |file| file.ends_with(".bin"),
        ];
        let ours = |file: &&&str| {
            let name = file.rsplit('/').next().unwrap_or_default();
            let stems = ["model", "pytorch_model", "diffusion_pytorch_model"];
            is_weight(file)
                && stems.iter().any(|stem| {
                    let rest = name.strip_prefix(stem).unwrap_or_default();
                    rest.starts_with(['.', '-']) && !rest.contains("non_ema")
                })
        };
        let first = kinds
            .into_iter()
            .find(|kind| own.iter().filter(ours).any(|file| kind(file)));
        wanted.extend(
            own.iter()
                .filter(ours)
                .filter(|file| first.is_some_and(|kind| kind(file))),
        );
    }
    wanted
}

/// Whether a file belongs to a module of sentence-transformers, such as `1_Pooling/config.json`.
fn is_of_module(file: &str, files: &[&str]) -> bool {
    let Some((folder, name)) = file.split_once('/') else {
        return false;
    };
    let safetensors = format!("{folder}/model.safetensors");
    let is_read = match name {
        "config.json" | "model.safetensors" => true,
        "pytorch_model.bin" => !files.contains(&safetensors.as_str()),
        _ => false,
    };
    is_module_folder(folder) && is_read
}

/// Whether a folder belongs to the model whose files lie beside it: a part of a pipeline, or a module.
pub(crate) fn belongs(folder: &str, beside: &[&str]) -> bool {
    let is_part = beside.contains(&PIPELINE) && PARTS.contains(&folder);
    is_part || (beside.contains(&MODULES) && is_module_folder(folder))
}

/// Whether a folder of that name is one of a module: its number stands first.
fn is_module_folder(name: &str) -> bool {
    let number = name.split('_').next().unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// All files of the set that is meant.
fn gguf_set<'a>(top: &[&'a str], named: Option<&str>) -> Result<Vec<&'a str>, Unclear> {
    let models = first_files(top.iter().copied());
    let owned = || models.iter().map(ToString::to_string).collect();
    let first = match (named, models.as_slice()) {
        (Some(name), _) => name,
        (None, []) => return Err(Unclear::NoWeights),
        (None, [only]) => only,
        (None, _) => return Err(Unclear::Several(owned())),
    };
    let parts = set_of(first).into_iter().map(|name| {
        let found = top.iter().find(|there| **there == name).copied();
        found.ok_or_else(|| Unclear::Absent {
            name,
            files: owned(),
        })
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safetensors_are_preferred_and_folders_left_alone() {
        let files = [
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let wanted = wanted_files(&files, None).unwrap();
        assert_eq!(
            wanted,
            [
                "config.json",
                "tokenizer.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ]
        );
    }

    #[test]
    fn pipelines_are_fetched_part_by_part_in_one_form() {
        let files = [
            "README.md",
            "model_index.json",
            "v1-5-pruned.ckpt",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/model.safetensors",
            "text_encoder/pytorch_model.bin",
            "tokenizer/merges.txt",
            "unet/config.json",
            "unet/diffusion_pytorch_model.fp16.bin",
            "unet/diffusion_pytorch_model.non_ema.bin",
            "vae/config.json",
            "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
            "vae/diffusion_pytorch_model.safetensors.index.json",
            "other/config.json",
        ];
        let wanted = wanted_files(&files, None).unwrap();
        let kept = [
            "model_index.json",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "tokenizer/merges.txt",
            "unet/config.json",
            "unet/diffusion_pytorch_model.fp16.bin",
            "vae/config.json",
            "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
            "vae/diffusion_pytorch_model.safetensors.index.json",
        ];
        assert_eq!(wanted, kept);
    }

    #[test]
    fn folders_of_modules_belong_to_sentence_transformers() {
        let files = [
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "2_Dense/pytorch_model.bin",
            "3_Dense/pytorch_model.bin",
            "config.json",
            "model.safetensors",
            "modules.json",
            "onnx/config.json",
        ];
        let wanted = wanted_files(&files, None).unwrap();
        let modules = [files[0], files[1], files[2], files[4]];
        assert_eq!(
            wanted,
            [
                &["config.json", "modules.json", "model.safetensors"][..],
                &modules
            ]
            .concat()
        );
        let without: Vec<&str> = files
            .iter()
            .copied()
            .filter(|file| *file != "modules.json")
            .collect();
        assert_eq!(
            wanted_files(&without, None).unwrap(),
            ["config.json", "model.safetensors"]
        );
    }

    #[test]
    fn torch_files_serve_where_there_are_no_safetensors() {
        let files = [
            "config.json",
            "pytorch_model.bin",
            "adapter_model.safetensors",
            "tokenizer.model",
        ];
        assert_eq!(
            wanted_files(&files, None).unwrap(),
            ["config.json", "tokenizer.model", "pytorch_model.bin"]
        );
    }

    #[test]
    fn a_repository_without_weights_is_refused() {
        assert_eq!(
            wanted_files(&["config.json", "model.onnx"], None),
            Err(Unclear::NoWeights)
        );
    }

    #[test]
    fn of_gguf_files_the_only_one_is_taken_or_the_one_that_is_named() {
        let files = [
            "README.md",
            "config.json",
            "m.Q4_K_M.gguf",
            "m.Q8_0-00001-of-00002.gguf",
            "m.Q8_0-00002-of-00002.gguf",
            "mmproj-m.gguf",
        ];
        assert_eq!(
            wanted_files(&files[..3], None).unwrap(),
            ["config.json", "m.Q4_K_M.gguf"]
        );
        let several = wanted_files(&files, None).unwrap_err();
        assert_eq!(several.code(), "several-gguf");
        let text = several.to_string();
        assert!(
            text.contains("m.Q4_K_M.gguf, m.Q8_0-00001-of-00002.gguf: name"),
            "{text}"
        );
        assert_eq!(
            wanted_files(&files, Some("m.Q8_0-00001-of-00002.gguf")).unwrap(),
            ["config.json", files[3], files[4]]
        );
        let absent = wanted_files(&files[..4], Some("m.Q8_0-00001-of-00002.gguf"));
        let text = absent.unwrap_err().to_string();
        assert!(
            text.contains("no file m.Q8_0-00002-of-00002.gguf"),
            "{text}"
        );
        let both = [files[2], "model.safetensors"];
        assert_eq!(wanted_files(&both, None).unwrap(), ["model.safetensors"]);
        assert_eq!(wanted_files(&both, Some(files[2])).unwrap(), [files[2]]);
    }
}
