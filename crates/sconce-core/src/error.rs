//! Every way in which a request can fail, with its values, and whose fault it is.

use thiserror::Error;

/// Who has to change something before the same request can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The request itself is wrong; sending it again is of no use.
    Client,
    /// The server cannot answer it now; the same request may succeed later.
    Capacity,
    /// The server is broken.
    Server,
}

/// The failure of one request. HTTP turns it into a status in one place only.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ServeError {
    /// The body is not what the dialect calls a request.
    #[error("{0}")]
    Malformed(String),
    /// A parameter has a wrong type, is out of range or is unknown.
    #[error("parameter `{key}` is {value}: {problem}")]
    Parameter {
        /// Name as the client wrote it.
        key: String,
        /// The value received, shortened.
        value: String,
        /// The limit that was broken and the cure, as a sentence without full stop.
        problem: String,
    },
    /// Prompt and answer do not fit into the context.
    #[error(
        "the prompt has {prompt} tokens and max_new_tokens is {new}: together {} exceed the \
         context of {limit} tokens; shorten the prompt or lower max_new_tokens to at most {}",
        prompt.saturating_add(*new), limit.saturating_sub(*prompt)
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// `max_new_tokens`.
        new: usize,
        /// The longest sequence the loaded model takes.
        limit: usize,
    },
    /// The prompt alone does not fit into the context.
    #[error(
        "the prompt has {prompt} tokens, the context holds {limit} and one must be left for the \
         answer; shorten the prompt to at most {} tokens",
        limit.saturating_sub(1)
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// The longest sequence the loaded model takes.
        limit: usize,
    },
    /// The body is larger than the server accepts.
    #[error("the request body exceeds max_request_size = {limit} bytes; send less or raise it")]
    BodyTooLarge {
        /// `max_request_size`.
        limit: usize,
    },
    /// The bodies of other requests take all the memory that there is for them.
    #[error(
        "request bodies that are being read take all of the {limit} bytes that they may take \
         together; retry later"
    )]
    Crowded {
        /// Bytes that bodies may take together.
        limit: usize,
    },
    /// Nothing says which model is asked, and there is not exactly one from the start.
    #[error("Parameter model_name is required.")]
    Unnamed,
    /// No such model.
    #[error("Model or workflow not found: {0}")]
    UnknownModel(String),
    /// No such route.
    #[error("Requested resource is not found, please refer to API document.")]
    UnknownRoute,
    /// The route is for models of other tasks.
    #[error(
        "This route is for {wanted}, and the task of the model is {task}: ask its /invocations instead."
    )]
    OtherTask {
        /// What the route is for.
        wanted: &'static str,
        /// What the model does.
        task: &'static str,
    },
    /// The model is still being loaded, or its loading failed.
    #[error("Model is not ready: {model} ({phase})")]
    NotReady {
        /// The model's name.
        model: String,
        /// What it is doing, or why it failed.
        phase: String,
    },
    /// The queue is full.
    #[error(
        "Worker queue capacity exceeded for model: {model} (job_queue_size = {limit}); retry \
         later or raise job_queue_size"
    )]
    QueueFull {
        /// The model's name.
        model: String,
        /// `job_queue_size`.
        limit: usize,
    },
    /// All adapters that memory is planned for are in use.
    #[error(
        "{most} adapters are in memory and in use, and another one is asked for; retry later or raise \
         option.max_cpu_loras"
    )]
    AdaptersInUse {
        /// Adapters in memory at the same time.
        most: usize,
    },
    /// The memory that it takes is taken by other models at present.
    #[error(
        "{wanted} take more memory than other models leave at present; retry when they are gone, ask for less, or unload one"
    )]
    NoMemory {
        /// What takes the memory.
        wanted: String,
    },
    /// The request did not finish in time.
    #[error("the request was not finished after predict_timeout = {seconds} s")]
    Timeout {
        /// `predict_timeout`.
        seconds: u64,
    },
    /// A streamed answer paused for too long.
    #[error(
        "the next part of the answer did not come within chunked_read_timeout = {seconds} s; \
         retry later or raise it"
    )]
    Stalled {
        /// `chunked_read_timeout`.
        seconds: u64,
    },
    /// The server is shutting down and takes no new requests.
    #[error("the server is shutting down and takes no new requests")]
    Draining,
    /// The process that worked on the request is gone.
    #[error("the Python worker of model {model} {cause}; it is started again, retry")]
    WorkerLost {
        /// The model's name.
        model: String,
        /// What became of it, as the end of a sentence.
        cause: String,
    },
    /// The model's code answered with something that is no answer.
    #[error("{problem}")]
    BadAnswer {
        /// What is wrong with it.
        problem: String,
    },
    /// The model's engine failed.
    #[error("the engine of model {model} failed: {cause}")]
    Engine {
        /// The model's name.
        model: String,
        /// The first cause.
        cause: String,
    },
}

