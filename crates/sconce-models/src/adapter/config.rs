//! `adapter_config.json`: how strong an adapter is, and what else it would ask for.
//!
//! Reference: PEFT `tuners/lora/config.py`; patterns as in `utils/other.py`, `get_pattern_key`.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::{Map, Value};

use super::error::AdapterError;

type Result<T> = std::result::Result<T, AdapterError>;

/// Keys that change what an adapter does, and what to do about them. `null`, `false` and nothing at all say no.
const REFUSED: &[(&str, &str)] = &[
    (
        "use_dora",
        "train it without DoRA, or merge it into its base model",
    ),
    (
        "modules_to_save",
        "merge it into its base model, since it replaces whole modules",
    ),
    (
        "lora_bias",
        "train it without biases, or merge it into its base model",
    ),
    (
        "layer_replication",
        "merge it into its base model, since it has other layers",
    ),
    (
        "trainable_token_indices",
        "merge it into its base model, since it changes embeddings",
    ),
    (
        "target_parameters",
        "merge it into its base model, since it changes experts",
    ),
    (
        "alora_invocation_tokens",
        "train it without activation by tokens",
    ),
    ("use_qalora", "train it without QALoRA"),
    ("use_bdlora", "train it without block-diagonal matrices"),
    (
        "arrow_config",
        "it is served without routing between adapters only",
    ),
];

/// Ways to begin the training after which the base model is another one too.
const CHANGES_BASE: &[&str] = &["pissa", "olora", "corda", "loftq", "lora_ga"];

/// What is read of a configuration.
#[derive(Debug)]
pub(super) struct AdapterConfig {
    pub(super) file: PathBuf,
    alpha: f32,
    patterns: Vec<(Regex, f32)>,
    /// Divided by the root of the rank.
    is_rank_stabilised: bool,
    /// The modules that it names, as they end.
    pub(super) targets: Vec<String>,
}

impl AdapterConfig {
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let file = dir.join("adapter_config.json");
        match std::fs::read(&file) {
            Ok(bytes) => Self::parse(file, &bytes),
            Err(cause) => Err(AdapterError::Read { file, cause }),
        }
    }

    fn parse(file: PathBuf, bytes: &[u8]) -> Result<Self> {
        let wrong = |problem: String| AdapterError::Config {
            file: file.clone(),
            problem,
        };
        let keys: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|cause| wrong(format!("it is no JSON: {cause}")))?;
        refuse(&file, &keys)?;
        let number = |key: &str, value: &Value| {
            let number = value.as_f64().filter(|number| number.is_finite());
            let problem = || wrong(format!("`{key}` = {value}; it must be a number"));
            number.map(|number| number as f32).ok_or_else(problem)
        };
        let patterns = match keys.get("alpha_pattern") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(patterns)) => patterns
                .iter()
                .map(|(pattern, value)| {
                    let whole = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).map_err(|_| {
                        wrong(format!("`alpha_pattern` has {pattern:?}, which is no regular expression without look-around"))
                    })?;
                    Ok((whole, number("alpha_pattern", value)?))
                })
                .collect::<Result<_>>()?,
            Some(other) => return Err(wrong(format!("`alpha_pattern` = {other}; it must be an object"))),
        };
        let targets = match keys.get("target_modules") {
            Some(Value::Array(names)) => names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            // An expression, or all linear layers: the tensors tell which were meant.
            _ => Vec::new(),
        };
        let alpha = keys.get("lora_alpha").unwrap_or(&Value::Null);
        Ok(Self {
            alpha: number("lora_alpha", alpha)?,
            patterns,
            is_rank_stabilised: keys.get("use_rslora") == Some(&Value::Bool(true)),
            targets,
            file,
        })
    }

    /// What the product of the matrices of a module is multiplied with.
    pub(super) fn scale(&self, module: &str, rank: usize) -> f32 {
        let own = self
            .patterns
            .iter()
            .find(|(pattern, _)| pattern.is_match(module));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f32;
        alpha
            / if self.is_rank_stabilised {
                rank.sqrt()
            } else {
                rank
            }
    }
}

