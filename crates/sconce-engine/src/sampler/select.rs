//! The largest of many, without sorting them all.

use std::cmp::Ordering;

use sconce_nn::logits;

/// A token among others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// Its id.
    pub(crate) id: u32,
    /// What it is ranked by.
    pub(crate) key: f32,
    /// Its share of the probability, not normalised.
    pub(super) weight: f32,
}

impl Candidate {
    /// Higher keys first, of equal keys the lower id first.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        other.key.total_cmp(&self.key).then(self.id.cmp(&other.id))
    }
}

/// Leaves the `count` largest values in `best`, in order, without weights; fewer if fewer are
/// above minus infinity. Values must not be NaN.
pub(crate) fn largest(values: &[f32], count: usize, best: &mut Vec<Candidate>) {
    best.clear();
    if count == 0 {
        return;
    }
    let full = count.saturating_mul(2).max(128);
    let mut floor = f32::NEG_INFINITY;
    // An equal value with a higher id cannot displace one of `count` that are at least so high.
    logits::visit_above(values, floor, &mut |id, key| {
        best.push(Candidate {
            id: id as u32,
            key,
            weight: 0.0,
        });
        if best.len() == full {
            best.select_nth_unstable_by(count - 1, Candidate::order);
            best.truncate(count);
            floor = best[count - 1].key;
        }
        floor
    });
    best.sort_unstable_by(Candidate::order);
    best.truncate(count);
}

/// The last candidate, in order, of the shortest beginning whose weights reach `mass`; the last
/// of all if none does, `None` of none. Reorders the candidates.
pub(super) fn mass_cut(mut candidates: &mut [Candidate], mass: f64) -> Option<Candidate> {
    const FEW: usize = 32;
    let mut reached = 0.0;
    while candidates.len() > FEW {
        let middle = candidates.len() / 2;
        candidates.select_nth_unstable_by(middle, Candidate::order);
        let (upper, lower) = candidates.split_at_mut(middle);
        let weight: f64 = upper
            .iter()
            .map(|candidate| f64::from(candidate.weight))
            .sum();
        if reached + weight >= mass {
            candidates = upper;
        } else {
            reached += weight;
            candidates = lower;
        }
    }
    candidates.sort_unstable_by(Candidate::order);
    let cut = candidates.iter().find(|candidate| {
        reached += f64::from(candidate.weight);
        reached >= mass
    });
    cut.or(candidates.last()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Small integers, so that sums are exact and ties are common.
    fn candidates(weights: &[u8]) -> Vec<Candidate> {
        let pairs = weights.iter().zip(0..);
        pairs
            .map(|(&w, id)| Candidate {
                id,
                key: f32::from(w % 32),
                weight: f32::from(w),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn the_largest_are_those_of_a_sort(
            values in proptest::collection::vec(any::<u8>(), 0..900),
            count in 0usize..200,
        ) {
            let values: Vec<f32> = values.iter().map(|&v| f32::from(v)).collect();
            let mut best = Vec::new();
            largest(&values, count, &mut best);
            let mut sorted: Vec<_> = values.iter().zip(0..).map(|(&key, id)| Candidate { id, key, weight: 0.0 }).collect();
            sorted.sort_by(Candidate::order);
            sorted.truncate(count);
            prop_assert_eq!(best, sorted);
        }

        #[test]
        fn the_cut_is_where_a_sorted_sum_reaches_the_mass(
            weights in proptest::collection::vec(any::<u8>(), 1..400),
            share in 0.0f64..1.2,
        ) {
            let mut all = candidates(&weights);
            let mass = share * all.iter().map(|c| f64::from(c.weight)).sum::<f64>();
            let mut sorted = all.clone();
            sorted.sort_by(Candidate::order);
            let mut sum = 0.0;
            let at = sorted.iter().position(|c| { sum += f64::from(c.weight); sum >= mass });
            let want = at.map_or(sorted.last(), |at| sorted.get(at)).copied();
            prop_assert_eq!(mass_cut(&mut all, mass), want);
        }
    }
}
