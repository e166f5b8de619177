//! The files of the console, and that it is all there and nothing comes from elsewhere.

use std::sync::Arc;

use sconce_testkit::fakes::FakeGateway;

use super::Server;
use crate::HttpSettings;

fn served(console: bool) -> Server {
    let settings = HttpSettings {
        console,
        ..HttpSettings::default()
    };
    Server::start(&Arc::new(FakeGateway::greeting()), settings)
}

#[test]
fn the_page_names_files_that_are_there_and_no_other_host() {
    let server = served(true);
    let page = server.client.get("/console").unwrap();
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
    let mut wanted = vec!["console/style.css".to_owned(), "console/app.js".to_owned()];
    let mut seen = Vec::new();
    while let Some(file) = wanted.pop() {
        let answer = server.client.get(&format!("/{file}")).unwrap();
        assert_eq!(answer.status, 200, "{file}");
        let text = answer.text();
        assert!(
            !text.contains("https://") && !text.contains("src=\"http"),
            "{file}"
        );
        for (_, rest) in text
            .match_indices("from \"./")
            .map(|(at, found)| text[at..].split_at(found.len()))
        {
            let name = format!("console/{}", rest.split('"').next().unwrap());
            if !seen.contains(&name) {
                wanted.push(name);
            }
        }
        seen.push(file);
    }
    seen.dedup();
    assert!(
        page.text().contains("console/app.js") && seen.len() >= 6,
        "{seen:?}"
    );
    assert_eq!(
        server.client.get("/console/nothing.js").unwrap().status,
        404
    );
    let moved = server.client.request("GET", "/console/", &[], b"").unwrap();
    assert_eq!(
        moved.text(),
        page.text(),
        "clients follow to the page itself"
    );
}

#[test]
fn a_console_that_is_switched_off_is_not_there() {
    let server = served(false);
    for path in ["/console", "/console/", "/console/app.js"] {
        assert_eq!(server.client.get(path).unwrap().status, 404, "{path}");
    }
}
