//! Requests in, answers out. The shapes are those of OpenAI's API reference; those of the rolling batch were written by
//! DJL Serving 0.36's own formatter.

use sconce_core::{
    FinishReason, Generate, MaxTokens, Output, Prompt, PromptToken, Token, TopToken,
};
use serde_json::json;

use super::*;
use crate::dialect::{Answer, Finished};

const STAMP: Stamp = Stamp {
    id: "0f-1e",
    created: 1711997860,
    model: "tiny",
};

fn incoming(body: &[u8]) -> Incoming<'_> {
    Incoming {
        body,
        stamp: STAMP,
        ..Incoming::default()
    }
}

fn chat_of(more: Value) -> Result<Accepted, ServeError> {
    let mut body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    merge(&mut body, more);
    super::accept(OpenAiRoute::Chat, &incoming(body.to_string().as_bytes()))
}

fn completions_of(more: Value) -> Result<Accepted, ServeError> {
    let mut body = json!({ "prompt": "Hi" });
    merge(&mut body, more);
    let route = OpenAiRoute::Completions;
    super::accept(route, &incoming(body.to_string().as_bytes()))
}

fn merge(body: &mut Value, more: Value) {
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
}

fn params(accepted: Result<Accepted, ServeError>) -> Vec<Generate> {
    accepted.expect("a request").prompts
}

fn refusal(accepted: Result<Accepted, ServeError>) -> String {
    accepted.err().expect("a refusal").to_string()
}

fn token(text: &str, logprob: f32) -> Token {
    Token {
        id: 7,
        text: text.into(),
        spelled: text.into(),
        logprob,
        special: false,
        last: false,
        top: vec![TopToken {
            id: 8,
            text: "X".into(),
            logprob: -0.125,
            special: false,
        }],
    }
}

fn output(text: &str, finish: FinishReason) -> Output {
    Output {
        text: text.into(),
        finish,
        prompt_tokens: 33,
        generated_tokens: 2,
        seed: None,
        prompt: vec![PromptToken {
            id: 1,
            text: "Hi".into(),
            logprob: None,
            ..PromptToken::default()
        }],
        echo: "Hi".into(),
        matched: None,
        others: Vec::new(),
    }
}

fn finished(text: &str, logprob: f32) -> Finished {
    Finished {
        tokens: vec![token(text, logprob)],
        output: output(text, FinishReason::EosToken),
    }
}

fn whole(accepted: Result<Accepted, ServeError>, finished: &[Finished]) -> String {
    let Answer::Whole(whole) = accepted.expect("a request").answer else {
        panic!("no whole answer");
    };
    String::from_utf8(whole.body(finished)).expect("text")
}

/// What a stream of these events says: a token for each of the texts, then the end, of every answer.
fn streamed(accepted: Result<Accepted, ServeError>, texts: &[&str]) -> String {
    let accepted = accepted.expect("a request");
    let count = accepted.prompts.len();
    let Answer::Stream(mut stream) = accepted.answer else {
        panic!("no stream");
    };
    let mut bytes = Vec::new();
    for index in 0..count {
        for text in texts {
            bytes.extend(stream.token(index, token(text, -0.5)));
        }
        let output = output(&texts.concat(), FinishReason::Length);
        bytes.extend(stream.done(index, &output));
    }
    String::from_utf8(bytes).expect("text")
}

fn data(stream: &str) -> Vec<Value> {
    let events = stream
        .split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").expect("data"));
    let events: Vec<_> = events.collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let json = events[..events.len() - 1].iter();
    json.map(|event| serde_json::from_str(event).expect("JSON"))
        .collect()
}

#[test]
fn a_chat_becomes_a_dialogue_that_may_fill_the_context() {
    let [Generate { prompt, params, .. }] = &params(chat_of(json!({})))[..] else {
        panic!("one prompt");
    };
    let Prompt::Dialogue(dialogue) = prompt else {
        panic!("no dialogue");
    };
    assert!(dialogue.add_generation_prompt && dialogue.tools.is_none());
    assert_eq!(
        dialogue.messages,
        [json!({ "role": "user", "content": "Hi" })]
    );
    assert_eq!(params.max_tokens, MaxTokens::Context);
    assert_eq!(params.sampling.do_sample, Some(true));
}

