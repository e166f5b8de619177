//! Stable names of problems, for programs that read the verdict of `sconce check`.

use crate::error::ConfigError;

impl ConfigError {
    /// The stable name of the problem.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownKey { .. } => "unknown-key",
            Self::Invalid { .. } => "invalid-value",
            Self::Unsupported { .. } => "unsupported-value",
            Self::Placeholder { .. } => "placeholder",
            Self::Contradiction { .. } => "contradicting-options",
            Self::Conflict { .. } => "conflicting-options",
            Self::Properties { .. } => "bad-properties",
            Self::Unreadable { .. } => "unreadable",
            Self::NoModel { .. } => "no-model",
            Self::SeveralModels { .. } => "several-models",
            Self::SameName { .. } => "same-name",
            Self::NoSuchModel { .. } => "no-such-model",
            Self::BadUrl { .. } => "bad-url",
            Self::NoHubCache => "no-hub-cache",
            Self::NamedAndPresent { .. } => "model-named-and-present",
            Self::NoScript { .. } => "no-script",
            Self::OwnCode { .. } => "custom-code",
            Self::NotAModel { code, .. } => code,
            Self::Archive { .. } => "bad-archive",
            Self::Forbidden { .. } => "forbidden-url",
        }
    }
}
