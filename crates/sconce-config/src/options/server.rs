//! The server itself: `config.properties`, or `SERVING_<KEY>`.

use super::reason::{CLUSTERS, NO_JAVA};
use super::{SERVER, refused};
use crate::entry::{Entry, Status, Variable::Overrides};
use crate::kind::Kind;
use crate::settings::UrlPattern;
use crate::value::{
    Rejection, Value, address, count, flag, header, header_value, http_status, put, seconds, text,
    word,
};
use std::path::PathBuf;

pub(super) const SERVER_KEYS: &[Entry] = &[
    Entry {
        key: "inference_address",
        kind: Kind::Url,
        default: "http://0.0.0.0:8080",
        doc: "Address and port to listen on, as http://host:port, or https://host:port with \
              certificate_file and private_key_file.",
        status: Status::Honoured(|d, v| {
            let address = address(v)?;
            (d.server.host, d.server.port) = (address.host, address.port);
            d.tls.is_wanted = address.is_https;
            Ok(())
        }),
        ..SERVER
    },
    Entry {
        key: "management_address",
        kind: Kind::Url,
        doc: "Address for the management of models, which has the port of inference_address; one of \
              this machine alone (http://127.0.0.1:8080) leaves it to clients of this machine.",
        status: Status::Honoured(|d, v| put(&mut d.management_address, address(v).map(Some))),
        ..SERVER
    },
    Entry {
        key: "cluster_address",
        kind: Kind::Url,
        since: "0.29",
        doc: "Address for the other machines of a cluster.",
        status: Status::NoOp(CLUSTERS),
        ..SERVER
    },
    Entry {
        key: "load_models",
        default: "ALL",
        doc: "The models to serve: ALL (those of model_store and HF_MODEL_ID), NONE, or a list of paths \
              and s3://bucket/prefix/ with commas between them, each with or without name=, \
              name:version= or name:version:engine:devices= before it.",
        status: Status::Honoured(|d, v| put(&mut d.load_models, text(v))),
        ..SERVER
    },
    Entry {
        key: "model_store",
        kind: Kind::Path,
        default: "/opt/ml/model",
        doc: "The model's directory, or a directory that holds nothing but directories of models.",
        status: Status::Honoured(|d, v| put(&mut d.model_store, text(v).map(PathBuf::from))),
        ..SERVER
    },
    Entry {
        key: "max_request_size",
        variables: &[Overrides("SAGEMAKER_MAX_REQUEST_SIZE")],
        kind: Kind::Whole(1, 1 << 40),
        default: "67108864",
        doc: "Longest body of a request, in bytes.",
        status: Status::Honoured(|d, v| put(&mut d.server.max_request_size, count(v, 1..=1 << 40))),
        ..SERVER
    },
    Entry {
        key: "max_connections",
        kind: Kind::Whole(1, 1 << 20),
        default: "8192",
        since: "sconce",
        doc: "Most connections at the same time. The next ones are told to come again (503), but for /ping and \
              the like, which are answered.",
        status: Status::Honoured(|d, v| put(&mut d.server.max_connections, count(v, 1..=1 << 20))),
        ..SERVER
    },
    Entry {
        key: "header_timeout",
        kind: Kind::Seconds,
        default: "60",
        since: "sconce",
        doc: "Longest time for the headers of a request, and for a connection without one, in seconds.",
        status: Status::Honoured(|d, v| put(&mut d.server.header_timeout, seconds(v))),
        ..SERVER
    },
    Entry {
        key: "body_timeout",
        kind: Kind::Seconds,
        default: "30",
        since: "sconce",
        doc: "Longest pause within the body of a request, in seconds.",
        status: Status::Honoured(|d, v| put(&mut d.server.body_timeout, seconds(v))),
        ..SERVER
    },
    Entry {
        key: "write_timeout",
        kind: Kind::Seconds,
        default: "60",
        since: "sconce",
        doc: "Longest time in which a client takes nothing of its answer, in seconds; then the connection is closed.",
        status: Status::Honoured(|d, v| put(&mut d.server.write_timeout, seconds(v))),
        ..SERVER
    },
    Entry {
        key: "request_id_header_key",
        default: "x-request-id",
        since: "0.30",
        doc: "Header that carries the client's name of a request.",
        status: Status::Honoured(|d, v| put(&mut d.server.request_id_header_key, header(v))),
        ..SERVER
    },
    Entry {
        key: "chunked_read_timeout",
        kind: Kind::Seconds,
        default: "120",
        since: "0.22",
        doc: "Longest wait for the next part of an answer, in seconds.",
        status: Status::Honoured(|d, v| put(&mut d.server.chunked_read_timeout, seconds(v))),
        ..SERVER
    },
    Entry {
        key: "wait_model_loading",
        kind: Kind::Flag,
        doc: "Whether the port stays closed while the model is being loaded.",
        status: Status::NoOp(
            "the port is open at once, and /ping says 503 until the model can answer, \
              whichever is set",
        ),
        ..SERVER
    },
    Entry {
        key: "allow_multi_status",
        kind: Kind::Flag,
        default: "false",
        doc: "Whether /ping answers 207 while the model is being loaded.",
        status: Status::Honoured(|d, v| put(&mut d.server.allow_multi_status, flag(v))),
        ..SERVER
    },
    Entry {
        key: "bad_request_http_code",
        kind: Kind::Whole(200, 599),
        default: "400",
        since: "0.29",
        doc: "Status of the answer to a wrong request.",
        status: Status::Honoured(|d, v| put(&mut d.server.codes.bad_request, http_status(v))),
        ..SERVER
    },
    Entry {
        key: "wlm_error_http_code",
        kind: Kind::Whole(200, 599),
        default: "503",
        since: "0.29",
        doc: "Status of the answer to a request that no worker can take.",
        status: Status::Honoured(|d, v| put(&mut d.server.codes.wlm_error, http_status(v))),
        ..SERVER
    },
    Entry {
        key: "throttle_error_http_code",
        kind: Kind::Whole(200, 599),
        default: "503",
        since: "0.29",
        doc: "Status of the answer to a request for which the queue is full.",
        status: Status::Honoured(|d, v| put(&mut d.server.codes.throttle_error, http_status(v))),
        ..SERVER
    },
    Entry {
        key: "server_error_http_code",
        kind: Kind::Whole(200, 599),
        default: "500",
        since: "0.29",
        doc: "Status of the answer to a request at which the server fails.",
        status: Status::Honoured(|d, v| put(&mut d.server.codes.server_error, http_status(v))),
        ..SERVER
    },
    Entry {
        key: "timeout_http_code",
        kind: Kind::Number,
        since: "0.29",
        doc: "Status of an answer that came too late.",
        status: Status::NoOp("DJL Serving does not use it either"),
        ..SERVER
    },
    Entry {
        key: "error_rate_wlm",
        since: "0.29",
        doc: "Share of refusals that ends health, as 5/PT1M.",
        status: refused("errors do not end health yet; remove it", &[]),
        ..SERVER
    },
    Entry {
        key: "error_rate_server",
        since: "0.29",
        doc: "Share of errors that ends health, as 5/PT1M.",
        status: refused("errors do not end health yet; remove it", &[]),
        ..SERVER
    },
    Entry {
        key: "error_rate_any",
        since: "0.29",
        doc: "Share of errors of any kind that ends health, as 5/PT1M.",
        status: refused("errors do not end health yet; remove it", &[]),
        ..SERVER
    },
    Entry {
        key: "error_rate_model",
        since: "0.29",
        doc: "Share of errors of the model that ends health, as 5/PT1M.",
        status: Status::NoOp("DJL Serving does not use it either"),
        ..SERVER
    },
    Entry {
        key: "cors_allowed_origin",
        doc: "Value of the header access-control-allow-origin; unset: none is sent.",
        status: Status::Honoured(|d, v| put(&mut d.server.cors.origin, header_value(v).map(Some))),
        ..SERVER
    },
    Entry {
        key: "cors_allowed_methods",
        doc: "Value of the header access-control-allow-methods; unset: none is sent.",
        status: Status::Honoured(|d, v| put(&mut d.server.cors.methods, header_value(v).map(Some))),
        ..SERVER
    },
    Entry {
        key: "cors_allowed_headers",
        doc: "Value of the header access-control-allow-headers; unset: none is sent.",
        status: Status::Honoured(|d, v| put(&mut d.server.cors.headers, header_value(v).map(Some))),
        ..SERVER
    },
    Entry {
        key: "model_url_pattern",
        doc: "Regular expression for the whole URL of a model that is registered while the server runs. \
              Unset, directories of this machine may be registered, and neither buckets nor the hub. \
              Requests for answers never load a model.",
        status: Status::Honoured(|d, v| {
            put(&mut d.server.model_url_pattern, url_pattern(v).map(Some))
        }),
        ..SERVER
    },
    Entry {
        key: "evict_models",
        kind: Kind::OneOf(&["none", "lru"]),
        default: "none",
        since: "sconce",
        doc: "What becomes of a model that is registered and does not fit into the memory that is left: \
              it is refused (none), or models that were registered make room, the one that was longest \
              not asked first (lru).",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.server.evicts,
                word(v, &[("none", false), ("lru", true)]),
            )
        }),
        ..SERVER
    },
    Entry {
        key: "load_workflows",
        until: "0.21",
        doc: "Workflows to serve.",
        status: refused(
            "workflows are not served; serve the model itself with load_models",
            &["NONE"],
        ),
        ..SERVER
    },
    Entry {
        key: "number_of_netty_threads",
        kind: Kind::Number,
        doc: "Threads of Java's network library.",
        status: Status::NoOp(NO_JAVA),
        ..SERVER
    },
    Entry {
        key: "use_native_io",
        doc: "Whether Java uses epoll.",
        status: Status::NoOp(NO_JAVA),
        ..SERVER
    },
    Entry {
        key: "io_ratio",
        kind: Kind::Number,
        doc: "Share of Java's time for the network.",
        status: Status::NoOp(NO_JAVA),
        ..SERVER
    },
    Entry {
        key: "plugin_folder",
        kind: Kind::Path,
        doc: "Directory of Java plugins.",
        status: Status::NoOp(NO_JAVA),
        ..SERVER
    },
];

fn url_pattern(value: &str) -> Value<UrlPattern> {
    UrlPattern::new(value).map_err(|error| {
        let error = error.to_string().replace('\n', " ");
        Rejection::Invalid(format!("must be a regular expression: {error}"))
    })
}
