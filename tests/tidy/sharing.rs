//! How much files of one folder have in common: the measure of copying. A line counts as shared when it lies in a
//! run of lines that also stands in another file; comments and lines of brackets alone do not count at all.

use std::collections::{HashMap, HashSet};

use super::source::Source;

/// Lines of a run.
const RUN: usize = 6;

/// Shared and all counted lines of these files.
pub(super) fn shared_lines(sources: &[&Source]) -> (usize, usize) {
    let files: Vec<Vec<&str>> = sources.iter().map(|source| counted(source)).collect();
    let mut places: HashMap<&[&str], HashSet<usize>> = HashMap::new();
    for (file, lines) in files.iter().enumerate() {
        for run in lines.windows(RUN) {
            places.entry(run).or_default().insert(file);
        }
    }
    let shared = files.iter().map(|lines| {
        let mut marks = vec![false; lines.len()];
        for (start, run) in lines.windows(RUN).enumerate() {
            if places[run].len() > 1 {
                marks[start..start + RUN].fill(true);
            }
        }
        marks.into_iter().filter(|mark| *mark).count()
    });
    (shared.sum(), files.iter().map(Vec::len).sum())
}

fn counted(source: &Source) -> Vec<&str> {
    let bare = |line: &str| line.chars().all(|c| "[](){},;&".contains(c));
    let lines = source.text.lines().map(str::trim);
    lines
        .filter(|line| !line.starts_with("//") && !bare(line))
        .collect()
}

#[test]
fn runs_that_stand_in_two_files_are_shared_and_shorter_ones_are_not() {
    let file = |path: &str, lines: &[&str]| Source::new(path, lines.join("\n"));
    let one = file("a.rs", &["a", "b", "c", "// x", "d", "}", "e", "f", "g"]);
    let two = file("b.rs", &["z", "a", "b", "c", "d", "e", "f"]);
    let three = file("c.rs", &["a", "b", "c", "d", "e"]);
    assert_eq!(shared_lines(&[&one, &two, &three]), (12, 19));
}
