//! What a checkpoint says of decoding: `generation_config.json`, or without that file `config.json`, as transformers
//! reads them; and what its `task_specific_params` add for a task.

use std::path::Path;

use sconce_core::{AskedDecoding, AskedSampling, EarlyStopping};
use serde_json::{Map, Value};

use crate::config_error::ConfigError;
use crate::generation_config;
use crate::hf_config::HfConfig;

/// The default of `max_length`, which written out means the same as left out.
const UNSAID_LENGTH: usize = 20;

/// Arguments of `generate` that are not there, and the values that ask for nothing.
const ABSENT: &[(&str, &[f64])] = &[
    ("num_beam_groups", &[1.0]),
    ("diversity_penalty", &[0.0]),
    ("penalty_alpha", &[0.0]),
    ("encoder_repetition_penalty", &[1.0]),
    ("epsilon_cutoff", &[0.0]),
    ("eta_cutoff", &[0.0]),
    ("guidance_scale", &[1.0]),
    ("suppress_tokens", &[]),
    ("begin_suppress_tokens", &[]),
    ("force_words_ids", &[]),
    ("constraints", &[]),
    ("sequence_bias", &[]),
    ("exponential_decay_length_penalty", &[]),
    ("forced_decoder_ids", &[]),
];

/// What a checkpoint says for a task, beside what it says for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskDecoding {
    /// What is put before each text.
    pub prefix: Option<String>,
    /// How texts are written.
    pub decoding: AskedDecoding,
}

/// What the checkpoint in `dir` says of decoding, the tokens that begin and end texts included; fails where it asks for
/// what is not there, or names no token that the decoder begins with.
pub fn decoding_defaults(dir: &Path, config: &HfConfig) -> Result<AskedDecoding, ConfigError> {
    let file = generation_config::read(dir)?;
    let said = file.as_ref().unwrap_or(config);
    let mut found = read(said)?;
    if said.find("eos_token_id").is_none() {
        found.eos_token_id = ids(config, "eos_token_id")?;
    }
    for (place, key) in [
        (said, "decoder_start_token_id"),
        (said, "bos_token_id"),
        (config, "decoder_start_token_id"),
        (config, "bos_token_id"),
    ] {
        if found.decoder_start_token_id.is_none() {
            found.decoder_start_token_id = id(place, key)?;
        }
    }
    if found.decoder_start_token_id.is_none() {
        let wanted = "the id of the token that the decoder begins with";
        return Err(config.absent("decoder_start_token_id", wanted));
    }
    Ok(found)
}

/// What `config.json` says for the task of that name; `prefix` may stand outside of it too.
pub fn task_decoding(config: &HfConfig, task: &str) -> Result<TaskDecoding, ConfigError> {
    let all = config.object("task_specific_params")?;
    let own = match all.find(task) {
        None => HfConfig::of(config.file().to_owned(), Map::new()),
        Some(_) => all.object(task)?,
    };
    Ok(TaskDecoding {
        prefix: own.text("prefix").or_else(|| config.text("prefix")),
        decoding: read(&own)?,
    })
}

fn read(c: &HfConfig) -> Result<AskedDecoding, ConfigError> {
    for (key, neutral) in ABSENT {
        refuse(c, key, neutral)?;
    }
    let length = |key: &str| {
        let count = c.count(key, 0)?;
        Ok::<_, ConfigError>(Some(count).filter(|count| *count > 0))
    };
    Ok(AskedDecoding {
        max_new_tokens: length("max_new_tokens")?,
        max_length: length("max_length")?.filter(|length| *length != UNSAID_LENGTH),
        min_new_tokens: length("min_new_tokens")?,
        min_length: length("min_length")?,
        num_beams: c.optional_size("num_beams", None)?,
        num_return_sequences: c.optional_size("num_return_sequences", None)?,
        length_penalty: number(c, "length_penalty")?,
        early_stopping: early_stopping(c)?,
        no_repeat_ngram_size: length("no_repeat_ngram_size")?,
        encoder_no_repeat_ngram_size: length("encoder_no_repeat_ngram_size")?,
        bad_words_ids: bad_words(c)?,
        forced_bos_token_id: id(c, "forced_bos_token_id")?,
        forced_eos_token_id: ids(c, "forced_eos_token_id")?,
        eos_token_id: ids(c, "eos_token_id")?,
        decoder_start_token_id: id(c, "decoder_start_token_id")?,
        sampling: sampling(c)?,
    })
}

fn sampling(c: &HfConfig) -> Result<AskedSampling, ConfigError> {
    let number = |key: &str| {
        c.optional_float(key, None)
            .map(|number| number.map(|number| number as f32))
    };
    let flag = c
        .has("do_sample")
        .then(|| c.flag("do_sample", false))
        .transpose()?;
    Ok(AskedSampling {
        do_sample: flag,
        temperature: number("temperature")?,
        top_k: c.has("top_k").then(|| c.count("top_k", 0)).transpose()?,
        top_p: number("top_p")?,
        min_p: number("min_p")?,
        typical_p: number("typical_p")?,
        repetition_penalty: number("repetition_penalty")?,
        ..AskedSampling::default()
    })
}

