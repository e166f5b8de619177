//! How a server is observed, and how it knows whether it is well.

use std::time::Duration;

use super::{Start, says};

#[test]
fn unless_somebody_says_otherwise_all_is_told_and_nothing_is_sent() {
    let server = Start::with_model().resolved().server;
    let observed = server.observed;
    assert!(observed.metrics && observed.access_log && observed.console);
    assert!(!observed.json_log && observed.emf_namespace.is_none());
    assert!(!observed.traces.are_wanted());
    let minute = Some(Duration::from_secs(60));
    assert_eq!(
        (server.health.canary_pause, server.health.watchdog),
        (minute, minute)
    );
    assert!(!server.health.djl_codes && !server.health.unhealthy_fails);
}

#[test]
fn everything_can_be_asked_for_otherwise() {
    let server = Start::with_model()
        .variable("SERVING_PROMETHEUS", "false")
        .variable("SCONCE_EMF", "Team/Chat")
        .variable("SCONCE_LOG_FORMAT", "json")
        .variable("SCONCE_ACCESS_LOG", "off")
        .variable("SCONCE_CONSOLE", "off")
        .variable("SCONCE_CANARY", "0")
        .variable("SCONCE_WATCHDOG", "5")
        .variable("SCONCE_PING", "djl")
        .variable("SAGEMAKER_HEALTH_CHECK_OVERRIDE", "true")
        .resolved()
        .server;
    let observed = server.observed;
    assert!(!observed.metrics && !observed.access_log && !observed.console && observed.json_log);
    assert_eq!(observed.emf_namespace.as_deref(), Some("Team/Chat"));
    let health = server.health;
    assert_eq!(health.canary_pause, None);
    assert_eq!(health.watchdog, Some(Duration::from_secs(5)));
    assert!(health.djl_codes && health.unhealthy_fails);
}

#[test]
fn traces_follow_the_variables_of_opentelemetry() {
    let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let wanted = || Start::with_model().variable(endpoint, "http://collector:4318");
    let traces = |start: Start| start.resolved().server.observed.traces;
    let all = traces(
        wanted()
            .variable("OTEL_SERVICE_NAME", "chat")
            .variable("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
    );
    assert!(all.are_wanted());
    assert_eq!(all.service.as_deref(), Some("chat"));
    assert_eq!(all.timeout, Duration::from_millis(500));
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        assert!(
            !traces(wanted().variable(name, value)).are_wanted(),
            "{name}"
        );
    }
    let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    assert!(traces(Start::with_model().variable(own, "http://c:4318/v1/traces")).are_wanted());
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (name, value, parts) in [
        (
            "SCONCE_EMF",
            "AWS/Mine",
            &["AWS/Mine", "must not begin with AWS/"][..],
        ),
        ("SCONCE_EMF", "a|b", &["namespace of CloudWatch"]),
        ("SCONCE_WATCHDOG", "soon", &["soon", "from 0 (never)"]),
        ("SCONCE_LOG_FORMAT", "xml", &["xml", "json"]),
        ("SCONCE_PING", "yes", &["truth", "djl"]),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            &["http/protobuf", "4318"],
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", &["milliseconds"]),
    ] {
        let message = Start::with_model().variable(name, value).refused();
        says(&message, &[&[name], parts].concat());
    }
}
