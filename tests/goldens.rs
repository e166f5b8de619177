//! The laws that every architecture keeps, checked over every folder of `models/tiny`, and what is refused.
//! The reference values come from transformers; `models/tiny/make.py` made them.

mod adapters;
mod elsewhere;
mod gguf;
#[cfg(feature = "cuda")]
mod gpus;
mod packed;
mod player;
mod ranks;
mod refusals;
mod spellings;

use std::path::Path;

use sconce_models::LoadOptions;
use sconce_nn::weights::{self, HostTensor, StoredDtype, WeightError, WeightSource};
use sconce_nn::{KvDtype, Solo};
use sconce_testkit::close::{Tolerance, difference};
use sconce_testkit::golden::Golden;

use player::{Player, Sequence};

fn all() -> Vec<Golden> {
    Golden::all().expect("the goldens of models/tiny")
}

#[track_caller]
fn check(golden: &Golden, case: &str, got: &[f32], want: &[f32], tolerance: Tolerance) {
    if let Some(difference) = difference(got, want, tolerance) {
        panic!("{}, {case}: {difference}", golden.name);
    }
}

#[test]
fn logits_equal_the_reference() {
    for golden in all() {
        let mut player = Player::open(&golden.dir);
        for run in &golden.runs {
            let got = player.logits(&run.ids, &[run.ids.len()]);
            check(&golden, &run.prompt, &got, &run.logits, Tolerance::F32);
        }
    }
}

#[test]
fn greedy_tokens_equal_the_reference() {
    for golden in all() {
        let mut player = Player::open(&golden.dir);
        for run in &golden.runs {
            let got = player.greedy(&run.ids, run.greedy.len());
            assert_eq!(got, run.greedy, "{}: {}", golden.name, run.prompt);
        }
    }
}

#[test]
fn token_by_token_equals_the_whole_prompt() {
    for golden in all() {
        let mut player = Player::open(&golden.dir);
        for run in &golden.runs {
            let whole = player.logits(&run.ids, &[run.ids.len()]);
            let single = player.logits(&run.ids, &[1]);
            check(&golden, &run.prompt, &single, &whole, Tolerance::EXACT);
        }
    }
}

#[test]
fn chunks_in_scattered_blocks_equal_the_whole_prompt() {
    for golden in all() {
        let mut whole = Player::open(&golden.dir);
        let mut scattered = Player::open(&golden.dir).shuffled();
        for run in &golden.runs {
            let want = whole.logits(&run.ids, &[run.ids.len()]);
            for chunks in [&[7][..], &[32], &[33, 1, 5], &[2, 31, 40], &[64, 3]] {
                let got = scattered.logits(&run.ids, chunks);
                check(
                    &golden,
                    &format!("chunks {chunks:?}"),
                    &got,
                    &want,
                    Tolerance::EXACT,
                );
            }
        }
    }
}

#[test]
fn a_shared_prefix_equals_a_prefix_of_ones_own() {
    for golden in all() {
        let mut player = Player::open(&golden.dir);
        let long = golden
            .runs
            .iter()
            .max_by_key(|run| run.ids.len())
            .expect("runs");
        let mut first = Sequence {
            tokens: long.ids.clone(),
            ..Sequence::default()
        };
        player.step(&mut [&mut first], &[long.ids.len()]);
        let mut ids = long.ids[..64].to_vec();
        ids.extend(&golden.runs[1].ids);
        let mut second = Sequence {
            tokens: ids.clone(),
            blocks: first.blocks[..2].to_vec(),
            cached: 64,
            adapter: None,
        };
        let got = player.step(&mut [&mut second], &[ids.len() - 64]).remove(0);
        let want = player.logits(&ids, &[ids.len()]);
        check(
            &golden,
            "shared prefix",
            &got,
            &want[64 * long.vocab..],
            Tolerance::EXACT,
        );
    }
}

