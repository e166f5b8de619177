//! The largest logits of rows, against a sort.

use super::{Input, TYPES, Type};
use crate::kernels::cpu::testing::numbers;

const VOCAB: usize = 1003;

/// What a kernel says of a row.
struct Told {
    state: u32,
    ln_sum: f32,
    /// Ids with their logits, in order of id.
    best: Vec<(u32, f32)>,
}

/// Asks for so many of the largest of each row that is named.
fn ask(
    logits: &[Vec<f32>],
    asked: &[(u32, u32)],
    room: usize,
    dtype: Type,
    seed: u32,
) -> Option<Vec<Told>> {
    let (rows, counts): (Vec<u32>, Vec<u32>) = asked.iter().copied().unzip();
    let input = Input::default()
        .indices(&[VOCAB as u32, room as u32])
        .numbers(&logits.concat())
        .indices(&rows)
        .indices(&counts);
    let words = input.run("pick", dtype, seed)?.remove(0);
    let told = words.chunks_exact(3 + 2 * room).map(|words| {
        let count = (words[1] as usize).min(room);
        let (ids, bits) = words[3..].split_at(room);
        let mut best: Vec<_> = ids[..if words[0] == 0 { count } else { 0 }]
            .iter()
            .zip(bits)
            .map(|(&id, &bits)| (id, f32::from_bits(bits)))
            .collect();
        best.sort_by_key(|one| one.0);
        Told {
            state: words[0],
            ln_sum: f32::from_bits(words[2]),
            best,
        }
    });
    Some(told.collect())
}

fn ln_sum(row: &[f32]) -> f64 {
    let peak = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let parts = row.iter().map(|&x| (f64::from(x) - f64::from(peak)).exp());
    parts.sum::<f64>().ln()
}

#[test]
fn the_largest_are_told_with_all_that_equal_the_last_and_the_sum_of_all() {
    for dtype in TYPES {
        let spread = [0.001, 1.0, 5.0, 40.0];
        let logits: Vec<Vec<f32>> = spread
            .iter()
            .zip(50..)
            .map(|(spread, seed)| {
                let row = numbers(VOCAB, seed);
                dtype.rounded(&row.iter().map(|x| x * spread).collect::<Vec<_>>())
            })
            .collect();
        // Not in order, and not all.
        let asked = [(3, 7), (0, 1), (2, 64), (1, 2), (3, 40)];
        for seed in 0..3 {
            let Some(told) = ask(&logits, &asked, 160, dtype, seed) else {
                return;
            };
            for (told, (row, count)) in told.iter().zip(asked) {
                let case = format!("{}, row {row}, {count}", dtype.name());
                let row = &logits[row as usize];
                let mut sorted: Vec<_> =
                    (0..VOCAB as u32).map(|id| (id, row[id as usize])).collect();
                sorted.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
                if told.state != 0 {
                    // Numbers of two bytes have more equals than there is room for.
                    let last = sorted[count as usize - 1].1;
                    let equal = row.iter().filter(|&&x| x >= last).count();
                    assert!(told.state == 2 && equal > 160, "{case}: {equal}");
                    continue;
                }
                assert!(
                    (f64::from(told.ln_sum) - ln_sum(row)).abs() < 2e-6,
                    "{case}"
                );
                if count == 1 {
                    assert_eq!(told.best, sorted[..1], "{case}");
                    continue;
                }
                let last = sorted[count as usize - 1].1;
                let lowest = told.best.iter().map(|one| one.1).fold(f32::MAX, f32::min);
                assert!(lowest <= last, "{case}");
                // All that lie so high, and no others.
                let want: Vec<_> = (0..VOCAB as u32)
                    .map(|id| (id, row[id as usize]))
                    .filter(|one| one.1 >= lowest)
                    .collect();
                assert_eq!(told.best, want, "{case}");
            }
        }
    }
}

#[test]
fn of_equals_the_first_is_picked_and_what_cannot_be_told_is_said() {
    let ties = [(0, 5), (1002, 1002), (517, 900), (31, 32), (127, 128)];
    let mut logits: Vec<Vec<f32>> = Vec::new();
    for (largest, also) in ties {
        let mut row = numbers(VOCAB, largest as u64);
        row[largest] = 9.0;
        row[also] = 9.0;
        logits.push(row);
    }
    logits.push(vec![f32::NEG_INFINITY; VOCAB]);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut row = numbers(VOCAB, 1);
        row[700] = bad;
        logits.push(row);
    }
    // All are equal; only three are possible; some are next to impossible.
    logits.push(vec![0.5; VOCAB]);
    let mut few = vec![f32::NEG_INFINITY; VOCAB];
    (few[3], few[900], few[901]) = (-0.0, 0.0, f32::MIN);
    logits.push(few);
    for (room, count) in [(1, 1), (64, 3)] {
        let asked: Vec<_> = (0..logits.len() as u32).map(|row| (row, count)).collect();
        for seed in 0..3 {
            let Some(told) = ask(&logits, &asked, room, Type::F32, seed) else {
                return;
            };
            for (told, (first, also)) in told.iter().zip(ties) {
                // Among those of lower ids, which come along.
                let largest = told.best.iter().find(|one| one.1 == 9.0);
                assert_eq!((told.state, largest), (0, Some(&(first as u32, 9.0))));
                let second = told.best.iter().any(|one| one.0 == also as u32);
                assert_eq!(second, count > 1 || also == first);
            }
            let states: Vec<_> = told[5..].iter().map(|told| told.state).collect();
            let crowded = if count == 1 { 0 } else { 2 };
            assert_eq!(states, [1, 1, 1, crowded, 0]);
            let ids: Vec<_> = told[9].best.iter().map(|one| one.0).collect();
            assert_eq!(ids, if count == 1 { &[3][..] } else { &[3, 900, 901] });
        }
    }
}
