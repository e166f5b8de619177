//! From what a request goes on with to tokens: texts, tokens, dialogues by the checkpoint's template.

use std::sync::Arc;

use sconce_core::{Dialogue, Prompt, ServeError};
use sconce_text::{ChatTemplate, Tokenizer};

/// What the door needs to make tokens of prompts.
pub(crate) struct Prompts {
    tokenizer: Arc<Tokenizer>,
    /// The templates, or why there are none.
    templates: Result<Arc<ChatTemplate>, String>,
    vocab: usize,
}

impl Prompts {
    pub(crate) fn new(
        tokenizer: Arc<Tokenizer>,
        templates: Result<Arc<ChatTemplate>, String>,
        vocab: usize,
    ) -> Self {
        Self {
            tokenizer,
            templates,
            vocab,
        }
    }

    /// The tokens of a prompt.
    pub(crate) fn tokens(&self, prompt: &Prompt) -> Result<Arc<[u32]>, ServeError> {
        match prompt {
            Prompt::Text(text) => self
                .tokenizer
                .encode(text)
                .map(Arc::from)
                .map_err(|error| untokenised("inputs", text, error)),
            Prompt::Tokens(ids) => {
                ServeError::check_ids("prompt", &**ids, self.vocab)?;
                Ok(Arc::clone(ids))
            }
            Prompt::Dialogue(dialogue) => self.dialogue(dialogue).map(Arc::from),
        }
    }

    /// The tokens that begin and end a text are the template's to write.
    fn dialogue(&self, dialogue: &Dialogue) -> Result<Vec<u32>, ServeError> {
        let templates = self.templates.as_ref().map_err(|cause| {
            let problem = format!("this model takes no messages: {cause}; send the text itself");
            ServeError::Malformed(problem)
        })?;
        let text = templates
            .render(&templates.adapted(dialogue))
            .map_err(|cause| {
                let last = dialogue.messages.last().cloned().unwrap_or_default();
                let problem =
                    format!("the checkpoint's chat template cannot write them out: {cause}");
                ServeError::parameter("messages", last, problem)
            })?;
        self.tokenizer
            .encode_bare(&text)
            .map_err(|error| untokenised("messages", &text, error))
    }
}

fn untokenised(key: &str, text: &str, error: impl std::fmt::Display) -> ServeError {
    ServeError::parameter(key, text, format!("cannot be tokenised: {error}"))
}
