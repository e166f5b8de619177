//! From logits to scores, in f32 and in the order in which numpy and torch compute them.

use sconce_core::task::Function;

/// Exponentials that add up to 1.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut scores: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let total: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= total);
    scores
}

/// Each logit by itself.
pub(crate) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// What a function makes of logits.
pub(crate) fn applied(function: Function, logits: &[f32]) -> Vec<f32> {
    match function {
        Function::Sigmoid => logits.iter().map(|&logit| sigmoid(logit)).collect(),
        Function::Softmax => softmax(logits),
        Function::None => logits.to_vec(),
    }
}

/// The index of the largest number, the first of equal ones.
pub(crate) fn largest(numbers: &[f32]) -> usize {
    let mut best = 0;
    for (index, number) in numbers.iter().enumerate() {
        if *number > numbers[best] {
            best = index;
        }
    }
    best
}

/// The indices of the largest numbers, largest first; equal ones in their order.
pub(crate) fn ranked(numbers: &[f32], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    let by = |a: &usize, b: &usize| numbers[*b].total_cmp(&numbers[*a]).then(a.cmp(b));
    if most < order.len() && most > 0 {
        order.select_nth_unstable_by(most - 1, by);
        order.truncate(most);
    }
    order.sort_unstable_by(by);
    order.truncate(most);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_worked_examples() {
        let scores = softmax(&[1.0, 2.0, 1000.0]);
        assert_eq!(scores, [0.0, 0.0, 1.0]);
        let even = softmax(&[3.0, 3.0]);
        assert_eq!(even, [0.5, 0.5]);
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(applied(Function::None, &[2.5]), [2.5]);
    }

    #[test]
    fn equal_numbers_keep_their_order() {
        let numbers = [0.5, 2.0, 0.5, 2.0, -1.0];
        assert_eq!(ranked(&numbers, 3), [1, 3, 0]);
        assert_eq!(ranked(&numbers, 9), [1, 3, 0, 2, 4]);
        assert_eq!(ranked(&numbers, 0), [0; 0]);
        assert_eq!(largest(&numbers), 1);
    }
}
