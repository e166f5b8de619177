//! Answers that have to have a form: what compiles forms is made when the first request asks for one.

use std::sync::{Arc, OnceLock};

use sconce_core::{GenerateParams, ServeError};
use sconce_text::{Follower, Guides, Tokenizer};

/// Compiles the forms that requests ask for.
pub(crate) struct Guided {
    tokenizer: Arc<Tokenizer>,
    vocab: usize,
    ends: Vec<u32>,
    guides: OnceLock<Result<Guides, String>>,
}

impl Guided {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, vocab: usize, ends: Vec<u32>) -> Self {
        Self {
            tokenizer,
            vocab,
            ends,
            guides: OnceLock::new(),
        }
    }

    /// Follows the form that a request asks for, if it asks for one.
    pub(crate) fn follow(&self, params: &GenerateParams) -> Result<Option<Follower>, ServeError> {
        let Some(guide) = &params.guide else {
            return Ok(None);
        };
        if params.stop.ignore_eos {
            let problem =
                "cannot be kept with ignore_eos: its end is that of the text; leave one out";
            return Err(ServeError::parameter(guide.key, "set", problem));
        }
        let guides = self
            .guides
            .get_or_init(|| Guides::new(&self.tokenizer, self.vocab, &self.ends));
        let found = match guides {
            Ok(guides) => guides.follow(&guide.rule),
            Err(cause) => Err(cause.clone()),
        };
        found.map(Some).map_err(|cause| {
            let problem = format!("cannot be kept to: {cause}");
            ServeError::parameter(guide.key, guide.rule.shown(), problem)
        })
    }
}
