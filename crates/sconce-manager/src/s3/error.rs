//! What can go wrong with a prefix of S3, in words that name the cure.

use std::path::Path;

use object_store::Error as StoreError;
use sconce_config::S3Model;
use thiserror::Error;

use super::access::{self, Credentials};
use super::connector::Refusal;
use super::nothing::{Nothing, UNPACK, is_archive};
use crate::error::ManagerError;
use crate::wanted::Unclear;

/// A problem, and the model that has it.
#[derive(Debug, Error)]
#[error("the model {} cannot be had from S3 ({place}): {problem}; {}", model.url(), self.cure())]
pub struct S3Error {
    model: S3Model,
    /// Endpoint or region.
    place: String,
    problem: Problem,
}

impl S3Error {
    pub(crate) fn new(model: &S3Model, problem: Problem) -> Self {
        let region = access::region(model);
        let place = match access::endpoint(model, region) {
            Some(endpoint) => endpoint,
            None => format!("region {region}"),
        };
        Self {
            model: model.clone(),
            place,
            problem,
        }
    }

    fn cure(&self) -> String {
        self.problem.cure(&self.model)
    }

    /// Whether it may be over soon.
    pub(crate) fn is_passing(&self) -> bool {
        self.problem.is_passing()
    }

    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match &self.problem {
            Problem::Refused { .. } => "s3-access",
            Problem::Credentials { .. } => "s3-credentials",
            Problem::Nothing(_) => "empty-prefix",
            Problem::NoWeights { .. } => "weights-missing",
            Problem::Gguf(unclear) => unclear.code(),
            Problem::Certificates { .. }
            | Problem::Runtime(_)
            | Problem::Connection { .. }
            | Problem::Abandoned => "s3-unreachable",
            Problem::Changed { .. } | Problem::Settings(_) => "s3-changed",
            Problem::Space { .. } | Problem::Cache { .. } => "s3-cache",
            Problem::Headers(_) => "no-temporary-directory",
        }
    }
}

/// What went wrong.
#[derive(Clone, Debug, Error)]
pub(crate) enum Problem {
    /// S3 answers, but with a refusal.
    #[error("{} is refused: {refusal}", asked.text())]
    Refused { asked: Asked, refusal: Refusal },
    /// There is no answer, or no end of one.
    #[error("{}: {cause}", asked.text())]
    Connection { asked: Asked, cause: String },
    /// Nobody gives credentials.
    #[error("there are no credentials; they were looked for at {looked}: {cause}")]
    Credentials { looked: &'static str, cause: String },
    /// The certificates that are to be trusted cannot be read.
    #[error("AWS_CA_BUNDLE={path}: {cause}")]
    Certificates { path: String, cause: String },
    /// There are no objects directly below the prefix.
    #[error("{0}")]
    Nothing(Nothing),
    /// There are objects, but no weights.
    #[error(
        "it has neither safetensors nor pytorch_model*.bin nor GGUF files, only {}",
        some_of(files)
    )]
    NoWeights { files: Vec<String> },
    /// It cannot be told which GGUF file is to be served.
    #[error(transparent)]
    Gguf(Unclear),
    /// An object is not the one that was listed any more.
    #[error("{file} has changed while it was fetched")]
    Changed { file: String },
    /// Settings were read at another time than the listing, or not at all.
    #[error("its serving.properties {0}")]
    Settings(&'static str),
    /// The disk is too small.
    #[error("{path} has {free} MiB left, and {needed} MiB have to be fetched")]
    Space {
        path: String,
        free: u64,
        needed: u64,
    },
    /// The cache cannot be read or written.
    #[error("{path}: {cause}")]
    Cache { path: String, cause: String },
    /// There is no place for headers.
    #[error("{0}")]
    Headers(String),
    /// Loading was given up while somebody still waited for bytes.
    #[error("the model is no longer wanted")]
    Abandoned,
    /// The thread that waits for S3 cannot be set up.
    #[error("waiting for S3 is not possible: {0}")]
    Runtime(String),
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Listing,
    Object(String),
}

impl Asked {
    fn text(&self) -> String {
        match self {
            Self::Listing => "listing its objects".into(),
            Self::Object(name) => format!("fetching {name}"),
        }
    }
}

impl Problem {
    pub(crate) fn of_store(asked: Asked, error: &StoreError) -> Self {
        match (Refusal::within(error), error, asked) {
            (Some(refusal), _, Asked::Object(file)) if refusal.code == "PreconditionFailed" => {
                Self::Changed { file }
            }
            (None, StoreError::Precondition { .. }, Asked::Object(file)) => Self::Changed { file },
            (Some(refusal), _, asked) => Self::Refused {
                asked,
                refusal: refusal.clone(),
            },
            (None, error, asked) => Self::Connection {
                asked,
                cause: innermost(error),
            },
        }
    }

    /// An error of whoever gives credentials.
    pub(crate) fn of_credentials(looked: Credentials, error: &StoreError) -> Self {
        Self::Credentials {
            looked: looked.place(),
            cause: innermost(error),
        }
    }

    pub(crate) fn cache(path: &Path, cause: &std::io::Error) -> Self {
        Self::Cache {
            path: path.display().to_string(),
            cause: cause.to_string(),
        }
    }

