//! What a model is for, by DJL Serving's rules: `option.task`, else the ending of the class name
//! in `config.json`, else the pipeline in `model_index.json`. What the engine would load from a
//! GGUF file is for text generation, whatever is beside it; else models with the `modules.json` of
//! sentence-transformers make vectors of texts, which DJL Serving's Python handler does not know.

use std::fs;
use std::path::Path;

use sconce_config::{ModelSettings, Quantize};
use sconce_core::Task;
use sconce_engine::find_gguf;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// The task of decoders.
const GENERATION: &str = "text-generation";

/// Endings of class names and their tasks: all are tried, the last that fits counts.
const TASKS: &[(&str, &str)] = &[
    ("TapasForQuestionAnswering", "table-question-answering"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForTokenClassification", "token-classification"),
    ("ForSequenceClassification", "text-classification"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForMaskedLM", "fill-mask"),
    ("ForCausalLM", GENERATION),
    ("GPT2LMHeadModel", GENERATION),
    ("BloomModel", GENERATION),
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
        "{what} is {task}, which is not served yet; serve a model for one of {}, or keep this one \
         on the server that it runs on",
        served_names()
    )]
    NotServed {
        /// The class or pipeline, or the option.
        what: String,
        /// The task.
        task: String,
    },
    /// Weights in fewer bits, which pipelines of pictures do not have.
    #[error(
        "option.quantize = {wanted}: the weights of pipelines of pictures are not quantised; remove it, or set \
         option.dtype=bf16"
    )]
    Quantised {
        /// The option's value.
        wanted: String,
    },
    /// Nothing says what the model does.
    #[error(
        "the task cannot be told from {what}; set option.task, to {GENERATION} if the model continues text, to \
         text-embedding or feature-extraction if it is an encoder without a head"
    )]
    Unknown {
        /// What was looked at.
        what: String,
    },
    /// Adapters, of a model that takes none.
    #[error(
        "option.enable_lora = true: adapters are for models that continue texts, and this one is for {task}; remove it"
    )]
    Adapters {
        /// The task.
        task: Task,
    },
    /// Several ranks, of a model that is not divided among them.
    #[error(
        "option.tensor_parallel_degree = {ranks}: {task} is computed in one piece, by all threads; remove it, or set 1"
    )]
    Ranks {
        /// The option's value.
        ranks: usize,
        /// The task.
        task: Task,
    },
}

fn served_names() -> String {
    let names: Vec<&str> = Task::ALL.iter().map(|task| task.name()).collect();
    names.join(", ")
}

impl TaskError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotServed { .. } => "unsupported-task",
            Self::Quantised { .. } => "quantised-weights",
            Self::Unknown { .. } => "unknown-task",
            Self::Ranks { .. } => "no-ranks",
            Self::Adapters { .. } => "adapters-of-another-task",
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

/// What is asked for: a task, a file, both or neither.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish<'a> {
    /// What `option.task` says.
    pub(crate) task: Option<&'a str>,
    /// The GGUF file that is named.
    pub(crate) gguf_file: Option<&'a str>,
}

impl<'a> Wish<'a> {
    /// Of `option.task`: the configuration takes no other tasks than those that are served.
    pub(crate) fn of(settings: &'a ModelSettings) -> Self {
        Self {
            task: settings
                .task
                .as_ref()
                .and_then(sconce_config::Task::served)
                .map(Task::name),
            gguf_file: settings.gguf_file.as_deref(),
        }
    }
}

/// The task of the model in `dir`.
pub(crate) fn of(dir: &Path, wish: Wish<'_>) -> Result<String, TaskError> {
    if let Some(task) = wish.task {
        return Ok(task.into());
    }
    // Of which architecture the file is, and whether it can be had at all, the engine tells.
    if !matches!(find_gguf(dir, wish.gguf_file), Ok(None)) {
        return Ok(GENERATION.into());
    }
    if dir.join("modules.json").exists() {
        return Ok(Task::TextEmbedding.name().into());
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
        None => Err(TaskError::Unknown {
            what: "config.json, which names no architectures, and there is no model_index.json"
                .into(),
        }),
    }
}

/// The task that the model in `dir` is served for. A class that no rule knows is left to the engine of text generation,
/// which names those that it has, unless it is an encoder.
pub(crate) fn served(dir: &Path, wish: Wish<'_>) -> Result<Task, TaskError> {
    match of(dir, wish) {
        Ok(name) => {
            let served = Task::ALL.into_iter().find(|task| task.name() == name);
            served.ok_or_else(|| TaskError::NotServed {
                what: what(dir, wish.task),
                task: name,
            })
        }
        Err(unknown) if sconce_tasks::is_encoder(dir) => Err(unknown),
        Err(_) => Ok(Task::TextGeneration),
    }
}