/// Fails on a value that asks for something.
fn refuse(c: &HfConfig, key: &str, neutral: &[f64]) -> Result<(), ConfigError> {
    let Some((_, value)) = c.find(key) else {
        return Ok(());
    };
    let nothing = match value {
        Value::Number(number) => neutral.iter().any(|same| number.as_f64() == Some(*same)),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    };
    match nothing {
        true => Ok(()),
        false => c.refuse(key, "null"),
    }
}

fn number(c: &HfConfig, key: &str) -> Result<Option<f64>, ConfigError> {
    let Some((key, value)) = c.find(key) else {
        return Ok(None);
    };
    let number = value.as_f64().filter(|number| number.is_finite());
    number
        .map(Some)
        .ok_or_else(|| c.wrong(key, value, "a number"))
}

fn early_stopping(c: &HfConfig) -> Result<Option<EarlyStopping>, ConfigError> {
    let Some((key, value)) = c.find("early_stopping") else {
        return Ok(None);
    };
    match value {
        Value::Bool(false) => Ok(Some(EarlyStopping::Likely)),
        Value::Bool(true) => Ok(Some(EarlyStopping::Full)),
        Value::String(name) if name == "never" => Ok(Some(EarlyStopping::Never)),
        other => Err(c.wrong(key, other, "true, false or \"never\"")),
    }
}

/// A token id, or none.
fn id(c: &HfConfig, key: &str) -> Result<Option<u32>, ConfigError> {
    let Some((key, value)) = c.find(key) else {
        return Ok(None);
    };
    one(value)
        .map(Some)
        .ok_or_else(|| c.wrong(key, value, "a token id"))
}

/// A token id, a list of them, or none.
fn ids(c: &HfConfig, key: &str) -> Result<Option<Vec<u32>>, ConfigError> {
    let Some((key, value)) = c.find(key) else {
        return Ok(None);
    };
    let found = match value {
        Value::Array(items) => items.iter().map(one).collect(),
        other => one(other).map(|id| vec![id]),
    };
    found
        .map(Some)
        .ok_or_else(|| c.wrong(key, value, "a token id or a list of token ids"))
}

fn bad_words(c: &HfConfig) -> Result<Option<Vec<Vec<u32>>>, ConfigError> {
    let Some((key, value)) = c.find("bad_words_ids") else {
        return Ok(None);
    };
    let word = |item: &Value| -> Option<Vec<u32>> {
        let ids: Vec<u32> = item.as_array()?.iter().map(one).collect::<Option<_>>()?;
        Some(ids).filter(|ids| !ids.is_empty())
    };
    let words = value
        .as_array()
        .and_then(|items| items.iter().map(word).collect());
    words
        .map(Some)
        .ok_or_else(|| c.wrong(key, value, "a list of lists of token ids, none empty"))
}

fn one(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> HfConfig {
        HfConfig::parse("config.json".into(), text.as_bytes()).expect("JSON")
    }

    fn defaults(generation: Option<&str>, text: &str) -> Result<AskedDecoding, String> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        if let Some(generation) = generation {
            let file = dir.path().join("generation_config.json");
            std::fs::write(file, generation).expect("written");
        }
        decoding_defaults(dir.path(), &config(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_generation_config_counts_alone_where_it_is_there_but_for_the_tokens() {
        let old = r#"{"num_beams": 4, "max_length": 142, "decoder_start_token_id": 2, "eos_token_id": 2}"#;
        let found = defaults(None, old).expect("valid");
        assert_eq!((found.num_beams, found.max_length), (Some(4), Some(142)));
        let new = r#"{"max_length": 20, "early_stopping": "never", "eos_token_id": [1, 2], "bos_token_id": 7}"#;
        let found = defaults(Some(new), old).expect("valid");
        assert_eq!((found.num_beams, found.max_length), (None, None));
        assert_eq!(found.early_stopping, Some(EarlyStopping::Never));
        assert_eq!(found.eos_token_id, Some(vec![1, 2]));
        assert_eq!(found.decoder_start_token_id, Some(7));
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let refused = |text: &str| defaults(None, text).expect_err("refused");
        let none = refused("{}");
        assert!(
            none.contains("`decoder_start_token_id` is absent"),
            "{none}"
        );
        let groups = refused(r#"{"num_beam_groups": 2}"#);
        assert!(
            groups.contains("`num_beam_groups` = 2 is not supported"),
            "{groups}"
        );
        let word = refused(r#"{"bad_words_ids": [[]]}"#);
        assert!(
            word.contains("`bad_words_ids`") && word.contains("none empty"),
            "{word}"
        );
        let neutral = r#"{"num_beam_groups": 1, "suppress_tokens": [], "diversity_penalty": 0.0, "bos_token_id": 1}"#;
        assert!(defaults(None, neutral).is_ok());
    }

    #[test]
    fn a_task_adds_its_prefix_and_its_lengths() {
        let c = config(
            r#"{"prefix": " ", "task_specific_params": {"summarization": {"prefix": "summarize: ", "max_length": 200}}}"#,
        );
        let found = task_decoding(&c, "summarization").expect("valid");
        assert_eq!(found.prefix.as_deref(), Some("summarize: "));
        assert_eq!(found.decoding.max_length, Some(200));
        let other = task_decoding(&c, "translation_en_to_de").expect("valid");
        assert_eq!(other.prefix.as_deref(), Some(" "));
        assert_eq!(other.decoding, AskedDecoding::default());
    }
}