    pub(crate) fn unclear(unclear: Unclear, files: &[&str]) -> Self {
        match unclear {
            Unclear::NoWeights => Self::no_weights(files),
            other => Self::Gguf(other),
        }
    }

    /// Somebody wants a file that is not there.
    pub(crate) fn unlisted(name: &str) -> Self {
        Self::Connection {
            asked: Asked::Object(name.into()),
            cause: "the listing does not name it".into(),
        }
    }

    /// Headers cannot be laid out: what S3 says, or the disk.
    pub(crate) fn of_headers(error: ManagerError) -> Self {
        match error {
            ManagerError::S3(error) => error.problem,
            other => Self::Headers(other.to_string()),
        }
    }

    fn no_weights(files: &[&str]) -> Self {
        let files = files.iter().map(|name| (*name).to_owned()).collect();
        Self::NoWeights { files }
    }

    /// The region in which the bucket is, if S3 was asked in another one.
    pub(crate) fn right_region(&self) -> Option<&str> {
        match self {
            Self::Refused { refusal, .. } if matches!(refusal.status, 301 | 307 | 400) => {
                refusal.region.as_deref()
            }
            _ => None,
        }
    }

    /// Whether it says nothing about the objects, so that those fetched before may serve.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => refusal.is_passing(),
            Self::Connection { .. } => true,
            _ => false,
        }
    }

    fn cure(&self, model: &S3Model) -> String {
        match self {
            Self::Refused { asked, refusal } => cure_of_refusal(asked, refusal, model),
            Self::Connection { .. } => {
                "check the way to S3: AWS_ENDPOINT_URL, HTTPS_PROXY, a VPC endpoint or NAT; with \
                 network isolation there is none, let SageMaker put the files into /opt/ml/model \
                 (ModelDataSource)"
                    .into()
            }
            Self::Credentials { .. } => match model.variable("AWS_PROFILE") {
                Some(profile) => format!(
                    "profiles are not read: make variables of it with `aws configure \
                     export-credentials --profile {profile} --format env`"
                ),
                None => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the instance or \
                         container a role; AWS_SKIP_SIGNATURE=true does without, for public \
                         buckets"
                    .into(),
            },
            Self::Abandoned => "register the model again if it is wanted".into(),
            Self::Certificates { .. } => "name a file of certificates in PEM form".into(),
            Self::Nothing(nothing) => nothing.cure(),
            Self::NoWeights { files } if files.iter().any(|name| is_archive(name)) => UNPACK.into(),
            Self::NoWeights { .. } => {
                "name the prefix of a checkpoint of transformers, unpacked".into()
            }
            Self::Gguf(_) => "set it to the name of a file directly below the prefix".into(),
            Self::Changed { .. } | Self::Settings(_) => {
                "start again when nobody writes there any more".into()
            }
            Self::Space { .. } | Self::Cache { .. } => {
                "set SERVING_DOWNLOAD_DIR to a directory with room that can be written".into()
            }
            Self::Headers(_) => "headers are read from files".into(),
            Self::Runtime(_) => "raise the limit of threads".into(),
        }
    }
}

fn cure_of_refusal(asked: &Asked, refusal: &Refusal, model: &S3Model) -> String {
    let (bucket, prefix) = (&model.bucket, &model.prefix);
    let who = Credentials::of(model).place();
    match refusal.code.as_str() {
        "NoSuchBucket" => "check the name of the bucket, and AWS_ENDPOINT_URL if it is not on \
                           AWS"
        .into(),
        "NoSuchKey" => "start again: it was listed, and has been removed meanwhile".into(),
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            format!("the credentials are too old: get new ones ({who}) and start again")
        }
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
            format!("the credentials are wrong: check them ({who})")
        }
        "RequestTimeTooSkewed" => {
            "set the clock of this machine: S3 allows it to be 15 minutes off".into()
        }
        "InvalidObjectState" => "the object is in an archive (Glacier): restore it with `aws \
                                 s3api restore-object`, or copy it to the class STANDARD"
            .into(),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" => match &refusal.region {
            Some(region) => format!("set AWS_REGION={region}"),
            None => "set AWS_REGION to the region of the bucket".into(),
        },
        _ if refusal.status == 403 => {
            let below = match prefix.as_str() {
                "" => "*".into(),
                prefix => format!("{prefix}/*"),
            };
            let needed = match asked {
                Asked::Listing => format!("s3:ListBucket on arn:aws:s3:::{bucket}"),
                Asked::Object(_) => format!(
                    "s3:GetObject on arn:aws:s3:::{bucket}/{below}, and kms:Decrypt if the \
                     objects are encrypted with a key of KMS"
                ),
            };
            format!("the credentials ({who}) need the permission {needed}")
        }
        _ if refusal.is_passing() => "try again later".into(),
        _ => "the documentation of S3 explains the code among its error responses".into(),
    }
}

/// What is at the bottom of an error: what wraps it repeats times and counts.
fn innermost(error: &StoreError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The first names of a list.
pub(crate) fn some_of(names: &[String]) -> String {
    const MOST: usize = 12;
    match names.len() {
        0 => "nothing at all".into(),
        all if all > MOST => format!("{} and {} more", names[..MOST].join(", "), all - MOST),
        _ => names.join(", "),
    }
}
