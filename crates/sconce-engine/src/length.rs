//! How long an answer may become, once the prompt's length is known.

use sconce_core::{GenerateParams, MaxTokens, ServeError};

/// Bounds of an answer, in new tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length {
    /// At most so many are generated; at least 1.
    pub(crate) most: usize,
    /// Nothing ends the text before so many; not more than `most`.
    pub(crate) least: usize,
}

impl Length {
    /// For a prompt of so many tokens. `limit` is the longest sequence that the model takes,
    /// `unsaid` stands for [`MaxTokens::Model`]: by default an answer may fill the context and no
    /// more, while what a request asks for has to fit.
    pub(crate) fn of(
        params: &GenerateParams,
        prompt: usize,
        limit: usize,
        unsaid: MaxTokens,
    ) -> Result<Self, ServeError> {
        if prompt == 0 {
            let problem = "gives no token; send some text";
            return Err(ServeError::parameter("inputs", "empty", problem));
        }
        if prompt >= limit {
            return Err(ServeError::PromptTooLong { prompt, limit });
        }
        let asked = match params.max_tokens {
            MaxTokens::Model => unsaid,
            said => said,
        };
        let most = match asked {
            MaxTokens::New(new) => new,
            MaxTokens::Total(total) if total > prompt => total - prompt,
            MaxTokens::Total(total) => {
                let problem = format!(
                    "counts the tokens of the prompt too, which are {prompt}; raise it or use \
                     max_new_tokens"
                );
                return Err(ServeError::parameter("max_length", total, problem));
            }
            MaxTokens::Model | MaxTokens::Context => limit - prompt,
        };
        let most = match params.max_tokens {
            MaxTokens::Model => most.min(limit - prompt),
            _ => most,
        };
        if prompt.saturating_add(most) > limit {
            let new = most;
            return Err(ServeError::TooLong { prompt, new, limit });
        }
        let least = params
            .min_new_tokens
            .max(params.min_length.saturating_sub(prompt));
        let least = least.min(most);
        Ok(Self { most, least })
    }
}

/// The prompt's last tokens, if only so many are to be used.
pub(crate) fn truncated(prompt: &[u32], last: Option<usize>) -> Vec<u32> {
    let surplus = last.map_or(0, |last| prompt.len().saturating_sub(last));
    prompt[surplus..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(params: GenerateParams, prompt: usize) -> Result<(usize, usize), ServeError> {
        let length = Length::of(&params, prompt, 100, MaxTokens::New(20))?;
        Ok((length.most, length.least))
    }

    fn most(max_tokens: MaxTokens) -> GenerateParams {
        GenerateParams {
            max_tokens,
            ..GenerateParams::default()
        }
    }

    #[test]
    fn lengths_count_new_tokens_or_all_or_are_left_to_the_model() {
        let of = |max_tokens, prompt| length(most(max_tokens), prompt).unwrap().0;
        assert_eq!(of(MaxTokens::New(90), 10), 90);
        assert_eq!(of(MaxTokens::Total(30), 10), 20);
        assert_eq!(of(MaxTokens::Model, 10), 20);
        assert_eq!(
            of(MaxTokens::Model, 95),
            5,
            "a default ends with the context"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refusal = |max_tokens, prompt| length(most(max_tokens), prompt).unwrap_err();
        let too_long = ServeError::TooLong {
            prompt: 10,
            new: 91,
            limit: 100,
        };
        assert_eq!(refusal(MaxTokens::New(91), 10), too_long);
        assert_eq!(refusal(MaxTokens::Total(101), 10), too_long);
        let full = ServeError::PromptTooLong {
            prompt: 100,
            limit: 100,
        };
        assert_eq!(refusal(MaxTokens::Model, 100), full);
        let text = refusal(MaxTokens::Total(10), 10).to_string();
        assert!(
            text.contains("`max_length` is 10") && text.contains("are 10"),
            "{text}"
        );
        let text = refusal(MaxTokens::Model, 0).to_string();
        assert!(text.contains("gives no token"), "{text}");
    }

    #[test]
    fn the_least_length_is_the_larger_of_the_two_and_never_more_than_the_most() {
        let least = |new, total| {
            let params = GenerateParams {
                min_new_tokens: new,
                min_length: total,
                ..most(MaxTokens::New(8))
            };
            length(params, 10).unwrap().1
        };
        assert_eq!(
            [least(0, 0), least(3, 12), least(1, 14), least(0, 90)],
            [0, 3, 4, 8]
        );
    }

    #[test]
    fn a_prompt_is_cut_at_its_beginning() {
        assert_eq!(truncated(&[1, 2, 3], Some(2)), [2, 3]);
        assert_eq!(truncated(&[1, 2, 3], Some(5)), [1, 2, 3]);
        assert_eq!(truncated(&[1, 2, 3], None), [1, 2, 3]);
    }
}
