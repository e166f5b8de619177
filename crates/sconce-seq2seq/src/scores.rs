//! Log-probabilities of a row of logits, and the best of many scores.

/// Fails with the first logit that is no number, or plus infinity.
pub(crate) fn require_numbers(logits: &[f32]) -> Result<(), String> {
    let broken = logits
        .iter()
        .position(|x| x.is_nan() || *x == f32::INFINITY);
    match broken {
        None => Ok(()),
        Some(token) => Err(format!(
            "the model gave the logit {} for token {token}",
            logits[token]
        )),
    }
}

/// The log-probabilities of the logits, or which of them is no number.
pub(crate) fn log_softmax(logits: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
    require_numbers(logits)?;
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|x| f64::from((x - largest).exp())).sum();
    let total = total.ln() as f32;
    out.clear();
    out.extend(logits.iter().map(|x| x - largest - total));
    Ok(())
}

/// The indices of the `count` largest scores, largest first, of equals the lower index first.
pub(crate) fn best(scores: impl Iterator<Item = f32>, count: usize) -> Vec<(usize, f32)> {
    let mut found: Vec<(usize, f32)> = Vec::with_capacity(2 * count + 1);
    let mut floor = f32::NEG_INFINITY;
    let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    for (index, score) in scores.enumerate() {
        // An equal one with a higher index displaces none.
        if found.len() >= count && score <= floor {
            continue;
        }
        found.push((index, score));
        if found.len() == 2 * count + 1 {
            found.select_nth_unstable_by(count - 1, order);
            found.truncate(count);
            floor = found
                .iter()
                .map(|(_, score)| *score)
                .fold(f32::INFINITY, f32::min);
        }
    }
    found.sort_unstable_by(order);
    found.truncate(count);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_those_of_a_sort() {
        let mut random = fastrand::Rng::with_seed(5);
        for count in [1, 2, 7, 30] {
            let scores: Vec<f32> = (0..400).map(|_| f32::from(random.u8(..40))).collect();
            let mut sorted: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            sorted.truncate(count);
            assert_eq!(best(scores.into_iter(), count), sorted);
        }
        assert_eq!(best([1.0].into_iter(), 3), [(0, 1.0)]);
    }

    #[test]
    fn log_probabilities_add_up_and_what_is_no_number_is_named() {
        let mut out = Vec::new();
        log_softmax(&[1.0, f32::NEG_INFINITY, 3.0], &mut out).unwrap();
        let total: f32 = out.iter().map(|x| x.exp()).sum();
        assert!((total - 1.0).abs() < 1e-6 && out[1] == f32::NEG_INFINITY);
        let error = log_softmax(&[0.0, f32::NAN], &mut out).unwrap_err();
        assert!(error.contains("token 1"), "{error}");
    }
}
