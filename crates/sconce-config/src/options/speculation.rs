//! One model: guesses of what comes next, so that a step computes several tokens.

use serde_json::Value as Json;

use super::OPTION;
use super::reason::SAME_GUESSES;
use crate::draft::Draft;
use crate::entry::{Entry, Status};
use crate::kind::Kind;
use crate::settings::Speculator;
use crate::value::{Rejection, Value, count, put};

/// Most tokens that are guessed at a time.
const MOST: usize = 32;

pub(super) const SPECULATION: &[Entry] = &[
    Entry {
        key: "option.speculative_draft_model",
        aliases: &["option.draft_model_id", "option.speculative_model"],
        since: "0.27",
        doc: "Who guesses tokens, so that a step computes several: the folder of a small model with the same vocabulary, \
              or [ngram], what followed the same words before. Answers are the same without.",
        status: Status::Honoured(|d, v| put(&mut d.model.speculation.by, speculator(v))),
        ..OPTION
    },
    Entry {
        key: "option.speculative_length",
        aliases: &[
            "option.spec_length",
            "option.num_speculative_tokens",
            "option.max_draft_len",
        ],
        kind: Kind::Whole(1, MOST),
        default: "4",
        since: "0.27",
        doc: "Tokens that are guessed at a time.",
        status: Status::Honoured(|d, v| put(&mut d.model.speculation.tokens, count(v, 1..=MOST))),
        ..OPTION
    },
    Entry {
        key: "option.ngram_prompt_lookup_max",
        kind: Kind::Whole(1, 64),
        default: "4",
        since: "0.32",
        doc: "Tokens of the longest run that [ngram] looks for.",
        status: Status::Honoured(|d, v| put(&mut d.model.speculation.longest, count(v, 1..=64))),
        ..OPTION
    },
    Entry {
        key: "option.ngram_prompt_lookup_min",
        kind: Kind::Whole(1, 64),
        default: "2",
        since: "0.32",
        doc: "Tokens of the shortest run that [ngram] looks for.",
        status: Status::Honoured(|d, v| put(&mut d.model.speculation.shortest, count(v, 1..=64))),
        ..OPTION
    },
    Entry {
        key: "option.speculative_config",
        kind: Kind::Json,
        since: "0.33",
        doc: "vLLM's object with all of it: method (ngram, draft_model), model, num_speculative_tokens, \
              prompt_lookup_max, prompt_lookup_min.",
        status: Status::Translated {
            to: "option.speculative_draft_model and its companions",
            apply: config,
        },
        ..OPTION
    },
    Entry {
        key: "option.draft_model_tp_size",
        aliases: &["option.speculative_draft_tensor_parallel_size"],
        kind: Kind::Number,
        since: "0.27",
        until: "0.34",
        doc: "Ranks that share the small model.",
        status: Status::NoOp("the small model is computed in one piece, by all threads"),
        ..OPTION
    },
    Entry {
        key: "option.record_acceptance_rate",
        kind: Kind::Flag,
        since: "0.27",
        until: "0.34",
        doc: "Whether guesses that came true are counted.",
        status: Status::NoOp("they are always counted, and told in the log"),
        ..OPTION
    },
    Entry {
        key: "option.draft_model_compiled_path",
        since: "0.28",
        until: "0.34",
        doc: "Neuron: the compiled small model.",
        status: Status::NoOp(SAME_GUESSES),
        ..OPTION
    },
    Entry {
        key: "option.speculative_model_quantization",
        ..SPECULATION_DETAIL
    },
    Entry {
        key: "option.speculative_disable_mqa_scorer",
        kind: Kind::Flag,
        ..SPECULATION_DETAIL
    },
    Entry {
        key: "option.speculative_max_model_len",
        kind: Kind::Number,
        ..SPECULATION_DETAIL
    },
    Entry {
        key: "option.speculative_disable_by_batch_size",
        kind: Kind::Number,
        ..SPECULATION_DETAIL
    },
    Entry {
        key: "option.spec_decoding_acceptance_method",
        ..SPECULATION_DETAIL
    },
    Entry {
        key: "option.typical_acceptance_sampler_posterior_threshold",
        kind: Kind::Number,
        ..SPECULATION_DETAIL
    },
    Entry {
        key: "option.typical_acceptance_sampler_posterior_alpha",
        kind: Kind::Number,
        ..SPECULATION_DETAIL
    },
    Entry {
        key: "option.disable_logprobs_during_spec_decoding",
        kind: Kind::Flag,
        ..SPECULATION_DETAIL
    },
    Entry {
        key: "option.num_lookahead_slots",
        kind: Kind::Number,
        since: "0.32",
        doc: "vLLM: a detail of speculation.",
        status: Status::NoOp(SAME_GUESSES),
        ..OPTION
    },
];

