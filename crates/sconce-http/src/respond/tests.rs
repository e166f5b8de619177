//! The table of statuses, line by line, in all dialects.

use sconce_api::Dialect;
use serde_json::Value;

use super::*;

fn responder(dialect: Dialect) -> Responder {
    let codes = ErrorCodes {
        bad_request: StatusCode::from_u16(461).unwrap(),
        wlm_error: StatusCode::from_u16(561).unwrap(),
        throttle_error: StatusCode::from_u16(562).unwrap(),
        server_error: StatusCode::from_u16(563).unwrap(),
    };
    let wire = Wire {
        dialect,
        ..Wire::default()
    };
    Responder { wire, codes }
}

/// Refusals with their statuses in DJL's dialects and in TGI.
fn table() -> Vec<(Refusal, u16, u16)> {
    let name = || String::from("m");
    let too_long = ServeError::TooLong {
        prompt: 1,
        new: 2,
        limit: 2,
    };
    let prompt_too_long = ServeError::PromptTooLong {
        prompt: 2,
        limit: 2,
    };
    let engine = ServeError::Engine {
        model: name(),
        cause: name(),
    };
    let not_ready = ServeError::NotReady {
        model: name(),
        phase: name(),
    };
    let other_task = ServeError::OtherTask {
        wanted: "w",
        task: "t",
    };
    let full = ServeError::QueueFull {
        model: name(),
        limit: 1,
    };
    vec![
        (ServeError::Malformed(name()).into(), 424, 422),
        (ServeError::parameter("k", 1, "p").into(), 424, 422),
        (too_long.into(), 424, 422),
        (prompt_too_long.into(), 424, 422),
        (engine.into(), 424, 424),
        (full.into(), 562, 429),
        (ServeError::Crowded { limit: 1 }.into(), 562, 429),
        (Refusal::Unauthorized("t"), 401, 401),
        (Refusal::Busy("t"), 562, 562),
        (not_ready.into(), 561, 503),
        (ServeError::Draining.into(), 561, 503),
        (ServeError::Timeout { seconds: 1 }.into(), 561, 500),
        (ServeError::Stalled { seconds: 1 }.into(), 561, 500),
        (ServeError::BodyTooLarge { limit: 1 }.into(), 413, 413),
        (ServeError::UnknownModel(name()).into(), 404, 404),
        (ServeError::UnknownRoute.into(), 404, 404),
        (other_task.into(), 404, 404),
        (Refusal::BadRequest(name()), 461, 461),
        (Refusal::Encoded(name()), 415, 415),
        (Refusal::Method("GET"), 405, 405),
        (Refusal::Unsupported("m"), 501, 501),
        (Refusal::Panicked(name()), 563, 563),
    ]
}

#[test]
fn every_failure_has_the_status_of_the_table() {
    for dialect in Dialect::ALL {
        let responder = responder(dialect);
        for (refusal, djl, tgi) in table() {
            let wanted = if dialect == Dialect::Tgi { tgi } else { djl };
            let answer = responder.failure(&refusal);
            assert_eq!(answer.status().as_u16(), wanted, "{dialect:?} {refusal:?}");
            let retries = match &refusal {
                Refusal::Job(error) => error.retry(),
                other => matches!(other, Refusal::Busy(_)),
            };
            assert_eq!(
                answer.headers().contains_key(RETRY_AFTER),
                retries,
                "{refusal:?}"
            );
        }
    }
}

#[test]
fn every_body_is_json_of_the_dialect_or_of_the_server() {
    for dialect in Dialect::ALL {
        let responder = responder(dialect);
        for (refusal, ..) in table() {
            let (status, body) = responder.told(&refusal);
            let body: Value = serde_json::from_slice(&body).unwrap();
            let text = format!("{dialect:?} {refusal:?}: {body}");
            let of_job = matches!(refusal, Refusal::Job(_));
            if dialect == Dialect::Tgi && of_job {
                assert!(body["error_type"].is_string(), "{text}");
            } else if of_job && status == StatusCode::FAILED_DEPENDENCY {
                assert_eq!(body["code"], status.as_u16(), "{text}");
                assert!(body.get("type").is_none(), "{text}");
            } else {
                assert_eq!(body["code"], status.as_u16(), "{text}");
                assert!(
                    body["type"].as_str().unwrap().ends_with("Exception"),
                    "{text}"
                );
                assert!(body["message"].is_string(), "{text}");
            }
        }
    }
}
