//! What a job answers: tokens as they are picked, then exactly one end; or at once what was found.

use crate::draw::Progressed;
use crate::error::ServeError;
use crate::raw::RawEvent;
use crate::task::Answered;

/// An answer to a job. After `Done`, `Answered`, `Failed` or a raw end nothing more is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// One generated token.
    Token(Token),
    /// The job is finished.
    Done(Output),
    /// How far a picture is, of jobs that asked to be told.
    Progress(Progressed),
    /// What was found, of a job that generates nothing.
    Answered(Answered),
    /// A part of the answer to a raw job.
    Raw(RawEvent),
    /// The job failed; what was sent before remains valid.
    Failed(ServeError),
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Id in the model's vocabulary.
    pub id: u32,
    /// Text released by this token. The texts of all tokens, end to end, are the generated text;
    /// a token that ends inside a code point, or might begin a stop sequence, releases its text
    /// with a later token.
    pub text: String,
    /// The token decoded by itself, if that was asked for, else empty.
    pub spelled: String,
    /// Natural logarithm of the probability that the model gave the token, before sampling.
    pub logprob: f32,
    /// Whether the tokenizer calls it special (end of text and the like).
    pub special: bool,
    /// Whether this is the job's last token: only then does `Done` follow.
    pub last: bool,
    /// The most likely tokens at this place, likeliest first, as many as were asked for.
    pub top: Vec<TopToken>,
}

/// An alternative to a generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct TopToken {
    /// Id in the model's vocabulary.
    pub id: u32,
    /// The token decoded by itself.
    pub text: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Whether the tokenizer calls it special.
    pub special: bool,
}

/// A token of the prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptToken {
    /// Id in the model's vocabulary.
    pub id: u32,
    /// The token decoded by itself.
    pub text: String,
    /// Its log-probability given the tokens before it; `None` for the first.
    pub logprob: Option<f32>,
    /// So many tokens are at least as likely there, itself included.
    pub rank: Option<usize>,
    /// The most likely tokens there, likeliest first, as many as were asked for.
    pub top: Vec<TopToken>,
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The whole generated text, without the prompt.
    pub text: String,
    /// Why generation ended.
    pub finish: FinishReason,
    /// Number of tokens of the prompt.
    pub prompt_tokens: usize,
    /// Number of generated tokens, an end-of-text token included.
    pub generated_tokens: usize,
    /// The seed that sampled; `None` when greedy.
    pub seed: Option<u64>,
    /// The prompt's tokens, if asked for; else empty.
    pub prompt: Vec<PromptToken>,
    /// The prompt as its tokens spell it, if asked for, else empty. Followed by `text` it is what
    /// the tokens of prompt and answer spell together.
    pub echo: String,
    /// The stop sequence that ended generation, if one did.
    pub matched: Option<String>,
    /// The other texts of a job that searches with beams and is to tell several, the likelier first.
    pub others: Vec<Finished>,
}

/// A finished text.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The generated tokens; empty where nobody wanted them.
    pub tokens: Vec<Token>,
    /// The text and why it ended.
    pub output: Output,
}

impl Finished {
    /// All texts of its job: itself, then the others.
    pub fn texts(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.output.others)
    }
}

impl Output {
    /// Generated tokens of all texts of the job.
    pub fn all_generated(&self) -> usize {
        let others = self
            .others
            .iter()
            .map(|other| other.output.generated_tokens);
        self.generated_tokens + others.sum::<usize>()
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The answer is as long as it may be.
    Length,
    /// The model ended the text, or a stop token id was picked.
    EosToken,
    /// A stop sequence appeared.
    StopSequence,
}