/// The greatest rank of the adapter in a folder, by its configuration.
pub fn adapter_rank(dir: &Path) -> Result<usize> {
    let file = dir.join("adapter_config.json");
    let bytes = std::fs::read(&file).map_err(|cause| AdapterError::Read {
        file: file.clone(),
        cause,
    })?;
    let wrong = |problem: String| AdapterError::Config {
        file: file.clone(),
        problem,
    };
    let keys: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|cause| wrong(format!("it is no JSON: {cause}")))?;
    let others = keys.get("rank_pattern").and_then(Value::as_object);
    let all = others
        .into_iter()
        .flat_map(Map::values)
        .chain(keys.get("r"));
    let most = all.filter_map(Value::as_u64).max();
    match most.map(usize::try_from) {
        Some(Ok(rank)) if rank > 0 => Ok(rank),
        _ => Err(wrong("`r` must be the adapter's rank, at least 1".into())),
    }
}

/// Fails on what would have to be done otherwise.
fn refuse(file: &Path, keys: &Map<String, Value>) -> Result<()> {
    let unsupported = |key: &'static str, value: &Value, cure: &'static str| {
        let mut value = value.to_string();
        if value.chars().count() > 80 {
            value = value.chars().take(80).chain("…".chars()).collect();
        }
        Err(AdapterError::Unsupported {
            file: file.to_owned(),
            key,
            value,
            cure,
        })
    };
    if let Some(kind) = keys.get("peft_type").filter(|kind| *kind != "LORA") {
        return unsupported("peft_type", kind, "adapters must be LoRA");
    }
    if let Some(bias) = keys
        .get("bias")
        .filter(|bias| !bias.is_null() && *bias != "none")
    {
        return unsupported(
            "bias",
            bias,
            "it must be \"none\"; merge it into its base model",
        );
    }
    for &(key, cure) in REFUSED {
        let value = keys.get(key).unwrap_or(&Value::Null);
        let says_no = matches!(value, Value::Null | Value::Bool(false))
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(Map::is_empty);
        if !says_no {
            return unsupported(key, value, cure);
        }
    }
    let start = keys.get("init_lora_weights").and_then(Value::as_str);
    if start.is_some_and(|start| CHANGES_BASE.iter().any(|known| start.starts_with(known))) {
        let cure = "it changes its base model too: convert it to a plain LoRA when it is saved";
        return unsupported("init_lora_weights", &keys["init_lora_weights"], cure);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(more: Value) -> Result<AdapterConfig> {
        let mut keys = json!({"peft_type": "LORA", "lora_alpha": 8, "r": 4, "bias": "none", "modules_to_save": null});
        let more = more.as_object().expect("an object").clone();
        keys.as_object_mut().expect("an object").extend(more);
        AdapterConfig::parse("adapter_config.json".into(), keys.to_string().as_bytes())
    }

    #[test]
    fn the_first_pattern_that_fits_counts() {
        let config = parse(
            json!({"alpha_pattern": {"layers.1.mlp.up_proj": 2, "up_proj": 4, "^model.x": 3}}),
        );
        let config = config.expect("readable");
        for (module, alpha) in [
            ("model.layers.1.mlp.up_proj", 2.0),
            ("model.layers.11.mlp.up_proj", 4.0),
            ("model.layers.1.mlp.gup_proj", 8.0),
            ("model.x", 3.0),
        ] {
            assert_eq!(config.scale(module, 4), alpha / 4.0, "{module}");
        }
        let stable = parse(json!({"use_rslora": true})).expect("readable");
        assert_eq!(stable.scale("model.x", 16), 2.0);
    }

    #[test]
    fn what_is_no_plain_lora_is_refused_by_name() {
        for (more, part) in [
            (json!({"use_dora": true}), "`use_dora` = true"),
            (
                json!({"modules_to_save": ["lm_head"]}),
                "`modules_to_save` = [\"lm_head\"]",
            ),
            (json!({"bias": "all"}), "`bias` = \"all\""),
            (json!({"lora_bias": true}), "lora_bias"),
            (json!({"peft_type": "IA3"}), "must be LoRA"),
            (
                json!({"init_lora_weights": "pissa_niter_4"}),
                "changes its base",
            ),
            (json!({"lora_alpha": "8"}), "must be a number"),
            (json!({"alpha_pattern": {"(": 1}}), "no regular expression"),
            (json!({"alpha_pattern": 1}), "must be an object"),
            (json!({"layer_replication": [[0, 2]]}), "layer_replication"),
        ] {
            let text = parse(more.clone()).expect_err("refused").to_string();
            assert!(text.contains(part), "{more}: {text}");
        }
        let broken = AdapterConfig::parse("x".into(), b"{")
            .expect_err("broken")
            .to_string();
        assert!(broken.contains("no JSON"), "{broken}");
        assert!(parse(json!({"init_lora_weights": "gaussian", "target_parameters": []})).is_ok());
    }
}
