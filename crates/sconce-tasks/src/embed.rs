//! `text-embedding`: one vector for a text, by the modules of sentence-transformers, with its first numbers only where
//! the request wants fewer (Matryoshka).

use std::sync::Arc;

use sconce_core::task::{Embed, Subject, Truncation};
use sconce_core::{Ask, ServeError, TaskAnswer};
use sconce_models::encoder::Rows;
use sconce_text::Cut;

use crate::modules::{self, Modules, Step, normalize};
use crate::reader::Reader;
use crate::work::{Task, Text, Work, misplaced};

/// The task, for one model.
pub(crate) struct Embedder {
    pub(crate) vectors: Vectors,
}

/// Makes vectors of texts.
#[derive(Clone)]
pub(crate) struct Vectors {
    pub(crate) reader: Reader,
    pub(crate) modules: Arc<Modules>,
    /// Numbers of a token.
    pub(crate) width: usize,
    /// Entries of the vocabulary.
    pub(crate) vocab: usize,
}

impl Task for Embedder {
    fn prepare(&self, ask: Ask) -> Result<Work, ServeError> {
        let Ask::Embed(asked) = ask else {
            return Err(misplaced(&ask, sconce_core::Task::TextEmbedding));
        };
        let (text, prompt) = self.vectors.text(&asked)?;
        let whole = self.vectors.numbers();
        if let Some(wanted) = asked.dimensions.filter(|wanted| *wanted > whole) {
            let problem = format!("must be at most {whole}, the numbers of the model's vectors");
            return Err(ServeError::parameter("dimensions", wanted, problem));
        }
        let modules = Arc::clone(&self.vectors.modules);
        Ok(Work::new(vec![text], move |rows| {
            let rows = rows.into_iter().next().unwrap_or_default();
            let mut vector = pooled(&modules, &rows, prompt, asked.normalize)?;
            if let Some(wanted) = asked.dimensions {
                vector.truncate(wanted);
                let had_length = asked.normalize.unwrap_or_else(|| modules.normalizes());
                if had_length {
                    normalize(&mut vector);
                }
            }
            Ok(TaskAnswer::Vector(vector))
        }))
    }
}

/// The vector of a text of which so many tokens are a prompt.
pub(crate) fn pooled(
    modules: &Modules,
    rows: &Rows,
    prompt: usize,
    wanted: Option<bool>,
) -> Result<Vec<f32>, ServeError> {
    let all: Vec<&[f32]> = rows.numbers.chunks_exact(rows.width.max(1)).collect();
    let skipped = if modules.include_prompt { 0 } else { prompt };
    let skipped = skipped.min(all.len().saturating_sub(1));
    let kinds = modules.pooling.iter();
    let mut vector: Vec<f32> = kinds
        .flat_map(|pooling| modules::pooled(*pooling, &all, skipped))
        .collect();
    for step in &modules.steps {
        match step {
            Step::Normalize if wanted == Some(false) => {}
            Step::Normalize => normalize(&mut vector),
            Step::Dense(dense) => {
                vector = dense.apply(&vector).map_err(|error| {
                    ServeError::Malformed(format!("the vector cannot be projected: {error}"))
                })?;
            }
        }
    }
    if wanted == Some(true) && !modules.normalizes() {
        normalize(&mut vector);
    }
    Ok(vector)
}

impl Vectors {
    /// Numbers of a vector.
    pub(crate) fn numbers(&self) -> usize {
        let pooled = self.width * self.modules.pooling.len();
        let dense = self.modules.steps.iter().rev().find_map(|step| match step {
            Step::Dense(dense) => Some(dense.outputs()),
            Step::Normalize => None,
        });
        dense.unwrap_or(pooled)
    }

    /// The tokens of a text, and how many of them belong to its prompt.
    pub(crate) fn text(&self, asked: &Embed) -> Result<(Text, usize), ServeError> {
        let prompt = self.prompt(asked.prompt_name.as_deref())?;
        let text = match &asked.text {
            Subject::Text(text) => text,
            Subject::Tokens(ids) => return Ok((self.of_tokens(ids)?, 0)),
        };
        let mut whole = format!("{prompt}{text}");
        if self.modules.lower {
            whole = whole.to_lowercase();
        }
        let truncation = asked.truncation.unwrap_or(Truncation {
            cut: true,
            max_len: None,
        });
        let encoded = self
            .reader
            .fitting(&whole, None, truncation, Cut::Longest)?;
        let before = if prompt.is_empty() || self.modules.include_prompt {
            0
        } else {
            // The token that ends a text is not the prompt's.
            self.reader.tokens(prompt, None)?.len().saturating_sub(1)
        };
        Ok((self.reader.text(&encoded), before))
    }

    fn of_tokens(&self, ids: &[u32]) -> Result<Text, ServeError> {
        let limit = self.reader.max_len;
        if ids.is_empty() || ids.len() > limit {
            let problem = format!("must have 1 to {limit} tokens");
            let value = format!("a list of {} tokens", ids.len());
            return Err(ServeError::parameter("input", value, problem));
        }
        ServeError::check_ids("input", ids, self.vocab)?;
        Ok(Text {
            ids: ids.to_vec(),
            types: vec![0; ids.len()],
            wanted: None,
        })
    }

    fn prompt(&self, name: Option<&str>) -> Result<&str, ServeError> {
        let prompts = &self.modules.prompts;
        let Some(name) = name.or(self.modules.default_prompt.as_deref()) else {
            return Ok("");
        };
        prompts
            .get(name)
            .and_then(|text| text.as_str())
            .ok_or_else(|| {
                let known: Vec<&str> = prompts.keys().map(String::as_str).collect();
                let problem = match known.as_slice() {
                    [] => "the checkpoint has no prompts; remove it".to_owned(),
                    known => format!("must be one of {}", known.join(", ")),
                };
                ServeError::parameter("prompt_name", name, problem)
            })
    }
}
