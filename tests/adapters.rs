//! Adapters of a served model over HTTP: requests that name one, routes that let them come and go. What they answer is
//! compared with what PEFT computed.

use std::path::PathBuf;
use std::thread;

use sconce_testkit::client::Client;
use sconce_testkit::golden::{Golden, Run, tiny_models};
use serde_json::{Value, json};

use crate::support::{Serving, generated, ready};

fn folder(name: &str) -> PathBuf {
    tiny_models().join("../adapters").join(name)
}

fn run_of(adapter: &str) -> Run {
    let dir = match adapter {
        "" => tiny_models().join("llama"),
        name => folder("llama").join(name),
    };
    Golden::open(&dir).expect("goldens").runs.remove(0)
}

/// With all adapters of the tiny Llama, of which two are in memory at a time.
fn serve(more: &str) -> Serving {
    let dir = folder("llama");
    let properties = format!(
        "option.enable_lora=true\noption.adapters={}\noption.max_loras=2\n{more}",
        dir.display()
    );
    ready("llama", &properties)
}

fn body(adapter: &str) -> Value {
    let run = run_of(adapter);
    let parameters = json!({"max_new_tokens": run.greedy.len().min(16), "do_sample": false});
    let mut body = json!({"inputs": run.prompt, "parameters": parameters});
    if !adapter.is_empty() {
        body["adapters"] = json!(adapter);
    }
    body
}

/// The text of the golden that an answer of the same length has.
fn wanted(client: &Client, adapter: &str) -> String {
    let run = run_of(adapter);
    if adapter.is_empty() {
        // The base's golden is longer.
        return generated(
            &client
                .post("/invocations", &body(""))
                .unwrap()
                .json()
                .unwrap(),
        );
    }
    run.text
}

const ALL: [&str; 5] = ["all", "one-layer", "patterns", "plain", ""];

#[test]
fn requests_are_answered_with_the_adapter_that_they_name_alone_and_together() {
    let serving = serve("");
    let client = Client::new(serving.address());
    let ask = |adapter: &str| {
        let answer = Client::new(serving.address())
            .post("/invocations", &body(adapter))
            .unwrap();
        assert_eq!(answer.status, 200, "{adapter}: {}", answer.text());
        generated(&answer.json().unwrap())
    };
    let base = ask("");
    for adapter in ALL {
        assert_eq!(ask(adapter), wanted(&client, adapter), "{adapter}");
    }
    // As many as memory holds, beside requests without one.
    thread::scope(|scope| {
        for round in 0..20 {
            let base = &base;
            let address = serving.address();
            scope.spawn(move || {
                let client = Client::new(address);
                let adapter = ["all", "", "plain"][round % 3];
                let answer = client.post("/invocations", &body(adapter)).unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                let text = generated(&answer.json().unwrap());
                assert_eq!(
                    text,
                    if adapter.is_empty() {
                        base.clone()
                    } else {
                        run_of(adapter).text
                    }
                );
            });
        }
    });
    let mut list = body("all");
    list["inputs"] = json!([
        run_of("all").prompt,
        run_of("plain").prompt,
        run_of("").prompt
    ]);
    list["adapters"] = json!(["all", "plain", ""]);
    let answer: Value = client.post("/invocations", &list).unwrap().json().unwrap();
    let texts: Vec<_> = answer.as_array().unwrap().iter().map(generated).collect();
    assert_eq!(texts, [run_of("all").text, run_of("plain").text, base]);
}

