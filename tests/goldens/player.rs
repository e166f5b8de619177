//! Plays sequences through a decoder with the plainest paging there is: blocks in the order of a list.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use sconce_models::{Adapter, Arch, Decoder, HfConfig, LoadError, LoadOptions, Model, Spec, find};
#[cfg(feature = "cuda")]
use sconce_nn::Scores;
use sconce_nn::weights::{self, WeightSource};
use sconce_nn::{BLOCK, Communicator, KvCache, Solo, Step, StepRow, Threads};

/// Blocks of the cache of a player.
const BLOCKS: usize = 64;

/// A sequence in the cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<u32>,
    pub(crate) blocks: Vec<u32>,
    /// Tokens whose keys and values are in the cache.
    pub(crate) cached: usize,
    pub(crate) adapter: Option<Arc<Adapter>>,
}

/// A decoder, its cache, and the blocks that are free.
pub(crate) struct Player {
    model: Decoder,
    border: Option<usize>,
    cache: KvCache,
    free: Vec<u32>,
    /// Of sequences that are played as a whole.
    adapter: Option<Arc<Adapter>>,
}

/// What every rank of a group of `world` gets when they play together.
pub(crate) fn on_ranks<T: Send>(world: usize, play: impl Fn(Threads) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let play = &play;
        let start = |comm| scope.spawn(move || play(comm));
        let ranks: Vec<_> = Threads::group(world).into_iter().map(start).collect();
        let results = ranks.into_iter().map(|rank| rank.join());
        results.map(|result| result.expect("no panic")).collect()
    })
}

impl Player {
    /// One rank, weights as stored.
    pub(crate) fn open(dir: &Path) -> Self {
        let source = weights::open(dir).expect("a checkpoint");
        Self::load(dir, &*source, Box::new(Solo), &LoadOptions::default()).expect("loadable")
    }

    pub(crate) fn load(
        dir: &Path,
        source: &dyn WeightSource,
        comm: Box<dyn Communicator + Send>,
        options: &LoadOptions,
    ) -> Result<Self, LoadError> {
        let config = HfConfig::read(dir).expect("a configuration");
        let arch = find(&config).expect("a known architecture");
        let spec = (arch.spec)(&config).expect("a supported configuration");
        Self::of(arch, &spec, source, comm, options)
    }

    /// A decoder that is described already.
    pub(crate) fn of(
        arch: &'static Arch,
        spec: &Spec,
        source: &dyn WeightSource,
        comm: Box<dyn Communicator + Send>,
        options: &LoadOptions,
    ) -> Result<Self, LoadError> {
        let mut reports = Vec::new();
        let mut progress = |done, total| reports.push((done, total));
        let model = Decoder::load(arch, spec, source, comm, options, &mut progress)?;
        let total = source.total_bytes();
        assert!(
            reports.is_sorted() && reports.last() == Some(&(total, total)),
            "{reports:?}"
        );
        let cache = KvCache::new(model.kv_shape(), BLOCKS, &model.device()).expect("memory");
        Ok(Self {
            model,
            border: spec.border(),
            cache,
            free: (0..BLOCKS as u32).rev().collect(),
            adapter: None,
        })
    }

    /// With an adapter.
    pub(crate) fn adapted(self, adapter: Arc<Adapter>) -> Self {
        Self {
            adapter: Some(adapter),
            ..self
        }
    }

    /// Hands blocks out in an order without pattern.
    pub(crate) fn shuffled(mut self) -> Self {
        self.free
            .sort_by_key(|block| block.wrapping_mul(2_654_435_761) >> 7);
        self
    }

    /// Computes the next `counts[i]` uncached tokens of each sequence in one step: logits of each, `[count, vocab]`.
    pub(crate) fn step(
        &mut self,
        sequences: &mut [&mut Sequence],
        counts: &[usize],
    ) -> Vec<Vec<f32>> {
        let mut step = Step::default();
        for (sequence, &count) in sequences.iter_mut().zip(counts) {
            let end = sequence.cached + count;
            while sequence.blocks.len() * BLOCK < end {
                sequence
                    .blocks
                    .push(self.free.pop().expect("enough blocks"));
            }
            push_row(&mut step, sequence, count);
            sequence.cached = end;
        }
        step.sampled = (0..step.ids.len() as u32).collect();
        let adapters: Vec<_> = sequences.iter().map(|one| one.adapter.clone()).collect();
        let adapters = match adapters.iter().any(Option::is_some) {
            true => &adapters[..],
            false => &[],
        };
        let logits = self
            .model
            .forward(&step, adapters, &mut self.cache)
            .expect("computable");
        assert_eq!(logits.dims(), [step.ids.len(), self.model.vocab()]);
        let rows = step.rows.iter().map(|row| {
            let rows = logits
                .narrow(0, row.q_start, row.q_len)
                .expect("rows of the step");
            rows.flatten_all()
                .and_then(|flat| flat.to_vec1())
                .expect("f32 on the CPU")
        });
        rows.collect()
    }

