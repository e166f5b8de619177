//! `generation_config.json`: how the makers of a checkpoint want tokens to be picked, and how many. Which tokens end a text is read in
//! `stop_tokens`.

use std::path::Path;

use sconce_core::{MaxTokens, Sampling};
use serde_json::Value;

use crate::config_error::ConfigError;
use crate::hf_config::HfConfig;

/// What the file in `dir` says of sampling; without it, or for keys that it leaves out, no sampling and no filters.
pub fn sampling_defaults(dir: &Path) -> Result<Sampling, ConfigError> {
    let neutral = Sampling::default();
    let Some(c) = read(dir)? else {
        return Ok(neutral);
    };
    let number = |key, default: f32| c.float(key, f64::from(default)).map(|number| number as f32);
    Ok(Sampling {
        do_sample: c.flag("do_sample", neutral.do_sample)?,
        temperature: number("temperature", neutral.temperature)?,
        top_k: c.count("top_k", neutral.top_k)?,
        top_p: share(&c, "top_p", neutral.top_p)?,
        min_p: share(&c, "min_p", neutral.min_p)?,
        typical_p: share(&c, "typical_p", neutral.typical_p)?,
        repetition_penalty: number("repetition_penalty", neutral.repetition_penalty)?,
        ..neutral
    })
}

/// How long an answer becomes by the file in `dir`: its `max_new_tokens`, else its `max_length`,
/// which counts the prompt too, else 20 new tokens. That is what `generate` of transformers 4.57
/// does; 20 is the default of `max_length`, and written out it means the same as left out.
pub fn length_default(dir: &Path) -> Result<MaxTokens, ConfigError> {
    const UNSAID: usize = 20;
    let Some(c) = read(dir)? else {
        return Ok(MaxTokens::New(UNSAID));
    };
    let new = c.count("max_new_tokens", 0)?;
    let total = c.count("max_length", UNSAID)?;
    Ok(match (new, total) {
        (0, 0 | UNSAID) => MaxTokens::New(UNSAID),
        (0, total) => MaxTokens::Total(total),
        (new, _) => MaxTokens::New(new),
    })
}

/// The file, which may be absent, but not broken.
pub(crate) fn read(dir: &Path) -> Result<Option<HfConfig>, ConfigError> {
    match HfConfig::read_file(dir.join("generation_config.json")) {
        Ok(config) => Ok(Some(config)),
        Err(ConfigError::Read { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A number from 0 to 1; `default` when absent.
fn share(c: &HfConfig, key: &str, default: f32) -> Result<f32, ConfigError> {
    let Some((key, value)) = c.find(key) else {
        return Ok(default);
    };
    let number = value.as_f64().filter(|number| (0.0..=1.0).contains(number));
    number
        .map(|number| number as f32)
        .ok_or_else(|| c.wrong(key, &Value::clone(value), "a number from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults(text: Option<&str>) -> Result<Sampling, ConfigError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        if let Some(text) = text {
            let file = dir.path().join("generation_config.json");
            std::fs::write(file, text).expect("written");
        }
        sampling_defaults(dir.path())
    }

    #[test]
    fn what_is_written_counts_and_the_rest_is_neutral() {
        assert_eq!(defaults(None).expect("no file"), Sampling::default());
        let got = defaults(Some(
            r#"{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [1, 2]}"#,
        ));
        let wanted = Sampling {
            do_sample: true,
            temperature: 0.6,
            top_k: 20,
            top_p: 0.95,
            ..Sampling::default()
        };
        assert_eq!(got.expect("valid"), wanted);
    }

    #[test]
    fn lengths_are_those_of_transformers() {
        let length = |text: &str| {
            let dir = tempfile::tempdir().expect("a temporary folder");
            std::fs::write(dir.path().join("generation_config.json"), text).expect("written");
            length_default(dir.path()).expect("valid")
        };
        assert_eq!(length("{}"), MaxTokens::New(20));
        assert_eq!(length(r#"{"max_length": 20}"#), MaxTokens::New(20));
        assert_eq!(length(r#"{"max_length": 64}"#), MaxTokens::Total(64));
        assert_eq!(
            length(r#"{"max_length": 64, "max_new_tokens": 9}"#),
            MaxTokens::New(9)
        );
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        let refusal = |text| defaults(Some(text)).expect_err("refused").to_string();
        assert!(
            refusal(r#"{"top_p": 1.5}"#)
                .ends_with("`top_p` = 1.5; it must be a number from 0 to 1")
        );
        assert!(
            refusal(r#"{"temperature": -1}"#)
                .ends_with("`temperature` = -1; it must be a number above 0")
        );
        assert!(refusal(r#"{"do_sample": "yes"}"#).contains("`do_sample`"));
    }
}
