//! Where the model comes from and what it is called.

use super::{Start, says};
use crate::{HubModel, ModelSource};

fn source(start: &Start) -> (String, ModelSource) {
    let model = start.resolved().model;
    (model.name, model.source)
}

fn hub(id: &str) -> ModelSource {
    ModelSource::Hub(HubModel {
        id: id.into(),
        revision: None,
        token: None,
        endpoint: "https://huggingface.co".into(),
        cache: "/home/user/.cache/huggingface/hub".into(),
        offline: false,
        gguf_file: None,
    })
}

#[test]
fn the_directory_of_the_command_line_is_the_model() {
    let start = Start::with_model();
    let dir = ModelSource::Directory(start.path("model"));
    assert_eq!(source(&start), ("model".into(), dir));
    let warnings = start
        .variable("HF_MODEL_ID", "my-org/gpt2")
        .resolved()
        .warnings;
    says(
        &warnings.join("\n"),
        &["HF_MODEL_ID=my-org/gpt2 is not used"],
    );
}

#[test]
fn a_lone_directory_is_descended_into_and_gives_its_name() {
    let start = Start::with_model().file("outer/my-gpt 2/config.json", "{}");
    let mut start = start.file("outer/my-gpt 2/serving.properties", "option.dtype=fp16");
    start.line.model_dir = Some(start.path("outer"));
    let dir = ModelSource::Directory(start.path("outer/my-gpt 2"));
    assert_eq!(source(&start), ("my_gpt_2".into(), dir));
}

#[test]
fn the_store_is_a_model_or_holds_one() {
    let start = Start::without_model().file("model/config.json", "{}");
    let dir = ModelSource::Directory(start.path("model"));
    assert_eq!(source(&start), ("model".into(), dir));
    let start = Start::without_model().file("model/llama/config.json", "{}");
    let dir = ModelSource::Directory(start.path("model/llama"));
    assert_eq!(source(&start), ("llama".into(), dir));
    let start = start.file("model/gpt2/config.json", "{}");
    says(
        &start.refused(),
        &["one model is asked for", "model/gpt2", "model/llama"],
    );
}

#[test]
fn hf_model_id_serves_where_the_store_is_empty() {
    let start = Start::without_model().variable("HF_MODEL_ID", "my-org/gpt2");
    assert_eq!(source(&start), ("my_org_gpt2".into(), hub("my-org/gpt2")));
    let both = start.file("model/config.json", "{}").refused();
    says(
        &both,
        &[
            "here are 2",
            "my-org/gpt2 (environment variable HF_MODEL_ID)",
        ],
    );
    let start = Start::without_model().file("elsewhere/x/config.json", "{}");
    let dir = start.path("elsewhere/x");
    let start = start.variable("HF_MODEL_ID", &dir.to_string_lossy());
    assert_eq!(source(&start), ("x".into(), ModelSource::Directory(dir)));
}

#[test]
fn the_properties_of_a_directory_name_another_model() {
    let start = Start::without_model().properties("engine=Python\noption.model_id=my-org/llama\n");
    assert_eq!(source(&start), ("model".into(), hub("my-org/llama")));
    let start = start
        .properties("option.model_id=weights\n")
        .file("model/weights/config.json", "{}");
    let dir = ModelSource::Directory(start.path("model/weights"));
    assert_eq!(source(&start), ("model".into(), dir));
    let start = start.properties("option.model_id=/no/such/directory\n");
    says(
        &start.refused(),
        &["option.model_id=/no/such/directory", "no such directory"],
    );
}

