//! Requests of the tasks that write: the arguments of transformers' `generate`, with those of the pipelines around it.

use sconce_core::task::{Source, Truncation, Write};
use sconce_core::{Answered, Ask, AskedDecoding, ServeError, Task, TaskAnswer};
use serde_json::{Value, json};

use super::read::Request;
use super::{AcceptedTask, TaskForm};
use crate::beams;
use crate::fields::Fields;
use crate::generate::{self, MOST_IDS};
use crate::json;
use crate::parameters::{self, Neutral};

type Result<T> = std::result::Result<T, ServeError>;

/// Arguments of the pipelines that are not honoured.
const REFUSED: &[(&str, Neutral)] = &[
    ("return_tensors", Neutral::Flag(false)),
    ("return_text", Neutral::Flag(true)),
];

/// A request of one of the tasks that write.
pub(super) fn texts(task: Task, mut request: Request) -> Result<AcceptedTask> {
    let texts = request.texts()?;
    let like = arguments(task, request)?;
    let ask = |text| {
        Ask::Write(Box::new(Write {
            source: Source::Text(text),
            ..like.clone()
        }))
    };
    let asks = texts.into_iter().map(ask).collect();
    let key = match task {
        Task::Summarization => "summary_text",
        Task::Translation => "translation_text",
        _ => "generated_text",
    };
    Ok(AcceptedTask::new(asks, Texts { key }))
}

/// What the parameters say, of a text that is still to be put in.
pub(super) fn arguments(task: Task, mut request: Request) -> Result<Write> {
    let fields = &mut request.parameters;
    let [src_lang, tgt_lang] = match task {
        Task::Translation => [fields.text("src_lang")?, fields.text("tgt_lang")?],
        _ => [None, None],
    };
    let truncation = Truncation {
        cut: cut(fields)?,
        max_len: None,
    };
    let cleans = task == Task::Conversational;
    let clean_up = fields.flag("clean_up_tokenization_spaces")?;
    let stop_sequence = fields.text("stop_sequence")?;
    let decoding = decoding(fields)?;
    generate::rest(fields, REFUSED, &["padding"])?;
    if task == Task::Conversational {
        // The pipeline took it, and did nothing with it.
        fields.take("min_length_for_response");
    }
    request.finish()?;
    Ok(Write {
        task,
        source: Source::Text(String::new()),
        src_lang,
        tgt_lang,
        decoding,
        stop_sequence,
        truncation,
        clean_up: clean_up.unwrap_or(cleans),
    })
}

/// `truncation` alone: `max_length` is how long a text is written.
fn cut(fields: &mut Fields) -> Result<bool> {
    const PROBLEM: &str =
        "must be true, false, \"longest_first\", \"only_first\" or \"do_not_truncate\"";
    match fields.take("truncation") {
        None => Ok(false),
        Some(Value::Bool(cut)) => Ok(cut),
        Some(Value::String(name)) if name == "longest_first" || name == "only_first" => Ok(true),
        Some(Value::String(name)) if name == "do_not_truncate" => Ok(false),
        Some(other) => Err(ServeError::parameter("truncation", other, PROBLEM)),
    }
}

/// The arguments of `generate`.
pub(super) fn decoding(fields: &mut Fields) -> Result<AskedDecoding> {
    let mut least = |key, from| generate::count(fields, key, from);
    Ok(AskedDecoding {
        max_new_tokens: least("max_new_tokens", 1)?,
        max_length: least("max_length", 1)?,
        min_new_tokens: least("min_new_tokens", 0)?,
        min_length: least("min_length", 0)?,
        num_beams: least("num_beams", 1)?,
        num_return_sequences: least("num_return_sequences", 1)?,
        no_repeat_ngram_size: least("no_repeat_ngram_size", 0)?,
        encoder_no_repeat_ngram_size: least("encoder_no_repeat_ngram_size", 0)?,
        length_penalty: beams::length_penalty(fields, "length_penalty")?,
        early_stopping: beams::early_stopping(fields)?,
        bad_words_ids: bad_words(fields)?,
        forced_bos_token_id: id(fields, "forced_bos_token_id")?,
        forced_eos_token_id: generate::ids(fields, "forced_eos_token_id")?,
        eos_token_id: generate::ids(fields, "eos_token_id")?,
        decoder_start_token_id: id(fields, "decoder_start_token_id")?,
        sampling: parameters::sampling(fields)?,
    })
}

fn bad_words(fields: &mut Fields) -> Result<Option<Vec<Vec<u32>>>> {
    const KEY: &str = "bad_words_ids";
    let problem =
        format!("must be a list of at most {MOST_IDS} lists of token ids, none of them empty");
    let items = match fields.take(KEY) {
        None => return Ok(None),
        Some(Value::Array(items)) if items.len() <= MOST_IDS => items,
        Some(other) => return Err(ServeError::parameter(KEY, other, problem)),
    };
    let word = |item: Value| match generate::list(KEY, item.clone())? {
        ids if ids.is_empty() => Err(ServeError::parameter(KEY, item, &*problem)),
        ids => Ok(ids),
    };
    items.into_iter().map(word).collect::<Result<_>>().map(Some)
}

fn id(fields: &mut Fields, key: &'static str) -> Result<Option<u32>> {
    let problem = "must be a token id";
    let found = fields.integer(key, 0..=i128::from(u32::MAX), problem)?;
    Ok(found.map(|id| id as u32))
}

/// What was written under the name that the pipeline has for it: a list of texts, or of lists where any has several.
struct Texts {
    key: &'static str,
}

impl TaskForm for Texts {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        let lists = answers.iter().map(|answered| match &answered.answer {
            TaskAnswer::Texts(texts) => texts
                .iter()
                .map(|written| json!({self.key: written.text}))
                .collect(),
            _ => Vec::new(),
        });
        let lists: Vec<Vec<Value>> = lists.collect();
        if lists.iter().all(|texts| texts.len() == 1) {
            return json::indented(&lists.concat());
        }
        json::indented(&lists)
    }
}
