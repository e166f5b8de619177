//! Several models of one server: those of its start, and those that are registered later.

use sconce_core::Registration;

use super::{Start, says};
use crate::{ConfigErrors, LoadOn, Management, ModelSource, Outside, Resolved, Unreached};

/// A store of two checkpoints beside each other.
fn store() -> Start {
    let start = Start::without_model().file("model/a/config.json", "{}");
    start.file("model/b/config.json", "{}")
}

fn models(start: &Start) -> Result<Vec<Resolved>, ConfigErrors> {
    start.configuration().models(&Unreached)
}

fn labels(start: &Start) -> Vec<(String, Option<String>)> {
    let models = models(start).unwrap_or_else(|errors| panic!("{errors}"));
    let label = |model: Resolved| (model.model.name, model.model.version);
    models.into_iter().map(label).collect()
}

fn refused(start: &Start) -> String {
    models(start)
        .expect_err("the configuration is wrong")
        .to_string()
}

fn plain(name: &str) -> (String, Option<String>) {
    (name.into(), None)
}

#[test]
fn a_store_of_directories_and_the_model_of_the_hub_are_all_served() {
    let start = store();
    assert_eq!(labels(&start), [plain("a"), plain("b")]);
    let urls: Vec<_> = models(&start)
        .unwrap()
        .into_iter()
        .map(|m| m.model.url)
        .collect();
    let a = format!("file:{}", start.path("model/a").display());
    assert_eq!(urls[0], a);
    let start = start.variable("HF_MODEL_ID", "org/gpt2");
    assert_eq!(labels(&start), [plain("a"), plain("b"), plain("org_gpt2")]);
    let mut lone = start;
    lone.line.model_dir = Some(lone.path("model/b"));
    assert_eq!(labels(&lone), [plain("b")], "the command line names it");
}

#[test]
fn each_has_the_settings_of_its_own_file_and_those_of_all() {
    let start = store()
        .file("model/a/serving.properties", "option.max_model_len=96\n")
        .file(
            "model/b/serving.properties",
            "option.api_version=tgi\njob_queue_size=7\n",
        )
        .variable("OPTION_PREDICT_TIMEOUT", "77");
    let models = models(&start).unwrap();
    let [a, b] = &models[..] else { panic!("two") };
    assert_eq!(a.model.max_model_len, Some(96));
    assert_eq!((b.model.max_model_len, b.model.job_queue_size), (None, 7));
    assert_ne!(a.model.dialect, b.model.dialect);
    for model in [a, b] {
        assert_eq!(model.model.predict_timeout.as_secs(), 77);
    }
}

#[test]
fn load_models_names_them_with_versions_engines_and_devices() {
    let list = |list: &str| store().variable("SERVING_LOAD_MODELS", list);
    let version = |name: &str, version: &str| (name.to_owned(), Some(version.to_owned()));
    assert_eq!(labels(&list("a,b")), [plain("a"), plain("b")]);
    assert_eq!(
        labels(&list("x:1=a, x:2=b [y::Python:*]=a")),
        [version("x", "1"), version("x", "2"), plain("y")]
    );
    for (wrong, parts) in [
        ("a,a", &["would both be called a", "name:version=url"][..]),
        ("x:1=a,x:1=b", &["would both be called x:1"]),
        ("a,nowhere", &["load_models=nowhere", "no such directory"]),
        ("m::TensorFlow:*=a", &["engine=TensorFlow is not supported"]),
        ("m:::x;1=a", &["load_on_devices=x;1", "numbers of GPUs"]),
        ("m/n=a", &["a name which has '/'", "one part of a path"]),
        ("m:invoke=a", &["a version which is invoke"]),
        ("http://host/a.zip", &["fetched from S3 and the hub only"]),
    ] {
        says(&refused(&list(wrong)), parts);
    }
}

#[test]
fn devices_mean_what_they_mean_in_a_registration() {
    let load_on = |devices: &str| {
        let start = store()
            .file(
                "model/code/model.py",
                "def handle(inputs):\n    return None\n",
            )
            .variable("SERVING_LOAD_MODELS", &format!("m:::{devices}=code"));
        let model = models(&start).unwrap().remove(0).model;
        model.python.unwrap().load_on
    };
    assert_eq!(load_on("0;1"), LoadOn::Gpus(vec![0, 1]));
    assert_eq!(load_on("cpu"), LoadOn::Cpu);
    assert_eq!(load_on("*"), LoadOn::All);
}

