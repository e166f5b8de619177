//! `sconce explain KEY`: all that the table says of one option, whatever spelling is asked for.

use std::fmt::Write;

use crate::entry::{self, Entry, Scope, Status, Variable};
use crate::nearest::nearest;
use crate::options::options;
use crate::prefix::Prefix;

/// Explains an option, by its key, another spelling of it, or a variable that sets it.
///
/// # Errors
///
/// A sentence with the nearest names, if no option is called so.
pub fn explain(name: &str) -> Result<String, String> {
    let name = name.trim();
    find(name).map(|entry| text(name, entry)).ok_or_else(|| {
        let known = known_names();
        let guess = match nearest(name, known.iter().map(String::as_str)).as_slice() {
            [] => "`sconce options` lists them all".into(),
            names => format!("did you mean {}?", names.join(" or ")),
        };
        format!("no option is called {name}; {guess}")
    })
}

fn find(name: &str) -> Option<&'static Entry> {
    let of_variable = || entry::of_variable(name).map(|(entry, ..)| entry);
    let of_prefix = || Prefix::of(name).and_then(|prefix| prefix.entry(name));
    entry::of_key(name)
        .or_else(|| entry::of_model(name))
        .or_else(|| entry::of_server(name))
        .or_else(of_variable)
        .or_else(of_prefix)
}

/// Every name that is understood.
fn known_names() -> Vec<String> {
    let names = options().flat_map(Entry::names).map(String::from);
    let variables = options().flat_map(|entry| entry.variables);
    let variables = variables.map(|variable| variable.name().to_owned());
    let prefixed = [Prefix::Serving, Prefix::Option, Prefix::Args].map(Prefix::names);
    let mut all: Vec<_> = names.chain(variables).collect();
    all.extend(prefixed.into_iter().flatten());
    all.sort();
    all.dedup();
    all
}

fn text(name: &str, entry: &Entry) -> String {
    let mut text = String::from(entry.key);
    if name != entry.key {
        // Writing to a string does not fail.
        let _ = write!(text, " (asked for as {name})");
    }
    let _ = write!(text, "\n  {}\n\n", entry.doc);
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {label:<14} {value}");
        }
    };
    line("written in", &places(entry));
    line("also called", &entry.aliases.join(", "));
    line("variables", &variables(entry));
    line("value", &entry.kind.to_string());
    let default = if entry.default.is_empty() {
        "none"
    } else {
        entry.default
    };
    line("default", default);
    line("DJL Serving", &history(entry));
    line("sconce", &status(entry.status));
    text
}

fn places(entry: &Entry) -> String {
    let variable = |prefix: Prefix| prefix.variable(entry.key);
    match entry.scope {
        Scope::Option => {
            format!("serving.properties, or {}", variable(Prefix::Option))
        }
        Scope::Model => format!("serving.properties, or {}", variable(Prefix::Args)),
        Scope::Server => format!("config.properties, or {}", variable(Prefix::Serving)),
        Scope::ServerOrModel => format!(
            "config.properties or {} for all models, serving.properties for one, which wins",
            variable(Prefix::Serving)
        ),
        Scope::Environment => "the environment".into(),
        Scope::CommandLine => "the command line".into(),
    }
}

fn variables(entry: &Entry) -> String {
    let told = entry.variables.iter().map(|variable| match variable {
        Variable::Fills(name) => format!("{name} (where nothing else sets it)"),
        Variable::Overrides(name) => format!("{name} (wins over the files)"),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn history(entry: &Entry) -> String {
    match entry.releases().as_str() {
        "" => "all releases since before 0.21".into(),
        "sconce only" => "does not know it".into(),
        releases => format!("reads it: {releases}"),
    }
}

fn status(status: Status) -> String {
    match status {
        Status::Honoured(_) => "honoured: it does what it says".into(),
        status => {
            let (first, rest) = status.told();
            format!("{}{rest}", first.to_lowercase())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(name: &str, parts: &[&str]) {
        let text = explain(name).unwrap_or_else(|error| panic!("{error}"));
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in:\n{text}");
        }
    }

    #[test]
    fn every_spelling_finds_the_option() {
        for name in [
            "option.model_id",
            "model_id",
            "option.s3url",
            "s3url",
            "OPTION_MODEL_ID",
        ] {
            says(name, &["option.model_id", "checkpoint", "OPTION_MODEL_ID"]);
        }
        says("TENSOR_PARALLEL_DEGREE", &["option.tensor_parallel_degree"]);
        says("SERVING_JOB_QUEUE_SIZE", &["job_queue_size", "1000"]);
        says("OPTION_ENTRYPOINT", &["option.entryPoint"]);
        says("--port", &["the command line"]);
    }

    #[test]
    fn all_kinds_of_status_are_told() {
        says("option.dtype", &["honoured", "bfloat16", "auto"]);
        says("engine", &["translated", "dialect"]);
        says(
            "option.paged_attention",
            &["no effect", "always paged", "0.24 to"],
        );
        says(
            "option.enable_prompt_adapter",
            &["refused, except false", "0.32 to 0.34"],
        );
        says("option.kv_cache_memory", &["does not know it"]);
    }

    #[test]
    fn unknown_names_are_answered_with_the_nearest() {
        for (name, right) in [
            ("option.dtpye", "option.dtype"),
            ("SERVING_JOB_QUEU_SIZE", "SERVING_JOB_QUEUE_SIZE"),
            ("HF_MODLE_ID", "HF_MODEL_ID"),
            ("--prot", "--port"),
        ] {
            let error = explain(name).unwrap_err();
            assert!(error.contains(right), "{error}");
        }
        let error = explain("wholly_new_thing").unwrap_err();
        assert!(error.contains("sconce options"), "{error}");
    }

    #[test]
    fn every_option_can_be_explained() {
        for name in known_names() {
            let text = explain(&name).unwrap_or_else(|error| panic!("{error}"));
            assert!(text.contains("  sconce  "), "{text}");
        }
    }
}