#[test]
fn headers_queries_and_openai_s_model_name_an_adapter_too() {
    let serving = serve("");
    let client = Client::new(serving.address());
    let plain = run_of("plain");
    let mut asked = body("");
    asked["adapters"] = json!("all");
    let header = [
        ("content-type", "application/json"),
        ("x-amzn-sagemaker-adapter-identifier", "plain"),
    ];
    let answer = client
        .post_bytes(
            "/invocations?adapter=patterns",
            &header,
            asked.to_string().as_bytes(),
        )
        .unwrap();
    assert_eq!(
        generated(&answer.json().unwrap()),
        plain.text,
        "the header wins"
    );
    let answer = client
        .post("/invocations?adapter=plain", &body(""))
        .unwrap();
    assert_eq!(generated(&answer.json().unwrap()), plain.text);

    let completion = |model: &str| {
        let asked =
            json!({"model": model, "prompt": plain.prompt, "max_tokens": 16, "temperature": 0});
        let answer: Value = client
            .post("/v1/completions", &asked)
            .unwrap()
            .json()
            .unwrap();
        (
            answer["model"].clone(),
            answer["choices"][0]["text"].clone(),
        )
    };
    assert_eq!(completion("plain"), (json!("plain"), json!(plain.text)));
    assert_ne!(completion("llama").1, json!(plain.text));
    let listed: Value = client.get("/v1/models").unwrap().json().unwrap();
    let ids: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["id"])
        .collect();
    assert_eq!(ids, ["llama", "all", "one-layer", "patterns", "plain"]);
    assert_eq!(listed["data"][1]["parent"], "llama");

    for (path, body, part) in [
        (
            "/invocations",
            json!({"inputs": "a", "adapters": "none"}),
            "is not registered; registered are all, one-layer",
        ),
        (
            "/invocations?adapter=none",
            json!({"inputs": "a"}),
            "is not registered",
        ),
        (
            "/invocations",
            json!({"inputs": ["a", "b"], "adapters": ["all", "all", "all"]}),
            "Number of adapters",
        ),
    ] {
        let answer = client.post(path, &body).unwrap();
        assert!(
            answer.status == 424 && answer.text().contains(part),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn adapters_come_and_go_while_the_model_answers() {
    let serving = serve("");
    let client = Client::new(serving.address());
    let status = |method: &str, path: &str| {
        let answer = client.request(method, path, &[], b"").unwrap();
        (answer.status, answer.text())
    };
    let source = |name: &str| folder(name).display().to_string();
    let (code, text) = status("GET", "/models/llama/adapters?limit=2");
    let page: Value = serde_json::from_str(&text).unwrap();
    assert!(code == 200 && page["nextPageToken"] == "2", "{text}");
    assert_eq!(page["adapters"][0]["name"], "all");

    let new = format!(
        "/models/llama/adapters?name=new&src={}",
        source("llama/plain")
    );
    assert_eq!(
        status("POST", &new),
        (
            200,
            "{\n  \"status\": \"Adapter new registered\"\n}\n".into()
        )
    );
    let (code, text) = status("POST", &new);
    assert!(
        code == 409 && text.contains("The adapter new already exists."),
        "{text}"
    );
    let ask = || {
        let mut asked = body("plain");
        asked["adapters"] = json!("new");
        let answer = client.post("/invocations", &asked).unwrap();
        (answer.status, answer.text())
    };
    let text_of = |(code, text): (u16, String)| {
        assert_eq!(code, 200, "{text}");
        generated(&serde_json::from_str(&text).unwrap())
    };
    assert_eq!(text_of(ask()), run_of("plain").text);
    // Another one by the same name has no keys and values of the old one.
    let update = format!("/adapters/new/update?src={}", source("llama/all"));
    assert_eq!(status("POST", &update).0, 200);
    assert_eq!(text_of(ask()), run_of("all").text);
    let (_, text) = status("GET", "/adapters/new");
    let described: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        described,
        json!({"name": "new", "src": source("llama/all"), "preload": true, "pin": false})
    );
    assert_eq!(status("DELETE", "/adapters/new").0, 200);
    let (code, text) = ask();
    assert!(code == 424 && text.contains("is not registered"), "{text}");
}

#[test]
fn what_is_wrong_with_adapters_is_named_and_memory_is_what_was_planned() {
    let serving = serve("");
    let client = Client::new(serving.address());
    let status = |method: &str, path: &str| {
        let answer = client.request(method, path, &[], b"").unwrap();
        (answer.status, answer.text())
    };
    let source = |name: &str| folder(name).display().to_string();
    for (method, path, code, part) in [
        (
            "GET",
            "/adapters/new".to_owned(),
            404,
            "The adapter new was not found",
        ),
        (
            "DELETE",
            "/adapters/new".into(),
            404,
            "The adapter new was not found",
        ),
        (
            "POST",
            "/adapters/new/update?src=x".into(),
            404,
            "The adapter new was not found",
        ),
        (
            "GET",
            "/models/other/adapters".into(),
            404,
            "The model other was not found",
        ),
        (
            "POST",
            "/adapters?src=x".into(),
            400,
            "The parameter name is required",
        ),
        (
            "POST",
            "/adapters?name=x".into(),
            400,
            "The parameter src is required",
        ),
        (
            "POST",
            "/adapters?name=x&src=s3://b/x".into(),
            409,
            "URL adapters are not currently supported",
        ),
        (
            "POST",
            "/adapters?name=x&src=nothing".into(),
            424,
            "adapter_config.json",
        ),
        (
            "POST",
            format!("/adapters?name=x&src={}", source("gpt2/fused")),
            424,
            "has no place",
        ),
        ("PUT", "/adapters/all".into(), 405, "not allowed"),
        ("GET", "/adapters/all/nothing".into(), 404, "not found"),
    ] {
        let (got, text) = status(method, &path);
        assert!(
            got == code && text.contains(part),
            "{method} {path}: {got} {text}"
        );
    }
    // Two are in memory and stay there, so that there is no room for a third.
    for name in ["one", "two"] {
        let path = format!(
            "/adapters?name={name}&pin=true&src={}",
            source("llama/plain")
        );
        assert_eq!(status("POST", &path).0, 200, "{name}");
    }
    let third = format!("/adapters?name=three&src={}", source("llama/plain"));
    let (code, text) = status("POST", &third);
    assert!(
        code == 507 && text.contains("option.max_cpu_loras"),
        "{text}"
    );
    assert_eq!(status("POST", &format!("{third}&preload=false")).0, 200);
    let answer = client.post("/invocations", &body("all")).unwrap();
    assert!(
        answer.status == 503 && answer.text().contains("in memory and in use"),
        "{}",
        answer.text()
    );
}

/// A folder with an adapter of the tiny Llama that names its base in these words.
fn adapter_that_names(base: &str, dir: &std::path::Path) -> PathBuf {
    let copy = dir.join("tuned");
    crate::support::copy_folder(&folder("llama/all"), &copy);
    crate::support::edit(&copy, "adapter_config.json", |config| {
        config["base_model_name_or_path"] = json!(base);
    });
    copy
}

#[test]
fn a_folder_that_is_an_adapter_is_served_on_the_base_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let base = crate::support::copy_checkpoint("llama", dir.path());
    for name in [base.display().to_string(), "../llama".into()] {
        let tuned = adapter_that_names(&name, dir.path());
        let properties = "option.rolling_batch=auto\n";
        std::fs::write(tuned.join("serving.properties"), properties).unwrap();
        let server = crate::support::started(sconce_testkit::server::Launch::serve(
            crate::support::PROGRAM,
            &tuned,
        ));
        let client = Client::new(server.address());
        let answer = client.post("/invocations", &body("")).unwrap();
        // Asked without a name, it answers as PEFT's merged model does.
        let wanted = run_of("all");
        let parameters = json!({"max_new_tokens": wanted.greedy.len(), "do_sample": false});
        let asked = json!({"inputs": wanted.prompt, "parameters": parameters});
        let text = generated(&client.post("/invocations", &asked).unwrap().json().unwrap());
        assert_eq!((answer.status, text), (200, wanted.text.clone()), "{name}");
        let named = client.post("/invocations", &self::body("all")).unwrap();
        assert!(
            named.status == 424 && named.text().contains("LoRA is not enabled"),
            "{}",
            named.text()
        );
    }
}

