//! Laws that every entry of the table keeps, whoever adds it.

use std::collections::HashSet;

use proptest::prelude::*;

use super::Start;
use crate::draft::Draft;
use crate::entry::{Scope, Status};
use crate::kind::Kind;
use crate::options::options;
use crate::value::Rejection;

#[test]
fn every_default_is_a_value_that_its_option_takes() {
    for entry in options().filter(|entry| !entry.default.is_empty()) {
        let applied = Draft::new().apply(entry, entry.default);
        assert_eq!(applied, Ok(()), "{}={}", entry.key, entry.default);
    }
}

#[test]
fn every_entry_is_documented_in_one_line() {
    for entry in options() {
        assert!(
            entry.doc.ends_with('.') && entry.doc.len() > 10,
            "{}: {}",
            entry.key,
            entry.doc
        );
        assert!(!entry.doc.contains('\n'), "{}", entry.key);
        if let Status::NoOp(reason)
        | Status::Refused { reason, .. }
        | Status::Translated { to: reason, .. } = entry.status
        {
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
    for entry in options() {
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
    for entry in options() {
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
    for entry in options() {
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

#[test]
fn every_listed_word_is_understood() {
    for entry in options() {
        let Kind::OneOf(words) = entry.kind else {
            continue;
        };
        for word in words {
            let applied = Draft::new().apply(entry, word);
            assert!(
                !matches!(applied, Err(Rejection::Invalid(_))),
                "{}={word}: {applied:?}",
                entry.key
            );
        }
        assert!(
            Draft::new().apply(entry, "no such word").is_err(),
            "{}",
            entry.key
        );
    }
}

#[test]
fn limits_are_those_that_are_told() {
    for entry in options().filter(|entry| entry.status.has_effect()) {
        let Kind::Whole(first, last) = entry.kind else {
            continue;
        };
        let takes = |value: usize| Draft::new().apply(entry, &value.to_string()).is_ok();
        assert!(takes(first) && takes(last), "{}", entry.key);
        assert!(!takes(last + 1), "{}", entry.key);
        assert!(first == 0 || !takes(first - 1), "{}", entry.key);
    }
}

#[test]
fn releases_are_in_order() {
    let number = |release: &str| {
        release
            .strip_prefix("0.")
            .and_then(|n| n.parse::<u32>().ok())
    };
    for entry in options() {
        let (since, until) = (number(entry.since), number(entry.until));
        let known = |text: &str, parsed: Option<u32>| text.is_empty() || parsed.is_some();
        assert!(
            entry.since == "sconce" || known(entry.since, since),
            "{}",
            entry.key
        );
        assert!(known(entry.until, until), "{}", entry.key);
        assert!(
            since.zip(until).is_none_or(|(since, until)| since <= until),
            "{}",
            entry.key
        );
    }
}

proptest! {
    #[test]
    fn no_value_makes_an_option_panic(
        index in any::<prop::sample::Index>(), value in "\\PC{0,20}|[0-9.:/a-zA-Z-]{0,30}"
    ) {
        let all: Vec<_> = options().collect();
        let _ = Draft::new().apply(all[index.index(all.len())], &value);
    }

    #[test]
    fn no_file_makes_a_start_panic(text in "(option\\.[a-z_]{1,20}|[a-z_]{1,9})?[=: \\\\\nu0]{0,9}") {
        let _ = Start::with_model().properties(&text).resolve();
    }
}
