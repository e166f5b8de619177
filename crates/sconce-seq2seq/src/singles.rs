//! Texts that are written token by token, each by itself: the likeliest token, or a draw.

use sconce_engine::sampler::{Sampler, Scratch};

use crate::decoding::Decoding;
use crate::told::random_seed;

/// Texts of one request.
pub(crate) struct Singles {
    running: Vec<Single>,
    ended: Vec<(usize, Vec<u32>)>,
}

struct Single {
    index: usize,
    tokens: Vec<u32>,
    sampler: Sampler,
}

impl Singles {
    pub(crate) fn new(decoding: &Decoding) -> Self {
        let seed = decoding.sampling.seed.unwrap_or_else(random_seed);
        let single = |index: usize| Single {
            index,
            tokens: vec![decoding.start],
            // Several texts are different draws.
            sampler: Sampler::new(
                &decoding.sampling,
                &[],
                0,
                &[],
                seed.wrapping_add(index as u64),
            ),
        };
        Self {
            running: (0..decoding.returned).map(single).collect(),
            ended: Vec::new(),
        }
    }

    /// The running texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u32]> {
        self.running.iter().map(|text| text.tokens.as_slice())
    }

    /// Picks a token for each by its scores; which of the running texts go on.
    pub(crate) fn step(
        &mut self,
        scores: &[Vec<f32>],
        decoding: &Decoding,
        scratch: &mut Scratch,
    ) -> Result<Vec<usize>, String> {
        let mut going = Vec::with_capacity(self.running.len());
        for (at, (mut text, scores)) in self.running.drain(..).zip(scores).enumerate() {
            let picked = text.sampler.pick(scores, 0, scratch);
            let token = picked.map_err(|error| error.to_string())?.token;
            text.tokens.push(token);
            let full = text.tokens.len() >= decoding.rules.max_length;
            if full || decoding.rules.eos.contains(&token) {
                text.tokens.remove(0);
                self.ended.push((text.index, text.tokens));
            } else {
                going.push((at, text));
            }
        }
        let parents = going.iter().map(|(at, _)| *at).collect();
        self.running = going.into_iter().map(|(_, text)| text).collect();
        Ok(parents)
    }

    /// All texts that have ended, in their order, without the decoder's first token.
    pub(crate) fn found(&mut self) -> Vec<Vec<u32>> {
        self.ended.sort_by_key(|(index, _)| *index);
        self.ended.drain(..).map(|(_, tokens)| tokens).collect()
    }
}