#[test]
fn every_answer_has_a_seed_of_its_own() {
    let asked = json!({"n": 3, "seed": 5, "max_completion_tokens": 9, "temperature": 0.5});
    let prompts = params(chat_of(asked));
    let seeds: Vec<_> = prompts.iter().map(|one| one.params.sampling.seed).collect();
    assert_eq!(seeds, [Some(5), Some(6), Some(7)]);
    assert!(
        prompts
            .iter()
            .all(|one| one.params.max_tokens == MaxTokens::New(9))
    );
    let cold = params(chat_of(
        json!({"temperature": 0, "logit_bias": {"5": -100, "9": 1.5}}),
    ));
    assert_eq!(cold[0].params.sampling.do_sample, Some(false));
    assert_eq!(
        cold[0].params.sampling.logit_bias,
        Some(vec![(5, -100.0), (9, 1.5)])
    );
}

#[test]
fn contents_and_calls_are_given_as_templates_want_them() {
    let messages = json!([
        {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "user", "name": "Ann", "content": "Go on", "tool_calls": null},
    ]);
    let tools =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let asked = json!({"messages": messages, "tools": tools, "reasoning_effort": "low", "chat_template_kwargs": {"x": 1},
        "documents": [{"title": "t", "text": "d"}], "continue_final_message": true});
    let Prompt::Dialogue(dialogue) = &params(chat_of(asked))[0].prompt else {
        panic!("no dialogue");
    };
    let said = &dialogue.messages;
    assert_eq!(
        said[0]["content"],
        json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    );
    assert_eq!(said[1]["content"], "");
    assert_eq!(
        said[1]["tool_calls"][0]["function"]["arguments"],
        json!({"x": 1})
    );
    assert!(said[3].get("tool_calls").is_none() && said[3]["name"] == "Ann");
    assert_eq!(
        dialogue.tools.as_deref(),
        tools.as_array().map(Vec::as_slice)
    );
    assert_eq!(
        json!(dialogue.arguments),
        json!({"x": 1, "reasoning_effort": "low"})
    );
    assert!(dialogue.continue_final_message && !dialogue.add_generation_prompt);
    let none = json!({"tools": tools, "tool_choice": "none"});
    let Prompt::Dialogue(dialogue) = &params(chat_of(none))[0].prompt else {
        panic!("no dialogue");
    };
    assert!(dialogue.tools.is_none());
}

#[test]
fn what_no_chat_can_be_is_refused_by_name() {
    let image =
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
    for (asked, parts) in [
        (json!({"messages": []}), ["messages", "at least one"]),
        (json!({"messages": "Hi"}), ["messages", "list of objects"]),
        (
            json!({"messages": [{"role": "king", "content": "x"}]}),
            ["messages[0].role", "assistant"],
        ),
        (
            json!({"messages": [{"role": "user"}]}),
            ["messages[0].content", "must be a text"],
        ),
        (
            json!({"messages": image}),
            ["messages[0].content[0].type", "reads text only"],
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}),
            [
                "messages[0].tool_calls[0].function.arguments",
                "JSON object",
            ],
        ),
        (
            json!({"tools": [{"type": "web"}]}),
            ["tools[0].type", "must be function"],
        ),
        (
            json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            ["tools[0].function.name", "letters"],
        ),
        (
            json!({"tool_choice": "auto"}),
            ["tool_choice", "without tools"],
        ),
        (json!({"functions": []}), ["functions", "tools"]),
        (json!({"n": 0}), ["`n`", "from 1 to 128"]),
        (
            json!({"top_logprobs": 3}),
            ["top_logprobs", "needs logprobs"],
        ),
        (
            json!({"logprobs": true, "top_logprobs": 21}),
            ["top_logprobs", "0 to 20"],
        ),
        (
            json!({"stream_options": {"include_usage": true}}),
            ["stream_options", "streams only"],
        ),
        (
            json!({"stream": true, "stream_options": {"usage": true}}),
            ["usage", "include_usage"],
        ),
        (
            json!({"max_tokens": 3, "max_completion_tokens": 4}),
            ["max_completion_tokens", "both 3 and 4"],
        ),
        (
            json!({"modalities": ["text", "audio"]}),
            ["modalities", "text"],
        ),
        (
            json!({"prediction": {"type": "content"}}),
            ["prediction", "not supported"],
        ),
        (json!({"logit_bias": {"x": 1}}), ["logit_bias", "token ids"]),
        (
            json!({"logit_bias": {"5": 101}}),
            ["logit_bias", "-100 to 100"],
        ),
        (json!({"inputs": "Hi"}), ["inputs", "no such key"]),
        (json!({"service_tier": "flex"}), ["service_tier", "auto"]),
        (
            json!({"add_generation_prompt": true, "continue_final_message": true}),
            ["add_generation_prompt", "exclude"],
        ),
    ] {
        let text = refusal(chat_of(asked.clone()));
        assert!(
            parts.iter().all(|part| text.contains(part)),
            "{asked}: {text}"
        );
    }
    let nothing = super::accept(OpenAiRoute::Chat, &incoming(b"[]"));
    assert!(refusal(nothing).contains("`messages`"));
}

