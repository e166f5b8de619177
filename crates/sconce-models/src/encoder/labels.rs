//! The classes of a checkpoint: `id2label` and `num_labels` in `config.json`, and what becomes of their logits.

use serde_json::Value;

use crate::config_error::ConfigError;
use crate::hf_config::HfConfig;

/// The names of the classes, in the order of the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// One for each output.
    pub names: Vec<String>,
    /// What the scores are.
    pub problem: Option<Problem>,
    /// The class whose name begins with "entail", by `label2id`.
    pub entailment: Option<usize>,
}

/// `problem_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Outputs are numbers.
    Regression,
    /// One class is true.
    SingleLabel,
    /// Each class is true or not.
    MultiLabel,
}

impl Labels {
    /// Reads them; transformers assumes two classes, `LABEL_0` and `LABEL_1`, where nothing is said.
    pub fn read(config: &HfConfig) -> Result<Self, ConfigError> {
        let names = names(config)?;
        let problem = match config.find("problem_type") {
            None => None,
            Some((key, value)) => Some(match value.as_str() {
                Some("regression") => Problem::Regression,
                Some("single_label_classification") => Problem::SingleLabel,
                Some("multi_label_classification") => Problem::MultiLabel,
                _ => {
                    let supported =
                        "regression, single_label_classification, multi_label_classification";
                    return Err(config.unsupported(key, value, supported));
                }
            }),
        };
        let entails = |name: &str| name.to_lowercase().starts_with("entail");
        let listed = config.find("label2id").and_then(|(_, value)| {
            let map = value.as_object()?;
            let found = map.iter().find(|(name, _)| entails(name))?;
            found.1.as_u64().map(|id| id as usize)
        });
        let entailment = listed
            .or_else(|| names.iter().position(|name| entails(name)))
            .filter(|id| *id < names.len());
        Ok(Self {
            names,
            problem,
            entailment,
        })
    }
}

fn names(config: &HfConfig) -> Result<Vec<String>, ConfigError> {
    const WANTED: &str = "an object of all numbers from \"0\" on and their names";
    let Some((key, value)) = config.find("id2label") else {
        let count = config.size_or("num_labels", 2)?;
        return Ok((0..count).map(|id| format!("LABEL_{id}")).collect());
    };
    let wrong = || config.wrong(key, value, WANTED);
    let map = value.as_object().ok_or_else(wrong)?;
    let name = |id: usize| match map.get(&id.to_string()) {
        Some(Value::String(name)) => Ok(name.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(wrong()),
    };
    let names: Vec<String> = (0..map.len()).map(name).collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Err(wrong());
    }
    if config.has("num_labels") && config.size("num_labels")? != names.len() {
        let value = config
            .find("num_labels")
            .map_or(Value::Null, |(_, v)| v.clone());
        let wanted = format!("{}, as many as `id2label` has", names.len());
        return Err(config.wrong("num_labels", &value, &wanted));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Labels, String> {
        let config = HfConfig::parse("config.json".into(), text.as_bytes()).expect("JSON");
        Labels::read(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn names_come_from_the_map_or_are_numbered() {
        let labels = read(r#"{"id2label": {"1": "b", "0": "a"}}"#).expect("two names");
        assert_eq!(labels.names, ["a", "b"]);
        assert_eq!(
            read(r#"{"num_labels": 1}"#).expect("one").names,
            ["LABEL_0"]
        );
        assert_eq!(read("{}").expect("two").names, ["LABEL_0", "LABEL_1"]);
        let entails = r#"{"id2label": {"0": "no", "1": "x", "2": "ENTAILMENT"}}"#;
        assert_eq!(read(entails).expect("three").entailment, Some(2));
    }

    #[test]
    fn maps_with_gaps_or_of_another_size_are_refused() {
        let gap = read(r#"{"id2label": {"0": "a", "2": "b"}}"#).expect_err("no 1");
        assert!(
            gap.contains("`id2label`") && gap.contains("all numbers"),
            "{gap}"
        );
        let size = read(r#"{"id2label": {"0": "a"}, "num_labels": 3}"#).expect_err("3 is not 1");
        assert!(size.contains("`num_labels` = 3; it must be 1"), "{size}");
        let kind = read(r#"{"problem_type": "guess"}"#).expect_err("unknown");
        assert!(kind.contains("multi_label_classification"), "{kind}");
    }
}
