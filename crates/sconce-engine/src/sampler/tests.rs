//! Picks with and without all logits, and what changes them.

use super::*;
use proptest::prelude::*;

fn sampler(params: &Sampling, seed: u64) -> Sampler {
    Sampler::new(params, &[], 0, &[], seed)
}

fn pick(sampler: &mut Sampler, logits: &[f32]) -> Result<u32, SamplerError> {
    sampler
        .pick(logits, 0, &mut Scratch::default())
        .map(|picked| picked.token)
}

fn drawing() -> Sampling {
    Sampling {
        do_sample: true,
        ..Sampling::default()
    }
}

#[test]
fn greedy_takes_the_lowest_id_of_the_highest_logits() {
    let mut greedy = sampler(&Sampling::default(), 0);
    let picked = greedy
        .pick(&[0.0, 2.0, -1.0, 2.0], 3, &mut Scratch::default())
        .unwrap();
    let total: f64 = [0.0f64, 2.0, -1.0, 2.0].iter().map(|x| x.exp()).sum();
    let (high, low) = ((2.0 - total.ln()) as f32, (0.0 - total.ln()) as f32);
    assert_eq!(picked.token, 1);
    let near = |got: f32, wanted: f32| (got - wanted).abs() < 1e-6;
    assert!(near(picked.logprob, high), "{picked:?}");
    let listed = [(1, high), (3, high), (0, low)];
    assert_eq!(picked.top.len(), listed.len());
    for ((token, logprob), (wanted, likely)) in picked.top.iter().zip(listed) {
        assert!(*token == wanted && near(*logprob, likely), "{picked:?}");
    }
}

#[test]
fn log_probabilities_are_those_of_the_unmodified_logits() {
    let params = Sampling {
        repetition_penalty: 1e9,
        temperature: 0.1,
        top_k: 1,
        ..drawing()
    };
    let mut sampler = Sampler::new(&params, &[], 0, &[1], 7);
    let logits = [1.0, 2.0, 0.5];
    let picked = sampler.pick(&logits, 1, &mut Scratch::default()).unwrap();
    assert_eq!(picked.token, 0);
    assert_eq!(picked.logprob, log_softmax_at(&logits, 0));
    assert_eq!(picked.top, [(1, log_softmax_at(&logits, 1))]);
}

#[test]
fn broken_logits_are_errors_that_name_the_token() {
    let mut greedy = sampler(&Sampling::default(), 0);
    for value in [f32::NAN, f32::INFINITY] {
        let error = pick(&mut greedy, &[1.0, value, value]).unwrap_err();
        assert!(
            matches!(error, SamplerError::NotFinite { token: 1, .. }),
            "{error}"
        );
    }
    let nothing = [f32::NEG_INFINITY; 3];
    assert_eq!(
        pick(&mut greedy, &nothing),
        Err(SamplerError::Nothing { vocab: 3 })
    );
    assert_eq!(pick(&mut greedy, &[]), Err(SamplerError::Empty));
    assert_eq!(pick(&mut greedy, &[f32::NEG_INFINITY, -1.0]), Ok(1));
}

#[test]
fn stops_are_forbidden_before_min_new_tokens() {
    let mut greedy = Sampler::new(&Sampling::default(), &[2, 99], 2, &[], 0);
    let logits = [0.0, 1.0, 5.0];
    let picks: Vec<_> = (0..3)
        .map(|_| pick(&mut greedy, &logits).unwrap())
        .collect();
    assert_eq!(picks, [1, 1, 2]);
    let mut only = Sampler::new(&Sampling::default(), &[0], 1, &[], 0);
    let error = pick(&mut only, &[1.0]).unwrap_err();
    assert_eq!(
        error,
        SamplerError::Forbidden {
            stops: 1,
            min_new_tokens: 1
        }
    );
}

#[test]
fn draws_follow_the_probabilities() {
    let shares: [f64; 6] = [0.4, 0.25, 0.15, 0.1, 0.07, 0.03];
    let logits = shares.map(|share| share.ln() as f32);
    let (draws, mut counts) = (20_000, [0.0; 6]);
    let mut scratch = Scratch::default();
    // One sequence of many tokens and many sequences of one token.
    let mut long = sampler(&drawing(), 3);
    for seed in 0..draws / 2 {
        for token in [
            long.pick(&logits, 0, &mut scratch).unwrap().token,
            sampler(&drawing(), seed)
                .pick(&logits, 0, &mut scratch)
                .unwrap()
                .token,
        ] {
            counts[token as usize] += 1.0;
        }
    }
    let expected = shares.map(|share| share * draws as f64);
    let terms = counts
        .iter()
        .zip(expected)
        .map(|(count, e)| (count - e) * (count - e) / e);
    let chi_square: f64 = terms.sum();
    // 0.999 quantile for 5 degrees of freedom.
    assert!(
        chi_square < 20.5,
        "{chi_square}: {counts:?} instead of {expected:?}"
    );
}

