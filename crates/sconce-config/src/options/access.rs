//! Who reaches the server, and how it proves who it is: `config.properties`, or `SERVING_<KEY>`.

use super::{SERVER, refused};
use crate::access::api_keys;
use crate::entry::{
    Entry, Status,
    Variable::{Fills, Overrides},
};
use crate::kind::Kind;
use crate::value::{put, text};
use std::path::PathBuf;

pub(super) const ACCESS: &[Entry] = &[
    Entry {
        key: "api_key",
        variables: &[
            Overrides("SCONCE_API_KEY"),
            Fills("VLLM_API_KEY"),
            Fills("API_KEY"),
        ],
        since: "sconce",
        doc: "Key that every request must bring, as `Authorization: Bearer KEY` or `x-api-key: KEY`; \
              several with commas between them, so that a new one can be given out before the old one \
              goes. /ping and /health stay open. Unset, no request needs one.",
        status: Status::Honoured(|d, v| put(&mut d.server.api_keys, api_keys(v))),
        secret: true,
        ..SERVER
    },
    Entry {
        key: "certificate_file",
        kind: Kind::Path,
        doc: "Certificate for TLS, in PEM, followed by those that it was issued with. It is read at the start.",
        status: Status::Honoured(|d, v| {
            put(&mut d.tls.certificate, text(v).map(PathBuf::from).map(Some))
        }),
        ..SERVER
    },
    Entry {
        key: "private_key_file",
        kind: Kind::Path,
        doc: "Private key of certificate_file, in PEM, without a password.",
        status: Status::Honoured(|d, v| put(&mut d.tls.key, text(v).map(PathBuf::from).map(Some))),
        ..SERVER
    },
    Entry {
        key: "keystore",
        kind: Kind::Path,
        doc: "Keys for TLS.",
        status: refused(NO_KEYSTORE, &[]),
        ..SERVER
    },
    Entry {
        key: "keystore_pass",
        doc: "Password of the keystore.",
        status: refused(NO_KEYSTORE, &[]),
        secret: true,
        ..SERVER
    },
    Entry {
        key: "keystore_type",
        doc: "Format of the keystore.",
        status: refused(NO_KEYSTORE, &[]),
        ..SERVER
    },
];

const NO_KEYSTORE: &str = "keystores are not read; take the PEM files of certificate_file and \
    private_key_file out of it, with openssl pkcs12 -nodes -in KEYSTORE";
