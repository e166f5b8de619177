//! The routes of Text Embeddings Inference: `/embed`, `/rerank`, `/predict`.

use sconce_core::task::{Classify, Embed, Function, Rank, Truncation};
use sconce_core::{Answered, Ask, ServeError, TaskAnswer};
use serde::Serialize;
use serde_json::Value;

use super::parse::strings;
use super::read::nothing;
use super::render::{scores, vectors};
use super::{AcceptedTask, TaskForm, openai};
use crate::fields::Fields;
use crate::payload;

/// Which of them a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeiRoute {
    /// Vectors of texts.
    Embed,
    /// Scores of texts for a query, best first.
    Rerank,
    /// Classes of texts.
    Predict,
}

/// Understands a request.
pub fn accept(route: TeiRoute, body: &[u8]) -> Result<AcceptedTask, ServeError> {
    let Value::Object(object) = payload::value(body)? else {
        return Err(ServeError::Malformed("the body must be an object".into()));
    };
    let mut fields = Fields::new(object);
    let accepted = match route {
        TeiRoute::Embed => embed(&mut fields)?,
        TeiRoute::Rerank => rerank(&mut fields)?,
        TeiRoute::Predict => predict(&mut fields)?,
    };
    fields.finish(|_| None)?;
    Ok(accepted)
}

/// Takes `truncate`, and the side that is cut, which is always the end.
fn truncation(fields: &mut Fields) -> Result<Truncation, ServeError> {
    let cut = fields.flag("truncate")?.unwrap_or(false);
    match fields
        .text("truncation_direction")?
        .map(|side| side.to_lowercase())
        .as_deref()
    {
        None | Some("right") => Ok(Truncation { cut, max_len: None }),
        Some(other) => {
            let problem = "must be Right; texts are cut at their end";
            Err(ServeError::parameter(
                "truncation_direction",
                other,
                problem,
            ))
        }
    }
}

fn embed(fields: &mut Fields) -> Result<AcceptedTask, ServeError> {
    let subjects = match fields.take("inputs") {
        None => return Err(nothing()),
        inputs => openai::subjects(inputs)?,
    };
    let truncation = truncation(fields)?;
    let normalize = fields.flag("normalize")?.unwrap_or(true);
    let prompt_name = fields.text("prompt_name")?;
    let problem = "must be a whole number of at least 1";
    let dimensions = fields.integer("dimensions", 1..=i128::from(u32::MAX), problem)?;
    let ask = |text| {
        Ask::Embed(Embed {
            text,
            normalize: Some(normalize),
            dimensions: dimensions.map(|dimensions| dimensions as usize),
            prompt_name: prompt_name.clone(),
            truncation: Some(truncation),
        })
    };
    let asks = subjects.into_iter().map(ask).collect();
    Ok(AcceptedTask::new(asks, Vectors))
}

fn rerank(fields: &mut Fields) -> Result<AcceptedTask, ServeError> {
    let query = fields.text("query")?;
    let query = query.ok_or_else(|| ServeError::Malformed("`query` is missing".into()))?;
    let texts = strings(fields, "texts")?;
    if texts.is_empty() {
        return Err(ServeError::parameter(
            "texts",
            "[]",
            "must hold at least one text",
        ));
    }
    let raw = fields.flag("raw_scores")?.unwrap_or(false);
    let return_text = fields.flag("return_text")?.unwrap_or(false);
    let truncation = truncation(fields)?;
    let pairs = texts.iter().map(|text| (query.clone(), text.clone()));
    let ask = Ask::Rank(Rank {
        pairs: pairs.collect(),
        function: Some(if raw {
            Function::None
        } else {
            Function::Sigmoid
        }),
        truncation,
    });
    let texts = return_text.then_some(texts);
    Ok(AcceptedTask::new(vec![ask], Ranks { texts }))
}