proptest! {
    #[test]
    fn a_pick_depends_on_seed_index_logits_and_history_only(
        rows in proptest::collection::vec(proptest::collection::vec(-9.0f32..9.0, 40), 1..6),
        seed in any::<u64>(),
        top_k in 0usize..12,
        top_p in 0.1f32..1.1,
        typical_p in 0.1f32..1.1,
        penalty in 0.5f32..2.0,
    ) {
        let params = Sampling {
            top_k, top_p, typical_p, repetition_penalty: penalty, presence_penalty: 0.3,
            ..drawing()
        };
        let mut fresh = sampler(&params, seed);
        let mut shared = sampler(&params, seed);
        let mut noise = sampler(&drawing(), seed ^ 1);
        let mut scratch = Scratch::default();
        for logits in &rows {
            let alone = fresh.pick(logits, 2, &mut Scratch::default()).unwrap();
            noise.pick(&[1.0; 90], 5, &mut scratch).unwrap();
            prop_assert_eq!(alone, shared.pick(logits, 2, &mut scratch).unwrap());
        }
    }

    #[test]
    fn extreme_finite_logits_and_parameters_give_a_token(
        logits in proptest::collection::vec(
            prop_oneof![Just(f32::MIN), Just(f32::MAX), Just(0.0), Just(f32::NEG_INFINITY), any::<f32>()], 1..30),
        temperature in prop_oneof![Just(1e-38f32), Just(1e38), Just(1.0), Just(0.0), Just(f32::NAN)],
        share in prop_oneof![Just(1e-30f32), Just(0.0), Just(1.0), Just(0.5), Just(f32::NAN)],
        penalty in prop_oneof![Just(1e-38f32), Just(1e38), Just(1.0)],
    ) {
        let params = Sampling {
            temperature, top_p: share, min_p: share, typical_p: share, repetition_penalty: penalty,
            frequency_penalty: penalty, ..drawing()
        };
        let mut sampler = Sampler::new(&params, &[], 0, &[0, 1, 2], 1);
        for _ in 0..3 {
            match pick(&mut sampler, &logits) {
                Ok(token) => prop_assert!(logits[token as usize] > f32::NEG_INFINITY),
                Err(_) => prop_assert!(
                    logits.iter().any(|x| x.is_nan() || *x == f32::INFINITY)
                        || logits.iter().all(|&x| x == f32::NEG_INFINITY)
                ),
            }
        }
    }
}

/// The largest of a row, with those that equal the last of them; of one the first alone.
fn best_of(logits: &[f32], count: u32) -> Best {
    let mut sorted = logits.to_vec();
    sorted.sort_by(|one, other| other.total_cmp(one));
    let last = sorted[(count as usize).min(sorted.len()) - 1];
    let found = (0..).zip(logits).filter(|(_, logit)| **logit >= last);
    let most = if count == 1 { 1 } else { usize::MAX };
    let (ids, logits) = found.take(most).map(|(id, &logit)| (id, logit)).unzip();
    let softmax = Softmax::of(&sorted).unwrap();
    Best {
        ids,
        logits,
        ln_sum: softmax.ln_sum(),
    }
}

proptest! {
    #[test]
    fn the_largest_logits_give_the_picks_that_all_of_them_give(
        logits in proptest::collection::vec((0u8..60).prop_map(|n| f32::from(n) / 7.0), 3..300),
        do_sample: bool,
        top_k in 1usize..90,
        cuts in (0.3f32..1.2, 0.0f32..0.2, 0.3f32..1.2),
        temperature in 0.2f32..3.0,
        top in 0usize..7,
        seed: u64,
    ) {
        let (top_p, min_p, typical_p) = (cuts.0.min(1.0), cuts.1, cuts.2.min(1.0));
        let params = Sampling { do_sample, top_k, top_p, min_p, typical_p, temperature, ..Sampling::default() };
        let (mut whole, mut part) = (sampler(&params, seed), sampler(&params, seed));
        let mut scratch = Scratch::default();
        for _ in 0..5 {
            let count = part.best(top, logits.len());
            prop_assert_eq!(count == 0, do_sample && top_k >= logits.len());
            if count == 0 {
                break;
            }
            let best = best_of(&logits, count);
            let got = part.pick_of(Logits::Best(&best), top, &mut scratch).unwrap();
            let want = whole.pick(&logits, top, &mut scratch).unwrap();
            // The normaliser is summed in another order.
            prop_assert!((got.logprob - want.logprob).abs() < 1e-5);
            let ids = |picked: &Picked| picked.top.iter().map(|one| one.0).collect::<Vec<_>>();
            prop_assert_eq!((got.token, ids(&got)), (want.token, ids(&want)));
        }
    }
}

#[test]
fn whatever_changes_scores_needs_all_of_them() {
    let top = Sampling {
        top_k: 40,
        ..drawing()
    };
    assert_eq!(sampler(&top, 0).best(0, 1000), 40);
    assert_eq!(sampler(&top, 0).best(50, 1000), 50);
    assert_eq!(
        sampler(
            &Sampling {
                top_k: 1,
                ..drawing()
            },
            0
        )
        .best(0, 1000),
        2
    );
    assert_eq!(sampler(&Sampling::default(), 0).best(0, 1000), 1);
    let all = [
        drawing(),
        Sampling {
            top_k: MOST_BEST + 1,
            ..drawing()
        },
        Sampling {
            repetition_penalty: 1.1,
            ..top.clone()
        },
        Sampling {
            frequency_penalty: 0.1,
            ..Sampling::default()
        },
        Sampling {
            presence_penalty: 0.1,
            ..Sampling::default()
        },
        Sampling {
            logit_bias: vec![(1, 1.0)],
            ..Sampling::default()
        },
    ];
    for params in all {
        assert_eq!(sampler(&params, 0).best(0, 1000), 0, "{params:?}");
    }
    // Until stops are allowed.
    let mut least = Sampler::new(&Sampling::default(), &[2], 1, &[], 0);
    assert_eq!(least.best(0, 1000), 0);
    pick(&mut least, &[0.0, 1.0, 2.0]).unwrap();
    assert_eq!(least.best(0, 1000), 1);
}
