//! A search with beams for one job: what is known of each running text, and how a step of all of them goes.
//!
//! Which texts go on is `beams`' to say. Scores are changed as they are for one text: by biases, penalties, the form that
//! was asked for and the least length, in the order of transformers' logits processors, which work on log-probabilities
//! here. So each text has a sampler, which picks nothing, and where stop sequences end texts a stream of its own.

use std::sync::{Arc, Mutex, PoisonError};

use sconce_core::{BeamSearch, ServeError};
use sconce_nn::{BLOCK, pool};
use sconce_text::TextStream;

use crate::beams::{BeamRules, Beams, Step};
use crate::sampler::{Picked, Sampler, SamplerError, Softmax, largest};

/// What searches may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide {
    /// Texts that are computed at the same time.
    pub(crate) rows: usize,
    /// Blocks of the cache.
    pub(crate) blocks: usize,
    /// Whether the model is on a GPU.
    pub(crate) on_gpu: bool,
}

impl Wide {
    /// Whether texts of so many tokens, prompt and answer, can be searched.
    pub(crate) fn check(self, asked: &BeamSearch, longest: usize) -> Result<(), ServeError> {
        let beams = asked.beams;
        let refuse = |problem: String| Err(ServeError::parameter(asked.key, beams, problem));
        if self.on_gpu {
            return refuse("is searched on the processor only; leave it out".into());
        }
        let Self { rows, blocks, .. } = self;
        if beams > rows {
            return refuse(format!(
                "option.max_rolling_batch_size = {rows} texts are written at the same time at most; lower it"
            ));
        }
        // As the scheduler sees it: the last token is never computed.
        let needed = beams.saturating_mul((longest - 1).div_ceil(BLOCK));
        if needed > blocks {
            return refuse(format!(
                "texts of up to {longest} tokens may need {needed} blocks of {BLOCK} tokens, and the cache has {blocks}; \
                 lower it, max_new_tokens or the length of the prompt"
            ));
        }
        Ok(())
    }
}

/// A search under way.
pub(crate) struct Search {
    beams: Beams<Note>,
    /// One until the prompt is computed; `None`: its text may not be, only fills a place.
    texts: Vec<Option<Text>>,
    returned: usize,
    top: usize,
    /// Scores of each text; kept for their memory.
    scores: Vec<Mutex<Scored>>,
}

/// What is known of a running text beside its tokens.
#[derive(Clone)]
pub(crate) struct Text {
    /// Changes scores.
    pub(crate) sampler: Sampler,
    /// Where stop sequences end texts.
    pub(crate) stream: Option<TextStream>,
}

/// What is kept beside a token.
#[derive(Clone)]
struct Note {
    logprob: f32,
    top: Arc<[(u32, f32)]>,
}

/// The scores of a text.
#[derive(Default)]
struct Scored {
    /// Those that count.
    scores: Vec<f32>,
    softmax: Option<Softmax>,
    /// The likeliest tokens by the model's own scores.
    top: Option<Arc<[(u32, f32)]>>,
}

/// How a step ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Advance {
    /// Each running text goes on from that one before, with that token.
    GoOn(Vec<(usize, u32)>),
    /// There is nothing more to find.
    Done,
}

impl Search {
    /// Before the first step. `most` new tokens at most; `eos` end a text, `top` likeliest ones are listed beside each.
    pub(crate) fn new(
        asked: BeamSearch,
        text: Text,
        most: usize,
        eos: Vec<u32>,
        top: usize,
    ) -> Self {
        let rules = BeamRules {
            beams: asked.beams,
            length_penalty: asked.length_penalty,
            early_stopping: asked.early_stopping,
            max_length: most,
            eos,
        };
        Self {
            beams: Beams::new(rules, &[]),
            texts: vec![Some(text)],
            returned: asked.returned,
            top,
            scores: Vec::new(),
        }
    }