#[test]
fn a_row_in_a_mixed_batch_equals_the_row_alone() {
    for golden in all() {
        let mut player = Player::open(&golden.dir).shuffled();
        let alone: Vec<_> = golden
            .runs
            .iter()
            .map(|run| player.logits(&run.ids, &[run.ids.len()]))
            .collect();
        let start = |run: &sconce_testkit::golden::Run| Sequence {
            tokens: run.ids.clone(),
            ..Sequence::default()
        };
        let mut sequences: Vec<Sequence> = golden.runs.iter().map(start).collect();
        let mut together = vec![Vec::new(); sequences.len()];
        // Prompts, chunks and single tokens side by side, in changing company, until all are done.
        for turn in 0.. {
            let mut rows: Vec<(usize, &mut Sequence)> = sequences
                .iter_mut()
                .enumerate()
                .filter(|(_, s)| s.cached < s.tokens.len())
                .collect();
            if rows.is_empty() {
                break;
            }
            rows.retain(|(i, sequence)| *i != turn % 3 || sequence.tokens.len() < 5);
            let count = |(i, s): &(usize, &mut Sequence)| {
                [1, 40, 2, 9][(i + turn) % 4].min(s.tokens.len() - s.cached)
            };
            let counts: Vec<usize> = rows.iter().map(count).collect();
            let (which, mut rows): (Vec<usize>, Vec<&mut Sequence>) = rows.into_iter().unzip();
            if rows.is_empty() {
                continue;
            }
            for (i, mut logits) in which.into_iter().zip(player.step(&mut rows, &counts)) {
                together[i].append(&mut logits);
            }
        }
        for (run, (got, want)) in golden.runs.iter().zip(together.iter().zip(&alone)) {
            check(&golden, &run.prompt, got, want, Tolerance::EXACT);
        }
    }
}

#[test]
fn only_the_sampled_tokens_have_logits() {
    for golden in all() {
        let mut player = Player::open(&golden.dir);
        let run = &golden.runs[2];
        let all = player.logits(&run.ids, &[run.ids.len()]);
        let row = |i: usize| all[i * run.vocab..(i + 1) * run.vocab].to_vec();
        let last = run.ids.len() - 1;
        let got = player.sampled(&run.ids, &[3, last as u32]);
        check(
            &golden,
            "two of them",
            &got,
            &[row(3), row(last)].concat(),
            Tolerance::EXACT,
        );
        assert!(player.sampled(&run.ids, &[]).is_empty());
    }
}

#[test]
fn torch_files_in_one_piece_or_in_shards_compute_the_same() {
    let bins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/bins");
    for name in ["llama", "gpt2", "bloom"] {
        let golden = Golden::tiny(name).expect("a folder of models/tiny");
        let run = &golden.runs[3];
        let want = Player::open(&golden.dir).logits(&run.ids, &[run.ids.len()]);
        for form in ["one", "sharded"] {
            let source = weights::open(&bins.join(name).join(form)).expect("a torch checkpoint");
            let options = LoadOptions::default();
            let player = Player::load(&golden.dir, &*source, Box::new(Solo), &options);
            let got = player.expect("loadable").logits(&run.ids, &[run.ids.len()]);
            check(&golden, form, &got, &want, Tolerance::EXACT);
        }
    }
}

/// A checkpoint whose matrices are rounded to a shorter type, and stored in it or widened again.
struct Rounded<'a> {
    source: &'a dyn WeightSource,
    to: StoredDtype,
    stored: StoredDtype,
}

impl WeightSource for Rounded<'_> {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        let tensor = self.source.get(name)?;
        // Norms stay f32 whatever the type of weights, also those of several heads in one matrix.
        if tensor.shape().len() < 2 || name.contains("norm") {
            Ok(tensor)
        } else {
            tensor.to_dtype(self.to)?.to_dtype(self.stored)
        }
    }

    fn total_bytes(&self) -> u64 {
        let bytes = |name: &String| self.get(name).map_or(0, |tensor| tensor.byte_len() as u64);
        self.names().iter().map(bytes).sum()
    }

    fn describe(&self) -> String {
        self.source.describe()
    }
}

/// Length of the difference over the length of what is wanted.
fn relative_distance(got: &[f32], want: &[f32]) -> f64 {
    let squares = |numbers: &mut dyn Iterator<Item = f32>| -> f64 {
        numbers.map(|number| f64::from(number).powi(2)).sum()
    };
    let apart = squares(&mut got.iter().zip(want).map(|(got, want)| got - want));
    (apart / squares(&mut want.iter().copied())).sqrt()
}

