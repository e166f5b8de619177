//! One request inside the server, from the parsed body to the reply channel.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::dialogue::Dialogue;
use crate::error::ServeError;
use crate::params::GenerateParams;
use crate::raw::RawInput;
use crate::task::Ask;
use crate::traits::Reply;

/// Identifies a job in logs; unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job-{}", self.0)
    }
}

/// A unit of work for one model. Dropping it without an answer closes the reply channel.
pub struct Job {
    /// Name of the job in logs.
    pub id: JobId,
    /// What is asked.
    pub input: Input,
    /// Where the answers go.
    pub reply: Box<dyn Reply>,
    /// When the job fails with [`crate::ServeError::Timeout`], whatever state it is in.
    pub deadline: Instant,
}

/// What a job asks of its model.
// Nearly every job is the largest.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Continue a prompt.
    Generate(Generate),
    /// Anything but text.
    Task(Ask),
    /// Answer as the model's own code does.
    Raw(RawInput),
}

/// What a model goes on with; several answers to one request share it.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A text as the client sent it; special tokens in it are recognised, and those that the tokenizer begins texts with
    /// are put before it.
    Text(Arc<str>),
    /// Its tokens, all of them.
    Tokens(Arc<[u32]>),
    /// A dialogue, which the checkpoint's template makes a text of.
    Dialogue(Arc<Dialogue>),
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Text("".into())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Dialogue> for Prompt {
    fn from(dialogue: Dialogue) -> Self {
        Self::Dialogue(dialogue.into())
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// A prompt and how to continue it. Clones share the prompt and what is made of it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Generate {
    /// What is continued.
    pub prompt: Prompt,
    /// Length, sampling, stopping and reporting.
    pub params: GenerateParams,
    /// The prompt's tokens, once somebody has found them.
    pub tokens: Tokenised,
}

impl Generate {
    /// One answer to a prompt.
    pub fn new(prompt: impl Into<Prompt>, params: GenerateParams) -> Self {
        Self {
            prompt: prompt.into(),
            params,
            tokens: Tokenised::default(),
        }
    }

    /// Another answer to the same prompt.
    pub fn again(&self, params: GenerateParams) -> Self {
        Self {
            params,
            ..self.clone()
        }
    }
}

/// The tokens of a prompt: found for the first of its answers, shared by the others.
#[derive(Clone, Debug, Default)]
pub struct Tokenised(Arc<OnceLock<Result<Arc<[u32]>, ServeError>>>);

impl Tokenised {
    /// The tokens, which `find` finds unless it was done before.
    pub fn get_or_find(
        &self,
        find: impl FnOnce() -> Result<Arc<[u32]>, ServeError>,
    ) -> Result<Arc<[u32]>, ServeError> {
        self.0.get_or_init(find).clone()
    }
}

/// They follow from the prompt, so they say nothing of their own.
impl PartialEq for Tokenised {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_one_prompt_share_its_text_and_its_tokens() {
        let first = Generate::new("a text", GenerateParams::default());
        let second = first.again(GenerateParams::default());
        let (Prompt::Text(one), Prompt::Text(other)) = (&first.prompt, &second.prompt) else {
            panic!("texts");
        };
        assert!(Arc::ptr_eq(one, other));
        let mut times = 0;
        for generate in [&first, &second, &first.clone()] {
            let found = generate.tokens.get_or_find(|| {
                times += 1;
                Ok([1, 2].into())
            });
            assert_eq!(found.as_deref(), Ok(&[1, 2][..]));
        }
        assert_eq!(times, 1);
    }
}