/// Fails on adapters for a model that does not continue texts.
pub(crate) fn require_no_adapters(settings: &ModelSettings, task: Task) -> Result<(), TaskError> {
    match settings.lora.enabled {
        false => Ok(()),
        true => Err(TaskError::Adapters { task }),
    }
}

/// Whether the engine of text generation serves the model in `dir` for a task: dialogues are answered by decoders too.
pub(crate) fn continues_texts(dir: &Path, task: Task) -> bool {
    match task {
        Task::TextGeneration => true,
        Task::Conversational => !sconce_seq2seq::is_seq2seq(dir) && !sconce_tasks::is_encoder(dir),
        _ => false,
    }
}

/// Fails on several ranks for a model that is not divided.
pub(crate) fn require_one_rank(settings: &ModelSettings, task: Task) -> Result<(), TaskError> {
    match settings.ranks {
        1 => Ok(()),
        ranks => Err(TaskError::Ranks { ranks, task }),
    }
}

/// Fails on options for weights that only models of texts have.
pub(crate) fn require_plain_weights(settings: &ModelSettings) -> Result<(), TaskError> {
    match settings.quantize {
        Quantize::None => Ok(()),
        other => Err(TaskError::Quantised {
            wanted: format!("{other:?}").to_lowercase(),
        }),
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

    fn none() -> Wish<'static> {
        Wish::default()
    }

    fn task(task: &str) -> Wish<'_> {
        let task = Some(task);
        Wish { task, ..none() }
    }

    #[test]
    fn the_option_wins_then_the_class_then_the_pipeline() {
        let class = ("config.json", r#"{"architectures": ["BertForMaskedLM"]}"#);
        let pipeline = (
            "model_index.json",
            r#"{"_class_name": "StableDiffusionXLPipeline"}"#,
        );
        let both = folder(&[class, pipeline]);
        assert_eq!(of(both.path(), task("ner")).unwrap(), "ner");
        assert_eq!(of(both.path(), none()).unwrap(), "fill-mask");
        let image = folder(&[pipeline]);
        assert_eq!(of(image.path(), none()).unwrap(), "text-to-image");
        for nothing in [folder(&[]), folder(&[("config.json", "[")])] {
            let error = of(nothing.path(), none()).unwrap_err();
            assert_eq!(error.code(), "unknown-task");
        }
    }

    #[test]
    fn a_gguf_file_decides_exactly_where_it_is_what_is_loaded() {
        let (gguf, other) = (("m.gguf", ""), ("n.gguf", ""));
        let bert = ("config.json", r#"{"architectures": ["BertForMaskedLM"]}"#);
        let weights = ("model.safetensors", "");
        for files in [&[gguf][..], &[gguf, bert], &[gguf, other, bert]] {
            let dir = folder(files);
            assert_eq!(of(dir.path(), none()).unwrap(), GENERATION, "{files:?}");
            assert_eq!(served(dir.path(), none()).unwrap(), Task::TextGeneration);
        }
        let dir = folder(&[gguf, bert, weights]);
        assert_eq!(of(dir.path(), none()).unwrap(), "fill-mask");
        let gguf_file = Some("m.gguf");
        let named = Wish {
            gguf_file,
            ..none()
        };
        assert_eq!(of(dir.path(), named).unwrap(), GENERATION);
    }

    #[test]
    fn a_task_without_an_engine_is_refused_by_name() {
        let choice = folder(&[(
            "config.json",
            r#"{"architectures": ["BertForMultipleChoice"]}"#,
        )]);
        let text = served(choice.path(), none()).unwrap_err().to_string();
        assert!(
            text.starts_with("BertForMultipleChoice is multiple-choice, which is not served yet"),
            "{text}"
        );
        let t5 = folder(&[(
            "config.json",
            r#"{"architectures": ["T5ForConditionalGeneration"]}"#,
        )]);
        assert_eq!(
            served(t5.path(), none()).unwrap(),
            Task::Text2TextGeneration
        );
        assert_eq!(
            served(t5.path(), task("text-generation")).unwrap(),
            Task::TextGeneration
        );
        assert_eq!(
            served(t5.path(), task("fill-mask")).unwrap(),
            Task::FillMask
        );
        let other = folder(&[("config.json", r#"{"architectures": ["MambaModel"]}"#)]);
        assert_eq!(served(other.path(), none()).unwrap(), Task::TextGeneration);
        let encoder = folder(&[("config.json", r#"{"architectures": ["BertModel"]}"#)]);
        let text = served(encoder.path(), none()).unwrap_err().to_string();
        assert!(text.contains("BertModel; set option.task"), "{text}");
        let sentences = folder(&[
            ("config.json", r#"{"architectures": ["MPNetForMaskedLM"]}"#),
            ("modules.json", "[]"),
        ]);
        assert_eq!(
            served(sentences.path(), none()).unwrap(),
            Task::TextEmbedding
        );
    }
}
