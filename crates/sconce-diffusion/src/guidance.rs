//! Classifier-free guidance: a prediction for the text is led away from that for its opposite.

/// `other + scale * (text - other)`, with the spread of `text` as far as `rescale` says (Lin et al., 2023).
pub(crate) fn guided(
    text: &[f32],
    other: &[f32],
    scale: f32,
    rescale: f32,
    images: usize,
) -> Vec<f32> {
    let pairs = text.iter().zip(other);
    let mut out: Vec<f32> = pairs
        .map(|(text, other)| other + scale * (text - other))
        .collect();
    if rescale > 0.0 {
        let each = out.len() / images.max(1);
        for (out, text) in out.chunks_exact_mut(each).zip(text.chunks_exact(each)) {
            let ratio = spread(text) / spread(out);
            for x in out {
                *x = rescale * (*x * ratio) + (1.0 - rescale) * *x;
            }
        }
    }
    out
}

/// The standard deviation of a sample.
fn spread(all: &[f32]) -> f32 {
    let count = all.len() as f64;
    let mean = all.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let squares = all
        .iter()
        .map(|x| (f64::from(*x) - mean).powi(2))
        .sum::<f64>();
    (squares / (count - 1.0)).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guidance_leads_away_and_rescaling_gives_the_spread_of_the_text_back() {
        let (text, other) = ([1.0, 3.0, -1.0, 5.0], [0.0, 1.0, 1.0, 1.0]);
        let plain = guided(&text, &other, 3.0, 0.0, 2);
        assert_eq!(plain, [3.0, 7.0, -5.0, 13.0]);
        let whole = guided(&text, &other, 3.0, 1.0, 2);
        assert!((spread(&whole[..2]) - spread(&text[..2])).abs() < 1e-6);
        assert!((spread(&whole[2..]) - spread(&text[2..])).abs() < 1e-6);
    }
}
