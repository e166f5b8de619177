//! Which tokens end a text: `generation_config.json` first, then `config.json`, then the family's default.

use std::path::Path;

use serde_json::Value;

use crate::arch;
use crate::config_error::ConfigError;
use crate::generation_config;
use crate::hf_config::HfConfig;

const KEY: &str = "eos_token_id";

/// The end-of-text tokens of the checkpoint in `dir`, without repeats; empty when a file says null.
/// Ids outside the vocabulary are left out, since no logit stands for them.
pub fn eos_token_ids(dir: &Path, config: &HfConfig) -> Result<Vec<u32>, ConfigError> {
    let vocab = config.size("vocab_size")?;
    let mut ids = match generation_config::read(dir)? {
        Some(generation) if generation.has(KEY) => listed(&generation)?,
        _ if config.mentions(KEY) => listed(config)?,
        _ => arch::find(config)?.eos.into_iter().collect(),
    };
    ids.retain(|&id| (id as usize) < vocab);
    Ok(ids)
}

/// One id, a list of ids, or none.
fn listed(config: &HfConfig) -> Result<Vec<u32>, ConfigError> {
    let Some((key, value)) = config.find(KEY) else {
        return Ok(Vec::new());
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids: Option<Vec<u32>> = match value {
        Value::Array(all) => all.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    };
    let mut ids =
        ids.ok_or_else(|| config.wrong(key, value, "a token id, a list of token ids or null"))?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tokens for these two files, the first of which may be absent.
    fn ids(generation: Option<&str>, config: &str) -> Result<Vec<u32>, ConfigError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        if let Some(text) = generation {
            std::fs::write(dir.path().join("generation_config.json"), text).expect("written");
        }
        let text =
            format!(r#"{{"architectures": ["LlamaForCausalLM"], "vocab_size": 100 {config}}}"#);
        std::fs::write(dir.path().join("config.json"), text).expect("written");
        eos_token_ids(dir.path(), &HfConfig::read(dir.path())?)
    }

    #[test]
    fn the_generation_config_wins_then_the_config_then_the_family() {
        let both = r#", "eos_token_id": 7"#;
        assert_eq!(
            ids(Some(r#"{"eos_token_id": [9, 3, 9]}"#), both).expect("valid"),
            [3, 9]
        );
        assert_eq!(ids(Some("{}"), both).expect("valid"), [7]);
        assert_eq!(ids(None, both).expect("valid"), [7]);
        assert_eq!(ids(None, "").expect("valid"), [2]);
        assert_eq!(
            ids(None, r#", "eos_token_id": null"#).expect("valid"),
            [0u32; 0]
        );
        assert_eq!(
            ids(None, r#", "eos_token_id": [100, 99]"#).expect("valid"),
            [99]
        );
    }

    #[test]
    fn broken_files_are_refused() {
        let error = ids(Some(r#"{"eos_token_id": "</s>"}"#), "")
            .expect_err("a text")
            .to_string();
        assert!(
            error.ends_with(
                r#"`eos_token_id` = "</s>"; it must be a token id, a list of token ids or null"#
            ),
            "{error}"
        );
        assert!(ids(Some("{"), "").is_err());
    }
}
