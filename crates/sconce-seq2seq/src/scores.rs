//! Log-probabilities of a row of logits.

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

#[cfg(test)]
mod tests {
    use super::*;

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