    /// Logits of all of `ids`, computed in chunks of these lengths, the last repeated.
    pub(crate) fn logits(&mut self, ids: &[u32], chunks: &[usize]) -> Vec<f32> {
        let mut sequence = Sequence {
            tokens: ids.to_vec(),
            adapter: self.adapter.clone(),
            ..Sequence::default()
        };
        let mut logits = Vec::new();
        let last = chunks.last().expect("a chunk");
        for &chunk in chunks.iter().chain(std::iter::repeat(last)) {
            let left = ids.len() - sequence.cached;
            if left == 0 {
                break;
            }
            logits.append(
                &mut self
                    .step(&mut [&mut sequence], &[chunk.min(left)])
                    .remove(0),
            );
        }
        self.free.append(&mut sequence.blocks);
        logits
    }

    /// `count` greedy tokens after the prompt, one step each.
    pub(crate) fn greedy(&mut self, ids: &[u32], count: usize) -> Vec<u32> {
        let mut sequence = Sequence {
            tokens: ids.to_vec(),
            adapter: self.adapter.clone(),
            ..Sequence::default()
        };
        for _ in 0..count {
            // Beyond the border all keys are others, as the scheduler knows.
            if self
                .border
                .is_some_and(|border| sequence.tokens.len() == border + 1)
            {
                sequence.cached = 0;
            }
            let new = sequence.tokens.len() - sequence.cached;
            let logits = self.step(&mut [&mut sequence], &[new]).remove(0);
            let last = &logits[logits.len() - self.model.vocab()..];
            let best = (0..last.len()).max_by(|&one, &other| last[one].total_cmp(&last[other]));
            sequence.tokens.push(best.expect("a vocabulary") as u32);
        }
        self.free.append(&mut sequence.blocks);
        sequence.tokens.split_off(ids.len())
    }

    /// The logits of some tokens only, of a whole prompt.
    pub(crate) fn sampled(&mut self, ids: &[u32], sampled: &[u32]) -> Vec<f32> {
        let step = self.whole(ids, sampled);
        let logits = self
            .model
            .forward(&step, &[], &mut self.cache)
            .expect("computable");
        assert_eq!(logits.dims(), [sampled.len(), self.model.vocab()]);
        logits
            .flatten_all()
            .and_then(|flat| flat.to_vec1())
            .expect("f32 on the CPU")
    }

    /// The number of steps that are played again where they were recorded.
    #[cfg(feature = "cuda")]
    pub(crate) fn replays(&self) -> usize {
        self.model.replays()
    }

    /// As much of the logits of a whole prompt as is asked for, token by token.
    #[cfg(feature = "cuda")]
    pub(crate) fn scores(&mut self, ids: &[u32], best: &[u32]) -> Scores {
        let all: Vec<u32> = (0..ids.len() as u32).collect();
        let step = Step {
            best: best.to_vec(),
            ..self.whole(ids, &all)
        };
        let scores = self.model.scores(&step, &[], &mut self.cache);
        scores.expect("computable")
    }

    /// The step of a whole prompt, in blocks that stay free.
    fn whole(&self, ids: &[u32], sampled: &[u32]) -> Step {
        let blocks = self.free[self.free.len() - ids.len().div_ceil(BLOCK)..].to_vec();
        let sequence = Sequence {
            tokens: ids.to_vec(),
            blocks,
            cached: 0,
            adapter: None,
        };
        let mut step = Step::default();
        push_row(&mut step, &sequence, ids.len());
        step.sampled = sampled.to_vec();
        step
    }
}

fn push_row(step: &mut Step, sequence: &Sequence, count: usize) {
    let (start, end) = (sequence.cached, sequence.cached + count);
    let slot = |position: usize| {
        sequence.blocks[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32
    };
    let q_start = step.ids.len();
    step.ids.extend(&sequence.tokens[start..end]);
    step.positions.extend(start as u32..end as u32);
    step.slots.extend((start..end).map(slot));
    step.rows.push(StepRow {
        q_start,
        q_len: count,
        k_len: end,
        known: sequence.tokens.len(),
        blocks: sequence.blocks.clone(),
    });
}
