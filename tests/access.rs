//! Keys and TLS of the built program, with a client that checks the certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use sconce_testkit::client::Client;
use sconce_testkit::server::{Launch, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::support::{PROGRAM, copy_checkpoint, generated};

/// A folder with a model, a certificate for localhost and its key.
struct Place {
    dir: TempDir,
    model: PathBuf,
    certificate: String,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let model = copy_checkpoint("llama", dir.path());
        std::fs::write(
            model.join("serving.properties"),
            "option.rolling_batch=auto\n",
        )
        .unwrap();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = cert.pem();
        std::fs::write(dir.path().join("certificate.pem"), &certificate).unwrap();
        std::fs::write(dir.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
        Self {
            dir,
            model,
            certificate,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn launch(&self, certificate: &str, key: &str) -> Launch<'static> {
        Launch::bare(PROGRAM)
            .argument("serve")
            .argument(&self.model.to_string_lossy())
            .env("SERVING_INFERENCE_ADDRESS", "https://127.0.0.1:0")
            .env("SERVING_CERTIFICATE_FILE", &self.path(certificate))
            .env("SERVING_PRIVATE_KEY_FILE", &self.path(key))
    }

    /// A client that trusts the certificate and no other.
    fn agent(&self, trusted: &str) -> Agent {
        let root = Certificate::from_pem(trusted.as_bytes()).unwrap();
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root]));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .proxy(None)
            .tls_config(tls.build());
        config.build().into()
    }
}

fn url(server: &Server, path: &str) -> String {
    format!("https://localhost:{}{path}", server.address().port())
}

#[test]
fn the_program_speaks_tls_and_asks_for_the_key() {
    let place = Place::new();
    let launch = place.launch("certificate.pem", "key.pem");
    let mut server = launch.env("SCONCE_API_KEY", "the-key").start().unwrap();
    server.wait_for_log("is ready after").unwrap();
    assert!(!server.log().contains("the-key"), "{}", server.log());
    let agent = place.agent(&place.certificate);
    let ping = agent.get(url(&server, "/ping")).call().unwrap();
    assert_eq!(ping.status(), 200);
    let body = json!({"inputs": "Once", "parameters": {"max_new_tokens": 8}});
    let ask = |key: &str, body: &Value| {
        let asked = agent
            .post(url(&server, "/invocations"))
            .header("authorization", key);
        asked
            .header("content-type", "application/json")
            .send(body.to_string())
            .unwrap()
    };
    assert_eq!(ask("Bearer other", &body).status(), 401);
    let mut answer = ask("Bearer the-key", &body);
    let answer = answer.body_mut().read_to_string().unwrap();
    let text = generated(&serde_json::from_str(&answer).unwrap());
    let streamed = json!({"inputs": "Once", "stream": true, "parameters": body["parameters"]});
    let mut stream = ask("Bearer the-key", &streamed);
    let lines = stream.body_mut().read_to_string().unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((generated(&last), lines.lines().count()), (text, 8));
    // Who does not trust it does not speak to it, and who speaks no TLS is not answered.
    let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let distrusting = place.agent(&other.cert.pem());
    assert!(distrusting.get(url(&server, "/ping")).call().is_err());
    assert!(Client::new(server.address()).get("/ping").is_err());
    assert_eq!(
        agent.get(url(&server, "/ping")).call().unwrap().status(),
        200
    );
}

#[test]
fn files_that_are_no_certificate_or_no_key_of_it_are_named() {
    let place = Place::new();
    let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: &str| std::fs::write(place.path(name), text).unwrap();
    write("other.pem", &other.signing_key.serialize_pem());
    write("empty.pem", "");
    for (certificate, key, parts) in [
        (
            "missing.pem",
            "key.pem",
            ["certificate_file", "missing.pem"],
        ),
        (
            "empty.pem",
            "key.pem",
            ["certificate_file", "no certificate in it"],
        ),
        (
            "key.pem",
            "key.pem",
            ["certificate_file", "no certificate in it"],
        ),
        (
            "certificate.pem",
            "empty.pem",
            ["private_key_file", "empty.pem"],
        ),
        (
            "certificate.pem",
            "other.pem",
            ["private_key_file", "other.pem"],
        ),
    ] {
        let (status, log) = place.launch(certificate, key).run().unwrap();
        assert_eq!(status.code(), Some(1), "{log}");
        for part in parts {
            assert!(log.contains(part), "{part} is not in: {log}");
        }
    }
    assert!(Path::new(&place.path("key.pem")).exists());
}
