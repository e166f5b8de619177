//! Several models from the start: by list, by store, and what holds for requests that name none.

use super::*;

fn with_store(models: &[(&str, &str)], variables: &[(&str, &str)]) -> Host {
    let dir = TempDir::new().unwrap();
    for (model, properties) in models {
        let copy = copy_checkpoint(model, &dir.path().join("store"));
        std::fs::write(copy.join("serving.properties"), properties).unwrap();
    }
    let mut host = Host::of(dir, variables);
    for (model, _) in models {
        host.server
            .wait_for_log(&format!("model {model} is ready"))
            .unwrap();
    }
    host
}

#[test]
fn all_models_of_a_store_answer_each_in_its_own_dialect() {
    let tgi = "option.rolling_batch=auto\noption.api_version=tgi\n";
    let host = with_store(&[("gpt2", tgi), ("llama", ROLLING)], &[]);
    answers(&host.client, "/predictions/llama", &known("llama"));
    let run = known("gpt2");
    let answer = host
        .client
        .post("/predictions/gpt2", &question(&run, false))
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(answer[0]["generated_text"], run.text, "TGI answers a list");
    // Failures speak it too.
    let status = |path: &str| host.client.post(path, &json!({})).unwrap().status;
    assert_eq!(status("/predictions/gpt2"), 422);
    assert_eq!(status("/predictions/llama"), 424);
    let unnamed = host
        .client
        .post("/invocations", &question(&run, false))
        .unwrap();
    assert_eq!(unnamed.status, 400);
    assert!(unnamed.text().contains("Parameter model_name is required."));
    let named = "/invocations?model_name=llama";
    answers(&host.client, named, &known("llama"));
    let healthy = json!({"gpt2": {"status": "Healthy"}, "llama": {"status": "Healthy"}});
    assert_eq!(host.ping(), (200, healthy));
}

#[test]
fn a_list_names_models_and_a_later_one_is_not_the_usual_one() {
    let dir = TempDir::new().unwrap();
    let llama = copy_checkpoint("llama", dir.path());
    std::fs::write(llama.join("serving.properties"), ROLLING).unwrap();
    let list = format!("chat:v1={}", llama.display());
    let mut host = Host::of(dir, &[("SERVING_LOAD_MODELS", &list)]);
    host.server.wait_for_log("model chat:v1 is ready").unwrap();
    answers(&host.client, "/invocations", &known("llama"));
    answers(&host.client, "/predictions/chat/v1", &known("llama"));
    let gpt2 = host.folder("gpt2", "later", ROLLING);
    host.registered("later", &gpt2, "");
    answers(&host.client, "/invocations", &known("llama"));
    answers(&host.client, "/predictions/later", &known("gpt2"));
    let later = host.client.get("/models/later").unwrap().json().unwrap();
    assert_eq!(later[0]["models"][0]["loadedAtStartup"], false);
    // The usual one goes, and then nobody is.
    assert_eq!(host.delete("chat").status, 200);
    let unnamed = host
        .client
        .post("/invocations", &question(&known("gpt2"), false))
        .unwrap();
    assert_eq!(unnamed.status, 400, "{}", unnamed.text());
}

/// Fails when a file lies beside it; says that it loads with another.
const SLOW_FAILURE: &str = r#"
import os, time

open("loading", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
raise RuntimeError("nobody wants this")
"#;

#[test]
fn one_of_the_start_that_is_removed_while_it_loads_takes_nobody_with_it() {
    if !crate::python_mode::python() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let store = dir.path().join("store");
    let llama = copy_checkpoint("llama", &store);
    std::fs::write(llama.join("serving.properties"), ROLLING).unwrap();
    let slow = store.join("slow");
    std::fs::create_dir_all(&slow).unwrap();
    std::fs::write(slow.join("model.py"), SLOW_FAILURE).unwrap();
    let mut host = Host::of(dir, &[]);
    until("it is loading", || slow.join("loading").exists());
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| host.delete("slow"));
        until("it takes nothing new", || {
            host.list().contains(&("slow".into(), "UNLOADING".into()))
        });
        std::fs::write(slow.join("go"), "").unwrap();
        assert_eq!(deleting.join().unwrap().status, 200);
    });
    until("the other one is there", || host.ping().0 == 200);
    answers(&host.client, "/invocations", &known("llama"));
    // It would have ended three seconds after it told the cause.
    let log = host.server.log();
    assert!(
        log.contains("model slow was removed while it was loading"),
        "{log}"
    );
    assert!(!log.contains("model slow cannot be served"), "{log}");
    host.server.terminate().unwrap();
    let status = host.server.wait(Duration::from_secs(60)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", host.server.log());
}

#[test]
fn one_of_the_start_that_fails_ends_the_program_with_its_name() {
    let dir = TempDir::new().unwrap();
    copy_checkpoint("llama", &dir.path().join("store"));
    let broken = copy_checkpoint("gpt2", &dir.path().join("store"));
    std::fs::write(broken.join("model.safetensors"), "no weights").unwrap();
    let (status, log) = launch(dir.path(), &[]).run().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("model gpt2 cannot be served"), "{log}");
}
