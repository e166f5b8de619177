//! Requests with `messages`.

use sconce_core::{Dialogue, Generate, MaxTokens, ServeError};
use serde_json::{Map, Value, json};

use super::choice::Choice;
use super::parameters::{self, Asked};
use super::{Habit, Stamp, messages, render, stream};
use crate::dialect::{Accepted, Answer};
use crate::fields::Fields;
use crate::parameters::{Neutral, refuse};

type Result<T> = std::result::Result<T, ServeError>;

/// Parameters of the API that are not honoured.
const REFUSED: &[(&str, Neutral)] = &[
    ("audio", Neutral::Empty),
    ("moderation", Neutral::Empty),
    ("prediction", Neutral::Empty),
    ("web_search_options", Neutral::Empty),
    ("chat_template", Neutral::Empty),
    ("add_special_tokens", Neutral::Flag(false)),
];

pub(super) fn accept(mut fields: Fields, habit: Habit, stamp: Stamp<'_>) -> Result<Accepted> {
    let (dialogue, choice) = dialogue(&mut fields)?;
    let keys = ["max_tokens", "max_completion_tokens"];
    let most = parameters::most(&mut fields, &keys, "all that the context holds")?;
    let most = most.map_or(MaxTokens::Context, MaxTokens::New);
    let mut asked = parameters::read(&mut fields, (habit, stamp, "chatcmpl"), most)?;
    let logprobs = logprobs(&mut fields, &mut asked)?;
    let prompt_logprobs = parameters::prompt_logprobs(&mut fields, &mut asked)?;
    if let Some(count) = prompt_logprobs.filter(|_| habit == Habit::Rolling) {
        let problem = "are no part of LMI's chat in a rolling batch; leave them out, or ask by /v1/chat/completions";
        return Err(ServeError::parameter("prompt_logprobs", count, problem));
    }
    let calls = choice.hold(&mut asked.params)?;
    text_only(&mut fields)?;
    for (key, neutral) in REFUSED {
        refuse(&mut fields, key, neutral)?;
    }
    let beams = asked.n;
    parameters::search(&mut fields, &mut asked, beams)?;
    parameters::finish(fields)?;
    let Asked {
        params,
        n,
        framing,
        header,
        ..
    } = asked;
    let jobs = if params.beams.is_some() { 1 } else { n };
    let first = Generate::new(dialogue, parameters::answer(&params, 0));
    let another = |answer| first.again(parameters::answer(&params, answer));
    Ok(Accepted {
        prompts: (0..jobs).map(another).collect(),
        answer: match framing.streams {
            true => Answer::stream(stream::Chat::new(header, framing, (logprobs, calls), n)),
            false => Answer::whole(render::Chat {
                header,
                habit: framing.habit,
                logprobs,
                prompt_logprobs,
                calls,
            }),
        },
    })
}

/// What the template is given.
fn dialogue(fields: &mut Fields) -> Result<(Dialogue, Choice)> {
    let messages = messages::messages(fields.take("messages"))?;
    let tools = messages::tools(fields.take("tools"))?;
    for key in ["functions", "function_call"] {
        if let Some(value) = fields.take(key) {
            let problem = "was replaced by tools and tool_choice; use these";
            return Err(ServeError::parameter(key, value, problem));
        }
    }
    let (tools, choice) = Choice::read(fields, tools)?;
    let continues = fields.flag("continue_final_message")?.unwrap_or(false);
    let begins = fields.flag("add_generation_prompt")?;
    if continues && begins == Some(true) {
        let problem = "and continue_final_message exclude each other; leave one out";
        return Err(ServeError::parameter(
            "add_generation_prompt",
            true,
            problem,
        ));
    }
    let dialogue = Dialogue {
        messages,
        tools,
        documents: messages::documents(fields.take("documents"))?,
        add_generation_prompt: begins.unwrap_or(!continues),
        continue_final_message: continues,
        template: None,
        arguments: arguments(fields)?,
        now: None,
    };
    Ok((dialogue, choice))
}

/// `chat_template_kwargs`, and what OpenAI has names of its own for.
fn arguments(fields: &mut Fields) -> Result<Map<String, Value>> {
    let mut arguments = match fields.take("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(other) => {
            let problem = "must be an object of the template's variables";
            return Err(ServeError::parameter(
                "chat_template_kwargs",
                other,
                problem,
            ));
        }
    };
    if let Some(effort) = fields.text("reasoning_effort")? {
        arguments.insert("reasoning_effort".into(), effort.into());
    }
    Ok(arguments)
}

/// Whether log-probabilities are told.
fn logprobs(fields: &mut Fields, asked: &mut Asked) -> Result<bool> {
    let logprobs = fields.flag("logprobs")?.unwrap_or(false);
    let top = parameters::top(fields, "top_logprobs")?;
    if let Some(top) = top.filter(|top| *top > 0 && !logprobs) {
        let problem = "needs logprobs: true";
        return Err(ServeError::parameter("top_logprobs", top, problem));
    }
    asked.params.report.top_n_tokens = top.unwrap_or(0);
    asked.params.report.spelled = logprobs;
    Ok(logprobs)
}

/// Fields that ask for other things than text in their other values.
fn text_only(fields: &mut Fields) -> Result<()> {
    let same = [
        (
            "modalities",
            json!(["text"]),
            "must be [\"text\"]: answers are texts",
        ),
        (
            "verbosity",
            json!("medium"),
            "must be medium: the model has no other",
        ),
    ];
    for (key, only, problem) in same {
        if let Some(value) = fields.take(key).filter(|value| *value != only) {
            return Err(ServeError::parameter(key, value, problem));
        }
    }
    Ok(())
}
