//! A small model that guesses. It has the positions of the large one's blocks in a cache of its own, so blocks are handed
//! out, shared and taken back for both at once; a prefix that the large one finds the small one finds too.

use std::collections::HashMap;

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use sconce_models::{Decoder, Model};
use sconce_nn::{BLOCK, KvCache, Solo, Step, StepRow};
use sconce_sched::{Row, SeqId, StepPlan};

use super::Guesser;
use crate::describe::Description;
use crate::error::EngineError;
use crate::memory::{DraftNeeds, Plan};
use crate::settings::EngineSettings;

/// A small model that is described but not loaded.
pub struct DraftCheckpoint {
    dir: PathBuf,
    loader: Box<Opener>,
    needs: DraftNeeds,
    context: usize,
}

type Opener = dyn FnOnce() -> Result<Box<dyn Model>, EngineError> + Send;

impl DraftCheckpoint {
    /// The one that the settings name, if they name one; the large model has `vocab` tokens.
    pub(crate) fn open(
        settings: &EngineSettings,
        vocab: usize,
    ) -> Result<Option<Self>, EngineError> {
        let Some(Guesser::Draft(dir)) = settings.speculation.as_ref().map(|one| &one.by) else {
            return Ok(None);
        };
        let settings = EngineSettings {
            dir: dir.clone(),
            gguf_file: None,
            ranks: 1,
            max_model_len: None,
            speculation: None,
            lora: None,
            ..settings.clone()
        };
        let (model, _, weights) = Description::read(dir, None, false).parts()?;
        let dims = model.spec.dims;
        if dims.vocab != vocab {
            return Err(EngineError::Draft {
                dir: dir.clone(),
                problem: format!(
                    "its vocabulary has {} entries, that of the model {vocab}; name a smaller model of the same family",
                    dims.vocab
                ),
            });
        }
        let needs = model.needs(&*weights, &settings)?;
        let options = settings.load_options();
        let (arch, spec) = (model.arch, model.spec);
        Ok(Some(Self {
            dir: dir.clone(),
            needs: DraftNeeds {
                bytes: needs.weights.weights
                    + needs.activations
                    + needs.packed_inputs
                    + needs.rotations,
                kv: needs.kv,
            },
            context: dims.context,
            loader: Box::new(move || {
                let mut nobody = |_, _| {};
                let decoder = Decoder::load(
                    arch,
                    &spec,
                    &*weights,
                    Box::new(Solo),
                    &options,
                    &mut nobody,
                )?;
                Ok(Box::new(decoder) as Box<dyn Model>)
            }),
        }))
    }

    /// What it takes in memory.
    pub fn needs(&self) -> DraftNeeds {
        self.needs
    }

    /// Loads it, with a cache as large as that of the large model.
    pub(crate) fn load(self, plan: &Plan) -> Result<Draft, EngineError> {
        let Self {
            dir,
            loader,
            context,
            ..
        } = self;
        let refused = |problem: String| EngineError::Draft { dir, problem };
        if context < plan.max_len {
            return Err(refused(format!(
                "its context is {context} tokens, that of the model {}; set option.max_model_len={context}",
                plan.max_len
            )));
        }
        Draft::new(loader()?, plan.blocks).map_err(|error| refused(error.to_string()))
    }
}

/// The small model with its cache.
pub(crate) struct Draft {
    model: Box<dyn Model>,
    cache: KvCache,
    /// So many tokens of each sequence are in its cache.
    computed: HashMap<SeqId, usize>,
    step: Step,
}

impl Draft {
    /// With room for as many blocks as the large model has.
    pub(crate) fn new(model: Box<dyn Model>, blocks: usize) -> candle_core::Result<Self> {
        let cache = KvCache::new(model.kv_shape(), blocks, &Device::Cpu)?;
        Ok(Self {
            model,
            cache,
            computed: HashMap::new(),
            step: Step::default(),
        })
    }

    /// Forgets a sequence.
    pub(crate) fn forget(&mut self, seq: SeqId) {
        self.computed.remove(&seq);
    }

