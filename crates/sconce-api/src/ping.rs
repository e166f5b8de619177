//! The body of `/ping`: DJL's shape, with the truth in it.

use sconce_core::{ModelStatus, Phase};
use serde_json::{Map, Value, json};

use crate::json;

/// The health of all models together; the worst one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Every model answers. Also when there is none, as in a multi-model endpoint at its start.
    Ready,
    /// At least one model is on its way.
    Loading,
    /// At least one model will not answer.
    Failed,
}

/// The health of these models and the JSON body that tells it: one entry per model with
/// `status` `Healthy`, `PENDING` (with phase and bytes), `UNLOADING` or `FAILED` (with the cause).
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
        Phase::Ready | Phase::Unloading => Health::Ready,
        Phase::Pending | Phase::Fetching | Phase::Loading | Phase::Warming => Health::Loading,
        Phase::Failed(_) => Health::Failed,
    }
}

fn entry(model: &ModelStatus) -> Value {
    match &model.phase {
        Phase::Ready => json!({"status": "Healthy"}),
        Phase::Unloading => json!({"status": "UNLOADING"}),
        Phase::Failed(cause) => json!({"status": "FAILED", "cause": cause}),
        loading => json!({
            "status": "PENDING",
            "phase": loading.to_string(),
            "bytes_done": model.progress.done,
            "bytes_total": model.progress.total,
        }),
    }
}

#[cfg(test)]
mod tests {
    use sconce_core::Progress;

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
            json!({"m": {"status": "PENDING", "phase": "loading", "bytes_done": 3, "bytes_total": 9}})
        );
        assert!(text(&[model("m", Phase::Failed("no file".into()))]).contains("no file"));
    }
}
