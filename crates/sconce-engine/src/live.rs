//! One job while it is computed: its text, its sampler and its answers.

use std::sync::Arc;
use std::time::Instant;

use sconce_core::{
    Event, FinishReason, Finished, GenerateParams, Job, JobId, Output, PromptToken, Reply,
    Sampling, ServeError, Token, TopToken,
};
use sconce_text::{Follower, TextStream, Tokenizer};
use tracing::debug;

use crate::adapters::Lent;
use crate::length::Length;
use crate::sampler::{Picked, Rated, Sampler, SamplerError};
use crate::search::{Advance, Search, Text};
use sconce_core::Permit;

/// A job that passed the door: tokenised, checked and counted.
pub(crate) struct Admitted {
    /// Name of the job in logs.
    pub(crate) id: JobId,
    /// Length, stopping and reporting.
    pub(crate) params: GenerateParams,
    /// How tokens are picked: the request's word and the model's defaults.
    pub(crate) sampling: Sampling,
    /// The prompt's tokens.
    pub(crate) prompt: Vec<u32>,
    /// How long its answer may and must become.
    pub(crate) length: Length,
    /// Follows the form that the answer has to have.
    pub(crate) guide: Option<Follower>,
    /// The adapter that changes the model for it.
    pub(crate) adapter: Option<Lent>,
    /// Where the answers go.
    pub(crate) reply: Box<dyn Reply>,
    /// When the job fails.
    pub(crate) deadline: Instant,
    /// Its place in the queue, given back on drop.
    pub(crate) permit: Permit,
}

impl Admitted {
    /// Takes over a job whose input became `params`, `sampling` and `prompt`.
    pub(crate) fn new(
        job: Job,
        params: GenerateParams,
        sampling: Sampling,
        (prompt, length): (Vec<u32>, Length),
        permit: Permit,
    ) -> Self {
        Self {
            id: job.id,
            params,
            sampling,
            prompt,
            length,
            guide: None,
            adapter: None,
            reply: job.reply,
            deadline: job.deadline,
            permit,
        }
    }
}

/// Why a job leaves the engine.
#[derive(Debug, PartialEq)]
pub(crate) enum Leave {
    /// It was answered in full.
    Finished,
    /// The client has gone.
    Gone,
    /// It failed, and the client was told.
    Failed,
}

/// A job in the scheduler.
pub(crate) struct Live {
    job: Admitted,
    tokenizer: Arc<Tokenizer>,
    /// `None` while it is lent for a pick, or where texts are searched.
    sampler: Option<Sampler>,
    /// Searches texts, where nothing is picked one by one.
    search: Option<Box<Search>>,
    seed: u64,
    text: TextStream,
    /// The text before its first token.
    blank: TextStream,
    /// The prompt as its tokens spell it, if that is asked for.
    echo: String,
    eos: Arc<[u32]>,
    generated: usize,
    /// Prompt and answer, where somebody guesses how it goes on.
    known: Option<Vec<u32>>,
    /// Tokens that were guessed, and those of them that came true.
    guessed: [usize; 2],
    /// Of all tokens of the prompt but the first, as far as they are known.
    prompt_logprobs: Vec<Rated>,
}

impl Live {
    /// Prepares the sampler and the text stream of a job.
    pub(crate) fn new(mut job: Admitted, tokenizer: Arc<Tokenizer>, eos: Arc<[u32]>) -> Self {
        let guide = job.guide.take();
        let params = &job.params;
        let seed = job.sampling.seed.unwrap_or_else(random_seed);
        let eos: Arc<[u32]> = if params.stop.ignore_eos {
            Arc::new([])
        } else {
            eos
        };
        let forbidden: Vec<u32> = eos.iter().chain(&params.stop.token_ids).copied().collect();
        let sampler = Sampler::new(
            &job.sampling,
            &forbidden,
            job.length.least,
            &job.prompt,
            seed,
        )
        .guided_by(guide);
        let mut text = TextStream::new(
            Arc::clone(&tokenizer),
            &params.stop,
            params.report.skip_special_tokens,
        );
        let mut echo = String::new();
        if params.report.echo {
            echo = text.after_echo(&job.prompt);
        } else {
            text.after(&job.prompt);
        }
        let mut sampler = Some(sampler);
        let search = job.params.beams.and_then(|asked| {
            let mut ends = forbidden;
            ends.sort_unstable();
            ends.dedup();
            let stops = !job.params.stop.sequences.is_empty();
            let first = Text {
                sampler: sampler.take()?,
                stream: stops.then(|| text.clone()),
            };
            let (most, top) = (job.length.most, job.params.report.top_n_tokens);
            Some(Box::new(Search::new(asked, first, most, ends, top)))
        });
        Self {
            job,
            tokenizer,
            sampler,
            search,
            seed,
            blank: text.clone(),
            text,
            echo,
            eos,
            generated: 0,
            known: None,
            guessed: [0; 2],
            prompt_logprobs: Vec::new(),
        }
    }

