//! The plain twin of [`super::attend`] for tests: no cache, no blocks, double precision.

use half::bf16;

use super::{Alibi, AlibiBias, Attend};

/// One sequence; row-major numbers `[len, heads or kv_heads, head]`.
pub(crate) struct Sequence<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head: usize,
}

impl Sequence<'_> {
    /// Results of all tokens, `[len, heads, head]`.
    pub(crate) fn attend(&self, how: &Attend) -> Vec<f32> {
        let len = self.q.len() / (self.heads * self.head);
        let mut out = Vec::with_capacity(self.q.len());
        for token in 0..len {
            for head in 0..self.heads {
                out.extend(self.attend_one(token, head, how));
            }
        }
        out
    }

    /// Result of one head of a token, `[head]`.
    pub(crate) fn attend_one(&self, token: usize, head: usize, how: &Attend) -> Vec<f32> {
        let kv_head = head / (self.heads / self.kv_heads);
        let q = &self.q[(token * self.heads + head) * self.head..][..self.head];
        let first = (token + 1).saturating_sub(how.window.unwrap_or(usize::MAX));
        let of = |numbers: &'_ [f32], key: usize, element: usize| {
            f64::from(numbers[(key * self.kv_heads + kv_head) * self.head + element])
        };
        let score = |key: usize| {
            let dot: f64 = (0..self.head)
                .map(|element| f64::from(q[element]) * of(self.k, key, element))
                .sum();
            let score = dot * f64::from(how.scale);
            let score = how.softcap.map_or(score, |cap| {
                f64::from(cap) * (score / f64::from(cap)).tanh()
            });
            score
                + how
                    .alibi
                    .as_ref()
                    .map_or(0.0, |alibi| bias(alibi, head, key, token))
                + how.look_back.as_ref().map_or(0.0, |look_back| {
                    let (numbers, reach) = look_back.of_heads(head, 1);
                    f64::from(numbers[(token - key).min(reach - 1)])
                })
        };
        let scores: Vec<f64> = (first..=token).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let element = |element: usize| {
            let terms = weights
                .iter()
                .enumerate()
                .map(|(index, weight)| weight * of(self.v, first + index, element));
            (terms.sum::<f64>() / total) as f32
        };
        (0..self.head).map(element).collect()
    }
}

/// ALiBi's part of a score.
fn bias(alibi: &Alibi, head: usize, key: usize, query: usize) -> f64 {
    let slope = f64::from(alibi.slopes[head]);
    match alibi.bias {
        AlibiBias::Distance => slope * (key as f64 - query as f64),
        AlibiBias::Rounded { factor } => {
            let product = bf16::from_f64(slope).to_f64() * bf16::from_f64(key as f64).to_f64();
            f64::from(factor) * bf16::from_f64(product).to_f64()
        }
    }
}