#[test]
fn address_and_cache_of_the_hub_follow_its_variables() {
    let hub_of = |variables: &[(&str, &str)]| {
        let start = Start::without_model().variable("HF_MODEL_ID", "my-org/llama");
        let start = variables
            .iter()
            .fold(start, |start, (name, value)| start.variable(name, value));
        let ModelSource::Hub(model) = start.resolved().model.source else {
            panic!("the model is the hub's")
        };
        (model.endpoint, model.cache.display().to_string())
    };
    let home = ("HF_HOME", "/data/hf");
    let cache = ("HF_HUB_CACHE", "/data/cache");
    let public = "https://huggingface.co".to_owned();
    assert_eq!(hub_of(&[home]), (public.clone(), "/data/hf/hub".into()));
    assert_eq!(hub_of(&[home, cache]), (public, "/data/cache".into()));
    let mirror = ("HF_ENDPOINT", "http://mirror.example:8000/");
    let (endpoint, cache) = hub_of(&[mirror]);
    assert_eq!(endpoint, "http://mirror.example:8000");
    assert_eq!(cache, "/home/user/.cache/huggingface/hub");
    let start = Start::without_model().variable("HF_MODEL_ID", "my-org/llama");
    let homeless = start.variable("HOME", "").refused();
    says(&homeless, &["HF_HOME", "can be written"]);
}

#[test]
fn load_models_names_one_model_by_path() {
    let start = Start::without_model().file("model/a/config.json", "{}");
    let start = start.file("model/b/config.json", "{}");
    let a = start.path("model/a");
    let set = |value: String| {
        let start = Start::without_model().variable("SERVING_LOAD_MODELS", &value);
        let result = source(&start.variable(
            "SERVING_MODEL_STORE",
            &a.parent().unwrap().to_string_lossy(),
        ));
        result.0
    };
    assert_eq!(set("a".into()), "a");
    assert_eq!(set(a.display().to_string()), "a");
    assert_eq!(set(format!("llm=file://{}", a.display())), "llm");
    assert_eq!(
        set(format!("[test::Python:*]=file:{}/", a.display())),
        "test"
    );
    let several = Start::without_model().variable("SERVING_LOAD_MODELS", "model/a, model/b");
    let several = several.file("model/a/config.json", "{}");
    says(&several.refused(), &["model/a", "no such directory"]);
    let none = start.variable("SERVING_LOAD_MODELS", "NONE").refused();
    says(&none, &["no model to serve", "load_models names none"]);
}

#[test]
fn no_model_says_where_it_was_looked_for() {
    let start = Start::without_model();
    says(
        &start.refused(),
        &["no model to serve", "is empty", "HF_MODEL_ID"],
    );
    let start = start.file("home/config.properties", "model_store=/no/such/store\n");
    says(
        &start.refused(),
        &["/no/such/store does not exist", "sconce serve DIRECTORY"],
    );
    let bad = start.variable("HF_MODEL_ID", "djl://model").refused();
    says(&bad, &["DJL's model zoo"]);
    assert!(
        !bad.contains("no model to serve"),
        "a consequence is no second problem: {bad}"
    );
}

#[test]
fn gguf_files_are_models_by_themselves_or_in_a_directory() {
    let inside = |start: &Start| {
        (
            start.resolved().model.source,
            start.resolved().model.gguf_file,
        )
    };
    let alone = Start::without_model().file("model/weights.Q8_0.gguf", "");
    let dir = ModelSource::Directory(alone.path("model"));
    assert_eq!(inside(&alone), (dir.clone(), None));
    let named = alone.properties("option.gguf_file=weights.Q8_0.gguf\n");
    let file = Some("weights.Q8_0.gguf".to_owned());
    assert_eq!(inside(&named), (dir.clone(), file.clone()));
    let within = named.properties("option.model_id=weights.Q8_0.gguf\n");
    assert_eq!(inside(&within), (dir.clone(), file.clone()));
    let path = within.path("model/weights.Q8_0.gguf");
    let absolute = within.properties(&format!("option.model_id={}\n", path.display()));
    assert_eq!(inside(&absolute), (dir.clone(), file.clone()));
    let mut direct = Start::without_model().file("model/weights.Q8_0.gguf", "");
    direct.line.model_dir = Some(direct.path("model/weights.Q8_0.gguf"));
    let dir = ModelSource::Directory(direct.path("model"));
    assert_eq!(inside(&direct), (dir, file));
    assert_eq!(direct.resolved().model.name, "weights_Q8_0");
    let path = absolute.properties("option.gguf_file=sub/weights.gguf\n");
    says(
        &path.refused(),
        &["option.gguf_file=sub/weights.gguf", "without a path"],
    );
    let hub = Start::without_model()
        .properties("option.model_id=my-org/llama-GGUF\noption.gguf_file=llama.Q8_0.gguf\n");
    let ModelSource::Hub(model) = hub.resolved().model.source else {
        panic!("a repository of the hub")
    };
    assert_eq!(model.gguf_file.as_deref(), Some("llama.Q8_0.gguf"));
}