#[test]
fn what_is_wrong_with_one_of_them_is_told_with_its_file() {
    let start = store()
        .file("model/a/serving.properties", "option.dtype=fp99\n")
        .file("model/b/serving.properties", "engine=MXNet\n")
        .variable("SERVING_MAX_REQUEST_SIZE", "-1");
    let told = refused(&start);
    says(
        &told,
        &[
            "model/a/serving.properties:1",
            "option.dtype=fp99",
            "model/b/serving.properties:1",
            "MXNet",
        ],
    );
    assert_eq!(told.matches("max_request_size").count(), 1, "{told}");
}

#[test]
fn a_server_may_begin_without_any_where_that_is_asked_for() {
    let none = store().variable("SERVING_LOAD_MODELS", "NONE");
    let none = none.variable("HF_MODEL_ID", "org/gpt2");
    assert_eq!(labels(&none), []);
    let empty = Start::without_model();
    says(&refused(&empty), &["no model to serve", "is empty"]);
    let empty = empty.variable("SAGEMAKER_MULTI_MODEL", "true");
    assert_eq!(labels(&empty), []);
    assert!(empty.configuration().server().multi_model);
    // What is wrong with the server is told all the same.
    let wrong = empty.variable("SERVING_MAX_REQUEST_SIZE", "-1");
    says(&refused(&wrong), &["max_request_size"]);
}

fn registration(url: &str) -> Registration {
    Registration {
        url: url.into(),
        ..Registration::default()
    }
}

#[test]
fn a_registration_wins_over_the_file_of_its_model_and_gets_the_rest_of_the_server() {
    let start = store()
        .file(
            "model/b/serving.properties",
            "batch_size=2\njob_queue_size=3\noption.max_model_len=96\n",
        )
        .variable("OPTION_PREDICT_TIMEOUT", "77");
    let configuration = start.configuration();
    let wanted = Registration {
        name: Some("mine".into()),
        version: Some("v2".into()),
        batch_size: Some(5),
        ..registration(&start.path("model/b").display().to_string())
    };
    let model = configuration.model(&wanted, &Unreached).unwrap().model;
    assert_eq!(
        (&*model.name, model.version.as_deref()),
        ("mine", Some("v2"))
    );
    assert_eq!((model.batch_size, model.job_queue_size), (Some(5), 3));
    assert_eq!(model.max_model_len, Some(96));
    assert_eq!(model.predict_timeout.as_secs(), 77);
    let ModelSource::Directory(dir) = &model.source else {
        panic!("a directory")
    };
    assert_eq!(*dir, start.path("model/b"));
    let a = start.path("model/a").display().to_string();
    // Names are looked for in the model store too, and ids of the hub where nothing has that name.
    let start = start.variable("SERVING_MODEL_URL_PATTERN", ".*");
    let any = start.configuration();
    let name = |url: &str| {
        let model = any.model(&registration(url), &Unreached).unwrap();
        (model.model.name, model.model.url)
    };
    assert_eq!(name("b").0, "b");
    assert_eq!(name("org/gpt-2"), ("org_gpt_2".into(), "org/gpt-2".into()));
    // The platform's folder names say nothing; what it calls the model does.
    assert_eq!(name(&format!("file:{a}/")).0, "a");
}

#[test]
fn a_registration_that_leads_nowhere_says_so() {
    let start = store()
        .file("model/c.tar.gz", "")
        .variable("SERVING_MODEL_URL_PATTERN", ".*");
    let configuration = start.configuration();
    let told = |wanted: &Registration| {
        let refused = configuration.model(wanted, &Unreached);
        refused.expect_err("it cannot be served").to_string()
    };
    let missing = told(&registration("/no/such/model"));
    says(&missing, &["url=/no/such/model", "no such directory"]);
    let archive = start.path("model/c.tar.gz").display().to_string();
    says(
        &told(&registration(&archive)),
        &["c.tar.gz is not unpacked"],
    );
    says(
        &told(&registration("https://host/m.zip")),
        &[
            "registration: url=https://host/m.zip",
            "S3 and the hub only",
        ],
    );
    let engine = Registration {
        engine: Some("MXNet".into()),
        ..registration("a")
    };
    says(&told(&engine), &["registration", "MXNet"]);
    let workers = Registration {
        max_workers: Some(0),
        ..registration("a")
    };
    says(&told(&workers), &["registration: maxWorkers=0"]);
}

