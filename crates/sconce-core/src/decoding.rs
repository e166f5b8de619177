//! How a text is written by a model that has read another: the arguments of transformers' `generate`, each of which a
//! request, a checkpoint and a task may leave open to the next.

use crate::params::AskedSampling;

/// What somebody says of decoding.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct AskedDecoding {
    /// So many tokens are written at most.
    pub max_new_tokens: Option<usize>,
    /// The same with the token that the decoder begins with.
    pub max_length: Option<usize>,
    /// The text does not end before so many written tokens.
    pub min_new_tokens: Option<usize>,
    /// The same with the token that the decoder begins with.
    pub min_length: Option<usize>,
    /// Texts that are continued at the same time; 1: each token is picked by itself.
    pub num_beams: Option<usize>,
    /// Texts that are returned.
    pub num_return_sequences: Option<usize>,
    /// Scores are divided by the length to this power.
    pub length_penalty: Option<f64>,
    /// When beams end.
    pub early_stopping: Option<EarlyStopping>,
    /// No sequence of so many tokens appears twice; 0: all may.
    pub no_repeat_ngram_size: Option<usize>,
    /// No sequence of so many tokens of what was read is written; 0: all may.
    pub encoder_no_repeat_ngram_size: Option<usize>,
    /// Sequences that are not written.
    pub bad_words_ids: Option<Vec<Vec<u32>>>,
    /// The first written token.
    pub forced_bos_token_id: Option<u32>,
    /// The last token of the longest text.
    pub forced_eos_token_id: Option<Vec<u32>>,
    /// Tokens that end a text.
    pub eos_token_id: Option<Vec<u32>>,
    /// What the decoder begins with.
    pub decoder_start_token_id: Option<u32>,
    /// How a token is picked where there are no beams; the repetition penalty counts for beams too.
    pub sampling: AskedSampling,
}

/// When beams end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyStopping {
    /// When a guess says that no better text is likely to come.
    #[default]
    Likely,
    /// As soon as there are as many finished texts as beams.
    Full,
    /// When no better text can come.
    Never,
}

impl AskedDecoding {
    /// What is said here, and for what is left open that of `other`. Lengths go together: one of the two that say the
    /// most, or the least, is enough to leave none open.
    pub fn over(self, other: Self) -> Self {
        let most = self.max_new_tokens.is_some() || self.max_length.is_some();
        let least = self.min_new_tokens.is_some() || self.min_length.is_some();
        let open = |said: bool, value: Option<usize>| value.filter(|_| !said);
        let (mine, theirs) = (self.sampling, other.sampling);
        Self {
            max_new_tokens: self.max_new_tokens.or(open(most, other.max_new_tokens)),
            max_length: self.max_length.or(open(most, other.max_length)),
            min_new_tokens: self.min_new_tokens.or(open(least, other.min_new_tokens)),
            min_length: self.min_length.or(open(least, other.min_length)),
            num_beams: self.num_beams.or(other.num_beams),
            num_return_sequences: self.num_return_sequences.or(other.num_return_sequences),
            length_penalty: self.length_penalty.or(other.length_penalty),
            early_stopping: self.early_stopping.or(other.early_stopping),
            no_repeat_ngram_size: self.no_repeat_ngram_size.or(other.no_repeat_ngram_size),
            encoder_no_repeat_ngram_size: self
                .encoder_no_repeat_ngram_size
                .or(other.encoder_no_repeat_ngram_size),
            bad_words_ids: self.bad_words_ids.or(other.bad_words_ids),
            forced_bos_token_id: self.forced_bos_token_id.or(other.forced_bos_token_id),
            forced_eos_token_id: self.forced_eos_token_id.or(other.forced_eos_token_id),
            eos_token_id: self.eos_token_id.or(other.eos_token_id),
            decoder_start_token_id: self.decoder_start_token_id.or(other.decoder_start_token_id),
            sampling: AskedSampling {
                do_sample: mine.do_sample.or(theirs.do_sample),
                temperature: mine.temperature.or(theirs.temperature),
                top_k: mine.top_k.or(theirs.top_k),
                top_p: mine.top_p.or(theirs.top_p),
                min_p: mine.min_p.or(theirs.min_p),
                typical_p: mine.typical_p.or(theirs.typical_p),
                repetition_penalty: mine.repetition_penalty.or(theirs.repetition_penalty),
                frequency_penalty: mine.frequency_penalty.or(theirs.frequency_penalty),
                presence_penalty: mine.presence_penalty.or(theirs.presence_penalty),
                logit_bias: mine.logit_bias.or(theirs.logit_bias),
                seed: mine.seed.or(theirs.seed),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_open_is_as_the_next_says_and_lengths_go_together() {
        let model = AskedDecoding {
            max_length: Some(142),
            min_length: Some(56),
            num_beams: Some(4),
            ..AskedDecoding::default()
        };
        let request = AskedDecoding {
            max_new_tokens: Some(20),
            length_penalty: Some(2.0),
            ..AskedDecoding::default()
        };
        let both = request.over(model);
        assert_eq!((both.max_new_tokens, both.max_length), (Some(20), None));
        assert_eq!((both.min_length, both.num_beams), (Some(56), Some(4)));
        assert_eq!(both.length_penalty, Some(2.0));
    }
}
