//! How one text is written, once request, task, checkpoint and pipeline have all had their say.

use sconce_core::{AskedDecoding, EarlyStopping, GenerateParams, MaxTokens, Sampling, ServeError};
use sconce_engine::beams::BeamRules;

use crate::rules::Rules;

/// Tokens that transformers' pipelines write where nobody says how many.
const PIPELINE_TOKENS: usize = 256;

/// Beams that they search with where nobody says.
const PIPELINE_BEAMS: usize = 4;

/// Tokens that `generate` writes where nobody says how many.
const GENERATE_TOKENS: usize = 20;

/// The likeliest tokens that transformers samples from where nobody says how many.
const SAMPLED_TOKENS: usize = 50;

/// How one text is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoding {
    /// What the decoder begins with.
    pub(crate) start: u32,
    /// Texts at the same time.
    pub(crate) beams: usize,
    /// Texts that are returned.
    pub(crate) returned: usize,
    length_penalty: f64,
    early_stopping: EarlyStopping,
    pub(crate) rules: Rules,
    /// How tokens are picked where there are no beams; the repetition penalty is a rule.
    pub(crate) sampling: Sampling,
}

/// What a model allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Longest text that is written, the first token included.
    pub(crate) max_length: usize,
    /// Rows of the embedding.
    pub(crate) vocab: usize,
    /// Texts that are written at the same time.
    pub(crate) max_rows: usize,
}

impl Decoding {
    /// For one of the tasks: the request's word, then that of task and checkpoint, then the pipelines' own.
    pub(crate) fn of_task(
        asked: AskedDecoding,
        said: AskedDecoding,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let samples = asked.sampling.do_sample.or(said.sampling.do_sample);
        // The pipelines' beams are nobody's wish where tokens are to be drawn; transformers draws beams there.
        let beams = match samples {
            Some(true) => 1,
            _ => PIPELINE_BEAMS,
        };
        let pipeline = AskedDecoding {
            max_new_tokens: Some(PIPELINE_TOKENS),
            num_beams: Some(beams),
            ..AskedDecoding::default()
        };
        let explicit = length(&asked);
        Self::decide(
            asked.over(said).over(pipeline),
            explicit,
            &sampled(),
            limits,
        )
    }

    /// For a dialogue: the pipeline of dialogues has a length of its own, which comes before the checkpoint's, and no
    /// beams.
    pub(crate) fn of_dialogue(
        asked: AskedDecoding,
        said: AskedDecoding,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let pipeline = AskedDecoding {
            max_new_tokens: Some(PIPELINE_TOKENS),
            ..AskedDecoding::default()
        };
        let explicit = length(&asked);
        Self::decide(
            asked.over(pipeline).over(said),
            explicit,
            &sampled(),
            limits,
        )
    }

    /// For a prompt of the dialects of text generation: each token is picked by itself.
    pub(crate) fn of_prompt(
        params: &GenerateParams,
        said: AskedDecoding,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let (new, total) = match params.max_tokens {
            MaxTokens::New(new) => (Some(new), None),
            MaxTokens::Total(total) => (None, Some(total)),
            MaxTokens::Model | MaxTokens::Context => (None, None),
        };
        let least = Some(params.min_length.max(params.min_new_tokens + 1)).filter(|len| *len > 1);
        let mut eos = said.eos_token_id.clone().unwrap_or_default();
        if params.stop.ignore_eos {
            eos.clear();
        }
        eos.extend_from_slice(&params.stop.token_ids);
        let asked = AskedDecoding {
            max_new_tokens: new,
            max_length: total,
            min_length: least,
            num_beams: Some(1),
            num_return_sequences: Some(1),
            eos_token_id: Some(eos),
            sampling: params.sampling.clone(),
            ..AskedDecoding::default()
        };
        let explicit = length(&asked);
        let unsaid = AskedDecoding {
            max_new_tokens: Some(GENERATE_TOKENS),
            ..AskedDecoding::default()
        };
        let asked = asked.over(said).over(unsaid);
        Self::decide(asked, explicit, &Sampling::default(), limits)
    }