    /// Texts that are computed.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Goes on with the logits `[texts, vocab]` of all running texts.
    pub(crate) fn step(&mut self, logits: &[f32], vocab: usize) -> Result<Advance, SamplerError> {
        self.score(logits, vocab)?;
        let scored: Vec<_> = self
            .scores
            .iter()
            .map(|scored| scored.lock().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let row = |beam: usize| beam.min(self.texts.len() - 1);
        let beams = self.beams.texts().count();
        let rows: Vec<&[f32]> = (0..beams)
            .map(|beam| scored[row(beam)].scores.as_slice())
            .collect();
        let texts = &self.texts;
        let mut stops = |beam: usize, token: u32| {
            let stream = texts[row(beam)]
                .as_ref()
                .and_then(|text| text.stream.clone());
            stream.is_some_and(|mut stream| stream.push(token).stopped)
        };
        let note = |beam: usize, token: u32| {
            let of = &scored[row(beam)];
            let logit = logits[row(beam) * vocab + token as usize];
            Note {
                logprob: of
                    .softmax
                    .as_ref()
                    .map_or(f32::NAN, |softmax| softmax.ln(logit)),
                top: of.top.clone().unwrap_or_default(),
            }
        };
        let step = self.beams.step(&rows, &mut stops, &note);
        let parents = match step {
            Step::GoOn(parents) => parents.into_iter().map(row).collect::<Vec<_>>(),
            Step::Done => return Ok(Advance::Done),
        };
        drop(scored);
        self.follow(&parents)
    }

    /// The log-probabilities of all tokens behind each text, as they count.
    fn score(&mut self, logits: &[f32], vocab: usize) -> Result<(), SamplerError> {
        self.scores.resize_with(self.texts.len(), Mutex::default);
        let texts: Vec<_> = self.texts.iter_mut().map(Mutex::new).collect();
        let (scores, top) = (&self.scores, self.top);
        let failed = Mutex::new(None);
        pool::run(texts.len(), &|beam| {
            let mut text = texts[beam].lock().unwrap_or_else(PoisonError::into_inner);
            let mut scored = scores[beam].lock().unwrap_or_else(PoisonError::into_inner);
            let row = &logits[beam * vocab..][..vocab];
            if let Err(error) = scored.read(row, text.as_mut(), top) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                // The first text's, whoever came first.
                match &*failed {
                    Some((other, _)) if *other < beam => {}
                    _ => *failed = Some((beam, error)),
                }
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Lets each text know what the one that it continues knew, and its own token.
    fn follow(&mut self, parents: &[usize]) -> Result<Advance, SamplerError> {
        let tokens = self.beams.texts().map(|text| text.last().copied());
        let tokens: Vec<u32> = tokens.map(|last| last.unwrap_or(0)).collect();
        let mut next = Vec::with_capacity(parents.len());
        for (beam, (&parent, &token)) in parents.iter().zip(&tokens).enumerate() {
            let mut text = match self.beams.possible(beam) {
                true => self.texts[parent].clone(),
                false => None,
            };
            if let Some(text) = &mut text {
                text.sampler.take(token)?;
                if let Some(stream) = &mut text.stream {
                    stream.push(token);
                }
            }
            next.push(text);
        }
        self.texts = next;
        if self.texts.iter().all(Option::is_none) {
            // A form allows no further texts.
            return Ok(Advance::Done);
        }
        Ok(Advance::GoOn(parents.iter().copied().zip(tokens).collect()))
    }

    /// The best texts, as if their tokens had been picked one by one.
    pub(crate) fn found(&self) -> Vec<Vec<Picked>> {
        let picked = |(token, note): (u32, Note)| Picked {
            token,
            logprob: note.logprob,
            top: note.top.to_vec(),
        };
        let texts = self.beams.noted(self.returned).into_iter();
        texts
            .map(|text| text.into_iter().map(picked).collect())
            .collect()
    }
}

impl Scored {
    /// Of the text's logits; a place that nothing fills has no text.
    fn read(
        &mut self,
        logits: &[f32],
        text: Option<&mut Text>,
        top: usize,
    ) -> Result<(), SamplerError> {
        let softmax = Softmax::of(logits)?;
        self.scores.clear();
        self.scores
            .extend(logits.iter().map(|&logit| softmax.ln(logit)));
        if let Some(text) = text.filter(|text| text.sampler.changes()) {
            text.sampler.change(&mut self.scores)?;
        }
        self.top = (top > 0).then(|| {
            let mut ranked = Vec::new();
            largest(logits, top, &mut ranked);
            let listed = ranked.iter();
            listed
                .map(|token| (token.id, softmax.ln(token.key)))
                .collect()
        });
        self.softmax = Some(softmax);
        Ok(())
    }
}
