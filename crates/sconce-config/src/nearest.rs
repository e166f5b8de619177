//! "Did you mean": the known names that are nearest to an unknown one.

use strsim::damerau_levenshtein;

/// All candidates at the smallest distance, if that is small for the length of the name. The
/// prefix `option.`, forgotten or superfluous, and the case of letters count for nothing.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let measured: Vec<_> = candidates
        .map(|known| (distance(name, known), known))
        .collect();
    let Some(best) = measured.iter().map(|(distance, _)| *distance).min() else {
        return vec![];
    };
    if best > (bare(name).chars().count() / 3).max(1) {
        return vec![];
    }
    measured
        .into_iter()
        .filter(|(distance, _)| *distance == best)
        .map(|(_, known)| known)
        .collect()
}

fn distance(name: &str, known: &str) -> usize {
    let (name, known) = (name.to_lowercase(), known.to_lowercase());
    damerau_levenshtein(&name, &known).min(damerau_levenshtein(bare(&name), bare(&known)))
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
}