fn predict(fields: &mut Fields) -> Result<AcceptedTask, ServeError> {
    let raw = fields.flag("raw_scores")?.unwrap_or(false);
    let truncation = truncation(fields)?;
    let inputs = fields.take("inputs").ok_or_else(nothing)?;
    let (inputs, batch) = predictable(inputs)?;
    let ask = |(text, pair)| {
        Ask::Classify(Classify {
            text,
            pair,
            function: raw.then_some(Function::None),
            top_k: None,
            unsorted: false,
            truncation,
        })
    };
    let asks = inputs.into_iter().map(ask).collect();
    Ok(AcceptedTask::new(asks, Predictions { batch }))
}

/// A text and perhaps its pair.
type Pair = (String, Option<String>);

/// A text is one, a list of one or two texts is one too, a list of such lists is a batch.
fn predictable(inputs: Value) -> Result<(Vec<Pair>, bool), ServeError> {
    const WANTED: &str = "must be a string, a list of one or two strings, or a list of such lists";
    let pair = |value: &Value| -> Option<Pair> {
        match value.as_array()?.as_slice() {
            [Value::String(text)] => Some((text.clone(), None)),
            [Value::String(text), Value::String(pair)] => Some((text.clone(), Some(pair.clone()))),
            _ => None,
        }
    };
    let found = match &inputs {
        Value::String(text) => Some((vec![(text.clone(), None)], false)),
        Value::Array(items) if items.iter().all(Value::is_array) && !items.is_empty() => {
            let pairs: Option<Vec<_>> = items.iter().map(pair).collect();
            pairs.map(|pairs| (pairs, true))
        }
        one => pair(one).map(|pair| (vec![pair], false)),
    };
    found.ok_or_else(|| ServeError::parameter("inputs", &inputs, WANTED))
}

struct Vectors;

impl TaskForm for Vectors {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        serde_json::to_vec(&vectors(answers)).expect("numbers serialise")
    }
}

struct Ranks {
    texts: Option<Vec<String>>,
}

impl TaskForm for Ranks {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        #[derive(Serialize)]
        struct Rank<'a> {
            index: usize,
            #[serde(skip_serializing_if = "Option::is_none")]
            text: Option<&'a str>,
            score: f32,
        }
        let ranks = scores(answers)
            .iter()
            .enumerate()
            .map(|(index, score)| Rank {
                index,
                text: self.texts.as_ref().map(|texts| &*texts[index]),
                score: *score,
            });
        let mut ranks: Vec<Rank<'_>> = ranks.collect();
        ranks.sort_by(|one, other| other.score.total_cmp(&one.score));
        serde_json::to_vec(&ranks).expect("plain data serialises")
    }
}

struct Predictions {
    batch: bool,
}

impl TaskForm for Predictions {
    fn body(&self, answers: &[Answered]) -> Vec<u8> {
        #[derive(Serialize)]
        struct Prediction<'a> {
            score: f32,
            label: &'a str,
        }
        let lists = answers.iter().map(|answered| match &answered.answer {
            TaskAnswer::Labels(labels) => labels
                .iter()
                .map(|label| Prediction {
                    score: label.score,
                    label: &label.label,
                })
                .collect(),
            _ => Vec::new(),
        });
        let lists: Vec<Vec<Prediction<'_>>> = lists.collect();
        let bytes = match lists.as_slice() {
            [only] if !self.batch => serde_json::to_vec(only),
            all => serde_json::to_vec(all),
        };
        bytes.expect("plain data serialises")
    }
}

/// The body that tells of a failure: TEI's sentence and class.
pub fn failure(error: &ServeError) -> Vec<u8> {
    let kind = match error.blame() {
        sconce_core::Blame::Client => "Validation",
        sconce_core::Blame::Capacity => "Overloaded",
        sconce_core::Blame::Server => "Backend",
    };
    let body = serde_json::json!({"error": error.to_string(), "error_type": kind});
    body.to_string().into_bytes()
}
