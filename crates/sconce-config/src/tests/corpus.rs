//! Configurations of others, all of them: what the SageMaker SDK writes and what DJL Serving's own
//! tests serve. No name is unknown, and each means the dialect that its release answered in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Start;
use crate::draft::Draft;
use crate::entry::of_model;
use crate::{ConfigError, Dialect};

type Properties = BTreeMap<String, String>;

fn fixtures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(path)
}

/// The configurations of DJL Serving's tests at a tag, by handler and model.
fn of_djl(tag: &str) -> BTreeMap<String, Properties> {
    #[derive(serde::Deserialize)]
    struct Recorded {
        configurations: BTreeMap<String, Properties>,
    }
    let text = std::fs::read_to_string(fixtures(&format!("djl/{tag}.json"))).unwrap();
    let recorded: Recorded = serde_json::from_str(&text).unwrap();
    recorded.configurations
}

const TAGS: [&str; 5] = ["v0.23.0", "v0.24.0", "v0.27.0", "v0.29.0", "v0.36.0"];

/// The dialect that these properties mean, whether or not the model is served.
fn dialect(properties: impl IntoIterator<Item = (String, String)>) -> Dialect {
    let mut draft = Draft::new();
    for (key, value) in properties {
        let entry = of_model(&key).unwrap_or_else(|| panic!("{key}"));
        // What is refused is not this test's matter.
        let _ = draft.apply(entry, &value);
    }
    draft.facts.choose().dialect
}

#[test]
fn no_key_of_djl_s_own_tests_is_unknown() {
    let mut seen = 0;
    for tag in TAGS {
        for (name, properties) in of_djl(tag) {
            seen += 1;
            let keys = properties.iter().filter(|(key, _)| *key != "model.py");
            let text: String = keys
                .map(|(key, value)| format!("{key}={value}\n"))
                .collect();
            let start = Start::without_model().properties(&text);
            let problems = start
                .resolve()
                .map_or_else(|errors| errors.problems, |_| vec![]);
            for problem in problems {
                let bad = matches!(
                    problem,
                    ConfigError::UnknownKey { .. }
                        | ConfigError::Invalid { .. }
                        | ConfigError::Conflict { .. }
                        | ConfigError::Contradiction { .. }
                        | ConfigError::Placeholder { .. }
                );
                assert!(!bad, "{tag} {name}: {problem}");
            }
        }
    }
    assert!(seen > 650, "{seen}");
}

/// What each group of DJL Serving's tests means: the tags, the handler, a key with its value that
/// tells cases of one handler apart, and the dialect. The first row that fits counts.
const OF_DJL: &[(&str, &str, &str, Dialect)] = &[
    ("", "", "option.rolling_batch=deepspeed", Dialect::Rolling),
    ("", "deepspeed", "", Dialect::DeepSpeed),
    ("", "deepspeed_aot", "", Dialect::DeepSpeed),
    ("", "deepspeed_handler_aot", "", Dialect::DeepSpeed),
    ("", "deepspeed_raw", "", Dialect::DeepSpeed),
    ("", "deepspeed_smoothquant", "", Dialect::DeepSpeed),
    ("", "fastertransformer_raw", "engine=Python", Dialect::Async),
    ("", "fastertransformer", "", Dialect::FasterTransformer),
    ("", "fastertransformer_raw", "", Dialect::FasterTransformer),
    (
        "",
        "fastertransformer_raw_aot",
        "",
        Dialect::FasterTransformer,
    ),
    (
        "",
        "fastertransformer_handler_aot",
        "",
        Dialect::FasterTransformer,
    ),
    ("", "huggingface", "", Dialect::HuggingFace),
    ("", "lmi_dist", "", Dialect::Rolling),
    ("", "lmi_dist_aiccl", "", Dialect::Rolling),
    ("", "performance", "", Dialect::Rolling),
    ("", "rolling_batch_scheduler", "", Dialect::Rolling),
    // Its answers are pictures, its failures in the engine's dialect.
    ("", "stable-diffusion", "", Dialect::DeepSpeed),
    (
        "",
        "transformers_neuronx",
        "option.rolling_batch=auto",
        Dialect::Rolling,
    ),
    (
        "",
        "transformers_neuronx",
        "option.rolling_batch=vllm",
        Dialect::Rolling,
    ),
    ("", "transformers_neuronx", "", Dialect::HuggingFace),
    ("", "transformers_neuronx_aot", "", Dialect::HuggingFace),
    ("", "transformers_neuronx_raw", "", Dialect::HuggingFace),
    (
        "",
        "transformers_neuronx_neo",
        "option.rolling_batch=auto",
        Dialect::Rolling,
    ),
    (
        "",
        "transformers_neuronx_neo",
        "option.rolling_batch=disable",
        Dialect::HuggingFace,
    ),
    ("", "transformers_neuronx_neo", "", Dialect::Async),
    ("", "text_embedding", "", Dialect::HuggingFace),
    ("", "correctness", "", Dialect::Rolling),
    ("v0.29.0", "handler_performance", "", Dialect::Rolling),
    ("v0.36.0", "handler_performance", "", Dialect::Async),
    ("", "trtllm", "option.rolling_batch=auto", Dialect::Rolling),
    (
        "",
        "trtllm",
        "option.rolling_batch=trtllm",
        Dialect::Rolling,
    ),
    // A handler that only has a rolling batch, whatever the key says.
    ("", "trtllm", "engine=MPI", Dialect::Rolling),
    ("", "trtllm", "", Dialect::Async),
    ("", "trtllm_neo", "", Dialect::Rolling),
    ("", "unmerged_lora", "", Dialect::Async),
    ("", "vllm", "", Dialect::Rolling),
    ("", "vllm_neo", "", Dialect::Async),
    ("", "vllm_async", "", Dialect::Async),
    ("", "vllm_async_custom_formatters", "", Dialect::Async),
    ("", "vllm_async_custom_handler", "", Dialect::Async),
    ("", "vllm_async_example_formatter", "", Dialect::Async),
];

