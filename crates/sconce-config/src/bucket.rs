//! Models below a prefix of an S3 bucket: their URLs, and what is needed to get them. Fetches
//! nothing: that is the manager's.

use std::path::PathBuf;

use crate::draft::Draft;
use crate::environment::Environment;
use crate::location;
use crate::settings::{PrefixSettings, S3Model};

/// How S3 is asked and where its objects are put, before a model is known.
#[derive(Clone, Default)]
pub(crate) struct BucketAccess {
    /// All `AWS_*` of the environment.
    variables: Vec<(String, String)>,
    /// `SERVING_DOWNLOAD_DIR`.
    pub(crate) download_dir: Option<PathBuf>,
    /// `DJL_CACHE_DIR`.
    pub(crate) djl_cache: Option<PathBuf>,
    /// Where objects are put if nobody says so, best first.
    usual: Vec<PathBuf>,
}

impl BucketAccess {
    pub(crate) fn of(environment: &Environment) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let variables = environment.iter().filter(|(name, _)| is_of_aws(name));
        let home = environment.get("HOME").map(PathBuf::from);
        // A container with a root that can only be read still has a place for temporary files.
        let temporary = PathBuf::from(environment.get("TMPDIR").unwrap_or("/tmp"));
        let usual = home.map(|home| home.join(".cache/sconce")).into_iter();
        Self {
            variables: variables.map(owned).collect(),
            usual: usual.chain([temporary.join("sconce")]).collect(),
            ..Self::default()
        }
    }

    /// Directories for what is fetched or unpacked; the first one that can be written counts.
    pub(crate) fn caches(&self) -> Vec<PathBuf> {
        match self.download_dir.as_ref().or(self.djl_cache.as_ref()) {
            Some(named) => vec![named.clone()],
            None => self.usual.clone(),
        }
    }
}

fn is_of_aws(name: &str) -> bool {
    name.starts_with("AWS_")
}

/// What a bucket holds directly below a prefix, as far as settings depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketFolder {
    /// Names of the objects, without the prefix.
    pub files: Vec<String>,
    /// The object `serving.properties`.
    pub properties: Option<BucketFile>,
}

impl BucketFolder {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }
}

/// The bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketFile {
    /// All of them.
    pub bytes: Vec<u8>,
    /// The entity tag that S3 gave with them.
    pub etag: String,
}

/// Whether a name is meant as a place in S3.
pub(crate) fn is_url(name: &str) -> bool {
    name.starts_with("s3://")
}

/// Bucket and prefix of `s3://bucket/prefix/`; the prefix has no slash at its ends and may be
/// empty. The error says what the URL must be.
pub(crate) fn parse(url: &str) -> Result<(String, String), String> {
    let rest = url.strip_prefix("s3://").unwrap_or_default();
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("must have the form s3://bucket/prefix/, and it names no bucket".into());
    }
    if bucket.starts_with("arn:") {
        return Err(
            "must name a bucket, or the alias of an access point instead of its ARN".into(),
        );
    }
    if !is_bucket_name(bucket) {
        return Err(format!(
            "must have the form s3://bucket/prefix/, and {bucket} is no name of a bucket: 3 to 63 \
             small letters, digits, hyphens and dots, with a letter or digit at both ends"
        ));
    }
    let prefix = prefix.trim_matches('/');
    let is_segment = |part: &str| !matches!(part, "" | "." | "..");
    if !prefix.is_empty() && !prefix.split('/').all(is_segment) {
        return Err("must have no empty part, no . and no .. between the slashes".into());
    }
    if prefix.contains(['*', '?']) {
        return Err("must be one prefix, without wildcards: all objects below it are meant".into());
    }
    Ok((bucket.into(), prefix.into()))
}

/// The rules of S3 for names of buckets.
fn is_bucket_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_inner = |c: char| is_plain(c) || matches!(c, '-' | '.');
    (3..=63).contains(&name.len())
        && name.starts_with(is_plain)
        && name.ends_with(is_plain)
        && name.chars().all(is_inner)
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

/// The model at a URL.
pub(crate) fn model(url: &str, settings: PrefixSettings, draft: &Draft) -> Result<S3Model, String> {
    let (bucket, prefix) = parse(url)?;
    Ok(S3Model {
        bucket,
        prefix,
        settings,
        variables: draft.bucket_access.variables.clone(),
        caches: draft.bucket_access.caches(),
        gguf_file: draft.model.gguf_file.clone(),
        all: false,
    })
}

/// The last part of the prefix, else the bucket: what a model there is called.
pub(crate) fn last_part(url: &str) -> &str {
    let path = url.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

/// A script among the objects that is taken without being named.
pub(crate) fn script(url: &str, folder: &BucketFolder) -> Option<PathBuf> {
    let mut names = location::script_names(Some(last_part(url)));
    let found = names.find(|name| folder.files.contains(name))?;
    Some(inside(url, &found))
}

/// The name of an object, for messages.
pub(crate) fn inside(url: &str, name: &str) -> PathBuf {
    format!("{}/{name}", url.trim_end_matches('/')).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_bucket_and_perhaps_a_prefix() {
        let parts = |url: &str| parse(url).map(|(bucket, prefix)| format!("{bucket}|{prefix}"));
        assert_eq!(parts("s3://my-bucket/a/b/"), Ok("my-bucket|a/b".into()));
        assert_eq!(parts("s3://my-bucket/a"), Ok("my-bucket|a".into()));
        assert_eq!(parts("s3://my.bucket"), Ok("my.bucket|".into()));
        assert_eq!(parts("s3://my-bucket/"), Ok("my-bucket|".into()));
        assert_eq!(last_part("s3://my-bucket/a/gpt-j/"), "gpt-j");
        assert_eq!(last_part("s3://my-bucket"), "my-bucket");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        for (url, says) in [
            ("s3://", "names no bucket"),
            ("s3:///a", "names no bucket"),
            ("s3://My_Bucket/a", "My_Bucket is no name of a bucket"),
            ("s3://ab/c", "3 to 63"),
            ("s3://-ab/c", "at both ends"),
            ("s3://10.0.0.1/c", "10.0.0.1 is no name"),
            ("s3://a..b/c", "is no name"),
            ("s3://arn:aws:s3:eu-west-1:1:accesspoint/x", "access point"),
            ("s3://bucket/a//b", "no empty part"),
            ("s3://bucket/a/../b", "no .."),
            ("s3://bucket/a/*", "wildcards"),
        ] {
            let problem = parse(url).unwrap_err();
            assert!(problem.contains(says), "{url}: {problem}");
        }
    }
}