#[test]
fn an_address_for_management_says_who_may_manage() {
    let with = |address: &str| Start::with_model().variable("SERVING_MANAGEMENT_ADDRESS", address);
    let management = |start: &Start| start.configuration().server().management;
    assert_eq!(management(&Start::with_model()), Management::Auto);
    assert_eq!(
        management(&with("http://127.0.0.1:8080")),
        Management::Loopback
    );
    assert_eq!(management(&with("http://0.0.0.0:8080")), Management::Auto);
    let open = with("http://127.0.0.1:8080").variable("SCONCE_MANAGEMENT", "on");
    assert_eq!(management(&open), Management::Everybody);
    says(
        &refused(&with("http://127.0.0.1:8081")),
        &["management_address", "SCONCE_MANAGEMENT"],
    );
}

#[test]
fn a_pattern_is_for_the_whole_address() {
    let start = Start::with_model().variable("SERVING_MODEL_URL_PATTERN", "s3://bucket/.*");
    let configuration = start.configuration();
    let pattern = configuration.server().model_url_pattern.clone().unwrap();
    for (url, allowed) in [
        ("s3://bucket/m/", true),
        ("s3://bucket/", true),
        ("s3://bucket-of-others/m/", false),
        ("x/s3://bucket/m/", false),
        ("s3://bucket/m/\n/etc", false),
    ] {
        assert_eq!(pattern.allows(url), allowed, "{url:?}");
    }
    let wrong = Start::with_model().variable("SERVING_MODEL_URL_PATTERN", "s3://(bucket");
    says(
        &refused(&wrong),
        &["model_url_pattern", "a regular expression"],
    );
}

#[test]
fn what_may_be_registered_is_said_by_the_pattern_else_what_is_on_this_machine() {
    let plain = store().file("model/group/m/config.json", "{}");
    let of = |start: &Start, url: &str| {
        let wanted = Registration {
            url: url.into(),
            ..Registration::default()
        };
        let model = start.configuration().model(&wanted, &Unreached);
        model.map(|model| model.model.name)
    };
    let forbidden = |start: &Start, url: &str, part: &str| {
        let told = of(start, url).unwrap_err().to_string();
        says(&told, &[url, part]);
    };
    let a = plain.path("model/a").display().to_string();
    for url in ["a", "group/m", &a, &format!("file://{a}")] {
        assert!(of(&plain, url).is_ok(), "{url}");
    }
    for url in ["s3://bucket/m/", "https://host/m.zip", "org/model"] {
        forbidden(&plain, url, "only directories of this machine");
    }
    let bound = plain.variable("SERVING_MODEL_URL_PATTERN", "s3://bucket/.*|org/.*");
    assert_eq!(of(&bound, "s3://bucket/m/").unwrap(), "m");
    assert_eq!(of(&bound, "org/model").unwrap(), "org_model");
    for url in ["a", "group/m", &a, "s3://other/m/", "s3://bucket", "xorg/m"] {
        forbidden(&bound, url, "does not match model_url_pattern");
    }
}

#[test]
fn what_does_not_depend_on_a_model_is_warned_of_once() {
    let slip = "SAGEMAKER_MAX_REQUEST_SIZ";
    let start = store().variable(slip, "1");
    let told = |warnings: &[String]| warnings.iter().filter(|w| w.contains(slip)).count();
    let configuration = start.configuration();
    assert_eq!(told(&configuration.warnings()), 1);
    let wanted = Registration {
        url: "a".into(),
        ..Registration::default()
    };
    let registered = configuration.model(&wanted, &Unreached).unwrap();
    assert_eq!(told(&registered.warnings), 0);
    for model in models(&start).unwrap() {
        assert_eq!(told(&model.warnings), 0);
    }
    // One model alone, as for a check: everything stands together.
    let alone = Start::with_model().variable(slip, "1").resolved();
    assert_eq!(told(&alone.warnings), 1);
    let lenient = store()
        .variable("SCONCE_STRICT", "warn")
        .variable("SERVING_MAX_REQUEST_SIZ", "1");
    assert_eq!(lenient.configuration().warnings().len(), 1);
}

