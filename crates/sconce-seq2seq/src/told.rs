//! A text that is told token by token, as the dialects of text generation want it.

use std::sync::Arc;

use sconce_core::{
    Event, FinishReason, GenerateParams, Output, PromptToken, Reply, Token, TopToken,
};
use sconce_engine::sampler::{Sampler, Scratch, log_softmax_at};
use sconce_text::{TextStream, Tokenizer};

use crate::decoding::Decoding;

/// One text of one request.
pub(crate) struct Told {
    tokens: Vec<u32>,
    params: GenerateParams,
    sampler: Sampler,
    /// Lists the likeliest tokens by the model's own scores.
    ranker: Sampler,
    seed: u64,
    text: TextStream,
    tokenizer: Arc<Tokenizer>,
}

/// How a step ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Turn {
    /// The text goes on.
    GoOn,
    /// It has ended; what is still to be told, if whoever asked is there.
    Ended(Option<Box<Output>>),
}

impl Told {
    pub(crate) fn new(
        decoding: &Decoding,
        params: GenerateParams,
        tokenizer: Arc<Tokenizer>,
    ) -> Self {
        let seed = decoding.sampling.seed.unwrap_or_else(random_seed);
        let sampler = |sampling| Sampler::new(sampling, &[], 0, &[], seed);
        let skip_special = params.report.skip_special_tokens;
        Self {
            tokens: vec![decoding.start],
            sampler: sampler(&decoding.sampling),
            ranker: sampler(&sconce_core::Sampling::default()),
            seed,
            text: TextStream::new(Arc::clone(&tokenizer), &params.stop, skip_special),
            params,
            tokenizer,
        }
    }

    /// The text so far.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Picks the next token by its `scores` and tells of it; `logits` are the model's own, `read` what it has read.
    pub(crate) fn step(
        &mut self,
        logits: &[f32],
        scores: &[f32],
        decoding: &Decoding,
        (read, reply): (&[u32], &mut Box<dyn Reply>),
        scratch: &mut Scratch,
    ) -> Result<Turn, String> {
        let named = |error: sconce_engine::sampler::SamplerError| error.to_string();
        let token = self.sampler.pick(scores, 0, scratch).map_err(named)?.token;
        let top = match self.params.report.top_n_tokens {
            0 => Vec::new(),
            count => self.ranker.pick(logits, count, scratch).map_err(named)?.top,
        };
        self.tokens.push(token);
        let (text, finish) = self.release(token, decoding);
        let top = top.into_iter().map(|(id, logprob)| TopToken {
            id,
            text: self.tokenizer.token_text(id),
            logprob,
            special: self.tokenizer.is_special(id),
        });
        let told = reply.send(Event::Token(Token {
            id: token,
            text,
            logprob: log_softmax_at(logits, token),
            spelled: String::new(),
            special: self.tokenizer.is_special(token),
            last: finish.is_some(),
            top: top.collect(),
        }));
        let Some(finish) = finish.filter(|_| told) else {
            return Ok(if told { Turn::GoOn } else { Turn::Ended(None) });
        };
        let output = self.output(finish, decoding, read);
        Ok(Turn::Ended(Some(Box::new(output))))
    }

    /// The text that a token releases, and the reason if it is the last.
    fn release(&mut self, token: u32, decoding: &Decoding) -> (String, Option<FinishReason>) {
        let ends = decoding.rules.eos.contains(&token);
        let mut text = String::new();
        if !ends || self.params.stop.keep_in_text {
            text = self.text.push(token).text;
        }
        let full = self.tokens.len() >= decoding.rules.max_length;
        let finish = match (self.text.stopped(), ends) {
            (true, _) => Some(FinishReason::StopSequence),
            (_, true) => Some(FinishReason::EosToken),
            _ => full.then_some(FinishReason::Length),
        };
        if finish.is_none() {
            return (text, None);
        }
        // What was held back is released now, and may complete a stop sequence in turn.
        text.push_str(&self.text.finish());
        let stopped = self.text.stopped();
        (
            text,
            if stopped {
                Some(FinishReason::StopSequence)
            } else {
                finish
            },
        )
    }

    fn output(&self, finish: FinishReason, decoding: &Decoding, read: &[u32]) -> Output {
        let asked = self.params.report.prompt_logprobs;
        // Nothing is predicted of what is read.
        let prompt = read.iter().filter(|_| asked).map(|&id| PromptToken {
            id,
            text: self.tokenizer.token_text(id),
            ..PromptToken::default()
        });
        Output {
            text: self.text.text().to_owned(),
            finish,
            prompt_tokens: read.len(),
            generated_tokens: self.tokens.len() - 1,
            seed: decoding.sampling.do_sample.then_some(self.seed),
            prompt: prompt.collect(),
            echo: String::new(),
            matched: self.text.matched().map(str::to_owned),
            others: Vec::new(),
        }
    }
}

/// A seed for requests that name none: the standard library's per-process random keys.
pub(crate) fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
