//! The goldens on GPUs: those of this machine, or the emulated ones of `make test-cuda`. Where there are none, nothing is
//! tested here.

use sconce_models::{LoadError, LoadOptions};
use sconce_nn::weights::{self, StoredDtype};
use sconce_nn::{Best, SoloOn, Threads, gpus, open_gpu, over_nccl};
use sconce_testkit::close::Tolerance;
use sconce_testkit::golden::{Golden, Run};

use super::player::{Player, Sequence, on_ranks};
use super::{all, check, relative_distance};

/// Whether there are so many GPUs; says so where not. `make test-cuda` knows that there are, so nothing is left out.
#[allow(clippy::print_stdout)]
fn there_are(count: usize) -> bool {
    let found = gpus();
    let enough = matches!(&found, Ok(gpus) if gpus.len() >= count);
    if !enough {
        assert!(
            std::env::var_os("SCONCE_EMULATED_GPUS").is_none(),
            "{found:?}"
        );
        println!("skipped: {count} GPUs are needed, and there are {found:?}");
    }
    enough
}

fn on_one(golden: &Golden, dtype: Option<StoredDtype>) -> Player {
    let options = LoadOptions {
        dtype,
        ..LoadOptions::default()
    };
    with(golden, &options)
}

fn with(golden: &Golden, options: &LoadOptions) -> Player {
    let source = weights::open(&golden.dir).expect("a checkpoint");
    let comm = Box::new(SoloOn(open_gpu(0).expect("a GPU")));
    let player = Player::load(&golden.dir, &*source, comm, options);
    player.unwrap_or_else(|error| panic!("{}: {error}", golden.name))
}

#[test]
fn a_gpu_computes_the_goldens_whole_and_in_chunks() {
    if !there_are(1) {
        return;
    }
    for golden in all() {
        let mut player = on_one(&golden, None).shuffled();
        for run in &golden.runs {
            for chunks in [&[run.ids.len()][..], &[7, 1, 13]] {
                let case = format!("a GPU, {}, chunks of {chunks:?}", run.prompt);
                let got = player.logits(&run.ids, chunks);
                check(&golden, &case, &got, &run.logits, Tolerance::F32);
            }
        }
    }
}

/// Logits of steps in which each of some sequences gets a token: of all, of the first, of all again.
fn together(player: &mut Player, golden: &Golden) -> Vec<Vec<f32>> {
    const STEPS: usize = 4;
    let mut all: Vec<Sequence> = golden
        .runs
        .iter()
        .map(|run| Sequence {
            tokens: run.ids.clone(),
            ..Sequence::default()
        })
        .collect();
    let mut logits = Vec::new();
    for sequence in &mut all {
        let begun = sequence.tokens.len().saturating_sub(3 * STEPS).max(1);
        logits.extend(player.step(&mut [sequence], &[begun]));
    }
    for round in 0..3 {
        for _ in 0..STEPS {
            let left = |sequence: &&mut Sequence| sequence.cached < sequence.tokens.len();
            let mut some: Vec<_> = all.iter_mut().filter(left).collect();
            some.truncate(if round == 1 { 1 } else { some.len() });
            let counts = vec![1; some.len()];
            logits.extend(player.step(&mut some, &counts));
        }
    }
    logits
}

#[test]
fn steps_that_are_played_again_give_the_bits_of_those_that_are_launched() {
    if !there_are(1) {
        return;
    }
    for golden in all() {
        let eager = LoadOptions {
            eager: true,
            ..LoadOptions::default()
        };
        let mut launched = with(&golden, &eager).shuffled();
        let mut played = with(&golden, &LoadOptions::default()).shuffled();
        let want = together(&mut launched, &golden);
        let got = together(&mut played, &golden);
        let config = std::fs::read_to_string(golden.dir.join("config.json"));
        let has_experts = config.expect("readable").contains("experts");
        let counts = (launched.replays(), played.replays() > 0);
        assert_eq!(counts, (0, !has_experts), "{}", golden.name);
        for (index, (got, want)) in got.iter().zip(&want).enumerate() {
            let same = got
                .iter()
                .map(|x| x.to_bits())
                .eq(want.iter().map(|x| x.to_bits()));
            assert!(same, "{}: the logits {index}", golden.name);
        }
    }
}

