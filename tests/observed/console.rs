//! `/console` in a real browser: the page loads, its models are there, its playground works.

use std::io::Write;
use std::path::Path;

use sconce_testkit::browser::Browser;
use sconce_testkit::server::{Launch, Server};
use tempfile::TempDir;

use super::llama;
use crate::support::{PROGRAM, copy_folder, started};

/// The browser; without one these tests say so and pass.
fn browser() -> Option<Browser> {
    let browser = Browser::start(1280, 900).unwrap();
    if browser.is_none() {
        let _ = writeln!(std::io::stdout(), "there is no Chromium: nothing is tested");
    }
    browser
}

/// Opens the console of a server and waits for its only model.
fn open(browser: &mut Browser, server: &Server) {
    browser.open(&server.url("/console")).unwrap();
    let healthy = "document.getElementById('phase')?.textContent === 'Healthy'";
    browser.wait_for(healthy).unwrap();
    browser
        .wait_for("document.querySelectorAll('#models button').length === 1")
        .unwrap();
}

/// Runs what the playground holds, and waits for the end.
fn run(browser: &mut Browser) {
    browser
        .value("document.querySelector('#playground form').requestSubmit()")
        .unwrap();
    let over = "!document.querySelector('#playground button.primary').disabled";
    browser.wait_for(over).unwrap();
}

fn text(browser: &mut Browser, selector: &str) -> String {
    let told = browser
        .value(&format!(
            "document.querySelector('{selector}')?.textContent"
        ))
        .unwrap();
    told.as_str().unwrap_or_default().to_owned()
}

/// A server of one of the folders of models.
fn folder(kind: &str, name: &str, dir: &Path) -> Server {
    let models = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models"));
    let to = dir.join(name);
    copy_folder(&models.join(kind).join(name), &to);
    started(Launch::serve(PROGRAM, &to))
}

#[test]
fn texts_are_written_as_they_come_and_metrics_follow() {
    let Some(mut browser) = browser() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let server = started(llama(dir.path()));
    open(&mut browser, &server);
    assert_eq!(text(&mut browser, "#health"), "ready");
    assert_eq!(text(&mut browser, "#name"), "llama");
    let fill = "document.querySelector('#playground textarea').value = 'Once upon a time'; \
                document.querySelector('#playground [name=tokens]').value = 16";
    browser.value(fill).unwrap();
    run(&mut browser);
    let told = text(&mut browser, "#playground .told");
    assert!(
        told.contains("tokens") && told.contains("the first after"),
        "{told}"
    );
    let written = text(&mut browser, "#playground .output .text");
    let answer = written.strip_prefix("Once upon a time");
    assert!(answer.is_some_and(|answer| !answer.is_empty()), "{written}");
    browser
        .wait_for("document.getElementById('tiles').textContent.includes('First token, p95')")
        .unwrap();
    browser
        .wait_for("!document.getElementById('tiles').textContent.includes('First token, p95–')")
        .unwrap();
    // Stopping ends the request, which the server counts as a client that left.
    browser
        .value("document.querySelector('#playground [name=tokens]').value = 100000")
        .unwrap();
    run(&mut browser);
    let failure = text(&mut browser, "#playground .output .failure");
    assert!(
        failure.contains("100000"),
        "the server's own words: {failure}"
    );
    let hosts = "performance.getEntriesByType('resource').filter(one => !one.name.startsWith(location.origin)).length";
    assert_eq!(
        browser.value(hosts).unwrap(),
        0,
        "nothing comes from elsewhere"
    );
}

#[test]
fn tasks_are_answered_with_names_and_scores() {
    let Some(mut browser) = browser() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let server = folder("tasks", "bert-text-classification", dir.path());
    open(&mut browser, &server);
    run(&mut browser);
    let scores = browser
        .value("document.querySelectorAll('#playground .score').length")
        .unwrap();
    assert!(scores.as_u64().is_some_and(|count| count > 0), "{scores}");
    assert!(text(&mut browser, "#playground details pre").contains("score"));
}

#[test]
fn pictures_are_shown() {
    let Some(mut browser) = browser() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let server = folder("diffusion", "sd1", dir.path());
    open(&mut browser, &server);
    let fill = "document.querySelector('#playground textarea').value = 'a candle'; \
                document.querySelectorAll('#playground input')[1].value = 2";
    browser.value(fill).unwrap();
    run(&mut browser);
    browser
        .wait_for("document.querySelector('#playground img')?.naturalWidth > 0")
        .unwrap();
}

#[test]
fn where_a_key_is_asked_for_it_is_typed_in() {
    let Some(mut browser) = browser() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let server = started(llama(dir.path()).env("SCONCE_API_KEY", "a-long-secret"));
    browser.open(&server.url("/console")).unwrap();
    browser
        .wait_for("document.getElementById('health')?.textContent === 'needs an API key'")
        .unwrap();
    let typed = "const key = document.getElementById('key'); key.value = 'a-long-secret'; \
                 document.getElementById('key-form').requestSubmit()";
    browser.value(typed).unwrap();
    browser
        .wait_for("document.getElementById('phase').textContent === 'Healthy'")
        .unwrap();
    run(&mut browser);
    let told = text(&mut browser, "#playground .output");
    assert!(!told.contains("API key"), "{told}");
}