const SPECULATION_DETAIL: Entry = Entry {
    since: "0.32",
    until: "0.34",
    doc: "vLLM: a detail of speculation.",
    status: Status::NoOp(SAME_GUESSES),
    ..OPTION
};

fn speculator(value: &str) -> Value<Speculator> {
    match value {
        "" => Err(Rejection::Invalid("must be a folder or [ngram]".into())),
        "[ngram]" | "ngram" => Ok(Speculator::Lookup),
        url if url.contains("://") => Err(Rejection::Unsupported(
            "the small model must be a folder of this machine; fetch it beforehand".into(),
        )),
        folder => Ok(Speculator::Model(folder.into())),
    }
}

fn config(draft: &mut Draft, value: &str) -> Value<()> {
    const WANTED: &str =
        "must be an object such as {\"method\": \"ngram\", \"num_speculative_tokens\": 4}";
    let wrong = |text: String| Rejection::Invalid(text);
    let Ok(Json::Object(keys)) = serde_json::from_str::<Json>(value) else {
        return Err(wrong(WANTED.into()));
    };
    let settings = &mut draft.model.speculation;
    let number = |key: &str, value: &Json, most: usize| {
        let number = value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok());
        let fits = number.filter(|number| (1..=most).contains(number));
        fits.ok_or_else(|| {
            wrong(format!(
                "has {key} = {value}, which must be a whole number from 1 to {most}"
            ))
        })
    };
    let mut model = None;
    for (key, value) in &keys {
        match (key.as_str(), value) {
            (_, Json::Null) => {}
            ("method", Json::String(method)) if method == "ngram" => {
                settings.by = Speculator::Lookup
            }
            ("method", Json::String(method)) if method == "draft_model" => {}
            ("method", other) => {
                let text = format!("method {other} is not served; take ngram or draft_model");
                return Err(Rejection::Unsupported(text));
            }
            ("model", Json::String(text)) => model = Some(speculator(text)?),
            ("num_speculative_tokens", value) => settings.tokens = number(key, value, MOST)?,
            ("prompt_lookup_max", value) => settings.longest = number(key, value, 64)?,
            ("prompt_lookup_min", value) => settings.shortest = number(key, value, 64)?,
            (
                "draft_tensor_parallel_size"
                | "disable_by_batch_size"
                | "disable_logprobs"
                | "max_model_len",
                _,
            ) => {}
            _ => {
                return Err(wrong(format!(
                    "has {key} = {value}, which is not known; {WANTED}"
                )));
            }
        }
    }
    if let Some(model) = model.filter(|_| settings.by != Speculator::Lookup) {
        settings.by = model;
    }
    match settings.by {
        Speculator::Nobody => Err(wrong(format!(
            "names neither method ngram nor a model; {WANTED}"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SpeculationSettings;

    fn read(text: &str) -> Value<SpeculationSettings> {
        let mut draft = Draft::new();
        config(&mut draft, text).map(|()| draft.model.speculation)
    }

    #[test]
    fn vllm_s_object_says_it_all() {
        let lookup = read(
            r#"{"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 3, "prompt_lookup_min": 1}"#,
        );
        let wanted = SpeculationSettings {
            by: Speculator::Lookup,
            tokens: 5,
            longest: 3,
            shortest: 1,
        };
        assert_eq!(lookup, Ok(wanted));
        let small =
            read(r#"{"model": "/opt/small", "num_speculative_tokens": 2}"#).expect("a model");
        assert_eq!(
            (small.by, small.tokens),
            (Speculator::Model("/opt/small".into()), 2)
        );
        for (text, part) in [
            ("[]", "must be an object"),
            ("{}", "names neither"),
            (r#"{"method": "eagle"}"#, "method \"eagle\" is not served"),
            (
                r#"{"method": "ngram", "num_speculative_tokens": 99}"#,
                "from 1 to 32",
            ),
            (
                r#"{"method": "ngram", "tokens": 9}"#,
                "has tokens = 9, which is not known",
            ),
            (r#"{"model": "s3://b/x"}"#, "folder of this machine"),
        ] {
            let text = format!("{:?}", read(text).expect_err("refused"));
            assert!(text.replace("\\\"", "\"").contains(part), "{text}");
        }
    }
}