    /// Name of the job in logs.
    pub(crate) fn id(&self) -> JobId {
        self.job.id
    }

    /// The adapter that changes the model for it.
    pub(crate) fn adapter(&self) -> Option<&Lent> {
        self.job.adapter.as_ref()
    }

    /// Tokens known so far: the position that the next picked token gets.
    pub(crate) fn known(&self) -> usize {
        self.job.prompt.len() + self.generated
    }

    /// Whether the client has gone or the time is over; the client is told of the latter.
    pub(crate) fn leaves(&mut self, now: Instant, predict_timeout: u64) -> Option<Leave> {
        if self.job.reply.gone() {
            return Some(Leave::Gone);
        }
        if now >= self.job.deadline {
            return Some(self.fail(ServeError::Timeout {
                seconds: predict_timeout,
            }));
        }
        None
    }

    /// Tells the client of a failure.
    pub(crate) fn fail(&mut self, error: ServeError) -> Leave {
        self.job.reply.send(Event::Failed(error));
        Leave::Failed
    }

    /// Says that computing begins, for the gauges and whoever waits.
    pub(crate) fn begin(&mut self) {
        if self.job.permit.begin() {
            self.job.reply.begins();
        }
    }

    /// Takes the log-probability of the prompt token at `position + 1` from the logits at
    /// `position`; positions come in order.
    pub(crate) fn note_prompt_logits(&mut self, position: usize, logits: &[f32]) {
        let next = position + 1;
        // After a preemption the prompt is computed again: what is known is not noted twice.
        if next == self.prompt_logprobs.len() + 1 && next < self.job.prompt.len() {
            let top = self.job.params.report.prompt_top;
            self.prompt_logprobs
                .push(Rated::of(logits, self.job.prompt[next], top));
        }
    }

    /// Keeps what is known, so that somebody can guess how it goes on.
    pub(crate) fn remember(&mut self) {
        self.known = Some(self.job.prompt.clone());
    }

    /// Prompt and answer, once it has begun; empty where nobody guesses.
    pub(crate) fn tokens(&self) -> &[u32] {
        self.known.as_deref().unwrap_or_default()
    }

