//! Forms of requests that no pipeline shows, and forms of answers to the byte.

use sconce_core::task::{
    Aggregation, Entity, Filled, Function, Label, Role, Source, Span, Subject, Written,
};
use sconce_core::{Answered, Ask, ServeError, Task, TaskAnswer};
use serde_json::{Value, json};

use super::tei::TeiRoute;
use super::{AcceptedTask, accept, openai, tei};
use crate::dialect::Answer;

fn ask(task: Task, body: &Value) -> AcceptedTask {
    accept(task, body.to_string().as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn refusal(found: Result<AcceptedTask, ServeError>) -> String {
    found.err().expect("refused").to_string()
}

/// The body that tells these answers.
fn told(accepted: AcceptedTask, answers: Vec<TaskAnswer>) -> String {
    let Answer::Task(form) = accepted.answer else {
        panic!("tasks answer with what was found")
    };
    assert_eq!(form.content_type(), "application/json");
    let answered = |answer| Answered { answer, tokens: 3 };
    let answers: Vec<Answered> = answers.into_iter().map(answered).collect();
    String::from_utf8(form.body(&answers)).unwrap()
}

fn label(label: &str, score: f32) -> Label {
    Label {
        label: label.into(),
        score,
    }
}

#[test]
fn the_whole_body_is_the_input_where_there_is_no_such_key() {
    let accepted = ask(Task::TextClassification, &json!(["a", "b"]));
    assert_eq!(accepted.asks.len(), 2);
    let accepted = ask(Task::TextClassification, &json!("a"));
    assert!(
        matches!(&accepted.asks[0], Ask::Classify(asked) if asked.text == "a" && asked.top_k == Some(1))
    );
    let accepted = ask(
        Task::QuestionAnswering,
        &json!({"question": "q", "paragraph": "c"}),
    );
    assert!(matches!(&accepted.asks[0], Ask::Find(asked) if asked.context == "c"));
    let java = json!({"text": "t", "candidate_labels": ["a"], "multi_label": true, "hypothesis_template": "{}?"});
    let accepted = ask(Task::ZeroShotClassification, &java);
    assert!(
        matches!(&accepted.asks[0], Ask::Choose(asked) if asked.multi_label && asked.template == "{}?")
    );
    for empty in ["", " \n", "null", "[]"] {
        let refused = refusal(accept(Task::FillMask, empty.as_bytes()));
        assert!(refused.contains("no input"), "{empty}: {refused}");
    }
}

#[test]
fn null_for_top_k_asks_for_all_classes_and_nothing_for_the_best() {
    let asked = |parameters: Value| {
        let accepted = ask(
            Task::TextClassification,
            &json!({"inputs": "a", "parameters": parameters}),
        );
        match &accepted.asks[0] {
            Ask::Classify(asked) => (asked.top_k, asked.unsorted, asked.function),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(asked(json!({})), (Some(1), false, None));
    assert_eq!(asked(json!({"top_k": null})), (None, false, None));
    assert_eq!(
        asked(json!({"return_all_scores": true})),
        (None, true, None)
    );
    assert_eq!(
        asked(json!({"top_k": 2, "function_to_apply": "SIGMOID"})),
        (Some(2), false, Some(Function::Sigmoid))
    );
}

#[test]
fn classes_are_a_list_or_a_list_for_each_text() {
    let labels = || TaskAnswer::Labels(vec![label("good", 0.75), label("bad", 1e-5)]);
    let one = || TaskAnswer::Labels(vec![label("good", 0.75)]);
    let flat = told(ask(Task::TextClassification, &json!(["a"])), vec![one()]);
    assert_eq!(
        flat,
        "[\n  {\n    \"label\":\"good\",\n    \"score\":0.75\n  }\n]"
    );
    let nested = json!({"inputs": "a", "parameters": {"top_k": null}});
    let nested = told(ask(Task::TextClassification, &nested), vec![labels()]);
    let wanted = "[\n  [\n    {\n      \"label\":\"good\",\n      \"score\":0.75\n    },\n    {\n      \
                  \"label\":\"bad\",\n      \"score\":1e-05\n    }\n  ]\n]";
    assert_eq!(nested, wanted);
}

#[test]
fn tokens_and_groups_have_keys_of_their_own() {
    let entity = |index| Entity {
        class: "PER".into(),
        score: 0.5,
        index,
        word: "Ada".into(),
        start: 0,
        end: 3,
    };
    let body = |parameters: Value, index| {
        let accepted = ask(
            Task::TokenClassification,
            &json!({"inputs": "Ada", "parameters": parameters}),
        );
        let text = told(accepted, vec![TaskAnswer::Entities(vec![entity(index)])]);
        let value: Value = serde_json::from_str(&text).unwrap();
        value[0][0]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        body(json!({}), Some(1)),
        "entity score index word start end"
    );
    let simple = json!({"aggregation_strategy": "simple"});
    assert_eq!(body(simple, None), "entity_group score word start end");
    let grouped =
        json!({"inputs": "a", "parameters": {"grouped_entities": true, "ignore_labels": []}});
    let accepted = ask(Task::TokenClassification, &grouped);
    assert!(
        matches!(&accepted.asks[0], Ask::Tag(asked) if asked.aggregation == Aggregation::Simple && asked.ignore_labels.is_empty())
    );
}

#[test]
fn one_question_is_answered_with_a_list_of_one() {
    let span = |answer: &str| Span {
        score: 0.5,
        start: 1,
        end: 4,
        answer: answer.into(),
    };
    let question = json!({"question": "q", "context": "c"});
    let one = told(
        ask(Task::QuestionAnswering, &question),
        vec![TaskAnswer::Spans(vec![span("x")])],
    );
    let wanted = json!([{"score": 0.5, "start": 1, "end": 4, "answer": "x"}]);
    assert_eq!(serde_json::from_str::<Value>(&one).unwrap(), wanted);
    let two = vec![TaskAnswer::Spans(vec![span("x"), span("y")])];
    let several: Value =
        serde_json::from_str(&told(ask(Task::QuestionAnswering, &question), two)).unwrap();
    assert_eq!(several[0].as_array().unwrap().len(), 2);
}

#[test]
fn masks_are_nested_as_far_as_there_are_several() {
    let filled = || Filled {
        score: 0.25,
        token: 7,
        word: "wax".into(),
        sequence: "the wax".into(),
    };
    let depth = |texts: &Value, masks: Vec<usize>| {
        let answers = masks
            .iter()
            .map(|count| TaskAnswer::Masks(vec![vec![filled()]; *count]));
        let text = told(ask(Task::FillMask, texts), answers.collect());
        text.chars()
            .take_while(|c| "[\n ".contains(*c))
            .filter(|c| *c == '[')
            .count()
    };
    assert_eq!(depth(&json!("a"), vec![1]), 1);
    assert_eq!(depth(&json!("a"), vec![2]), 2);
    assert_eq!(depth(&json!(["a", "b"]), vec![1, 1]), 2);
    assert_eq!(depth(&json!(["a", "b"]), vec![2, 1]), 3);
}

#[test]
fn pairs_are_ranked_under_all_names() {
    for body in [
        json!({"query": "q", "texts": ["t"]}),
        json!([{"text": "q", "text_pair": "t"}]),
        json!({"inputs": [{"key": "q", "value": "t"}]}),
    ] {
        let accepted = ask(Task::TextRanking, &body);
        assert!(
            matches!(&accepted.asks[0], Ask::Rank(asked) if asked.pairs == [("q".into(), "t".into())] && asked.truncation.cut)
        );
        assert_eq!(
            told(accepted, vec![TaskAnswer::Scores(vec![0.5])]),
            "[\n  [\n    0.5\n  ]\n]"
        );
    }
}

#[test]
fn openai_takes_texts_and_tokens() {
    let asks = |input: Value| {
        let accepted =
            openai::embeddings(json!({"input": input}).to_string().as_bytes(), "m").unwrap();
        let subject = |ask: Ask| match ask {
            Ask::Embed(asked) => asked.text,
            other => panic!("{other:?}"),
        };
        accepted.asks.into_iter().map(subject).collect::<Vec<_>>()
    };
    assert_eq!(asks(json!("a")), [Subject::Text("a".into())]);
    assert_eq!(asks(json!([1, 2])), [Subject::Tokens(vec![1, 2])]);
    assert_eq!(asks(json!([[1], [2]])).len(), 2);
    assert_eq!(asks(json!(["a", [2]])).len(), 2);
    for bad in [json!({}), json!([{}]), json!([[-1]]), json!([])] {
        let body = json!({"input": bad}).to_string();
        assert!(openai::embeddings(body.as_bytes(), "m").is_err(), "{body}");
    }
    let body = json!({"input": "a", "encoding_format": "base64"}).to_string();
    let accepted = openai::embeddings(body.as_bytes(), "m").unwrap();
    let text = told(accepted, vec![TaskAnswer::Vector(vec![1.0, -2.0])]);
    assert_eq!(
        text,
        r#"{"object":"list","data":[{"object":"embedding","embedding":"AACAPwAAAMA=","index":0}],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}"#
    );
}

#[test]
fn tei_ranks_best_first_and_predicts_pairs() {
    let body = json!({"query": "q", "texts": ["a", "b"], "return_text": true}).to_string();
    let accepted = tei::accept(TeiRoute::Rerank, body.as_bytes()).unwrap();
    let text = told(accepted, vec![TaskAnswer::Scores(vec![0.25, 0.5])]);
    assert_eq!(
        text,
        r#"[{"index":1,"text":"b","score":0.5},{"index":0,"text":"a","score":0.25}]"#
    );
    let predict = |inputs: Value| {
        let body = json!({"inputs": inputs}).to_string();
        tei::accept(TeiRoute::Predict, body.as_bytes()).map(|accepted| accepted.asks.len())
    };
    assert_eq!(predict(json!("a")).unwrap(), 1);
    assert_eq!(predict(json!(["a", "b"])).unwrap(), 1);
    assert_eq!(predict(json!([["a"], ["a", "b"]])).unwrap(), 2);
    for bad in [json!(["a", "b", "c"]), json!([[]]), json!(3)] {
        assert!(predict(bad.clone()).is_err(), "{bad}");
    }
    let left = json!({"inputs": "a", "truncation_direction": "Left"}).to_string();
    assert!(refusal(tei::accept(TeiRoute::Embed, left.as_bytes())).contains("must be Right"));
}

#[test]
fn unknown_keys_are_named_with_the_nearest() {
    let body = json!({"inputs": "a", "parameters": {"aggregation_stratgy": "max"}}).to_string();
    let refused = refusal(accept(Task::TokenClassification, body.as_bytes()));
    assert!(
        refused.contains("did you mean `aggregation_strategy`?"),
        "{refused}"
    );
    let body = json!({"inputs": "a", "parameters": 3}).to_string();
    assert!(refusal(accept(Task::FillMask, body.as_bytes())).contains("must be an object"));
}

fn dialogue(body: &Value) -> (AcceptedTask, Vec<(Role, String)>) {
    let accepted = ask(Task::Conversational, body);
    let Ask::Write(asked) = &accepted.asks[0] else {
        panic!("a dialogue is answered by a text")
    };
    let Source::Dialogue(messages) = &asked.source else {
        panic!("a dialogue is read")
    };
    let said = messages
        .iter()
        .map(|said| (said.role, said.content.clone()));
    let said = said.collect();
    (accepted, said)
}

#[test]
fn dialogues_have_the_forms_of_handler_and_pipeline() {
    use Role::{Assistant, System, User};
    let turns = json!({"inputs": {"text": "c", "past_user_inputs": ["a", "b"], "generated_responses": ["x"]}});
    let (accepted, said) = dialogue(&turns);
    let texts: Vec<&str> = said.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["a", "x", "b", "c"]);
    assert_eq!(said[1].0, Assistant);
    let written = TaskAnswer::Texts(vec![Written {
        text: "y".into(),
        tokens: vec![1],
    }]);
    let body: Value = serde_json::from_str(&told(accepted, vec![written.clone()])).unwrap();
    let conversation =
        json!({"past_user_inputs": ["a", "b", "c"], "generated_responses": ["x", "y"]});
    assert_eq!(
        body,
        json!({"generated_text": "y", "conversation": conversation})
    );
    let messages = json!({"inputs": [
        {"role": "system", "content": "s"}, {"role": "user", "content": "u"}
    ]});
    let (_, said) = dialogue(&messages);
    assert_eq!(said, [(System, "s".into()), (User, "u".into())]);
    let several = ask(
        Task::Conversational,
        &json!({"inputs": ["a", {"text": "b"}]}),
    );
    assert_eq!(several.asks.len(), 2);
    assert!(told(several, vec![written.clone(), written]).starts_with('['));
}

#[test]
fn wrong_dialogues_are_refused_by_the_part_that_is_wrong() {
    for (inputs, part) in [
        (json!({"past_user_inputs": ["a"]}), "must be an object"),
        (
            json!({"text": "a", "past_user_inputs": "b"}),
            "`past_user_inputs` is",
        ),
        (
            json!({"text": "a", "generated_responses": [1]}),
            "`generated_responses` is 1",
        ),
        (json!({"text": "a", "past": []}), "`past`"),
        (
            json!([{"role": "robot", "content": "a"}]),
            "must be user, assistant or system",
        ),
        (json!([{"role": "user"}]), "must be an object"),
        (
            json!([{"role": "assistant", "content": "a"}]),
            "must end with a message of the user",
        ),
        (json!(5), "must be an object"),
        (json!([]), "no input"),
    ] {
        let body = json!({"inputs": inputs}).to_string();
        let refused = refusal(accept(Task::Conversational, body.as_bytes()));
        assert!(refused.contains(part), "{body}: {refused}");
    }
}