    fn decide(
        asked: AskedDecoding,
        explicit: Option<(&'static str, usize)>,
        sampling: &Sampling,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let most = limits.max_length;
        // The decoder's first token counts for `max_length`, not for `max_new_tokens`.
        let of_key = |key: &str, value: usize| match key {
            "max_length" => value,
            _ => value.saturating_add(1),
        };
        if let Some((key, value)) = explicit.filter(|(key, value)| of_key(key, *value) > most) {
            let fits = if key == "max_length" { most } else { most - 1 };
            let problem = format!("the model writes at most {fits} tokens; lower it");
            return Err(ServeError::parameter(key, value, problem));
        }
        let wanted = length(&asked).map_or(most, |(key, value)| of_key(key, value));
        if wanted < 2 {
            let problem = "counts the token that the decoder begins with; it must be at least 2";
            return Err(ServeError::parameter("max_length", wanted, problem));
        }
        let least = asked
            .min_new_tokens
            .map_or(asked.min_length.unwrap_or(0), |new| new.saturating_add(1));
        let sampling = asked.sampling.over(sampling);
        let decoding = Self {
            start: asked.decoder_start_token_id.unwrap_or(0),
            beams: asked.num_beams.unwrap_or(1),
            returned: asked.num_return_sequences.unwrap_or(1),
            length_penalty: asked.length_penalty.unwrap_or(1.0),
            early_stopping: asked.early_stopping.unwrap_or_default(),
            rules: Rules {
                repetition_penalty: sampling.repetition_penalty,
                no_repeat_ngram: asked.no_repeat_ngram_size.unwrap_or(0),
                no_read_ngram: asked.encoder_no_repeat_ngram_size.unwrap_or(0),
                bad_words: asked.bad_words_ids.unwrap_or_default(),
                min_length: least,
                max_length: wanted.min(most),
                eos: asked.eos_token_id.unwrap_or_default(),
                forced_bos: asked.forced_bos_token_id,
                forced_eos: asked.forced_eos_token_id.unwrap_or_default(),
            },
            sampling: Sampling {
                repetition_penalty: 1.0,
                ..sampling
            },
        };
        decoding.check(limits)?;
        Ok(decoding)
    }

    fn check(&self, limits: Limits) -> Result<(), ServeError> {
        let (beams, returned) = (self.beams, self.returned);
        let refuse = |key: &str, value: usize, problem: String| {
            Err(ServeError::parameter(key, value, problem))
        };
        if beams > limits.max_rows {
            let most = limits.max_rows;
            let problem = format!(
                "option.max_rolling_batch_size = {most} texts are written at the same time at most"
            );
            return refuse("num_beams", beams, problem);
        }
        if beams > 1 && self.sampling.do_sample {
            let problem =
                "with do_sample = true is not supported; set num_beams to 1, or do_sample to false";
            return refuse("num_beams", beams, problem.into());
        }
        let most = match (beams, self.sampling.do_sample) {
            (1, true) => limits.max_rows,
            (beams, _) => beams,
        };
        if returned > most {
            let problem = match beams {
                1 if !self.sampling.do_sample => {
                    "one text is the likeliest; set num_beams to as many, or do_sample to true"
                        .into()
                }
                1 => format!(
                    "option.max_rolling_batch_size = {most} texts are written at the same time at most"
                ),
                beams => format!("must be at most num_beams = {beams}"),
            };
            return refuse("num_return_sequences", returned, problem);
        }
        let biased = self.sampling.logit_bias.len();
        if beams > 1 && biased > 0 {
            let problem = "is added where each token is picked by itself; set num_beams to 1, or leave it out";
            let found = format!("{biased} tokens");
            return Err(ServeError::parameter("logit_bias", found, problem));
        }
        let rules = &self.rules;
        let biased: Vec<u32> = self.sampling.logit_bias.iter().map(|(id, _)| *id).collect();
        let first: Vec<u32> = rules.forced_bos.into_iter().collect();
        let words = rules.bad_words.concat();
        for (key, ids) in [
            ("bad_words_ids", &words),
            ("logit_bias", &biased),
            ("forced_bos_token_id", &first),
            ("forced_eos_token_id", &rules.forced_eos),
            ("eos_token_id", &rules.eos),
            ("decoder_start_token_id", &vec![self.start]),
        ] {
            ServeError::check_ids(key, ids, limits.vocab)?;
        }
        Ok(())
    }

    /// How its beams are searched.
    pub(crate) fn beam_rules(&self) -> BeamRules {
        BeamRules {
            beams: self.beams,
            length_penalty: self.length_penalty,
            early_stopping: self.early_stopping,
            max_length: self.rules.max_length,
            eos: self.rules.eos.clone(),
        }
    }

    /// Texts that are computed at the same time.
    pub(crate) fn rows(&self) -> usize {
        self.beams.max(self.returned)
    }

    /// Tokens of each text whose keys and values are kept: the last one is not computed.
    pub(crate) fn kept(&self) -> usize {
        self.rules.max_length - 1
    }
}

/// The key that says how long a text may become, and what it says.
/// How transformers samples where nobody says.
fn sampled() -> Sampling {
    Sampling {
        top_k: SAMPLED_TOKENS,
        ..Sampling::default()
    }
}

fn length(asked: &AskedDecoding) -> Option<(&'static str, usize)> {
    let new = asked.max_new_tokens.map(|new| ("max_new_tokens", new));
    new.or(asked.max_length.map(|total| ("max_length", total)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sconce_core::AskedSampling;

    const LIMITS: Limits = Limits {
        max_length: 100,
        vocab: 50,
        max_rows: 8,
    };

    fn task(asked: AskedDecoding, said: AskedDecoding) -> Result<Decoding, String> {
        Decoding::of_task(asked, said, LIMITS).map_err(|error| error.to_string())
    }

    fn biased(beams: usize, token: u32) -> AskedDecoding {
        AskedDecoding {
            num_beams: Some(beams),
            sampling: AskedSampling {
                logit_bias: Some(vec![(token, 1.0)]),
                ..AskedSampling::default()
            },
            ..none()
        }
    }

    fn none() -> AskedDecoding {
        AskedDecoding::default()
    }

    #[test]
    fn the_request_counts_then_the_checkpoint_then_the_pipeline() {
        let plain = task(none(), none()).unwrap();
        assert_eq!((plain.beams, plain.rules.max_length), (4, 100));
        let said = AskedDecoding {
            max_length: Some(60),
            num_beams: Some(2),
            min_length: Some(5),
            ..none()
        };
        let of_checkpoint = task(none(), said.clone()).unwrap();
        assert_eq!((of_checkpoint.beams, of_checkpoint.kept()), (2, 59));
        let asked = AskedDecoding {
            max_new_tokens: Some(7),
            min_new_tokens: Some(3),
            num_beams: Some(1),
            ..none()
        };
        let both = task(asked, said).unwrap();
        assert_eq!(
            (both.beams, both.rules.max_length, both.rules.min_length),
            (1, 8, 4)
        );
    }

    #[test]
    fn who_asks_for_sampling_alone_asks_for_no_beams() {
        let sampled = |num_beams| AskedDecoding {
            num_beams,
            sampling: AskedSampling {
                do_sample: Some(true),
                ..AskedSampling::default()
            },
            ..none()
        };
        assert_eq!(task(sampled(None), none()).unwrap().beams, 1);
        let problem = task(sampled(Some(4)), none()).unwrap_err();
        assert!(problem.contains("num_beams"), "{problem}");
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_limit() {
        let cases: [(AskedDecoding, &str); 9] = [
            (
                AskedDecoding {
                    max_new_tokens: Some(100),
                    ..none()
                },
                "at most 99",
            ),
            (
                AskedDecoding {
                    max_length: Some(1),
                    ..none()
                },
                "at least 2",
            ),
            (
                AskedDecoding {
                    num_beams: Some(9),
                    ..none()
                },
                "max_rolling_batch_size = 8",
            ),
            (
                AskedDecoding {
                    num_beams: Some(2),
                    num_return_sequences: Some(3),
                    ..none()
                },
                "at most num_beams = 2",
            ),
            (
                AskedDecoding {
                    num_beams: Some(1),
                    num_return_sequences: Some(2),
                    ..none()
                },
                "do_sample to true",
            ),
            (
                AskedDecoding {
                    bad_words_ids: Some(vec![vec![3, 50]]),
                    ..none()
                },
                "ends at 50",
            ),
            (
                AskedDecoding {
                    num_beams: Some(4),
                    sampling: AskedSampling {
                        do_sample: Some(true),
                        ..AskedSampling::default()
                    },
                    ..none()
                },
                "num_beams to 1",
            ),
            (biased(2, 3), "`logit_bias` is 1 tokens"),
            (biased(1, 50), "ends at 50"),
        ];
        for (asked, part) in cases {
            let error = task(asked, none()).unwrap_err();
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }

    #[test]
    fn prompts_are_continued_token_by_token_whatever_the_checkpoint_searches_with() {
        let said = AskedDecoding {
            num_beams: Some(4),
            max_length: Some(60),
            eos_token_id: Some(vec![1]),
            ..none()
        };
        let params = GenerateParams::default();
        let decoding = Decoding::of_prompt(&params, said.clone(), LIMITS).unwrap();
        assert_eq!((decoding.beams, decoding.rules.max_length), (1, 31));
        let params = GenerateParams {
            max_tokens: MaxTokens::Model,
            stop: sconce_core::Stop {
                ignore_eos: true,
                token_ids: vec![7],
                ..Default::default()
            },
            ..params
        };
        let decoding = Decoding::of_prompt(&params, said, LIMITS).unwrap();
        assert_eq!(
            (decoding.rules.max_length, decoding.rules.eos),
            (60, vec![7])
        );
    }
}