impl ServeError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Malformed(_)
            | Self::Parameter { .. }
            | Self::TooLong { .. }
            | Self::PromptTooLong { .. }
            | Self::BodyTooLarge { .. }
            | Self::Unnamed
            | Self::UnknownModel(_)
            | Self::UnknownRoute
            | Self::OtherTask { .. } => Blame::Client,
            Self::NotReady { .. }
            | Self::Crowded { .. }
            | Self::QueueFull { .. }
            | Self::AdaptersInUse { .. }
            | Self::NoMemory { .. }
            | Self::Timeout { .. }
            | Self::Stalled { .. }
            | Self::WorkerLost { .. }
            | Self::Draining => Blame::Capacity,
            Self::BadAnswer { .. } | Self::Engine { .. } => Blame::Server,
        }
    }

    /// The stable name of the failure, for counters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Parameter { .. } => "parameter",
            Self::TooLong { .. } | Self::PromptTooLong { .. } => "too_long",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Unnamed => "unnamed",
            Self::UnknownModel(_) => "unknown_model",
            Self::UnknownRoute => "unknown_route",
            Self::OtherTask { .. } => "other_task",
            Self::NotReady { .. } => "not_ready",
            Self::QueueFull { .. } => "queue_full",
            Self::AdaptersInUse { .. } => "adapters_in_use",
            Self::NoMemory { .. } => "no_memory",
            Self::Timeout { .. } => "timeout",
            Self::Stalled { .. } => "stalled",
            Self::Crowded { .. } => "crowded",
            Self::Draining => "draining",
            Self::WorkerLost { .. } => "worker_lost",
            Self::BadAnswer { .. } => "bad_answer",
            Self::Engine { .. } => "engine",
        }
    }

    /// Whether the same request may succeed later on the same server.
    pub fn retry(&self) -> bool {
        self.blame() == Blame::Capacity
    }

    /// Fails on the first of these token ids that a vocabulary of so many tokens does not have.
    pub fn check_ids<'a>(
        key: &str,
        ids: impl IntoIterator<Item = &'a u32>,
        vocab: usize,
    ) -> Result<(), Self> {
        match ids.into_iter().find(|&&id| id as usize >= vocab) {
            None => Ok(()),
            Some(id) => {
                let problem = format!("the vocabulary ends at {vocab}; name token ids below");
                Err(Self::parameter(key, id, problem))
            }
        }
    }

    /// A parameter error; long values are shortened.
    pub fn parameter(
        key: impl Into<String>,
        value: impl ToString,
        problem: impl Into<String>,
    ) -> Self {
        const LONGEST: usize = 80;
        let mut value = value.to_string();
        if value.chars().count() > LONGEST {
            value = value.chars().take(LONGEST).chain("…".chars()).collect();
        }
        Self::Parameter {
            key: key.into(),
            value,
            problem: problem.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_value_limit_and_cure() {
        let error = ServeError::TooLong {
            prompt: 100,
            new: 60,
            limit: 128,
        };
        let text = error.to_string();
        for part in ["100", "60", "160", "128", "at most 28"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn ids_behind_the_vocabulary_are_named() {
        assert_eq!(ServeError::check_ids("stop_token_ids", &[0, 9], 10), Ok(()));
        let error = ServeError::check_ids("stop_token_ids", &[0, 10, 11], 10).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`stop_token_ids` is 10: the vocabulary ends at 10")
        );
    }

    #[test]
    fn only_capacity_is_worth_a_retry() {
        assert!(ServeError::Draining.retry());
        assert!(!ServeError::UnknownRoute.retry());
        assert!(
            !ServeError::Engine {
                model: "m".into(),
                cause: "c".into()
            }
            .retry()
        );
    }

    #[test]
    fn long_values_are_shortened_at_a_character() {
        let error = ServeError::parameter("stop", "é".repeat(500), "is too long");
        assert!(error.to_string().contains('…'));
        assert!(error.to_string().len() < 250);
    }
}