#[test]
fn numbers_of_two_bytes_stay_close() {
    if !there_are(1) {
        return;
    }
    for golden in all() {
        let run = &golden.runs[2];
        let config = std::fs::read_to_string(golden.dir.join("config.json"));
        let has_experts = config.expect("readable").contains("experts");
        for (dtype, limit) in [(StoredDtype::F16, 0.01), (StoredDtype::BF16, 0.08)] {
            let got = on_one(&golden, Some(dtype)).logits(&run.ids, &[run.ids.len()]);
            let apart = relative_distance(&got, &run.logits);
            // A rounded input moves tokens on the border between two experts to the other one.
            let limit = if has_experts { 0.3 } else { limit };
            assert!(apart < limit, "{}, {dtype}: {apart}", golden.name);
        }
    }
}

#[test]
fn what_a_gpu_tells_of_logits_that_stay_there_is_what_they_are() {
    if !there_are(1) {
        return;
    }
    for name in ["llama", "gpt2"] {
        let golden = Golden::tiny(name).expect("goldens");
        for dtype in [None, Some(StoredDtype::BF16)] {
            let mut player = on_one(&golden, dtype);
            let ids = &golden.runs[2].ids;
            let whole = player.logits(ids, &[ids.len()]);
            let vocab = whole.len() / ids.len();
            let rows: Vec<_> = whole.chunks_exact(vocab).collect();
            // Some are needed whole; or none.
            for counts in [&[0, 1, 5, 40][..], &[1, 7]] {
                let asked: Vec<u32> = counts.iter().copied().cycle().take(ids.len()).collect();
                let scores = player.scores(ids, &asked);
                let left = asked.iter().filter(|&&count| count == 0);
                assert_eq!(scores.logits.dims(), [left.count(), vocab], "{name}");
                let mut copied = scores.logits.to_vec2::<f32>().expect("f32").into_iter();
                for ((row, count), best) in rows.iter().zip(asked).zip(scores.best) {
                    match best {
                        Some(best) => check_best(row, count as usize, &best),
                        None => assert_eq!(copied.next().as_deref(), Some(*row)),
                    }
                }
            }
        }
    }
}

/// Fails unless the largest logits of a row are told, and the sum of all.
fn check_best(row: &[f32], count: usize, best: &Best) {
    let mut sorted: Vec<_> = (0..).zip(row.iter().copied()).collect();
    sorted.sort_by(|one: &(u32, f32), other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    let told: Vec<_> = best
        .ids
        .iter()
        .copied()
        .zip(best.logits.iter().copied())
        .collect();
    assert!(best.ids.is_sorted());
    for wanted in &sorted[..count] {
        assert!(told.contains(wanted), "{wanted:?} is not in {told:?}");
    }
    let peak = f64::from(sorted[0].1);
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - peak).exp()).sum();
    assert!((sum.ln() - best.ln_sum).abs() < 2e-6, "{}", best.ln_sum);
}

#[test]
fn ranks_on_gpus_of_their_own_equal_one() {
    for world in [2, 3] {
        if !there_are(world) {
            return;
        }
        for golden in all() {
            let ranks = on_ranks(world, |comm| play_rank(&golden, comm));
            for logits in ranks.iter().flatten() {
                for (run, got) in golden.runs.iter().zip(logits) {
                    let case = format!("{world} GPUs, {}", run.prompt);
                    check(&golden, &case, got, &run.logits, Tolerance::F32);
                }
            }
            let all = ranks.iter().all(|logits| *logits == ranks[0]);
            assert!(all, "{}: the ranks' logits differ", golden.name);
        }
    }
}

/// Logits of all runs on one rank; `None` when the heads cannot be divided so.
fn play_rank(golden: &Golden, threads: Threads) -> Option<Vec<Vec<f32>>> {
    use sconce_nn::Communicator;
    let source = weights::open(&golden.dir).expect("a checkpoint");
    let device = open_gpu(threads.rank()).expect("a GPU");
    let comm = over_nccl(threads, device).expect("all ranks come");
    let mut player = match Player::load(&golden.dir, &*source, comm, &LoadOptions::default()) {
        Ok(player) => player,
        Err(LoadError::Ranks { .. }) => return None,
        Err(error) => panic!("{}: {error}", golden.name),
    };
    let logits = |run: &Run| player.logits(&run.ids, &[40]);
    Some(golden.runs.iter().map(logits).collect())
}
