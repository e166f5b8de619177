//! Texts that nobody expects get an answer or an error of their own from every task, never a panic, and leave the server
//! as it was.

mod forms;
pub(crate) mod texts;

use std::collections::HashSet;

use sconce_core::Task;
use sconce_testkit::client::Client;
use serde_json::Value;

use crate::folders::Folders;
use crate::{dialogues, seq2seq, tasks};

/// A folder for each task, and more where models differ in how they read.
const ASKED: &[(&Folders, &str)] = &[
    (&tasks::FOLDERS, "bert-text-classification"),
    (&tasks::FOLDERS, "roberta-text-classification"),
    (&tasks::FOLDERS, "xlm-roberta-token-classification"),
    (&tasks::FOLDERS, "bert-token-classification"),
    (&tasks::FOLDERS, "deberta-question-answering"),
    (&tasks::FOLDERS, "roberta-question-answering"),
    (&tasks::FOLDERS, "bert-fill-mask"),
    (&tasks::FOLDERS, "modernbert-feature-extraction"),
    (&tasks::FOLDERS, "bert-zero-shot-classification"),
    (&tasks::FOLDERS, "roberta-sentences"),
    (&tasks::FOLDERS, "bert-ranking"),
    (&seq2seq::FOLDERS, "t5-summarization"),
    (&seq2seq::FOLDERS, "bart-text2text-generation"),
    (&seq2seq::FOLDERS, "mbart-translation"),
    (&seq2seq::FOLDERS, "nllb-translation"),
    (&seq2seq::FOLDERS, "t5-conversational"),
    (&dialogues::FOLDERS, "gpt2-conversational"),
];

/// The tasks that the folders are asked for: what they are made for, and what those with vectors do too.
fn asked() -> Vec<(&'static Folders, &'static str, String)> {
    let own = |&(folders, name): &(&'static Folders, &'static str)| {
        (folders, name, folders.golden::<Value>(name).task)
    };
    let mut all: Vec<_> = ASKED.iter().map(own).collect();
    let similarity = Task::SentenceSimilarity.name().to_owned();
    all.push((&tasks::FOLDERS, "roberta-sentences", similarity));
    all
}

#[test]
fn there_are_two_hundred_texts_and_a_folder_for_every_task() {
    let texts: HashSet<String> = texts::all().into_iter().collect();
    assert!(texts.len() >= 200, "{}", texts.len());
    let asked: HashSet<String> = asked().into_iter().map(|(_, _, task)| task).collect();
    for task in Task::ALL {
        // Prompts of pictures are asked in `pictures`.
        let elsewhere = matches!(task, Task::TextGeneration | Task::TextToImage);
        let known = elsewhere || asked.contains(task.name());
        assert!(known, "nobody asks for {task}");
    }
}

#[test]
fn strange_texts_get_an_answer_or_an_error_of_their_own() {
    for (folders, name, task) in asked() {
        endure(folders, name, &task);
    }
}

fn endure(folders: &Folders, name: &str, task: &str) {
    let serving = folders.serve(name, &format!("option.task={task}"));
    let client = Client::new(serving.address());
    let ask = |body: &Value| client.post("/invocations", body).unwrap();
    let good = forms::of(task, name, "The candle is cold.").swap_remove(0);
    let before = ask(&good);
    assert_eq!(before.status, 200, "{name}, {good}: {:?}", before.json());
    let (mut answered, mut refused) = (0, 0);
    for text in texts::all() {
        for body in forms::of(task, name, &text) {
            let answer = ask(&body);
            let shown: String = body.to_string().chars().take(160).collect();
            let told = answer.json().unwrap();
            match answer.status {
                200 => answered += 1,
                424 => {
                    let text = told["error"].as_str().unwrap_or_default();
                    let named = text.len() > 20 && !text.contains("panic");
                    assert!(named && told["code"] == 424, "{name}, {shown}: {told}");
                    refused += 1;
                }
                other => panic!("{name}, {shown}: {other} {told}"),
            }
        }
    }
    assert!(
        answered > 150,
        "{name}: {answered} answered, {refused} refused"
    );
    assert_eq!(ask(&good).body, before.body, "{name}");
    let log = serving.log();
    assert!(!log.contains("panicked"), "{name}: {log}");
}
