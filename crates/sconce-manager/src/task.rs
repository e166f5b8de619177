//! What a model is for, by DJL Serving's rules: `option.task`, else the ending of the class name
//! in `config.json`, else the pipeline in `model_index.json`. GGUF files are of text generation.

use std::fs;
use std::path::Path;

use sconce_config::ModelSettings;
use sconce_engine::first_files;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// The task that is served.
const SERVED: &str = "text-generation";

/// Endings of class names and their tasks: all are tried, the last that fits counts.
const TASKS: &[(&str, &str)] = &[
    ("TapasForQuestionAnswering", "table-question-answering"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForTokenClassification", "token-classification"),
    ("ForSequenceClassification", "text-classification"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForMaskedLM", "fill-mask"),
    ("ForCausalLM", SERVED),
    ("GPT2LMHeadModel", SERVED),
    ("BloomModel", SERVED),
    ("ForConditionalGeneration", "text2text-generation"),
    ("MTModel", "text2text-generation"),
    ("EncoderDecoderModel", "text2text-generation"),
    ("T5WithLMHeadModel", "text2text-generation"),
];

/// Why a model is not served for what it does.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TaskError {
    /// The task is known, but no engine for it is there yet.
    #[error(
        "{what} is {task}, which is not served yet; serve a model for {SERVED}, or keep this one \
         on the server that it runs on"
    )]
    NotServed {
        /// The class or pipeline, or the option.
        what: String,
        /// The task.
        task: String,
    },
    /// Nothing says what the model does.
    #[error(
        "the task cannot be told from {what}; set option.task={SERVED} if the model continues text"
    )]
    Unknown {
        /// What was looked at.
        what: String,
    },
}

impl TaskError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotServed { .. } => "unsupported-task",
            Self::Unknown { .. } => "unknown-task",
        }
    }
}

/// The part of the two files that matters; whatever else is wrong with them is the engine's.
#[derive(Debug, Default, Deserialize)]
struct Names {
    #[serde(default)]
    architectures: Value,
    #[serde(default, rename = "_class_name")]
    pipeline: Value,
}

impl Names {
    fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }
}

/// What `option.task` says, as far as it is served: the configuration takes no other. A GGUF file that is named says as
/// much, whatever is beside it.
pub(crate) fn named(settings: &ModelSettings) -> Option<&'static str> {
    (settings.task.is_some() || settings.gguf_file.is_some()).then_some(SERVED)
}

/// The task of the model in `dir`; `named` is what `option.task` says.
pub(crate) fn of(dir: &Path, named: Option<&str>) -> Result<String, TaskError> {
    if let Some(task) = named {
        return Ok(task.into());
    }
    let config = Names::read(&dir.join("config.json")).unwrap_or_default();
    if let Some(class) = config.architectures[0].as_str() {
        let task = of_class(class).map(String::from);
        return task.ok_or_else(|| TaskError::Unknown { what: class.into() });
    }
    let index = Names::read(&dir.join("model_index.json")).unwrap_or_default();
    match index.pipeline.as_str() {
        Some(pipeline) if pipeline.starts_with("StableDiffusion") => Ok("text-to-image".into()),
        Some(pipeline) => Err(TaskError::Unknown {
            what: pipeline.into(),
        }),
        None if has_gguf(dir) => Ok(SERVED.into()),
        None => Err(TaskError::Unknown {
            what: "config.json, which names no architectures, and there is no model_index.json"
                .into(),
        }),
    }
}

/// Whether there is a model in a GGUF file. Of which architecture it is, and whether it is a decoder, the engine tells.
fn has_gguf(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: Vec<String> = names.collect();
    !first_files(names.iter().map(String::as_str)).is_empty()
}

/// Fails when the model in `dir` is for something that no engine does. A class that no rule knows
/// is left to the engine, which names those that it has.
pub(crate) fn require_served(dir: &Path, named: Option<&str>) -> Result<(), TaskError> {
    match of(dir, named) {
        Ok(task) if task != SERVED => Err(TaskError::NotServed {
            what: what(dir, named),
            task,
        }),
        _ => Ok(()),
    }
}

fn what(dir: &Path, named: Option<&str>) -> String {
    let name = |file: &str, pick: fn(&Names) -> &Value| {
        let names = Names::read(&dir.join(file))?;
        pick(&names).as_str().map(String::from)
    };
    match named {
        Some(task) => format!("option.task={task}"),
        None => name("config.json", |names| &names.architectures[0])
            .or_else(|| name("model_index.json", |names| &names.pipeline))
            .unwrap_or_else(|| "the model".into()),
    }
}

fn of_class(class: &str) -> Option<&'static str> {
    let mut fits = TASKS.iter().filter(|(ending, _)| class.ends_with(ending));
    fits.next_back().map(|(_, task)| *task)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases follow `djl_python/huggingface.py` of 0.28 and later.
    #[test]
    fn the_last_ending_that_fits_counts() {
        let cases = [
            ("LlamaForCausalLM", Some("text-generation")),
            ("GPT2LMHeadModel", Some("text-generation")),
            ("BloomModel", Some("text-generation")),
            ("T5ForConditionalGeneration", Some("text2text-generation")),
            ("MarianMTModel", Some("text2text-generation")),
            ("BertForMaskedLM", Some("fill-mask")),
            ("BertForTokenClassification", Some("token-classification")),
            ("TapasForQuestionAnswering", Some("question-answering")),
            ("BertModel", None),
        ];
        for (class, task) in cases {
            assert_eq!(of_class(class), task, "{class}");
        }
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn the_option_wins_then_the_class_then_the_pipeline() {
        let class = ("config.json", r#"{"architectures": ["BertForMaskedLM"]}"#);
        let pipeline = (
            "model_index.json",
            r#"{"_class_name": "StableDiffusionXLPipeline"}"#,
        );
        let both = folder(&[class, pipeline]);
        assert_eq!(of(both.path(), Some("ner")).unwrap(), "ner");
        assert_eq!(of(both.path(), None).unwrap(), "fill-mask");
        let image = folder(&[pipeline]);
        assert_eq!(of(image.path(), None).unwrap(), "text-to-image");
        let gguf = folder(&[("m.gguf", "")]);
        assert_eq!(of(gguf.path(), None).unwrap(), SERVED);
        for nothing in [folder(&[]), folder(&[("config.json", "[")])] {
            let error = of(nothing.path(), None).unwrap_err();
            assert_eq!(error.code(), "unknown-task");
        }
    }

    #[test]
    fn a_task_without_an_engine_is_refused_by_name() {
        let t5 = folder(&[(
            "config.json",
            r#"{"architectures": ["T5ForConditionalGeneration"]}"#,
        )]);
        let text = require_served(t5.path(), None).unwrap_err().to_string();
        assert!(
            text.starts_with(
                "T5ForConditionalGeneration is text2text-generation, which is not served yet"
            ),
            "{text}"
        );
        require_served(t5.path(), Some("text-generation")).unwrap();
        let named = require_served(t5.path(), Some("fill-mask")).unwrap_err();
        assert!(
            named
                .to_string()
                .starts_with("option.task=fill-mask is fill-mask")
        );
        let other = folder(&[("config.json", r#"{"architectures": ["MambaModel"]}"#)]);
        require_served(other.path(), None).unwrap();
    }
}
