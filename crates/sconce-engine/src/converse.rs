//! Dialogues as DJL Serving's handler had them up to 0.27: the messages become a prompt, and one answer says it all at the
//! end, as transformers' pipeline did. What is done with the prompt is the engine's own.

use std::sync::Arc;

use sconce_core::task::{Answered, Message, Source, Write, Written};
use sconce_core::{
    Ask, AskedDecoding, BeamSearch, Dialogue, Event, Generate, GenerateParams, Input, Job,
    MaxTokens, Reply, Sampling, ServeError, Stop, TaskAnswer,
};
use sconce_text::Tokenizer;
use serde_json::json;

/// Tokens that the pipeline writes where nobody says how many.
pub(crate) const UNSAID: MaxTokens = MaxTokens::New(256);

/// The likeliest tokens that transformers samples from where nobody says how many.
const SAMPLED_TOKENS: usize = 50;

/// Makes a prompt of a job that brings a dialogue; prompts stay what they are.
pub(crate) fn prompt(
    job: Job,
    tokenizer: &Arc<Tokenizer>,
    model: &Sampling,
) -> Result<Job, ServeError> {
    let asked = match job.input {
        Input::Task(Ask::Write(asked)) => *asked,
        _ => return Ok(job),
    };
    let Source::Dialogue(messages) = &asked.source else {
        let problem =
            "this model answers dialogues; send messages, or a text with what was said before";
        return Err(ServeError::Malformed(problem.into()));
    };
    let generate = Generate::new(dialogue(messages), params(&asked, tokenizer, model)?);
    let reply = Whole {
        reply: job.reply,
        tokenizer: Arc::clone(tokenizer),
        clean_up: asked.clean_up,
        tokens: Vec::new(),
    };
    Ok(Job {
        input: Input::Generate(generate),
        reply: Box::new(reply),
        ..job
    })
}

fn dialogue(messages: &[Message]) -> Dialogue {
    let said = |message: &Message| json!({"role": message.role.name(), "content": message.content});
    Dialogue {
        messages: messages.iter().map(said).collect(),
        add_generation_prompt: true,
        ..Dialogue::default()
    }
}

fn params(
    asked: &Write,
    tokenizer: &Tokenizer,
    model: &Sampling,
) -> Result<GenerateParams, ServeError> {
    let said = &asked.decoding;
    require_kept(said)?;
    if asked.truncation.cut {
        let problem = "cuts nothing here, since the last message would go first; leave out the first messages";
        return Err(ServeError::parameter("truncation", true, problem));
    }
    let mut ends = said.eos_token_id.clone();
    if let Some(text) = &asked.stop_sequence {
        let tokens = tokenizer.encode_bare(text);
        let tokens = tokens.map_err(|error| {
            ServeError::parameter(
                "stop_sequence",
                text,
                format!("cannot be tokenised: {error}"),
            )
        })?;
        let Some(first) = tokens.first() else {
            let problem = "has no tokens; leave it out";
            return Err(ServeError::parameter("stop_sequence", text, problem));
        };
        ends = Some(vec![*first]);
    }
    let mut sampling = said.sampling.clone();
    let unsaid = (model.top_k == 0).then_some(SAMPLED_TOKENS);
    sampling.top_k = sampling.top_k.or(unsaid);
    let beams = said.num_beams.filter(|beams| *beams > 1);
    if beams.is_some() && said.sampling.do_sample == Some(true) {
        let problem = "with num_beams above 1 is not supported; leave one out";
        return Err(ServeError::parameter("do_sample", true, problem));
    }
    Ok(GenerateParams {
        beams: beams.map(|beams| BeamSearch {
            beams,
            key: "num_beams",
            returned: 1,
            length_penalty: said.length_penalty.unwrap_or(1.0),
            early_stopping: said.early_stopping.unwrap_or_default(),
        }),
        max_tokens: match (said.max_new_tokens, said.max_length) {
            (Some(new), _) => MaxTokens::New(new),
            (None, Some(total)) => MaxTokens::Total(total),
            (None, None) => MaxTokens::Model,
        },
        min_new_tokens: said.min_new_tokens.unwrap_or(0),
        min_length: said.min_length.unwrap_or(0),
        sampling,
        stop: Stop {
            ignore_eos: ends.is_some(),
            token_ids: ends.unwrap_or_default(),
            token_ids_key: "eos_token_id",
            ..Stop::default()
        },
        ..GenerateParams::default()
    })
}

/// Fails on arguments that only models keep to that read a text and write another. What acts on beams alone says nothing.
fn require_kept(said: &AskedDecoding) -> Result<(), ServeError> {
    let above = |value: Option<usize>, neutral: usize| {
        value
            .filter(|value| *value != neutral)
            .map(|value| value.to_string())
    };
    let set = |is_set: bool| is_set.then(|| "set".to_owned());
    let words = said.bad_words_ids.as_ref();
    let found = [
        ("num_return_sequences", above(said.num_return_sequences, 1)),
        ("no_repeat_ngram_size", above(said.no_repeat_ngram_size, 0)),
        (
            "encoder_no_repeat_ngram_size",
            above(said.encoder_no_repeat_ngram_size, 0),
        ),
        (
            "bad_words_ids",
            set(words.is_some_and(|words| !words.is_empty())),
        ),
        (
            "forced_bos_token_id",
            set(said.forced_bos_token_id.is_some()),
        ),
        (
            "forced_eos_token_id",
            set(said.forced_eos_token_id.is_some()),
        ),
        (
            "decoder_start_token_id",
            set(said.decoder_start_token_id.is_some()),
        ),
    ];
    for (key, value) in found {
        if let Some(value) = value {
            let problem = "is kept to by models that read a text and write another, such as Blenderbot, \
                           not by one that continues texts; leave it out";
            return Err(ServeError::parameter(key, value, problem));
        }
    }
    Ok(())
}

/// Keeps what is told token by token, and tells it once.
struct Whole {
    reply: Box<dyn Reply>,
    tokenizer: Arc<Tokenizer>,
    /// Whether spaces before punctuation are taken out.
    clean_up: bool,
    tokens: Vec<u32>,
}

impl Reply for Whole {
    fn send(&mut self, event: Event) -> bool {
        match event {
            Event::Token(token) => {
                self.tokens.push(token.id);
                !self.reply.gone()
            }
            Event::Done(output) => {
                let tokens = std::mem::take(&mut self.tokens);
                let total = output.prompt_tokens + tokens.len();
                let text = self.tokenizer.decode_cleaned(&tokens, true, self.clean_up);
                self.reply.send(match text {
                    Ok(text) => Event::Answered(Answered {
                        answer: TaskAnswer::Texts(vec![Written { text, tokens }]),
                        tokens: total,
                    }),
                    Err(error) => Event::Failed(ServeError::BadAnswer {
                        problem: error.to_string(),
                    }),
                })
            }
            other => self.reply.send(other),
        }
    }

    fn gone(&self) -> bool {
        self.reply.gone()
    }
}