#[test]
fn keys_are_read_from_each_place_and_never_shown() {
    let start = Start::with_model().variable("SCONCE_API_KEY", "one, two");
    let server = start.configuration().server().clone();
    assert_eq!(server.api_keys.as_slice(), ["one", "two"]);
    let resolved = start.resolved();
    let told = format!("{server:?} {resolved:?} {}", resolved.origins[1]);
    assert!(
        !told.contains("one, two") && !told.contains("\"one\""),
        "{told}"
    );
    for name in ["SERVING_API_KEY", "VLLM_API_KEY", "API_KEY"] {
        let start = Start::with_model().variable(name, "three");
        let keys = start.configuration().server().api_keys.clone();
        assert_eq!(keys.as_slice(), ["three"], "{name}");
    }
    assert!(
        Start::with_model()
            .resolved()
            .server
            .api_keys
            .as_slice()
            .is_empty()
    );
    for wrong in ["one,,two", "a b", "schl\u{fc}ssel"] {
        let told = Start::with_model()
            .variable("SCONCE_API_KEY", wrong)
            .refused();
        says(&told, &["api_key", "visible ASCII"]);
    }
}

#[test]
fn tls_needs_an_address_a_certificate_and_its_key() {
    let with = |address: &str, keys: &[(&str, &str)]| {
        let start = Start::with_model().variable("SERVING_INFERENCE_ADDRESS", address);
        let set = |start: Start, (key, value): &(&str, &str)| start.variable(key, value);
        keys.iter().fold(start, set)
    };
    let (https, http) = ("https://0.0.0.0:8443", "http://0.0.0.0:8443");
    let certificate = ("SERVING_CERTIFICATE_FILE", "c.pem");
    let key = ("SERVING_PRIVATE_KEY_FILE", "k.pem");
    let server = with(https, &[certificate, key]).resolved().server;
    let tls = server.tls.unwrap();
    assert_eq!((tls.certificate, tls.key), ("c.pem".into(), "k.pem".into()));
    assert_eq!((server.host.as_str(), server.port), ("0.0.0.0", 8443));
    assert_eq!(with(http, &[]).resolved().server.tls, None);
    let management = ("SERVING_MANAGEMENT_ADDRESS", "https://127.0.0.1:8443");
    assert!(
        with(https, &[certificate, key, management])
            .resolve()
            .is_ok()
    );
    for (start, parts) in [
        (
            with(https, &[]),
            ["inference_address", "set certificate_file"],
        ),
        (
            with(https, &[certificate]),
            ["certificate_file=c.pem", "private_key_file"],
        ),
        (
            with(https, &[key]),
            ["private_key_file=k.pem", "certificate_file"],
        ),
        (
            with(http, &[certificate, key]),
            ["certificate_file=c.pem", "begin with https://"],
        ),
        (
            with(http, &[management]),
            ["management_address", "scheme and port"],
        ),
        (
            with(https, &[certificate, key, ("SERVING_KEYSTORE", "k.p12")]),
            ["keystore", "openssl pkcs12"],
        ),
    ] {
        says(&start.refused(), &parts);
    }
}

/// Unpacks every archive into the same directory.
struct Unpacking(std::path::PathBuf);

impl Outside for Unpacking {
    fn folder(&self, model: &crate::S3Model) -> Option<crate::BucketFolder> {
        Unreached.folder(model)
    }

    fn unpacked(
        &self,
        archive: &std::path::Path,
        caches: &[std::path::PathBuf],
    ) -> Result<std::path::PathBuf, String> {
        assert!(archive.ends_with("gpt-j-6b.tar.gz"), "{archive:?}");
        assert_eq!(caches, ["/cache"].map(std::path::PathBuf::from));
        Ok(self.0.clone())
    }
}

#[test]
fn an_archive_is_the_directory_that_it_holds_under_its_own_name() {
    let start = Start::without_model()
        .file("model/gpt-j-6b.tar.gz", "")
        .file("unpacked/inner/config.json", "{}")
        .file(
            "unpacked/inner/serving.properties",
            "option.max_model_len=96\n",
        )
        .variable("SERVING_DOWNLOAD_DIR", "/cache");
    let outside = Unpacking(start.path("unpacked"));
    let url = format!("file:{}", start.path("model/gpt-j-6b.tar.gz").display());
    let check = |model: Resolved| {
        let model = model.model;
        assert_eq!(model.name, "gpt_j_6b");
        assert_eq!(model.url, url);
        assert_eq!(model.max_model_len, Some(96));
        assert_eq!(
            model.source,
            ModelSource::Directory(start.path("unpacked/inner"))
        );
    };
    check(start.configuration().models(&outside).unwrap().remove(0));
    let wanted = registration(&start.path("model/gpt-j-6b.tar.gz").display().to_string());
    check(start.configuration().model(&wanted, &outside).unwrap());
}