#[test]
fn two_names_of_different_gguf_files_are_refused() {
    let start = Start::without_model().file("model/a.gguf", "");
    let start = start.file("model/b.gguf", "");
    let both = start.properties("option.model_id=a.gguf\noption.gguf_file=b.gguf\n");
    let (first, second) = ("option.model_id=a.gguf", "option.gguf_file=b.gguf");
    says(
        &both.refused(),
        &[first, second, "remove", "serving.properties:2"],
    );
    let mut direct = both.properties("option.gguf_file=b.gguf\n");
    let a = direct.path("model/a.gguf");
    direct.line.model_dir = Some(a.clone());
    says(
        &direct.refused(),
        &["command line: model=", "a.gguf", second],
    );
    direct.line.model_dir = None;
    let id = a.to_string_lossy().into_owned();
    let hub = Start::without_model().variable("HF_MODEL_ID", &id);
    let hub = hub.variable("OPTION_GGUF_FILE", "b.gguf");
    says(&hub.refused(), &["HF_MODEL_ID", &id, second]);
    let store = direct.properties("option.model_id=a.gguf\noption.gguf_file=a.gguf\n");
    let file = store.resolved().model.gguf_file;
    assert_eq!(file.as_deref(), Some("a.gguf"));
}

#[test]
fn a_gguf_file_that_is_named_has_the_settings_beside_it() {
    let start = Start::without_model().file("model/a.gguf", "");
    let start = start.file("model/model.py", "");
    let mut start = start.properties("option.max_model_len=96\n");
    let path = start.path("model/a.gguf");
    let check = |start: &Start| {
        let model = start.resolved().model;
        assert_eq!((model.name.as_str(), model.max_model_len), ("a", Some(96)));
        assert_eq!(model.gguf_file.as_deref(), Some("a.gguf"));
    };
    start.line.model_dir = Some(path.clone());
    check(&start);
    start.line.model_dir = None;
    start.line.load_models = Some(path.display().to_string());
    check(&start);
    let start = start.properties("option.max_model_len=96\noption.model_id=a.gguf\n");
    check(&start);
    let other = start.properties("option.model_id=my-org/other\n");
    says(
        &other.refused(),
        &["option.model_id=my-org/other names a model", "a.gguf"],
    );
    let code = other.properties("option.entryPoint=model.py\n");
    // Code that is named answers, whatever lies beside it.
    assert!(code.resolved().model.python.is_some());
}

#[test]
fn a_directory_without_a_checkpoint_says_what_it_holds() {
    let mut start = Start::without_model()
        .file("model/params.json", "")
        .file("model/notes", "");
    says(
        &start.refused(),
        &["no config.json", "notes, params.json", "original authors"],
    );
    start.line.model_dir = Some("/no/such/model".into());
    says(&start.refused(), &["/no/such/model cannot be read"]);
}

#[test]
fn a_folder_of_diffusers_is_a_model() {
    let diffusion = Start::without_model().file("model/model_index.json", "{}");
    let model = diffusion.resolved().model;
    assert!(matches!(model.source, ModelSource::Directory(_)) && !model.skips_safety_checker);
}
