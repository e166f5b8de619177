//! "Did you mean": the known names that are nearest to an unknown one.

use strsim::damerau_levenshtein;

/// All candidates at the smallest distance, if that is small for the length of the name. The
/// prefix `option.`, forgotten or superfluous, and the case of letters count for nothing.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_lowercase();
    let mut best = (bare(&name).chars().count() / 3).max(1);
    let mut found = Vec::new();
    for known in candidates {
        let Some(distance) = distance(&name, &known.to_lowercase(), best) else {
            continue;
        };
        if distance < best {
            best = distance;
            found.clear();
        }
        found.push(known);
    }
    found
}

/// The distance, if it is at most `most`.
fn distance(name: &str, known: &str, most: usize) -> Option<usize> {
    let pairs = [(name, known), (bare(name), bare(known))];
    let near = pairs
        .into_iter()
        // Nearly all candidates end here, for a fraction of the price.
        .filter(|(a, b)| at_least(a, b) <= most)
        .map(|(a, b)| damerau_levenshtein(a, b));
    near.min().filter(|distance| *distance <= most)
}

/// A lower bound of the distance: every edit adds, removes or changes one letter at most.
fn at_least(a: &str, b: &str) -> usize {
    const KINDS: usize = 64;
    let mut surplus = [0_i32; KINDS];
    for (text, step) in [(a, 1), (b, -1)] {
        for byte in text.bytes() {
            surplus[usize::from(byte) % KINDS] += step;
        }
    }
    let sum = |sign: i32| surplus.iter().map(|n| (n * sign).max(0)).sum::<i32>();
    // A letter beyond ASCII has up to four bytes; an edit may change them all.
    let bytes_per_edit = if a.is_ascii() && b.is_ascii() { 1 } else { 4 };
    usize::try_from(sum(1).max(sum(-1))).unwrap_or(0) / bytes_per_edit
}

fn bare(name: &str) -> &str {
    name.strip_prefix("option.").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_any_kind_find_the_name() {
        let known = [
            "option.dtype",
            "option.max_rolling_batch_size",
            "job_queue_size",
        ];
        let find = |name: &str| nearest(name, known.into_iter());
        for slip in [
            "dtype",
            "option.Dtype",
            "option.dtpye",
            "option.dtyp",
            "optoin.dtype",
        ] {
            assert_eq!(find(slip), ["option.dtype"], "{slip}");
        }
        assert_eq!(find("option.job_queue_size"), ["job_queue_size"]);
        assert_eq!(
            find("option.max_rolling_batchsize"),
            ["option.max_rolling_batch_size"]
        );
        assert_eq!(find("option.anything_else"), [""; 0]);
    }

    #[test]
    fn the_bound_is_one() {
        for (a, b) in [
            ("dtype", "dtpye"),
            ("dtype", "type"),
            ("größe", "grosse"),
            ("a", "bcd"),
            ("option.x", "x"),
        ] {
            assert!(at_least(a, b) <= damerau_levenshtein(a, b), "{a} {b}");
        }
    }
}
