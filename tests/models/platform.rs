//! SageMaker's contract for several models in one container, call by call, and what is said where memory does not suffice.

use serde_json::{Value, json};

use super::*;

const MULTI_MODEL: &[(&str, &str)] = &[("SAGEMAKER_MULTI_MODEL", "true")];

/// What the platform sends to load a model.
fn load(host: &Host, name: &str, dir: &Path) -> Answer {
    let body = json!({"model_name": name, "url": dir.display().to_string()});
    host.client.post("/models", &body).unwrap()
}

#[test]
fn the_platform_s_conversation_is_answered_as_its_contract_says() {
    let host = Host::of(TempDir::new().unwrap(), MULTI_MODEL);
    // The platform sends traffic once /ping says 200, though there is no model yet.
    assert_eq!(host.ping(), (200, json!({})));
    let empty = host.client.get("/models").unwrap().json().unwrap();
    assert_eq!(empty, json!({"models": []}));
    // Its names are hashes, its folders end in `model`.
    let (llama, gpt2) = ("8f1cab0e6dd5a7", "e3b0c44298fc1c");
    let store = |model: &str, name: &str| {
        let made = host.folder(model, "made", ROLLING);
        let dir = host.dir.path().join("models").join(name).join("model");
        std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
        std::fs::rename(made, &dir).unwrap();
        dir
    };
    let dir = store("llama", llama);
    let loaded = load(&host, llama, &dir);
    assert_eq!(
        (loaded.status, loaded.json().unwrap()),
        (
            200,
            json!({"status": format!("Model \"{llama}\" registered.")})
        )
    );
    let target = [("X-Amzn-SageMaker-Target-Model", "team/llama.tar.gz")];
    let body = question(&known("llama"), false).to_string();
    let invoke = |name: &str| {
        let path = format!("/models/{name}/invoke");
        host.client
            .post_bytes(&path, &target, body.as_bytes())
            .unwrap()
    };
    assert_eq!(
        generated(&invoke(llama).json().unwrap()),
        known("llama").text
    );
    assert_eq!(invoke(gpt2).status, 404);

    let again = load(&host, llama, &dir);
    assert_eq!(again.status, 409, "{}", again.text());
    assert_eq!(load(&host, gpt2, &store("gpt2", gpt2)).status, 200);
    answers(
        &host.client,
        &format!("/models/{gpt2}/invoke"),
        &known("gpt2"),
    );
    answers(
        &host.client,
        &format!("/models/{llama}/invoke"),
        &known("llama"),
    );

    let page = |path: &str| host.client.get(path).unwrap().json().unwrap();
    let first = page("/models?limit=1");
    assert_eq!(first["models"][0]["modelName"], llama);
    let url = first["models"][0]["modelUrl"].as_str().unwrap();
    assert_eq!(url, format!("file:{}", dir.display()));
    let token = first["nextPageToken"].as_str().unwrap();
    let second = page(&format!("/models?limit=1&next_page_token={token}"));
    assert_eq!(second["models"][0]["modelName"], gpt2);
    assert_eq!(second["nextPageToken"], Value::Null);
    let described = page(&format!("/models/{llama}"));
    assert_eq!(described[0]["models"][0]["modelName"], llama);
    assert_eq!(described[0]["models"][0]["loadedAtStartup"], false);

    let gone = host.delete(llama);
    assert_eq!(gone.status, 200, "{}", gone.text());
    for answer in [invoke(llama), host.delete(llama)] {
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
    assert_eq!(
        host.client.get(&format!("/models/{llama}")).unwrap().status,
        404
    );
    answers(
        &host.client,
        &format!("/models/{gpt2}/invoke"),
        &known("gpt2"),
    );
    // Evicted and asked again, it is loaded anew.
    assert_eq!(load(&host, llama, &dir).status, 200);
    assert_eq!(
        generated(&invoke(llama).json().unwrap()),
        known("llama").text
    );
}

#[test]
fn what_does_not_fit_is_a_507_that_says_what_is_missing_and_leaves_nothing_behind() {
    let host = Host::of(TempDir::new().unwrap(), MULTI_MODEL);
    let small = host.folder("llama", "small", ROLLING);
    host.registered("small", &small, "");
    let huge = format!("{ROLLING}option.kv_cache_memory=1000TiB\n");
    let large = host.folder("gpt2", "large", &huge);
    let answer = load(&host, "large", &large);
    assert_eq!(answer.status, 507, "{}", answer.text());
    for part in ["No enough memory", "large", "option.kv_cache_memory"] {
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    let code = "def handle(inputs):\n    return None\n";
    let needy = host.code("needy", code, "required_memory_mb=1000000000\n");
    let answer = load(&host, "needy", &needy);
    assert_eq!(answer.status, 507, "{}", answer.text());
    assert!(answer.text().contains("bytes and"), "{}", answer.text());
    assert_eq!(host.list(), [("small".into(), "READY".into())]);
    answers(&host.client, "/models/small/invoke", &known("llama"));
    // Its name is free again.
    let fits = host.folder("gpt2", "fits", ROLLING);
    assert_eq!(load(&host, "large", &fits).status, 200);
}

/// Bytes of a cache that fits once and not twice, and the properties that ask for it.
fn greedy() -> String {
    let free = sconce_engine::available_memory().expect("Linux tells");
    format!("{ROLLING}option.kv_cache_memory={}\n", free / 10 * 6)
}

#[test]
fn the_memory_that_one_was_promised_is_not_there_for_another_until_it_has_gone() {
    let host = Host::of(TempDir::new().unwrap(), MULTI_MODEL);
    let greedy = greedy();
    let (a, b) = (
        host.folder("llama", "a", &greedy),
        host.folder("gpt2", "b", &greedy),
    );
    host.registered("a", &a, "");
    // No page of the cache of the first is in use yet; all the same it is taken.
    let answer = load(&host, "b", &b);
    assert_eq!(answer.status, 507, "{}", answer.text());
    // As the platform does: it unloads another, and loads again.
    assert_eq!(host.delete("a").status, 200);
    host.registered("b", &b, "");
    answers(&host.client, "/models/b/invoke", &known("gpt2"));
}

#[test]
fn the_model_that_was_longest_not_asked_makes_room_where_that_is_configured() {
    let host = Host::empty(&[("SERVING_EVICT_MODELS", "lru")]);
    let greedy = greedy();
    let old = host.folder("llama", "old", ROLLING);
    let large = host.folder("llama", "large", &greedy);
    let next = host.folder("gpt2", "next", &greedy);
    host.registered("old", &old, "");
    host.registered("large", &large, "");
    answers(&host.client, "/predictions/large", &known("llama"));
    answers(&host.client, "/predictions/old", &known("llama"));
    host.registered("next", &next, "");
    answers(&host.client, "/predictions/next", &known("gpt2"));
    let ready = |name: &str| (name.to_owned(), "READY".to_owned());
    assert_eq!(host.list(), [ready("next"), ready("old")]);
    assert!(
        host.server
            .log()
            .contains("model large makes room for next"),
        "{}",
        host.server.log()
    );
    // Nobody makes room for one that would not fit even then.
    let huge = host.folder(
        "llama",
        "huge",
        &format!("{ROLLING}option.kv_cache_memory=1000TiB\n"),
    );
    let answer = host.register("huge", &huge, "");
    assert_eq!(answer.status, 507, "{}", answer.text());
    assert_eq!(host.list(), [ready("next"), ready("old")]);
}