#[test]
fn half_precision_weights_compute_as_their_f32_values() {
    for golden in all() {
        let run = &golden.runs[2];
        let source = weights::open(&golden.dir).expect("a checkpoint");
        let logits = |source: &dyn WeightSource, dtype| {
            let options = LoadOptions {
                dtype,
                ..LoadOptions::default()
            };
            let player = Player::load(&golden.dir, source, Box::new(Solo), &options);
            player.expect("loadable").logits(&run.ids, &[run.ids.len()])
        };
        for to in [StoredDtype::F16, StoredDtype::BF16] {
            let stored = logits(
                &Rounded {
                    source: &*source,
                    to,
                    stored: to,
                },
                None,
            );
            let widened = logits(
                &Rounded {
                    source: &*source,
                    to,
                    stored: StoredDtype::F32,
                },
                None,
            );
            let converted = logits(&*source, Some(to));
            let upcast = logits(
                &Rounded {
                    source: &*source,
                    to,
                    stored: to,
                },
                Some(StoredDtype::F32),
            );
            check(
                &golden,
                &format!("stored as {to}"),
                &stored,
                &widened,
                Tolerance::F32,
            );
            let case = format!("converted to {to}");
            if to == StoredDtype::BF16 {
                // Asked for bf16, products round their input too, on machines that multiply such numbers.
                // That moves tokens on the border between two experts to the other one.
                let config = std::fs::read_to_string(golden.dir.join("config.json"));
                let has_experts = config.expect("readable").contains("experts");
                let limit = if has_experts { 0.2 } else { 0.05 };
                let apart = relative_distance(&converted, &stored);
                assert!(apart < limit, "{}, {case}: {apart}", golden.name);
            } else {
                check(&golden, &case, &converted, &stored, Tolerance::EXACT);
            }
            check(
                &golden,
                &format!("widened from {to}"),
                &upcast,
                &widened,
                Tolerance::EXACT,
            );
        }
    }
}

/// A checkpoint of which one matrix in each layer has a number that float16 does not hold.
struct Large<'a>(&'a dyn WeightSource);

impl WeightSource for Large<'_> {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        let tensor = self.0.get(name)?;
        if !name.ends_with("o_proj.weight") {
            return Ok(tensor);
        }
        let mut numbers = tensor.to_vec_f32()?;
        numbers[0] = 65_520.0;
        Ok(HostTensor::from_f32(numbers, tensor.shape()))
    }

    fn total_bytes(&self) -> u64 {
        self.0.total_bytes()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[test]
fn weights_that_float16_does_not_hold_stay_as_they_are() {
    let golden = all().into_iter().find(|golden| golden.name == "llama");
    let golden = golden.expect("the tiny Llama");
    let source = weights::open(&golden.dir).expect("a checkpoint");
    let run = &golden.runs[0];
    let logits = |dtype| {
        let options = LoadOptions {
            dtype,
            ..LoadOptions::default()
        };
        let player = Player::load(&golden.dir, &Large(&*source), Box::new(Solo), &options);
        player.expect("loadable").logits(&run.ids, &[run.ids.len()])
    };
    let (whole, half) = (logits(None), logits(Some(StoredDtype::F16)));
    assert!(half.iter().all(|logit| logit.is_finite()), "{half:?}");
    let apart = relative_distance(&half, &whole);
    assert!(apart < 0.02, "{apart}");
}

#[test]
fn a_cache_in_bf16_changes_little_and_the_same_for_any_chunks() {
    for golden in all() {
        let run = &golden.runs[2];
        let source = weights::open(&golden.dir).expect("a checkpoint");
        let logits = |cache, chunk| {
            let options = LoadOptions {
                cache,
                ..LoadOptions::default()
            };
            let player = Player::load(&golden.dir, &*source, Box::new(Solo), &options);
            let mut player = player.expect("loadable");
            player.logits(&run.ids, &[chunk])
        };
        let (exact, rounded) = (
            logits(KvDtype::F32, run.ids.len()),
            logits(KvDtype::BF16, run.ids.len()),
        );
        let config = std::fs::read_to_string(golden.dir.join("config.json"));
        let has_experts = config.expect("readable").contains("experts");
        let limit = if has_experts { 0.2 } else { 0.03 };
        let apart = relative_distance(&rounded, &exact);
        assert!(apart > 0.0 && apart < limit, "{}: {apart}", golden.name);
        assert!(
            logits(KvDtype::BF16, 3) == rounded,
            "{} in chunks",
            golden.name
        );
    }
}
