//! How the server is observed: metrics, the log, traces, health, the console.

use super::{ENVIRONMENT, refused};
use crate::entry::{Entry, Status, Variable::Overrides};
use crate::kind::Kind;
use crate::observed::{milliseconds, namespace, seconds_or_never};
use crate::value::{flag, put, text, url, word};

pub(super) const OBSERVING: &[Entry] = &[
    Entry {
        key: "SERVING_PROMETHEUS",
        variables: &[Overrides("SERVING_PROMETHEUS")],
        kind: Kind::Flag,
        default: "true",
        since: "0.27",
        doc: "Whether /metrics and /server/metrics tell metrics for Prometheus.",
        status: Status::Honoured(|d, v| put(&mut d.server.observed.metrics, flag(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "SCONCE_CONSOLE",
        variables: &[Overrides("SCONCE_CONSOLE")],
        kind: Kind::OneOf(&["on", "off"]),
        default: "on",
        since: "sconce",
        doc: "Whether /console shows the models and lets one try them; its files need no API key, what it asks \
              of the server does.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.server.observed.console,
                word(v, &[("on", true), ("off", false)]),
            )
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SCONCE_EMF",
        variables: &[Overrides("SCONCE_EMF")],
        since: "sconce",
        doc: "Namespace of CloudWatch (such as sconce) under which metrics are written to standard output as \
              lines of its embedded metric format: one for each request, and one for each model and minute. \
              Unset: none are.",
        status: Status::Honoured(|d, v| {
            put(&mut d.server.observed.emf_namespace, namespace(v).map(Some))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SCONCE_LOG_FORMAT",
        variables: &[Overrides("SCONCE_LOG_FORMAT")],
        kind: Kind::OneOf(&["text", "json"]),
        default: "text",
        since: "sconce",
        doc: "Form of the log's lines: text for people, or an object of JSON each.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.server.observed.json_log,
                word(v, &[("text", false), ("json", true)]),
            )
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SCONCE_ACCESS_LOG",
        variables: &[Overrides("SCONCE_ACCESS_LOG")],
        kind: Kind::OneOf(&["on", "off"]),
        default: "on",
        since: "sconce",
        doc: "Whether each request has a line in the log, with its id, status, time and tokens; those of \
              /ping, /health, /v2/health and the metrics have one at the level debug.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.server.observed.access_log,
                word(v, &[("on", true), ("off", false)]),
            )
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "OTEL_EXPORTER_OTLP_ENDPOINT",
        variables: &[Overrides("OTEL_EXPORTER_OTLP_ENDPOINT")],
        kind: Kind::Url,
        since: "sconce",
        doc: "The collector that gets a trace of each request by OTLP over HTTP, at /v1/traces below this \
              address (http://localhost:4318). Unset: there are none. OpenTelemetry's variables for headers, \
              batches, sampling and the service's name hold too.",
        status: Status::Honoured(|d, v| {
            put(&mut d.server.observed.traces.endpoint, url(v).map(Some))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        variables: &[Overrides("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")],
        kind: Kind::Url,
        since: "sconce",
        doc: "The whole address to which traces are posted; wins over OTEL_EXPORTER_OTLP_ENDPOINT.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.server.observed.traces.traces_endpoint,
                url(v).map(Some),
            )
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "OTEL_EXPORTER_OTLP_TIMEOUT",
        variables: &[
            Overrides("OTEL_EXPORTER_OTLP_TIMEOUT"),
            Overrides("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"),
        ],
        kind: Kind::Number,
        default: "10000",
        since: "sconce",
        doc: "Time for the collector to answer, in milliseconds.",
        status: Status::Honoured(|d, v| {
            put(&mut d.server.observed.traces.timeout, milliseconds(v))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "OTEL_EXPORTER_OTLP_PROTOCOL",
        variables: &[
            Overrides("OTEL_EXPORTER_OTLP_PROTOCOL"),
            Overrides("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"),
        ],
        since: "sconce",
        doc: "How traces are sent.",
        status: refused(
            "traces are sent as http/protobuf; set that, and the collector's port for HTTP (4318)",
            &["http/protobuf"],
        ),
        ..ENVIRONMENT
    },
    Entry {
        key: "OTEL_SERVICE_NAME",
        variables: &[Overrides("OTEL_SERVICE_NAME")],
        since: "sconce",
        doc: "Name of this server in traces; unset: what OTEL_RESOURCE_ATTRIBUTES says, else sconce.",
        status: Status::Honoured(|d, v| {
            put(&mut d.server.observed.traces.service, text(v).map(Some))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "OTEL_TRACES_EXPORTER",
        variables: &[Overrides("OTEL_TRACES_EXPORTER")],
        kind: Kind::OneOf(&["otlp", "none"]),
        since: "sconce",
        doc: "Whether traces are sent.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.server.observed.traces.is_off,
                word(v, &[("otlp", false), ("none", true)]),
            )
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "OTEL_SDK_DISABLED",
        variables: &[Overrides("OTEL_SDK_DISABLED")],
        kind: Kind::Flag,
        since: "sconce",
        doc: "Whether there are no traces, whatever else is set.",
        status: Status::Honoured(|d, v| {
            d.server.observed.traces.is_off |= flag(v)?;
            Ok(())
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SCONCE_CANARY",
        variables: &[Overrides("SCONCE_CANARY")],
        kind: Kind::Number,
        default: "60",
        since: "sconce",
        doc: "A model of the native engine that had nothing to do for so many seconds computes something for \
              nobody, and has failed if that gives no numbers; 0: it need not.",
        status: Status::Honoured(|d, v| {
            put(&mut d.server.health.canary_pause, seconds_or_never(v))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SCONCE_WATCHDOG",
        variables: &[Overrides("SCONCE_WATCHDOG")],
        kind: Kind::Number,
        default: "60",
        since: "sconce",
        doc: "/ping says that a model of the native engine stands still when none of its kernels has done \
              anything for so many seconds in the middle of a step; 0: nobody looks.",
        status: Status::Honoured(|d, v| put(&mut d.server.health.watchdog, seconds_or_never(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "SCONCE_PING",
        variables: &[Overrides("SCONCE_PING")],
        kind: Kind::OneOf(&["truth", "djl"]),
        default: "truth",
        since: "sconce",
        doc: "Statuses of /ping: 503 while a model is loading and 500 while one stands still (truth), or 200 \
              for both as in DJL Serving (djl). One that has failed is 500 either way.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.server.health.djl_codes,
                word(v, &[("truth", false), ("djl", true)]),
            )
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_HEALTH_CHECK_OVERRIDE",
        variables: &[Overrides("SAGEMAKER_HEALTH_CHECK_OVERRIDE")],
        kind: Kind::Flag,
        default: "false",
        since: "0.33",
        doc: "Whether /ping fails while workers of a Python handler are missing, and with SCONCE_PING=djl while a \
              model stands still.",
        status: Status::Honoured(|d, v| put(&mut d.server.health.unhealthy_fails, flag(v))),
        ..ENVIRONMENT
    },
];
