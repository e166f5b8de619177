//! What transformers' logits processors keep and how likely, for a table of settings.
//!
//! Made by `tests/fixtures/sampling/make.py`.

use sconce_core::Sampling;
use serde_json::Value;

use super::{Method, Sampler, Scratch, softmax};

const TOLERANCE: f64 = 1e-5;

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|id| id as u32).collect()
}

fn params(settings: &Value) -> Sampling {
    let float = |key: &str, default: f32| settings[key].as_f64().map_or(default, |x| x as f32);
    Sampling {
        do_sample: true,
        temperature: float("temperature", 1.0),
        top_k: settings["top_k"].as_u64().unwrap_or(0) as usize,
        top_p: float("top_p", 1.0),
        min_p: float("min_p", 0.0),
        typical_p: float("typical_p", 1.0),
        repetition_penalty: float("repetition_penalty", 1.0),
        ..Sampling::default()
    }
}

/// The probabilities that the sampler draws from; 0 for what it does not keep.
fn probabilities(sampler: &Sampler, logits: &[f32]) -> Vec<f64> {
    let mut scores = logits.to_vec();
    sampler.penalties.apply(&mut scores);
    if sampler.picked < sampler.min_new_tokens {
        sampler.forbid_stops(&mut scores);
    }
    let mut scratch = Scratch::default();
    let Method::Draw(filters) = &sampler.method else {
        panic!("the goldens sample")
    };
    filters.keep(&scores, softmax::peak(&scores).unwrap(), &mut scratch);
    let total: f64 = scratch.candidates.iter().map(|c| f64::from(c.weight)).sum();
    let mut probabilities = vec![0.0; logits.len()];
    for candidate in &scratch.candidates {
        probabilities[candidate.id as usize] = f64::from(candidate.weight) / total;
    }
    probabilities
}

#[test]
fn kept_tokens_and_probabilities_are_those_of_transformers() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/sampling/golden.json"
    );
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (prompt, generated) = (ids(&golden["prompt"]), ids(&golden["generated"]));
    let stops = ids(&golden["stops"]);
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let settings = &case["settings"];
        let row = case["logits"].as_u64().unwrap() as usize;
        // What lies below all floats becomes minus infinity.
        let logits = numbers(&golden["logits"][row]);
        let logits: Vec<f32> = logits.into_iter().map(|logit| logit as f32).collect();
        let wanted = numbers(&case["probabilities"]);
        let min_new_tokens = settings["min_new_tokens"].as_u64().unwrap_or(0) as usize;
        let mut sampler = Sampler::new(&params(settings), &stops, min_new_tokens, &prompt, 0);
        for &token in &generated {
            sampler.take(token).unwrap();
        }
        let found = probabilities(&sampler, &logits);
        for (id, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            assert!(
                (*found > 0.0) == (*wanted > 0.0) && (found - wanted).abs() < TOLERANCE,
                "{settings}: token {id} has {found} instead of {wanted}"
            );
        }
    }
}