#[test]
fn djl_s_own_tests_mean_the_dialects_of_their_handlers() {
    let mut used = vec![false; OF_DJL.len()];
    for tag in TAGS {
        for (name, mut properties) in of_djl(tag) {
            properties.remove("model.py");
            let (handler, _) = name.split_once('/').unwrap();
            let has = |pair: &str| {
                let (key, value) = pair.split_once('=').unwrap();
                properties.get(key).is_some_and(|v| v == value)
            };
            let row = OF_DJL.iter().position(|(of_tag, of_handler, pair, _)| {
                (of_tag.is_empty() || *of_tag == tag)
                    && (of_handler.is_empty() || *of_handler == handler)
                    && (pair.is_empty() || has(pair))
            });
            let row = row.unwrap_or_else(|| panic!("{tag} {name} has no row"));
            used[row] = true;
            assert_eq!(dialect(properties), OF_DJL[row].3, "{tag} {name}");
        }
    }
    let idle: Vec<_> = OF_DJL.iter().zip(used).filter(|(_, used)| !used).collect();
    assert!(idle.is_empty(), "{idle:?}");
}

/// The files and variables of a case of the SDK, as (serving.properties, environment).
fn of_sdk() -> Vec<(String, String, Properties)> {
    let mut cases: Vec<_> = std::fs::read_dir(fixtures("sdk"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| {
            let read = |file| std::fs::read_to_string(path.join(file));
            let variables = serde_json::from_str(&read("env.json").unwrap()).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (
                name,
                read("serving.properties").unwrap_or_default(),
                variables,
            )
        })
        .collect();
    cases.sort();
    cases
}

#[test]
fn no_name_that_the_sdk_writes_is_unknown() {
    let cases = of_sdk();
    assert_eq!(cases.len(), 90);
    for (name, properties, variables) in cases {
        let start = Start::without_model().properties(&properties);
        let start = variables
            .iter()
            .fold(start, |start, (name, value)| start.variable(name, value));
        let Err(errors) = start.resolve() else {
            continue;
        };
        for problem in errors.problems {
            // The user's own key, which no handler of DJL Serving reads.
            let is_own = problem.to_string().contains("option.extra");
            let is_bad = matches!(
                problem,
                ConfigError::UnknownKey { .. }
                    | ConfigError::Conflict { .. }
                    | ConfigError::Contradiction { .. }
            );
            assert!(!is_bad || is_own, "{name}: {problem}");
        }
    }
}

#[test]
fn what_the_sdk_writes_means_the_dialect_of_its_handler() {
    for (name, text, variables) in of_sdk() {
        let parsed = crate::properties::parse(text.as_bytes()).properties;
        let properties: Properties = parsed
            .into_iter()
            .map(|property| (property.key, property.value.trim().to_owned()))
            .filter(|(key, _)| key != "option.extra")
            .collect();
        let entry_point = properties.get("option.entryPoint").map(String::as_str);
        let engine = properties.get("engine").map(String::as_str);
        let rolling = variables.contains_key("OPTION_ROLLING_BATCH");
        let batch = properties.get("batch_size").is_some_and(|size| size != "1");
        let expected = match (entry_point, engine) {
            (Some("djl_python.deepspeed"), _) => Dialect::DeepSpeed,
            (Some("djl_python.fastertransformer"), _) => Dialect::FasterTransformer,
            (Some("djl_python.huggingface"), _) => Dialect::HuggingFace,
            (_, Some("DeepSpeed")) => Dialect::DeepSpeed,
            (_, Some("FasterTransformer")) => Dialect::FasterTransformer,
            _ if batch => Dialect::HuggingFace,
            _ if rolling => Dialect::Rolling,
            _ => Dialect::Async,
        };
        let options = variables.into_iter().filter_map(|(name, value)| {
            let key = name.strip_prefix("OPTION_")?.to_lowercase();
            (key != "engine").then_some((format!("option.{key}"), value))
        });
        assert_eq!(
            dialect(properties.into_iter().chain(options)),
            expected,
            "{name}"
        );
    }
}
