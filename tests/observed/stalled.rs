//! The watchdog with a real engine that stands still in the middle of its work: one rank stops before a collective.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use candle_core::{Device, Result};
use sconce_config::{CommandLine, Configuration, Environment, Unreached};
use sconce_core::Registration;
use sconce_engine::{Engine, Loader, open_checkpoint};
use sconce_http::{HttpSettings, Models};
use sconce_manager::Manager;
use sconce_models::{Adapter, Model};
use sconce_nn::{KvCache, KvShape, Step};
use sconce_testkit::client::Client;
use sconce_testkit::fakes::Gate;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::ranks::settings;
use crate::support::{generated, tiny};

/// A model that stands still in one of its steps until a gate is opened, as one does whose device hangs.
struct Hanging {
    inner: Box<dyn Model>,
    hangs: Arc<AtomicBool>,
    gate: Gate,
    /// How often it stood still.
    times: Arc<AtomicUsize>,
}

impl Model for Hanging {
    fn kv_shape(&self) -> KvShape {
        self.inner.kv_shape()
    }

    fn vocab(&self) -> usize {
        self.inner.vocab()
    }

    fn device(&self) -> Device {
        self.inner.device()
    }

    fn forward(
        &mut self,
        step: &Step,
        adapters: &[Option<Arc<Adapter>>],
        kv: &mut KvCache,
    ) -> Result<candle_core::Tensor> {
        if self.hangs.swap(false, SeqCst) {
            self.times.fetch_add(1, SeqCst);
            self.gate.wait();
        }
        self.inner.forward(step, adapters, kv)
    }
}

/// Polls `/ping` for a status; the entry of the model.
fn wait_for(client: &Client, status: u16) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = client.get("/ping").unwrap();
        if answer.status == status {
            let body = answer.json().unwrap();
            return body["llama"].clone();
        }
        assert!(Instant::now() < deadline, "/ping says {}", answer.text());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_engine_that_stands_still_is_unhealthy_until_it_goes_on() {
    for ranks in [1, 2] {
        stands_still(ranks);
    }
}

fn stands_still(ranks: usize) {
    let (hangs, gate, times) = (
        Arc::<AtomicBool>::default(),
        Gate::default(),
        Arc::default(),
    );
    let settings = sconce_engine::EngineSettings {
        ranks,
        // The group's own patience is longer than the watchdog's.
        ..settings(Duration::from_secs(120))
    };
    let mut checkpoint = open_checkpoint(&settings, None).unwrap();
    let real = Arc::clone(&checkpoint.loader);
    let hanging = (Arc::clone(&hangs), gate.clone(), Arc::clone(&times));
    let loader: Arc<Loader> = Arc::new(move |seat, progress| {
        let is_last = seat.rank() + 1 == ranks;
        let inner = real(seat, progress)?;
        let (hangs, gate, times) = hanging.clone();
        Ok(match is_last {
            true => Box::new(Hanging {
                inner,
                hangs,
                gate,
                times,
            }) as Box<dyn Model>,
            false => inner,
        })
    });
    checkpoint.loader = loader;
    let engine = Engine::start_with(settings, checkpoint, Arc::new(|_, _| {})).unwrap();
    let watchdog = [("SCONCE_WATCHDOG".to_owned(), "1".to_owned())];
    let environment: Environment = watchdog.into_iter().collect();
    let configuration = Configuration::read(&CommandLine::default(), &environment);
    let wanted = Registration {
        url: tiny("llama").display().to_string(),
        name: Some("llama".into()),
        ..Registration::default()
    };
    let model = configuration.model(&wanted, &Unreached).unwrap().model;
    let manager = Manager::start(configuration, vec![], |_, _| {}).unwrap();
    manager.adopt(model, Arc::new(engine));
    served(&manager, |client| {
        let body = json!({
            "inputs": "Once upon a time",
            "parameters": {"max_new_tokens": 8, "do_sample": false, "ignore_eos_token": true},
        });
        let ask = || client.post("/invocations", &body).unwrap();
        let text = generated(&ask().json().unwrap());
        wait_for(client, 200);
        hangs.store(true, SeqCst);
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| tell.send(ask()).unwrap());
            let entry = wait_for(client, 500);
            assert_eq!(entry["status"], "Unhealthy", "{entry}");
            let cause = entry["cause"].as_str().unwrap();
            assert!(cause.contains("no sign of life for 1 s"), "{cause}");
            assert!(cause.contains("1 requests"), "{cause}");
            assert!(told.try_recv().is_err(), "nobody is answered meanwhile");
            let ready = client.get("/v2/models/llama/ready").unwrap();
            assert_ne!(ready.status, 200, "{}", ready.text());
            gate.open();
            let answer = told.recv().unwrap();
            assert_eq!(generated(&answer.json().unwrap()), text);
            let entry = wait_for(client, 200);
            assert_eq!(entry["status"], "Healthy", "{entry}");
        });
        assert_eq!(times.load(SeqCst), 1);
    });
    manager.stop();
}

/// Serves over HTTP while `ask` is at it.
fn served(manager: &Manager, ask: impl FnOnce(&Client)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let models = Models::of(Arc::new(manager.clone()));
    let (end, ended) = oneshot::channel::<()>();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let server = runtime.spawn(sconce_http::serve(
        listener,
        models,
        HttpSettings::default(),
        async move { ended.await.unwrap_or_default() },
    ));
    ask(&Client::new(address));
    drop(end);
    runtime.block_on(server).unwrap().unwrap();
}
