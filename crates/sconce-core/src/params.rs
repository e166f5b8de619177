//! Generation parameters with the meaning and defaults of the LMI schema.
//!
//! Ranges are checked where a wire dialect is parsed; limits that depend on the model (context
//! length, vocabulary) are checked by the engine when the job is submitted.

use std::sync::Arc;

use crate::decoding::EarlyStopping;
use crate::guide::Guide;

/// How a prompt is continued.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateParams {
    /// How long the answer may become.
    pub max_tokens: MaxTokens,
    /// End-of-text and stop tokens are forbidden before so many new tokens.
    pub min_new_tokens: usize,
    /// The same in tokens of prompt and answer together; the larger of the two counts.
    pub min_length: usize,
    /// Only so many tokens of the prompt are used, its last ones; `None`: all.
    pub truncate: Option<usize>,
    /// What the request says of how a token is picked.
    pub sampling: AskedSampling,
    /// How several continuations are searched together; `None`: each token is picked by itself.
    pub beams: Option<BeamSearch>,
    /// When generation ends before `max_new_tokens`.
    pub stop: Stop,
    /// The form that the answer has to have.
    pub guide: Option<Guide>,
    /// Name of the adapter that changes the model for it.
    pub adapter: Option<Arc<str>>,
    /// What is reported beside the text.
    pub report: Report,
}

impl Default for GenerateParams {
    fn default() -> Self {
        Self {
            max_tokens: MaxTokens::New(30),
            min_new_tokens: 0,
            min_length: 0,
            truncate: None,
            sampling: AskedSampling::default(),
            beams: None,
            stop: Stop::default(),
            guide: None,
            adapter: None,
            report: Report::default(),
        }
    }
}

/// Several continuations at the same time, of which the likeliest are told at the end, as transformers' `generate` searches
/// them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BeamSearch {
    /// Continuations; at least 2.
    pub beams: usize,
    /// The parameter that says how many there are, for errors.
    pub key: &'static str,
    /// So many of them are told, at least 1.
    pub returned: usize,
    /// Scores are divided by the number of new tokens to this power.
    pub length_penalty: f64,
    /// When the search ends.
    pub early_stopping: EarlyStopping,
}

/// How long an answer may become, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxTokens {
    /// So many are generated, at least 1.
    New(usize),
    /// So many are in prompt and answer together.
    Total(usize),
    /// As the checkpoint's `generation_config.json` says, else as the method `generate` of
    /// transformers does.
    Model,
    /// As many as the context holds behind the prompt.
    Context,
}

impl MaxTokens {
    /// No answer has more tokens than this.
    pub fn bound(self) -> usize {
        match self {
            Self::New(most) | Self::Total(most) => most,
            Self::Model | Self::Context => usize::MAX,
        }
    }
}

/// What a request says of how a token is picked: the fields of [`Sampling`], of which it may leave any open.
#[derive(Clone, Debug, PartialEq, Default)]
#[allow(missing_docs)]
pub struct AskedSampling {
    pub do_sample: Option<bool>,
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub typical_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub logit_bias: Option<Vec<(u32, f32)>>,
    pub seed: Option<u64>,
}

impl AskedSampling {
    /// The request's word, and for what it leaves open that of `defaults`. Whether a temperature
    /// alone asks for sampling is the wire dialect's to say.
    pub fn over(&self, defaults: &Sampling) -> Sampling {
        Sampling {
            do_sample: self.do_sample.unwrap_or(defaults.do_sample),
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            typical_p: self.typical_p.unwrap_or(defaults.typical_p),
            repetition_penalty: self
                .repetition_penalty
                .unwrap_or(defaults.repetition_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            logit_bias: self
                .logit_bias
                .clone()
                .unwrap_or_else(|| defaults.logit_bias.clone()),
            seed: self.seed.or(defaults.seed),
        }
    }
}

/// How a token is picked. The order of the steps is that of transformers' logits processors:
/// biases, penalties, temperature, top-k, top-p, min-p, typical-p, then a draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// False: the most likely token (greedy); the filters below are then without effect.
    pub do_sample: bool,
    /// Divides the logits; above 0.
    pub temperature: f32,
    /// Keeps the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of most likely tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens with at least this share of the likeliest token's probability; 0 keeps all.
    pub min_p: f32,
    /// Keeps tokens whose surprise is closest to the entropy until this mass (Meister et al.,
    /// 2022); 1 keeps all.
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt and answer (CTRL).
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit for each time that it was generated (OpenAI).
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of each token that was generated (OpenAI).
    pub presence_penalty: f32,
    /// Added to the logits of these tokens (OpenAI).
    pub logit_bias: Vec<(u32, f32)>,
    /// Seeds the draw; `None`: a random seed.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            do_sample: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// When generation ends early.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    /// Texts that end generation wherever they appear in the answer, across token borders too.
    pub sequences: Vec<String>,
    /// Token ids that end generation, besides the model's end-of-text tokens.
    pub token_ids: Vec<u32>,
    /// What the request calls these, for messages.
    pub token_ids_key: &'static str,
    /// Whether the stop sequence that matched stays in the text.
    pub keep_in_text: bool,
    /// Whether the model's end-of-text tokens are treated as ordinary tokens.
    pub ignore_eos: bool,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            sequences: Vec::new(),
            token_ids: Vec::new(),
            token_ids_key: "stop_token_ids",
            keep_in_text: false,
            ignore_eos: false,
        }
    }
}

/// What is reported beside the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whether the prompt's tokens and their log-probabilities are computed.
    pub prompt_logprobs: bool,
    /// So many most likely alternatives are listed for each of these.
    pub prompt_top: usize,
    /// So many most likely alternatives are listed for each generated token.
    pub top_n_tokens: usize,
    /// Whether each generated token is told as it is spelled by itself.
    pub spelled: bool,
    /// Whether special tokens are left out of the text.
    pub skip_special_tokens: bool,
    /// Whether the prompt is told as its tokens spell it.
    pub echo: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            prompt_logprobs: false,
            prompt_top: 0,
            top_n_tokens: 0,
            spelled: false,
            skip_special_tokens: true,
            echo: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_leaves_open_is_as_the_defaults_say() {
        let defaults = Sampling {
            temperature: 0.6,
            top_k: 20,
            repetition_penalty: 1.1,
            ..Sampling::default()
        };
        let asked = AskedSampling {
            top_k: Some(0),
            ..AskedSampling::default()
        };
        let wanted = Sampling {
            top_k: 0,
            ..defaults.clone()
        };
        assert_eq!(asked.over(&defaults), wanted);
        let warm = AskedSampling {
            temperature: Some(0.9),
            ..AskedSampling::default()
        };
        let got = warm.over(&defaults);
        assert_eq!((got.do_sample, got.temperature), (false, 0.9));
    }
}
