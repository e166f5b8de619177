//! Arithmetic of latents.

/// The sum of vectors times numbers. All have the length of the first.
pub(super) fn sum(terms: &[(f32, &[f32])]) -> Vec<f32> {
    let Some(((factor, first), rest)) = terms.split_first() else {
        return Vec::new();
    };
    let mut out: Vec<f32> = first.iter().map(|x| factor * x).collect();
    for (factor, vector) in rest {
        for (out, x) in out.iter_mut().zip(*vector) {
            *out += factor * x;
        }
    }
    out
}

/// Each image's numbers brought between minus and plus its quantile, if that is above 1, and divided by it:
/// `_threshold_sample` of diffusers.
pub(super) fn threshold(sample: &mut [f32], images: usize, ratio: f64, highest: f32) {
    let each = sample.len() / images.max(1);
    for image in sample.chunks_exact_mut(each.max(1)) {
        let mut sizes: Vec<f32> = image.iter().map(|x| x.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let place = ratio * (sizes.len() - 1) as f64;
        let (low, share) = (place.floor() as usize, place.fract() as f32);
        let high = sizes[(low + 1).min(sizes.len() - 1)];
        let quantile = sizes[low] + share * (high - sizes[low]);
        let limit = quantile.max(1.0).min(highest);
        for x in image {
            *x = x.clamp(-limit, limit) / limit;
        }
    }
}
