//! Every name that is known, wrong by one or two letters: refused, and the right one is named.

use std::collections::{HashMap, HashSet};

use strsim::damerau_levenshtein;

use super::Start;
use crate::entry::{Entry, Scope, of_model, of_server, of_variable};
use crate::options::options;
use crate::prefix::Prefix;

/// Edits of names, the same in every run.
struct Slips(u64);

impl Slips {
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's constants for a linear congruential generator.
        const FACTOR: u64 = 6_364_136_223_846_793_005;
        const STEP: u64 = 1_442_695_040_888_963_407;
        self.0 = self.0.wrapping_mul(FACTOR).wrapping_add(STEP);
        (self.0 >> 33) as usize % bound
    }

    /// Deletes, inserts, replaces or transposes `edits` letters from `from` on.
    fn of(&mut self, name: &str, from: usize, edits: usize) -> String {
        let mut letters: Vec<char> = name.chars().collect();
        for _ in 0..edits {
            let at = from + self.below(letters.len() - from);
            let is_small = name.contains(|c: char| c.is_ascii_lowercase());
            let letter = if is_small { 'x' } else { 'X' };
            match self.below(4) {
                0 if letters.len() > from + 2 => drop(letters.remove(at)),
                1 => letters.insert(at, letter),
                2 if at + 1 < letters.len() => letters.swap(at, at + 1),
                _ => letters[at] = letter,
            }
        }
        letters.into_iter().collect()
    }
}

/// Slips with the name that was meant, no slip twice, none that is a name itself.
fn slips<'a>(
    names: impl Iterator<Item = (String, usize)> + 'a,
    is_known: impl Fn(&str) -> bool + 'a,
) -> Vec<(String, String)> {
    let mut made = Slips(4);
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for (name, from) in names {
        for edits in [1, 1, 1, 2, 2] {
            let slip = made.of(&name, from, edits);
            let is_new = slip != name && !is_known(&slip) && seen.insert(slip.clone());
            if is_new {
                all.push((slip, name.clone()));
            }
        }
    }
    all
}

/// Asserts that the line proposes the name that was meant, or one that is nearer still. Two slips
/// in a name of a few letters leave too little of it.
fn proposes(line: &str, slip: &str, right: &str) {
    let bare = |name: &str| name.strip_prefix("option.").unwrap_or(name).to_lowercase();
    let distance = |name: &str| damerau_levenshtein(&bare(slip), &bare(name));
    let wrong = distance(right);
    if wrong > (bare(slip).chars().count() / 3).max(1) {
        return;
    }
    let (_, guesses) = line
        .split_once("did you mean ")
        .unwrap_or_else(|| panic!("{slip} for {right}: {line}"));
    let guesses: Vec<_> = guesses.trim_end_matches('?').split(" or ").collect();
    let is_right = guesses.iter().any(|guess| bare(guess) == bare(right));
    let is_nearer = guesses.iter().all(|guess| distance(guess) < wrong);
    assert!(is_right || is_nearer, "{slip} for {right}: {line}");
}

fn names(is_here: fn(Scope) -> bool) -> impl Iterator<Item = (String, usize)> {
    let here = options().filter(move |entry| is_here(entry.scope));
    here.flat_map(Entry::names).map(|name| (name.to_owned(), 0))
}

/// Writes all slips into one file and looks for the answer to each.
fn in_file(file: &str, slips: &[(String, String)]) {
    let text: String = slips
        .iter()
        .map(|(slip, _)| format!("{slip}=1\n"))
        .collect();
    let path = if file == "serving.properties" {
        "model"
    } else {
        "home"
    };
    let message = Start::with_model()
        .file(&format!("{path}/{file}"), &text)
        .refused();
    let lines: Vec<_> = message
        .lines()
        .filter(|l| l.contains("unknown key"))
        .collect();
    assert_eq!(lines.len(), slips.len(), "every slip is refused");
    for (index, ((slip, right), line)) in slips.iter().zip(lines).enumerate() {
        let start = format!("{file}:{}: unknown key {slip};", index + 1);
        assert!(line.contains(&start), "`{start}` is not in: {line}");
        proposes(line, slip, right);
    }
}

#[test]
fn in_serving_properties() {
    let bare =
        names(|scope| scope == Scope::Option).map(|(name, _)| (name.replacen("option.", "", 1), 0));
    let all = names(Scope::in_model_file).chain(bare);
    let slips = slips(all, |slip| of_model(slip).is_some());
    assert!(slips.len() > 2000, "{}", slips.len());
    in_file("serving.properties", &slips);
}

#[test]
fn in_config_properties() {
    let names = names(Scope::in_server_file).filter(|(name, _)| !name.starts_with("option."));
    let slips = slips(names, |slip| of_server(slip).is_some());
    assert!(slips.len() > 150, "{}", slips.len());
    in_file("config.properties", &slips);
}

#[test]
fn in_variables_with_a_prefix() {
    let all = [Prefix::Serving, Prefix::Option, Prefix::Args];
    let names = all.into_iter().flat_map(|prefix| {
        let length = prefix.variable("").len();
        prefix.names().into_iter().map(move |name| (name, length))
    });
    let is_known = |slip: &str| {
        let of_prefix = Prefix::of(slip).is_some_and(|prefix| prefix.entry(slip).is_some());
        of_prefix || of_variable(slip).is_some()
    };
    let slips = slips(names, is_known);
    assert!(slips.len() > 2000, "{}", slips.len());
    let start = slips.iter().fold(Start::with_model(), |start, (slip, _)| {
        start.variable(slip, "1")
    });
    let message = start.refused();
    let lines: HashMap<_, _> = message
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("environment variable ")?;
            Some((rest.split_once(": it sets no known option")?.0, line))
        })
        .collect();
    for (slip, right) in &slips {
        let line = lines.get(slip.as_str());
        let line = line.unwrap_or_else(|| panic!("{slip} is not refused"));
        proposes(line, slip, right);
    }
}

#[test]
fn in_variables_without_a_prefix_there_is_a_warning() {
    let names = options()
        .flat_map(|entry| entry.variables)
        .map(|variable| variable.name().to_owned())
        .filter(|name| Prefix::of(name).is_none() && name.len() > 8)
        .map(|name| (name, 0));
    let is_known = |slip: &str| of_variable(slip).is_some() || Prefix::of(slip).is_some();
    let slips = slips(names, is_known);
    let start = slips
        .iter()
        .filter(|(slip, _)| slip.len() >= 8)
        .fold(Start::with_model(), |start, (slip, _)| {
            start.variable(slip, "1")
        });
    let warnings = start.resolved().warnings;
    for (slip, right) in slips.iter().filter(|(slip, _)| slip.len() >= 8) {
        let begin = format!("environment variable {slip} sets nothing");
        let line = warnings.iter().find(|line| line.starts_with(&begin));
        proposes(line.unwrap_or_else(|| panic!("{slip}")), slip, right);
    }
    let others = Start::with_model().variable("SM_NUM_CPUS", "4");
    assert_eq!(others.resolved().warnings, [""; 0]);
}