#[test]
fn prompts_are_texts_or_tokens_one_or_many() {
    let all = |prompt: Value| {
        let asked = params(completions_of(json!({ "prompt": prompt })));
        asked.into_iter().map(|one| one.prompt).collect::<Vec<_>>()
    };
    assert_eq!(all(json!("a")), ["a".into()]);
    assert_eq!(all(json!(["a", "b"])), ["a".into(), "b".into()]);
    assert_eq!(all(json!([1, 2])), [Prompt::Tokens([1, 2].into())]);
    assert_eq!(
        all(json!([[1], "b"])),
        [Prompt::Tokens([1].into()), "b".into()]
    );
    let unsaid = params(completions_of(json!({})));
    assert_eq!(unsaid[0].params.max_tokens, MaxTokens::New(16));
    for (asked, parts) in [
        (json!({"prompt": null}), ["prompt", "missing"]),
        (json!({"prompt": ""}), ["prompt", "empty"]),
        (json!({"prompt": [1, "a"]}), ["prompt", "list of token ids"]),
        (json!({"prompt": [-1]}), ["prompt", "list of token ids"]),
        (json!({"suffix": "end"}), ["suffix", "only continue"]),
        (json!({"best_of": 2, "n": 3}), ["best_of", "from n = 3"]),
        (
            json!({"best_of": 2, "stream": true}),
            ["best_of", "streamed"],
        ),
        (
            json!({"prompt": ["a", "b"], "n": 65}),
            ["prompt", "more than 128"],
        ),
        (
            json!({"echo": true, "stream": true, "logprobs": 1}),
            ["echo", "logprobs"],
        ),
        (
            json!({"prompt": [1], "echo": true, "stream": true}),
            ["echo", "texts only"],
        ),
        (json!({"messages": []}), ["messages", "no such key"]),
    ] {
        let text = refusal(completions_of(asked.clone()));
        assert!(
            parts.iter().all(|part| text.contains(part)),
            "{asked}: {text}"
        );
    }
}

