//! Requests with `prompt`.

use sconce_core::{Generate, MaxTokens, Prompt, ServeError};
use serde_json::Value;

use super::parameters::{self, Asked, MOST_CHOICES};
use super::{Habit, Stamp, render, stream};
use crate::dialect::{Accepted, Answer};
use crate::fields::Fields;

type Result<T> = std::result::Result<T, ServeError>;

/// The length of an answer where a request names none, as at OpenAI.
const UNSAID: usize = 16;

pub(super) fn accept(mut fields: Fields, habit: Habit, stamp: Stamp<'_>) -> Result<Accepted> {
    let prompts = prompts(fields.take("prompt"))?;
    if let Some(suffix) = fields
        .take("suffix")
        .filter(|suffix| suffix.as_str() != Some(""))
    {
        let problem = "is not supported: models here only continue texts; leave it out";
        return Err(ServeError::parameter("suffix", suffix, problem));
    }
    let most = parameters::most(&mut fields, &["max_tokens"], &UNSAID.to_string())?;
    let most = MaxTokens::New(most.unwrap_or(UNSAID));
    let mut asked = parameters::read(&mut fields, (habit, stamp, "cmpl"), most)?;
    let logprobs = parameters::top(&mut fields, "logprobs")?;
    let prompt_logprobs = parameters::prompt_logprobs(&mut fields, &mut asked)?;
    let echo = fields.flag("echo")?.unwrap_or(false);
    let best_of = best_of(&mut fields, &asked)?;
    parameters::search(&mut fields, &mut asked, best_of)?;
    parameters::finish(fields)?;
    let report = &mut asked.params.report;
    report.echo = echo;
    if echo && let Some(top) = logprobs {
        report.prompt_logprobs = true;
        report.prompt_top = report.prompt_top.max(top);
    }
    report.top_n_tokens = logprobs.unwrap_or(0);
    report.spelled = logprobs.is_some();
    let told = Told {
        logprobs,
        prompt_logprobs,
        echo,
    };
    answer(&prompts, asked, told, best_of)
}

/// What is told beside the text.
struct Told {
    logprobs: Option<usize>,
    prompt_logprobs: Option<usize>,
    echo: bool,
}

fn answer(prompts: &[Prompt], asked: Asked, told: Told, best_of: usize) -> Result<Accepted> {
    let Told {
        logprobs,
        prompt_logprobs,
        echo,
    } = told;
    let Asked {
        params,
        n,
        framing,
        header,
        ..
    } = asked;
    let count = prompts.len() * best_of;
    if count > MOST_CHOICES as usize {
        let value = format!("{} prompts with {best_of} answers each", prompts.len());
        let problem = format!("asks for more than {MOST_CHOICES} answers; send several requests");
        return Err(ServeError::parameter("prompt", value, problem));
    }
    let jobs = if params.beams.is_some() { 1 } else { best_of };
    let each = |prompt: &Prompt| {
        let params = &params;
        let first = Generate::new(prompt.clone(), parameters::answer(params, 0));
        (0..jobs).map(move |answer| first.again(parameters::answer(params, answer)))
    };
    let form = render::Completions {
        header,
        habit: framing.habit,
        logprobs,
        prompt_logprobs,
        n,
        best_of,
        jobs,
        echo,
    };
    Ok(Accepted {
        prompts: prompts.iter().flat_map(each).collect(),
        answer: match framing.streams {
            false => Answer::whole(form),
            true => {
                let echoes = match echo {
                    true => echoes(prompts, logprobs, n)?,
                    false => Vec::new(),
                };
                Answer::stream(stream::Completions::new(form, framing, (count, echoes)))
            }
        },
    })
}

/// The texts that a stream begins with, one for each answer.
fn echoes(prompts: &[Prompt], logprobs: Option<usize>, n: usize) -> Result<Vec<String>> {
    let wrong = |problem: &str| Err(ServeError::parameter("echo", true, problem));
    if logprobs.is_some() {
        return wrong("is not streamed with logprobs; leave one out, or stream");
    }
    let mut echoes = Vec::new();
    for prompt in prompts {
        let Prompt::Text(text) = prompt else {
            return wrong("is streamed for prompts that are texts only; send a text");
        };
        echoes.extend(std::iter::repeat_n(text.to_string(), n));
    }
    Ok(echoes)
}

/// Answers that are made for each prompt.
fn best_of(fields: &mut Fields, asked: &Asked) -> Result<usize> {
    let n = asked.n;
    let problem = format!("must be a whole number from n = {n} to {MOST_CHOICES}");
    let best_of = fields.integer("best_of", n as i128..=MOST_CHOICES, &problem)?;
    let best_of = best_of.map_or(n, |best_of| best_of as usize);
    if best_of > n && asked.framing.streams {
        let problem = "above n cannot be streamed: which answers are best is known at the end";
        return Err(ServeError::parameter("best_of", best_of, problem));
    }
    Ok(best_of)
}

/// A text, texts, the tokens of one, or of several.
fn prompts(prompt: Option<Value>) -> Result<Vec<Prompt>> {
    const WANTED: &str =
        "must be a string, a list of strings, a list of token ids, or a list of such lists";
    let wrong = |value: &Value| ServeError::parameter("prompt", value, WANTED);
    let tokens = |items: &[Value]| -> Option<Vec<u32>> {
        let id = |item: &Value| u32::try_from(item.as_u64()?).ok();
        items.iter().map(id).collect()
    };
    let one = |item: &Value| match item {
        Value::String(text) if text.is_empty() => Err(ServeError::parameter(
            "prompt",
            "\"\"",
            "is empty; send some text",
        )),
        Value::String(text) => Ok(text.as_str().into()),
        Value::Array(items) if !items.is_empty() => tokens(items)
            .map(|ids| Prompt::Tokens(ids.into()))
            .ok_or_else(|| wrong(item)),
        other => Err(wrong(other)),
    };
    match prompt {
        None => Err(ServeError::Malformed(format!(
            "`prompt` is missing: it {WANTED}"
        ))),
        Some(Value::Array(items)) if items.is_empty() => Err(ServeError::parameter(
            "prompt",
            "[]",
            "is empty; send at least one text",
        )),
        Some(Value::Array(items)) if items.iter().all(Value::is_number) => {
            Ok(vec![one(&Value::Array(items))?])
        }
        Some(Value::Array(items)) => items.iter().map(one).collect(),
        Some(one_text) => Ok(vec![one(&one_text)?]),
    }
}
