//! Laws that every entry of the table keeps, whoever adds it.

use std::collections::HashSet;

use proptest::prelude::*;

use super::{Start, says};
use crate::draft::Draft;
use crate::entry::{Entry, Scope, Status, of_model, of_server};
use crate::options::OPTIONS;

#[test]
fn every_default_is_a_value_that_its_option_takes() {
    for entry in OPTIONS.iter().filter(|entry| !entry.default.is_empty()) {
        let applied = Draft::new().apply(entry, entry.default);
        assert_eq!(applied, Ok(()), "{}={}", entry.key, entry.default);
    }
}

#[test]
fn every_entry_is_documented_in_one_line() {
    for entry in OPTIONS {
        assert!(
            entry.doc.ends_with('.') && entry.doc.len() > 10,
            "{}: {}",
            entry.key,
            entry.doc
        );
        assert!(!entry.doc.contains('\n'), "{}", entry.key);
        if let Status::NoOp { reason, .. } | Status::Refused { reason, .. } = entry.status {
            assert!(
                !reason.is_empty() && !reason.ends_with('.'),
                "{}: {reason}",
                entry.key
            );
        }
    }
}

#[test]
fn no_two_entries_share_a_name() {
    let mut keys = HashSet::new();
    let mut names = HashSet::new();
    let mut variables = HashSet::new();
    for entry in OPTIONS {
        assert!(keys.insert(entry.key), "{}", entry.key);
        for name in entry.names().filter(|_| entry.scope.in_model_file()) {
            assert!(names.insert(name), "{name}");
        }
        for name in entry.names().filter(|_| entry.scope.in_server_file()) {
            let variable = format!("SERVING_{}", name.to_uppercase());
            assert!(variables.insert(variable), "{name}");
        }
        for variable in entry.variables {
            assert!(
                variables.insert(variable.name().to_owned()),
                "{}",
                variable.name()
            );
        }
    }
}

#[test]
fn keys_have_the_form_of_their_scope() {
    for entry in OPTIONS {
        let key = entry.key;
        match entry.scope {
            Scope::Option => assert!(key.starts_with("option."), "{key}"),
            Scope::CommandLine => assert!(key.starts_with("--"), "{key}"),
            Scope::Environment => assert_eq!(entry.variables[0].name(), key),
            Scope::Model | Scope::Server | Scope::ServerOrModel => {
                assert!(!key.starts_with("option."), "{key}");
            }
        }
    }
}

#[test]
fn harmless_values_of_refused_options_are_taken() {
    for entry in OPTIONS {
        let Status::Refused { harmless, .. } = entry.status else {
            continue;
        };
        for value in harmless {
            assert_eq!(
                Draft::new().apply(entry, value),
                Ok(()),
                "{}={value}",
                entry.key
            );
        }
        assert!(
            Draft::new().apply(entry, "something else").is_err(),
            "{}",
            entry.key
        );
    }
}

/// Every text at one deletion, insertion, replacement or transposition.
fn one_edit_away(key: &str) -> HashSet<String> {
    let chars: Vec<char> = key.chars().collect();
    let mut edited = HashSet::new();
    for at in 0..chars.len() {
        let with = |middle: &[char], skipped: usize| -> String {
            chars[..at]
                .iter()
                .chain(middle)
                .chain(&chars[at + skipped..])
                .collect()
        };
        edited.insert(with(&[], 1));
        for letter in ['x', '_'] {
            edited.insert(with(&[letter], 0));
            edited.insert(with(&[letter], 1));
        }
        if let [first, second, ..] = chars[at..] {
            edited.insert(with(&[second, first], 2));
        }
    }
    edited.remove(key);
    edited
}

fn honoured(is_here: fn(Scope) -> bool) -> impl Iterator<Item = &'static Entry> {
    let honoured = |entry: &&Entry| matches!(entry.status, Status::Honoured(_));
    OPTIONS
        .iter()
        .filter(honoured)
        .filter(move |entry| is_here(entry.scope))
}

/// Asserts that each wrong key, one to a line, is refused with its line and the right one.
fn all_name(message: &str, file: &str, wrong: &[String], right: &str) {
    for (index, wrong) in wrong.iter().enumerate() {
        let start = format!("{file}:{}: unknown key {wrong};", index + 1);
        let line = message.lines().find(|line| line.contains(&start));
        let line = line.unwrap_or_else(|| panic!("`{start}` is not in: {message}"));
        says(line, &["did you mean", right]);
    }
}

#[test]
fn a_slip_in_serving_properties_is_refused_with_the_right_key() {
    for key in honoured(Scope::in_model_file).flat_map(Entry::names) {
        let slips = one_edit_away(key)
            .into_iter()
            .filter(|slip| of_model(slip).is_none());
        let slips: Vec<_> = slips.collect();
        let text: String = slips.iter().map(|slip| format!("{slip}=1\n")).collect();
        let message = Start::with_model().properties(&text).refused();
        all_name(&message, "serving.properties", &slips, key);
    }
}

#[test]
fn a_slip_in_config_properties_is_refused_with_the_right_key() {
    for key in honoured(Scope::in_server_file).flat_map(Entry::names) {
        let slips = one_edit_away(key)
            .into_iter()
            .filter(|slip| of_server(slip).is_none());
        let slips: Vec<_> = slips.collect();
        let text: String = slips.iter().map(|slip| format!("{slip}=1\n")).collect();
        let message = Start::with_model()
            .file("home/config.properties", &text)
            .refused();
        all_name(&message, "config.properties", &slips, key);
    }
}

#[test]
fn a_slip_in_a_variable_with_a_known_prefix_is_refused_with_the_right_name() {
    let names = [
        "OPTION_DTYPE",
        "OPTION_ENTRYPOINT",
        "SERVING_JOB_QUEUE_SIZE",
        "SERVING_FEATURES",
    ];
    for name in names {
        let (prefix, rest) = name.split_once('_').unwrap();
        for slip in one_edit_away(&rest.to_lowercase()) {
            let slip = format!("{prefix}_{}", slip.to_uppercase());
            if slip == name {
                continue;
            }
            let message = Start::with_model().variable(&slip, "1").refused();
            says(&message, &[&slip, "did you mean", name]);
        }
    }
}

proptest! {
    #[test]
    fn no_value_makes_an_option_panic(
        index in 0..OPTIONS.len(), value in "\\PC{0,20}|[0-9.:/a-zA-Z-]{0,30}"
    ) {
        let _ = Draft::new().apply(&OPTIONS[index], &value);
    }

    #[test]
    fn no_file_makes_a_start_panic(text in "(option\\.[a-z_]{1,20}|[a-z_]{1,9})?[=: \\\\\nu0]{0,9}") {
        let _ = Start::with_model().properties(&text).resolve();
    }
}
