//! The part of the table that says how models are fetched from S3: the environment variables of
//! the AWS SDKs, and where fetched objects are put.

use super::ENVIRONMENT;
use crate::entry::{Entry, Status, Variable::Fills};
use crate::kind::Kind;
use crate::value::{Rejection, Value, flag, put, text, url};

/// Every option of S3.
pub(super) const S3: &[Entry] = &[
    Entry {
        key: "SERVING_DOWNLOAD_DIR",
        variables: &[Fills("SERVING_DOWNLOAD_DIR")],
        kind: Kind::Path,
        since: "0.21",
        doc: "Directory of download, where models from S3 are put; unset: DJL_CACHE_DIR, else \
              ~/.cache/sconce, else sconce among the temporary files. Models of the hub lie in \
              HF_HUB_CACHE.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.bucket_access.download_dir,
                text(v).map(|dir| Some(dir.into())),
            )
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "DJL_CACHE_DIR",
        variables: &[Fills("DJL_CACHE_DIR"), Fills("ENGINE_CACHE_DIR")],
        kind: Kind::Path,
        doc: "Directory of download, where SERVING_DOWNLOAD_DIR says nothing.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.bucket_access.djl_cache,
                text(v).map(|dir| Some(dir.into())),
            )
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "AWS_REGION",
        variables: &[Fills("AWS_REGION")],
        doc: "Region of the bucket; a wrong one costs a second request. AWS_DEFAULT_REGION counts \
              where it is unset, then us-east-1.",
        ..REGION
    },
    Entry {
        key: "AWS_DEFAULT_REGION",
        variables: &[Fills("AWS_DEFAULT_REGION")],
        doc: "AWS_REGION, where that is unset.",
        ..REGION
    },
    Entry {
        key: "AWS_ENDPOINT_URL",
        variables: &[Fills("AWS_ENDPOINT_URL")],
        doc: "Address of a service that speaks S3, such as MinIO, or of a VPC endpoint.",
        ..ADDRESS
    },
    Entry {
        key: "AWS_ENDPOINT_URL_S3",
        variables: &[Fills("AWS_ENDPOINT_URL_S3")],
        doc: "The same for S3 only; wins over AWS_ENDPOINT_URL.",
        ..ADDRESS
    },
    Entry {
        key: "AWS_USE_FIPS_ENDPOINT",
        variables: &[Fills("AWS_USE_FIPS_ENDPOINT")],
        doc: "Whether S3 is asked at its FIPS endpoint.",
        ..FLAG
    },
    Entry {
        key: "AWS_USE_DUALSTACK_ENDPOINT",
        variables: &[Fills("AWS_USE_DUALSTACK_ENDPOINT")],
        doc: "Whether S3 is asked at its endpoint for IPv4 and IPv6.",
        ..FLAG
    },
    Entry {
        key: "AWS_CA_BUNDLE",
        variables: &[Fills("AWS_CA_BUNDLE")],
        kind: Kind::Path,
        doc: "File of certificates in PEM form that are trusted instead of the public ones.",
        ..TEXT
    },
    Entry {
        key: "AWS_ACCESS_KEY_ID",
        variables: &[Fills("AWS_ACCESS_KEY_ID")],
        doc: "Key of S3; with AWS_SECRET_ACCESS_KEY it wins over all other credentials.",
        secret: true,
        ..TEXT
    },
    Entry {
        key: "AWS_SECRET_ACCESS_KEY",
        variables: &[Fills("AWS_SECRET_ACCESS_KEY")],
        doc: "The secret of AWS_ACCESS_KEY_ID.",
        secret: true,
        ..TEXT
    },
    Entry {
        key: "AWS_SESSION_TOKEN",
        variables: &[Fills("AWS_SESSION_TOKEN")],
        doc: "The session of a key that is temporary.",
        secret: true,
        ..TEXT
    },
    Entry {
        key: "AWS_WEB_IDENTITY_TOKEN_FILE",
        variables: &[Fills("AWS_WEB_IDENTITY_TOKEN_FILE")],
        kind: Kind::Path,
        doc: "Token that AWS_ROLE_ARN is assumed with, as Kubernetes mounts it.",
        ..TEXT
    },
    Entry {
        key: "AWS_ROLE_ARN",
        variables: &[Fills("AWS_ROLE_ARN")],
        doc: "Role that AWS_WEB_IDENTITY_TOKEN_FILE stands for.",
        ..TEXT
    },
    Entry {
        key: "AWS_ROLE_SESSION_NAME",
        variables: &[Fills("AWS_ROLE_SESSION_NAME")],
        doc: "Name under which AWS_ROLE_ARN is assumed.",
        ..TEXT
    },
    Entry {
        key: "AWS_ENDPOINT_URL_STS",
        variables: &[Fills("AWS_ENDPOINT_URL_STS")],
        doc: "Address of the service at which AWS_ROLE_ARN is assumed.",
        ..ADDRESS
    },
    Entry {
        key: "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        variables: &[Fills("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")],
        doc: "Where SageMaker and ECS give the credentials of the container's role.",
        secret: true,
        ..TEXT
    },
    Entry {
        key: "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        variables: &[Fills("AWS_CONTAINER_CREDENTIALS_FULL_URI")],
        doc: "Where EKS gives the credentials of the pod; needs \
              AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE.",
        ..ADDRESS
    },
    Entry {
        key: "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        variables: &[Fills("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")],
        kind: Kind::Path,
        doc: "Token for AWS_CONTAINER_CREDENTIALS_FULL_URI.",
        ..TEXT
    },
    Entry {
        key: "AWS_EC2_METADATA_DISABLED",
        variables: &[Fills("AWS_EC2_METADATA_DISABLED")],
        doc: "Whether the instance is not asked for the credentials of its role.",
        ..FLAG
    },
    Entry {
        key: "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        variables: &[Fills("AWS_EC2_METADATA_SERVICE_ENDPOINT")],
        doc: "Where the instance is asked for the credentials of its role.",
        ..ADDRESS
    },
    Entry {
        key: "AWS_SKIP_SIGNATURE",
        variables: &[Fills("AWS_SKIP_SIGNATURE")],
        doc: "Whether requests are sent without credentials, for buckets that everybody may read.",
        ..FLAG
    },
    Entry {
        key: "AWS_REQUEST_PAYER",
        variables: &[Fills("AWS_REQUEST_PAYER")],
        doc: "Whether the requests are paid for, where the bucket's owner wants that.",
        ..FLAG
    },
    Entry {
        key: "AWS_PROFILE",
        variables: &[Fills("AWS_PROFILE")],
        doc: "A profile of the files of the AWS command line.",
        status: Status::NoOp(PROFILES),
        ..ENVIRONMENT
    },
    Entry {
        key: "AWS_CONFIG_FILE",
        variables: &[Fills("AWS_CONFIG_FILE")],
        kind: Kind::Path,
        doc: "Settings of the AWS command line.",
        status: Status::NoOp(PROFILES),
        ..ENVIRONMENT
    },
    Entry {
        key: "AWS_SHARED_CREDENTIALS_FILE",
        variables: &[Fills("AWS_SHARED_CREDENTIALS_FILE")],
        kind: Kind::Path,
        doc: "Credentials of the AWS command line.",
        status: Status::NoOp(PROFILES),
        ..ENVIRONMENT
    },
];

const PROFILES: &str = "profiles are not read; `aws configure export-credentials --format env` \
                        makes variables of one, which are";

// These variables go to the client of S3 as they are, so their values are only checked.
const TEXT: Entry = Entry {
    status: Status::Honoured(|_, v| text(v).map(drop)),
    ..ENVIRONMENT
};
const FLAG: Entry = Entry {
    kind: Kind::Flag,
    status: Status::Honoured(|_, v| flag(v).map(drop)),
    ..ENVIRONMENT
};
const ADDRESS: Entry = Entry {
    kind: Kind::Url,
    status: Status::Honoured(|_, v| url(v).map(drop)),
    ..ENVIRONMENT
};
const REGION: Entry = Entry {
    status: Status::Honoured(|_, v| region(v)),
    ..ENVIRONMENT
};

fn region(value: &str) -> Value<()> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if value.is_empty() || !value.chars().all(is_plain) {
        let must = "must be a region such as eu-west-1";
        return Err(Rejection::Invalid(must.into()));
    }
    Ok(())
}