#[test]
fn an_adapter_beside_others_has_its_own_cache_and_keeps_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let base = crate::support::copy_checkpoint("llama", dir.path());
    let tuned = adapter_that_names(&base.display().to_string(), dir.path());
    crate::support::copy_folder(&folder("llama/plain"), &tuned.join("adapters/plain"));
    let properties = "option.rolling_batch=auto\noption.enable_lora=true\n";
    std::fs::write(tuned.join("serving.properties"), properties).unwrap();
    let server = crate::support::started(sconce_testkit::server::Launch::serve(
        crate::support::PROGRAM,
        &tuned,
    ));
    let ask = |adapter: &str, run: &Run| {
        let parameters = json!({"max_new_tokens": run.greedy.len(), "do_sample": false});
        let mut asked = json!({"inputs": run.prompt, "parameters": parameters});
        if !adapter.is_empty() {
            asked["adapters"] = json!(adapter);
        }
        let answer = Client::new(server.address())
            .post("/invocations", &asked)
            .unwrap();
        generated(&answer.json().unwrap())
    };
    let (own, plain) = (run_of("all"), run_of("plain"));
    for _ in 0..2 {
        assert_eq!(ask("", &own), own.text);
        assert_eq!(ask("plain", &plain), plain.text);
    }
}

#[test]
fn a_base_that_is_nowhere_and_one_that_is_an_adapter_itself_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (base, part) in [
        ("/no/such/base", "/no/such/base"),
        (".", "it is an adapter too"),
    ] {
        let tuned = adapter_that_names(base, dir.path());
        let checked = std::process::Command::new(crate::support::PROGRAM)
            .args(["check", &tuned.display().to_string()])
            .output()
            .unwrap();
        let text =
            String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
        assert!(
            !checked.status.success() && text.contains(part),
            "{base}: {text}"
        );
    }
}
