//! The body of `/ping`: DJL's shape, with the truth in it.

use std::time::Duration;

use sconce_core::{ModelStatus, Phase};
use serde_json::{Map, Value, json};

use crate::json;

/// The health of all models together; the worst one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Every model answers. Also when there is none, as in a multi-model endpoint at its start.
    Ready,
    /// At least one model has fewer workers than it should, and answers all the same.
    Lacking,
    /// At least one model is on its way.
    Loading,
    /// At least one model stands still; it may go on.
    Stalled,
    /// At least one model will not answer.
    Failed,
}

/// The health of these models and the JSON body that tells it: one entry per model with
/// `status` `Healthy`, `PENDING` (with phase, bytes and times), `Unhealthy` or `FAILED` (with the cause), or `UNLOADING`.
/// Models that were registered later are listed, but a server does not fail by one of them: who
/// registered it is told, and the others go on.
pub fn ping(models: &[ModelStatus]) -> (Health, Vec<u8>) {
    let own = models.iter().filter(|model| model.at_startup);
    let health = own.map(health).max().unwrap_or(Health::Ready);
    let entries: Map<String, Value> = models
        .iter()
        .map(|model| (model.label(), entry(model)))
        .collect();
    (health, json::gson(&entries))
}

fn health(model: &ModelStatus) -> Health {
    match model.phase {
        Phase::Ready if model.lacks_workers() => Health::Lacking,
        Phase::Ready | Phase::Unloading => Health::Ready,
        Phase::Stalled(_) => Health::Stalled,
        Phase::Pending | Phase::Fetching | Phase::Loading | Phase::Warming => Health::Loading,
        Phase::Failed(_) => Health::Failed,
    }
}

fn entry(model: &ModelStatus) -> Value {
    match &model.phase {
        Phase::Ready if model.lacks_workers() => {
            let (there, wanted) = (model.ready_workers(), model.crew.min);
            json!({"status": "Unhealthy", "cause": format!("{there} of {wanted} workers are ready")})
        }
        Phase::Ready => json!({"status": "Healthy"}),
        Phase::Stalled(cause) => json!({"status": "Unhealthy", "cause": cause}),
        Phase::Unloading => json!({"status": "UNLOADING"}),
        Phase::Failed(cause) => json!({"status": "FAILED", "cause": cause}),
        loading => {
            let mut entry = json!({
                "status": "PENDING",
                "phase": loading.to_string(),
                "bytes_done": model.progress.done,
                "bytes_total": model.progress.total,
                "elapsed_seconds": tenths(model.times.total),
            });
            if let Some(left) = model.times.left {
                entry["eta_seconds"] = json!(tenths(left));
            }
            entry
        }
    }
}

/// Seconds, to one place.
fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use sconce_core::{Crew, LoadTimes, Progress};

    use super::*;

    fn model(name: &str, phase: Phase) -> ModelStatus {
        let progress = Progress { done: 3, total: 9 };
        ModelStatus {
            name: name.into(),
            phase,
            progress,
            at_startup: true,
            ..ModelStatus::default()
        }
    }

    #[test]
    fn the_worst_model_decides() {
        let cases = [
            (vec![], Health::Ready),
            (vec![Phase::Ready, Phase::Ready], Health::Ready),
            (vec![Phase::Ready, Phase::Warming], Health::Loading),
            (
                vec![Phase::Failed("x".into()), Phase::Pending],
                Health::Failed,
            ),
        ];
        for (phases, wanted) in cases {
            let models: Vec<_> = phases.into_iter().map(|phase| model("m", phase)).collect();
            assert_eq!(ping(&models).0, wanted, "{models:?}");
        }
    }

    #[test]
    fn who_stands_still_or_lacks_workers_is_unhealthy_and_says_why() {
        let stalled = model("m", Phase::Stalled("step 7".into()));
        let mut alone = model("m", Phase::Ready);
        alone.crew = Crew {
            min: 2,
            max: 2,
            workers: vec![],
        };
        for (model, cause, wanted) in [
            (stalled, "step 7", Health::Stalled),
            (alone, "0 of 2 workers", Health::Lacking),
        ] {
            let (health, body) = ping(&[model]);
            assert_eq!(health, wanted);
            let body = String::from_utf8(body).unwrap();
            assert!(
                body.contains("\"Unhealthy\"") && body.contains(cause),
                "{body}"
            );
        }
    }

    #[test]
    fn bodies_are_those_of_djl_with_phase_bytes_and_cause() {
        let text = |models: &[ModelStatus]| String::from_utf8(ping(models).1).unwrap();
        assert_eq!(text(&[]), "{}\n");
        assert_eq!(
            text(&[model("test", Phase::Ready)]),
            "{\n  \"test\": {\n    \"status\": \"Healthy\"\n  }\n}\n"
        );
        let loading: Value = serde_json::from_str(&text(&[model("m", Phase::Loading)])).unwrap();
        assert_eq!(
            loading,
            json!({"m": {
                "status": "PENDING", "phase": "loading", "bytes_done": 3, "bytes_total": 9, "elapsed_seconds": 0.0
            }})
        );
        let mut timed = model("m", Phase::Fetching);
        timed.times = LoadTimes {
            total: Duration::from_millis(2_340),
            left: Some(Duration::from_secs(12)),
            ..LoadTimes::default()
        };
        let timed: Value = serde_json::from_str(&text(&[timed])).unwrap();
        assert_eq!(
            (&timed["m"]["elapsed_seconds"], &timed["m"]["eta_seconds"]),
            (&json!(2.3), &json!(12.0))
        );
        assert!(text(&[model("m", Phase::Failed("no file".into()))]).contains("no file"));
    }
}