    /// Whether its answer has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.generated > 0
    }

    /// Counts guesses.
    pub(crate) fn count_guesses(&mut self, made: usize, right: usize) {
        self.guessed[0] += made;
        self.guessed[1] += right;
    }

    /// Whether it searches several texts.
    pub(crate) fn searches(&self) -> bool {
        self.search.is_some()
    }

    /// Takes the logits of all its texts, `[texts, vocab]` and what lies behind them: how they go on, or why the job
    /// leaves.
    pub(crate) fn search(
        &mut self,
        logits: &[f32],
        vocab: usize,
    ) -> Result<Result<Vec<(usize, u32)>, Leave>, SamplerError> {
        let search = self.search.as_mut().expect("it searches");
        let own = &logits[..search.len() * vocab];
        match search.step(own, vocab)? {
            Advance::GoOn(texts) => {
                self.generated += 1;
                Ok(match self.job.reply.gone() {
                    true => Err(Leave::Gone),
                    false => Ok(texts),
                })
            }
            Advance::Done => {
                let found = search.found();
                Ok(Err(self.tell(&found)))
            }
        }
    }

    /// Tells the client of all texts that were found.
    fn tell(&mut self, found: &[Vec<Picked>]) -> Leave {
        let mut texts = found
            .iter()
            .map(|text| self.written(text))
            .collect::<Vec<_>>()
            .into_iter();
        let Some(mut best) = texts.next() else {
            let problem = "no text keeps to what was asked for".to_owned();
            return self.fail(ServeError::BadAnswer { problem });
        };
        best.output.others = texts.collect();
        for token in best.tokens {
            if !self.job.reply.send(Event::Token(token)) {
                return Leave::Gone;
            }
        }
        match self.job.reply.send(Event::Done(best.output)) {
            true => Leave::Finished,
            false => Leave::Gone,
        }
    }

    /// One of several texts, as if its tokens had been picked one by one.
    fn written(&mut self, picked: &[Picked]) -> Finished {
        self.text = self.blank.clone();
        self.generated = 0;
        let mut tokens = Vec::with_capacity(picked.len());
        let mut finish = FinishReason::Length;
        for picked in picked {
            self.generated += 1;
            let (text, ended) = self.release_text(picked.token);
            tokens.push(self.token(picked, text, ended.is_some()));
            if let Some(ended) = ended {
                finish = ended;
                break;
            }
        }
        let output = self.output(finish);
        Finished { tokens, output }
    }

    /// How many of the largest of `vocab` logits the next pick needs; 0: all of them.
    pub(crate) fn best(&self, vocab: usize) -> u32 {
        if self.searches() {
            return 0;
        }
        let top = self.job.params.report.top_n_tokens;
        let sampler = self.sampler.as_ref();
        sampler.map_or(0, |sampler| sampler.best(top, vocab))
    }

    /// Lends the sampler for the next pick, and says how many of the likeliest tokens are wanted.
    pub(crate) fn lend(&mut self) -> (Sampler, usize) {
        let sampler = self.sampler.take();
        let sampler = sampler.expect("the sampler came back from the last pick");
        (sampler, self.job.params.report.top_n_tokens)
    }

    /// Takes the sampler back.
    pub(crate) fn take_back(&mut self, sampler: Sampler) {
        self.sampler = Some(sampler);
    }

    /// Tells the client of the token that was picked; whether and why the job leaves now.
    pub(crate) fn advance(&mut self, picked: &Picked) -> Option<Leave> {
        self.generated += 1;
        if let Some(known) = &mut self.known {
            known.push(picked.token);
        }
        let (text, finish) = self.release_text(picked.token);
        let token = self.token(picked, text, finish.is_some());
        if !self.job.reply.send(Event::Token(token)) {
            return Some(Leave::Gone);
        }
        finish.map(|finish| self.finish(finish))
    }

    /// The text that this token releases, and the reason if it is the last one.
    fn release_text(&mut self, token: u32) -> (String, Option<FinishReason>) {
        let stop = &self.job.params.stop;
        let ends = self.eos.contains(&token) || stop.token_ids.contains(&token);
        let mut text = String::new();
        if !ends || stop.keep_in_text {
            text = self.text.push(token).text;
        }
        let finish = if self.text.stopped() {
            Some(FinishReason::StopSequence)
        } else if ends {
            Some(FinishReason::EosToken)
        } else {
            let full = self.generated == self.job.length.most;
            full.then_some(FinishReason::Length)
        };
        if finish.is_none() {
            return (text, None);
        }
        // What was held back is released now, and may complete a stop sequence in turn.
        text.push_str(&self.text.finish());
        let finish = if self.text.stopped() {
            Some(FinishReason::StopSequence)
        } else {
            finish
        };
        (text, finish)
    }

    fn token(&self, picked: &Picked, text: String, last: bool) -> Token {
        let spelled = match self.job.params.report.spelled {
            true => self.tokenizer.token_text(picked.token),
            false => String::new(),
        };
        Token {
            id: picked.token,
            text,
            spelled,
            logprob: picked.logprob,
            special: self.tokenizer.is_special(picked.token),
            last,
            top: self.listed(&picked.top),
        }
    }

    fn finish(&mut self, finish: FinishReason) -> Leave {
        let [made, right] = self.guessed;
        if made > 0 {
            debug!(job = %self.job.id, "{right} of {made} guessed tokens came true, of {} in all", self.generated);
        }
        let output = self.output(finish);
        if self.job.reply.send(Event::Done(output)) {
            Leave::Finished
        } else {
            Leave::Gone
        }
    }

    fn output(&self, finish: FinishReason) -> Output {
        Output {
            text: self.text.text().to_owned(),
            finish,
            prompt_tokens: self.job.prompt.len(),
            generated_tokens: self.generated,
            seed: self.job.sampling.do_sample.then_some(self.seed),
            prompt: self.prompt_tokens(),
            echo: self.echo.clone(),
            matched: self.text.matched().map(str::to_owned),
            others: Vec::new(),
        }
    }

    fn prompt_tokens(&self) -> Vec<PromptToken> {
        if !self.job.params.report.prompt_logprobs {
            return Vec::new();
        }
        let rated = std::iter::once(None).chain(self.prompt_logprobs.iter().map(Some));
        let ids = self.job.prompt.iter();
        ids.zip(rated)
            .map(|(&id, rated)| PromptToken {
                id,
                text: self.tokenizer.token_text(id),
                logprob: rated.map(|rated| rated.logprob),
                rank: rated.map(|rated| rated.rank),
                top: self.listed(rated.map_or(&[], |rated| &rated.top)),
            })
            .collect()
    }

    fn listed(&self, top: &[(u32, f32)]) -> Vec<TopToken> {
        let token = |&(id, logprob): &(u32, f32)| TopToken {
            id,
            text: self.tokenizer.token_text(id),
            logprob,
            special: self.tokenizer.is_special(id),
        };
        top.iter().map(token).collect()
    }
}

/// A seed for requests that name none: the standard library's per-process random keys.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
