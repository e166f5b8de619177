//! Registrations that cannot be: each says what is wrong and what to do, leaves nothing behind, and nobody else notices.

use super::*;

#[track_caller]
fn says(answer: &Answer, status: u16, parts: &[&str]) {
    let text = answer.json().unwrap()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(answer.status, status, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn names_must_fit_into_a_path_and_may_be_of_any_language() {
    let host = Host::empty(&[]);
    let dir = host.folder("llama", "m", ROLLING);
    let long = "x".repeat(300);
    for (name, told) in [
        ("a%2Fb", "it has '/'"),
        ("..%2F..%2Fetc", "it has '/'"),
        ("..", "taken out of paths"),
        (".", "taken out of paths"),
        ("a%20b", "it has ' '"),
        ("a%00b", "it has '\\0'"),
        ("a%0Ab", "it has '\\n'"),
        ("a%3Fb", "it has '?'"),
        ("a%25b", "it has '%'"),
        ("a:b", "it has ':'"),
        ("%FF", "it has '\u{fffd}'"),
        (long.as_str(), "it has 300 bytes; at most 256"),
    ] {
        let answer = host.register(name, &dir, "");
        says(&answer, 400, &["Parameter model_name is", told]);
    }
    let answer = host.register("m", &dir, "&model_version=invoke");
    says(&answer, 400, &["Parameter model_version", "another route"]);
    assert_eq!(host.list(), []);
    for (name, path) in [
        ("v1.5-gpt_2", "v1.5-gpt_2"),
        ("%E6%A8%A1%E5%9E%8B", "%E6%A8%A1%E5%9E%8B"),
        ("m%C3%B6del", "m%C3%B6del"),
    ] {
        host.registered(name, &dir, "");
        answers(
            &host.client,
            &format!("/predictions/{path}"),
            &known("llama"),
        );
        let described = host.client.get(&format!("/models/{path}")).unwrap();
        assert_eq!(described.status, 200, "{}", described.text());
        assert_eq!(host.delete(path).status, 200);
    }
}

#[test]
fn a_model_that_does_not_load_is_told_and_not_kept() {
    let host = Host::empty(&[]);
    let good = host.folder("llama", "good", ROLLING);
    host.registered("good", &good, "");
    let broken = host.folder("gpt2", "broken", ROLLING);
    std::fs::write(broken.join("model.safetensors"), "no weights").unwrap();
    let wrong = host.folder("gpt2", "wrong", "option.dtype=fp99\n");
    let empty = host.dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let missing = host.dir.path().join("missing");
    for (dir, status, parts) in [
        (
            &broken,
            500,
            &["model m cannot be served", "safetensors"][..],
        ),
        (&wrong, 400, &["option.dtype=fp99", "serving.properties:1"]),
        (&empty, 404, &["Invalid model url", "empty"]),
        (&missing, 404, &["Invalid model url", "no such directory"]),
    ] {
        says(&host.register("m", dir, ""), status, parts);
    }
    for (url, status, parts) in [
        (
            "https://host/m.zip",
            404,
            &["Permission denied", "model_url_pattern"][..],
        ),
        (
            "s3://bucket/m/",
            404,
            &["Permission denied", "model_url_pattern"],
        ),
        (
            "org/model",
            404,
            &["Permission denied", "model_url_pattern"],
        ),
    ] {
        let answer = host
            .client
            .post_bytes(&format!("/models?url={url}&model_name=m"), &[], b"")
            .unwrap();
        says(&answer, status, parts);
    }
    assert_eq!(host.list(), [("good".into(), "READY".into())]);
    assert_eq!(host.ping().0, 200);
    answers(&host.client, "/predictions/good", &known("llama"));
    // The name is free for one that loads.
    host.registered("m", &good, "");
    answers(&host.client, "/predictions/m", &known("llama"));
    // Where nobody waits, the failure is found in the list, and the server does not fail by it.
    let scheduled = host.register("later", &broken, "&synchronous=false");
    assert_eq!(scheduled.status, 202);
    let failed = ("later".to_owned(), "FAILED".to_owned());
    until("its failure is told", || host.list().contains(&failed));
    let described = host.client.get("/models/later").unwrap().json().unwrap();
    let cause = described[0]["models"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("safetensors"), "{cause}");
    let (status, ping) = host.ping();
    assert_eq!((status, &ping["later"]["status"]), (200, &json!("FAILED")));
    assert_eq!(host.delete("later").status, 200);
}

#[test]
fn only_places_that_match_the_pattern_may_be_registered() {
    let host = Host::empty(&[("SERVING_MODEL_URL_PATTERN", ".*/allowed/.*")]);
    let allowed = host.folder("llama", "allowed", ROLLING);
    let other = host.folder("llama", "other", ROLLING);
    let refused = host.register("m", &other, "");
    says(&refused, 404, &["Permission denied", "model_url_pattern"]);
    host.registered("m", &allowed, "");
    answers(&host.client, "/predictions/m", &known("llama"));
}

#[test]
fn what_cannot_be_scaled_says_so_and_the_log_changes_its_level() {
    let host = Host::empty(&[]);
    let dir = host.folder("llama", "m", ROLLING);
    host.registered("m", &dir, "");
    let put = |query: &str| {
        host.client
            .request("PUT", &format!("/models/m?{query}"), &[], b"")
            .unwrap()
    };
    says(
        &put("min_worker=3&max_worker=2"),
        400,
        &["min_worker", "more than max_worker = 2"],
    );
    says(&put("max_worker=0"), 400, &["unregister the model instead"]);
    // One engine works on all requests: the answer tells what holds.
    let scaled = put("min_worker=2&max_worker=4");
    assert_eq!(scaled.status, 200);
    assert!(scaled.text().contains("min workers:1 max workers:1"));
    assert_eq!(
        host.client
            .get("/server/logging?level=error")
            .unwrap()
            .status,
        200
    );
    assert_eq!(host.delete("m").status, 200);
    host.registered("quiet", &dir, "");
    assert!(!host.server.log().contains("model quiet"));
    assert_eq!(
        host.client
            .get("/server/logging?level=info")
            .unwrap()
            .status,
        200
    );
    host.registered("loud", &dir, "");
    until("the log tells again", || {
        host.server.log().contains("model loud is ready")
    });
}

#[test]
fn nobody_registers_where_nobody_may() {
    let host = Host::empty(&[("SCONCE_MANAGEMENT", "off")]);
    let dir = host.folder("llama", "m", ROLLING);
    says(&host.register("m", &dir, ""), 403, &["SCONCE_MANAGEMENT"]);
    assert_eq!(host.list(), []);
}