    /// Replaces what is proposed in a plan by what it guesses. `known` are the tokens of a sequence that are known.
    pub(crate) fn fill<'a>(
        &mut self,
        plan: &mut StepPlan,
        known: &dyn Fn(SeqId) -> &'a [u32],
    ) -> candle_core::Result<()> {
        self.catch_up(plan, known);
        let mut round = 0;
        loop {
            let guessing: Vec<usize> = (0..plan.rows.len())
                .filter(|&at| plan.rows[at].proposed > round)
                .collect();
            let nothing_to_do = if round == 0 {
                self.step.rows.is_empty()
            } else {
                guessing.is_empty()
            };
            if nothing_to_do {
                return Ok(());
            }
            if round > 0 {
                self.go_on(plan, &guessing, round);
            }
            let logits = self.model.forward(&self.step, &[], &mut self.cache)?;
            let vocab = self.model.vocab();
            for (place, at) in guessing.into_iter().enumerate() {
                let row = &mut plan.rows[at];
                let first = row.tokens.len() - row.proposed;
                row.tokens[first + round] = likeliest(&logits, place, vocab)?;
            }
            round += 1;
        }
    }

    /// The step that brings its cache up to the tokens of a plan, with logits for rows that something is proposed for.
    fn catch_up<'a>(&mut self, plan: &StepPlan, known: &dyn Fn(SeqId) -> &'a [u32]) {
        clear(&mut self.step);
        // Nothing is guessed of texts that are searched.
        for row in plan.rows.iter().filter(|row| row.beam.is_none()) {
            let end = row.start + row.tokens.len() - row.proposed;
            // What was computed beyond were guesses that did not come true, or another run of the sequence.
            let computed = self.computed.entry(row.seq).or_insert(row.start);
            let from = (*computed).min(row.start);
            *computed = end + row.proposed.saturating_sub(1);
            push(&mut self.step, row, from, &known(row.seq)[from..end]);
            if row.proposed > 0 {
                let last = self.step.ids.len() - 1;
                self.step.sampled.push(last as u32);
            }
        }
    }

    /// The step that goes on with what was guessed last.
    fn go_on(&mut self, plan: &StepPlan, guessing: &[usize], round: usize) {
        clear(&mut self.step);
        for &at in guessing {
            let row = &plan.rows[at];
            let place = row.tokens.len() - row.proposed + round - 1;
            push(
                &mut self.step,
                row,
                row.start + place,
                &row.tokens[place..=place],
            );
            let last = self.step.ids.len() - 1;
            self.step.sampled.push(last as u32);
        }
    }
}

fn clear(step: &mut Step) {
    step.ids.clear();
    step.positions.clear();
    step.slots.clear();
    step.sampled.clear();
    step.rows.clear();
}

/// Adds tokens of a row's sequence from a position on.
fn push(step: &mut Step, row: &Row, from: usize, tokens: &[u32]) {
    let q_start = step.ids.len();
    let end = from + tokens.len();
    step.ids.extend_from_slice(tokens);
    for position in from..end {
        let slot = row.blocks[position / BLOCK].0 as usize * BLOCK + position % BLOCK;
        step.positions.push(position as u32);
        step.slots.push(slot as u32);
    }
    step.rows.push(StepRow {
        q_start,
        q_len: tokens.len(),
        k_len: end,
        known: row.known.max(end),
        blocks: row.blocks.iter().map(|block| block.0).collect(),
    });
}

/// The likeliest token of a row of logits.
fn likeliest(logits: &Tensor, row: usize, vocab: usize) -> candle_core::Result<u32> {
    let logits = logits.narrow(0, row, 1)?.flatten_all()?.to_vec1::<f32>()?;
    let best = (0..vocab).max_by(|&one, &other| logits[one].total_cmp(&logits[other]));
    Ok(best.unwrap_or(0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sconce_models::{HfConfig, LoadOptions};
    use sconce_sched::{BlockId, Want};
    use sconce_testkit::golden::Golden;

    fn draft(golden: &Golden) -> Draft {
        let config = HfConfig::read(&golden.dir).expect("a configuration");
        let arch = sconce_models::find(&config).expect("a known family");
        let spec = (arch.spec)(&config).expect("a spec");
        let weights = sconce_nn::weights::open(&golden.dir).expect("weights");
        let options = LoadOptions::default();
        let decoder = Decoder::load(
            arch,
            &spec,
            &*weights,
            Box::new(Solo),
            &options,
            &mut |_, _| {},
        );
        Draft::new(Box::new(decoder.expect("a decoder")), 8).expect("a cache")
    }

    fn row(known: &[u32], start: usize, end: usize, proposed: usize) -> Row {
        let mut tokens = known[start..end].to_vec();
        tokens.resize(tokens.len() + proposed, 0);
        Row {
            seq: SeqId(3),
            beam: None,
            proposed,
            start,
            blocks: [5, 2, 7, 0, 6].map(BlockId).to_vec(),
            known: end + proposed,
            want: Want::Last,
            tokens,
        }
    }

    /// What it guesses is what it writes by itself, whether its guesses came true or not.
    #[test]
    fn it_guesses_what_it_would_write() {
        let golden = Golden::tiny("llama").expect("goldens");
        let run = golden.runs.last().expect("runs");
        let mut draft = draft(&golden);
        let all = [&run.ids[..], &run.greedy].concat();
        let n = run.ids.len();
        let mut guessed = |start: usize, end: usize, proposed: usize| {
            let mut plan = StepPlan {
                rows: vec![row(&all, start, end, proposed)],
                ..StepPlan::default()
            };
            draft.fill(&mut plan, &|_| &all[..end]).expect("computable");
            plan.rows[0].tokens[end - start..].to_vec()
        };
        assert!(guessed(0, n - 1, 0).is_empty());
        assert_eq!(guessed(n - 1, n, 3), all[n..n + 3]);
        // All came true: the last one of them is not in its cache.
        assert_eq!(guessed(n + 3, n + 4, 4), all[n + 4..n + 8]);
        // One came true.
        assert_eq!(guessed(n + 5, n + 6, 2), all[n + 6..n + 8]);
        // The sequence stepped back and is computed again.
        assert!(guessed(0, n, 0).is_empty());
        assert_eq!(guessed(n, n + 1, 1), all[n + 1..n + 2]);
    }
}