#[test]
fn a_whole_chat_has_openai_s_shape() {
    let asked = json!({"logprobs": true, "top_logprobs": 1, "n": 2});
    let body = whole(
        chat_of(asked),
        &[finished("Hé", -0.5), finished("\u{fffd}", -1.0)],
    );
    let mut want = json!({
        "id": "chatcmpl-0f1e", "object": "chat.completion", "created": 1711997860, "model": "tiny",
        "choices": [{
            "index": 0, "message": {"role": "assistant", "content": "Hé", "refusal": null},
            "logprobs": {"content": [{
                "token": "Hé", "logprob": -0.5, "bytes": [72, 195, 169],
                "top_logprobs": [{"token": "X", "logprob": -0.125, "bytes": [88]}],
            }], "refusal": null},
            "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": 33, "completion_tokens": 4, "total_tokens": 37},
    });
    let mut second = want["choices"][0].clone();
    second["index"] = json!(1);
    second["message"]["content"] = json!("\u{fffd}");
    second["logprobs"]["content"][0]["token"] = json!("\u{fffd}");
    second["logprobs"]["content"][0]["logprob"] = json!(-1.0);
    second["logprobs"]["content"][0]["bytes"] = Value::Null;
    want["choices"].as_array_mut().expect("a list").push(second);
    assert_eq!(body, want.to_string());
}

#[test]
fn a_streamed_chat_names_the_speaker_and_ends_with_usage_and_done() {
    let asked =
        json!({"stream": true, "stream_options": {"include_usage": true}, "model": "m", "n": 2});
    let chunks = data(&streamed(chat_of(asked), &["He", "", "llo"]));
    let deltas: Vec<_> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"].get(0))
        .collect();
    let of_first: Vec<_> = deltas
        .iter()
        .filter(|choice| choice["index"] == 0)
        .map(|choice| &choice["delta"])
        .collect();
    let want = [
        json!({"role": "assistant", "content": ""}),
        json!({"content": "He"}),
        json!({"content": "llo"}),
        json!({}),
    ];
    assert_eq!(of_first, want.iter().collect::<Vec<_>>());
    assert_eq!(deltas.last().expect("a chunk")["finish_reason"], "length");
    assert!(
        chunks[..chunks.len() - 1]
            .iter()
            .all(|chunk| chunk["usage"].is_null() && chunk["model"] == "m")
    );
    let last = chunks.last().expect("a chunk");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"],
        json!({"prompt_tokens": 33, "completion_tokens": 4, "total_tokens": 37})
    );
    let plain = data(&streamed(chat_of(json!({"stream": true})), &["x"]));
    assert!(plain.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[test]
fn completions_list_logprobs_with_places_and_may_repeat_the_prompt() {
    let asked = json!({"echo": true, "logprobs": 1});
    let body: Value =
        serde_json::from_str(&whole(completions_of(asked), &[finished("!", -0.5)])).expect("JSON");
    assert_eq!(body["object"], "text_completion");
    let choice = &body["choices"][0];
    assert_eq!(choice["text"], "Hi!");
    let want = json!({
        "tokens": ["Hi", "!"], "token_logprobs": [null, -0.5],
        "top_logprobs": [null, {"X": -0.125, "!": -0.5}], "text_offset": [0, 2],
    });
    assert_eq!(choice["logprobs"], want);
    let chunks = data(&streamed(
        completions_of(json!({"echo": true, "stream": true})),
        &["a", "b"],
    ));
    let texts: Vec<_> = chunks
        .iter()
        .map(|chunk| chunk["choices"][0]["text"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(texts, ["Hia", "b", ""]);
    let offsets = data(&streamed(
        completions_of(json!({"logprobs": 0, "stream": true})),
        &["ab", "c"],
    ));
    assert_eq!(
        offsets[1]["choices"][0]["logprobs"]["text_offset"],
        json!([2])
    );
}

#[test]
fn the_best_of_several_are_those_whose_tokens_are_likeliest() {
    let asked = json!({"prompt": ["a", "b"], "best_of": 3, "n": 2});
    let all =
        [-3.0, -1.0, -2.0, -1.0, -1.5, -1.0].map(|logprob| finished(&logprob.to_string(), logprob));
    let body: Value = serde_json::from_str(&whole(completions_of(asked), &all)).expect("JSON");
    let texts: Vec<_> = body["choices"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["text"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(texts, ["-1", "-2", "-1", "-1"]);
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": 66, "completion_tokens": 12, "total_tokens": 78})
    );
}

#[test]
fn lmi_has_habits_of_its_own() {
    let of = |habit: Habit, more: Value| {
        let mut body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
        merge(&mut body, more);
        let Value::Object(object) = body else {
            panic!("an object")
        };
        super::chat(Fields::new(object), habit, STAMP)
    };
    let rolling = whole(
        of(Habit::Rolling, json!({"logprobs": true})),
        &[finished("Hé", -0.5)],
    );
    assert_eq!(
        rolling,
        "{\"id\": \"chatcmpl-0f1e\", \"object\": \"chat.completion\", \"created\": 1711997860, \"choices\": [{\"index\": 0, \
         \"message\": {\"role\": \"assistant\", \"content\": \"Hé\"}, \"logprobs\": {\"content\": [{\"token\": \"Hé\", \
         \"logprob\": -0.5, \"bytes\": [72, 233], \"top_logprobs\": [{\"token\": \"Hé\", \"logprob\": -0.5, \
         \"bytes\": [72, 233]}]}]}, \"finish_reason\": \"eos_token\"}], \"usage\": {\"prompt_tokens\": 33, \
         \"completion_tokens\": 2, \"total_tokens\": 35}}"
    );
    let chunks = data(&streamed(
        of(Habit::Rolling, json!({"stream": true, "logprobs": true})),
        &["x"],
    ));
    assert_eq!(
        chunks[1]["choices"][0]["logprobs"][0]["content"][0]["top_logprobs"][0]["token"],
        json!(-0.5)
    );
    let lines = streamed(of(Habit::Async, json!({"stream": true})), &["x"]);
    assert!(
        lines.lines().all(|line| line.starts_with('{')) && !lines.contains("DONE"),
        "{lines}"
    );
    assert!(whole(of(Habit::Async, json!({})), &[finished("x", 0.0)]).ends_with("}\n"));
}

#[test]
fn a_byte_order_mark_hides_neither_the_model_nor_the_kind_of_a_body() {
    for mark in ["", "\u{feff}"] {
        let named = format!(r#"{mark}{{"model": "a", "messages": []}}"#);
        assert_eq!(named_model(named.as_bytes()).as_deref(), Some("a"));
        let native = format!(r#"{mark}{{"inputs": "a"}}"#);
        assert!(is_native(native.as_bytes()));
        assert!(!is_native(named.as_bytes()));
    }
}
