//! Who reaches the server: the keys that requests bring, and the certificate that it shows.

use std::fmt;
use std::path::PathBuf;

use crate::draft::Draft;
use crate::error::ConfigError;
use crate::gather::Setting;
use crate::value::{Rejection, Value};

/// Keys of which every request must bring one; none: no request needs one. They are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ApiKeys(Vec<String>);

impl ApiKeys {
    /// All of them.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} hidden)", self.0.len())
    }
}

/// The PEM files of a server that speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, and those that it was issued with (`certificate_file`).
    pub certificate: PathBuf,
    /// The key of that (`private_key_file`).
    pub key: PathBuf,
}

/// What options say of TLS, each alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsDraft {
    /// `inference_address` begins with https.
    pub(crate) is_wanted: bool,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Keys with commas between them.
pub(crate) fn api_keys(value: &str) -> Value<ApiKeys> {
    let is_of_header = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic());
    let keys: Vec<_> = value.split(',').map(str::trim).collect();
    if !keys.iter().all(|key| is_of_header(key)) {
        let must =
            "must be a key of visible ASCII, or several with commas between them, none empty";
        return Err(Rejection::Invalid(must.into()));
    }
    Ok(ApiKeys(keys.into_iter().map(String::from).collect()))
}

/// Decides for TLS or against it; what is wrong is said of the setting that asks for it.
pub(crate) fn decide(
    settings: &[Setting],
    draft: &mut Draft,
) -> Option<(&'static str, ConfigError)> {
    let TlsDraft {
        is_wanted,
        certificate,
        key,
    } = draft.tls.clone();
    let (at, problem) = match (is_wanted, certificate, key) {
        (false, None, None) => return None,
        (true, Some(certificate), Some(key)) => {
            draft.server.tls = Some(TlsFiles { certificate, key });
            return None;
        }
        (true, None, None) => (
            "inference_address",
            "asks for TLS: set certificate_file and private_key_file too, as no certificate is made \
             up here",
        ),
        (_, Some(_), None) => (
            "certificate_file",
            "needs its key: set private_key_file too",
        ),
        (_, None, Some(_)) => (
            "private_key_file",
            "needs its certificate: set certificate_file too",
        ),
        (false, Some(_), Some(_)) => (
            "certificate_file",
            "is for TLS, which inference_address does not ask for: let that begin with https://, or \
             remove this",
        ),
    };
    let mut found = settings.iter().filter(|setting| setting.entry.key == at);
    let error = ConfigError::Invalid {
        written: found.next_back()?.written(),
        problem: problem.into(),
        default: "",
    };
    Some((at, error))
}
