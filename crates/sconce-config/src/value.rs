//! Parsers of single values. Errors say what is allowed; who calls adds key, value and place.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::nearest::nearest;

/// Why a value is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It has no meaning: what it must be.
    Invalid(String),
    /// It has a meaning that is not served: why, and what to do instead.
    Unsupported(String),
}

pub(crate) type Value<T> = Result<T, Rejection>;

/// Stores a parsed value in its place.
pub(crate) fn put<T>(slot: &mut T, value: Value<T>) -> Value<()> {
    value.map(|value| *slot = value)
}

/// Any text but an empty one.
pub(crate) fn text(value: &str) -> Value<String> {
    match value {
        "" => Err(Rejection::Invalid("must not be empty".into())),
        value => Ok(value.into()),
    }
}

/// Booleans as pydantic, and so every Python handler of DJL Serving, reads them.
pub(crate) fn flag(value: &str) -> Value<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "y" | "t" => Ok(true),
        "false" | "0" | "no" | "off" | "n" | "f" => Ok(false),
        _ => Err(Rejection::Invalid("must be true or false".into())),
    }
}

/// A whole number within limits.
pub(crate) fn count(value: &str, limits: RangeInclusive<usize>) -> Value<usize> {
    let (first, last) = (*limits.start(), *limits.end());
    let number = value.parse().ok().filter(|number| limits.contains(number));
    number
        .ok_or_else(|| Rejection::Invalid(format!("must be a whole number from {first} to {last}")))
}

/// `auto`, that is `None`, or what another parser reads.
pub(crate) fn auto_or<T>(value: &str, parse: impl FnOnce(&str) -> Value<T>) -> Value<Option<T>> {
    if value == "auto" {
        return Ok(None);
    }
    parse(value).map(Some).map_err(|rejection| match rejection {
        Rejection::Invalid(must) => Rejection::Invalid(format!("{must}, or auto")),
        unsupported @ Rejection::Unsupported(_) => unsupported,
    })
}

/// Seconds, at least 1 and at most a week.
pub(crate) fn seconds(value: &str) -> Value<Duration> {
    let seconds = count(value, 1..=604_800).map_err(|_| {
        Rejection::Invalid("must be a number of seconds, whole, from 1 to 604800".into())
    })?;
    Ok(Duration::from_secs(seconds as u64))
}

/// Bytes: a whole number, alone or with kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB.
pub(crate) fn bytes(value: &str) -> Value<u64> {
    let digits = value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let unit: Option<u64> = match unit.trim_start() {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "TB" => Some(1_000_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1 << 40),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    let product = number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit));
    product.filter(|&bytes| bytes > 0).ok_or_else(|| {
        Rejection::Invalid("must be a number of bytes such as 536870912, 512MiB or 2GB".into())
    })
}

/// One of a list of words.
pub(crate) fn word<T: Copy>(value: &str, words: &[(&str, T)]) -> Value<T> {
    let found = words.iter().find(|(word, _)| *word == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let guess = guess(value, words.iter().copied());
        Rejection::Invalid(format!("must be one of {}{guess}", words.join(", ")))
    })
}

/// The end of a message that proposes the words nearest to a wrong one; empty if none is near.
pub(crate) fn guess<'a>(value: &str, words: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(value, words).as_slice() {
        [] => String::new(),
        words => format!("; did you mean {}?", words.join(" or ")),
    }
}

/// Texts as Python writes a list of them, `['a', "b"]`, which includes how JSON does.
pub(crate) fn text_list(value: &str) -> Value<Vec<String>> {
    let must = || Rejection::Invalid("must be a list of texts, such as ['a', 'b']".into());
    let inner = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
    let mut rest = inner.ok_or_else(must)?.trim();
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let (text, after) = quoted(rest).ok_or_else(must)?;
        texts.push(text);
        rest = match after.trim_start().strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.trim().is_empty() => "",
            None => return Err(must()),
        };
    }
    if texts.iter().any(String::is_empty) {
        return Err(Rejection::Invalid("must not hold an empty text".into()));
    }
    Ok(texts)
}

/// A text in quotes at the beginning, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut inner = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => inner.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            c if c == quote => return Some((inner, &text[at + c.len_utf8()..])),
            c => inner.push(c),
        }
    }
    None
}

/// A port; 0 stands for a free one.
pub(crate) fn port(value: &str) -> Value<u16> {
    let must = || Rejection::Invalid("must be a port from 0 to 65535".into());
    value.parse().map_err(|_| must())
}

/// The status of an answer that is final.
pub(crate) fn http_status(value: &str) -> Value<u16> {
    let status = value.parse().ok().filter(|n| (200..=599).contains(n));
    status.ok_or_else(|| Rejection::Invalid("must be an HTTP status from 200 to 599".into()))
}

/// The value of an HTTP header (RFC 9110): visible ASCII and blanks within.
pub(crate) fn header_value(value: &str) -> Value<String> {
    if value.is_empty() || !value.bytes().all(|b| matches!(b, b' '..=b'~')) {
        let must = "must be the value of a header: ASCII, not empty";
        return Err(Rejection::Invalid(must.into()));
    }
    Ok(value.into())
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_https: bool,
}

/// `http://host:port` or `https://host:port`.
pub(crate) fn address(value: &str) -> Value<Address> {
    let must = || Rejection::Invalid("must be an address such as http://0.0.0.0:8080".into());
    if value.starts_with("unix:") {
        let cure = "only TCP is served; use http://host:port";
        return Err(Rejection::Unsupported(cure.into()));
    }
    let is_https = value.starts_with("https://");
    let (scheme, usual) = match is_https {
        true => ("https://", "443"),
        false => ("http://", "80"),
    };
    let authority = value.strip_prefix(scheme).ok_or_else(must)?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, usual));
    // The brackets of an IPv6 address belong to the URL, not to the address.
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() || host.contains(['/', '[', ']', '@', ' ']) {
        return Err(must());
    }
    Ok(Address {
        host: host.into(),
        port: port.parse().map_err(|_| must())?,
        is_https,
    })
}

/// An `http://` or `https://` URL, without the slashes at its end.
pub(crate) fn url(value: &str) -> Value<String> {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| value.strip_prefix(scheme));
    let is_url = |rest: &str| !rest.starts_with('/') && !rest.is_empty() && !rest.contains(' ');
    if !rest.is_some_and(is_url) {
        let must = "must be a URL such as https://huggingface.co";
        return Err(Rejection::Invalid(must.into()));
    }
    Ok(value.trim_end_matches('/').into())
}

/// The name of an HTTP header (RFC 9110, `token`).
pub(crate) fn header(value: &str) -> Value<String> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if value.is_empty() || !value.chars().all(is_token) {
        let must = "must be the name of a header: letters, digits and hyphens";
        return Err(Rejection::Invalid(must.into()));
    }
    Ok(value.into())
}

/// The level of a log as a word, or as Python's number (10 debug to 50 critical).
pub(crate) fn log_level(value: &str) -> Value<String> {
    let level = match value.to_ascii_lowercase().as_str() {
        "trace" | "all" => "trace",
        "debug" | "10" => "debug",
        "info" | "20" => "info",
        "warn" | "warning" | "30" => "warn",
        "error" | "fatal" | "critical" | "40" | "50" => "error",
        "off" => "off",
        _ => {
            let must = "must be trace, debug, info, warn, error or off, or 10, 20, 30, 40, 50";
            return Err(Rejection::Invalid(must.into()));
        }
    };
    Ok(level.into())
}

/// The level within the options of a Java virtual machine, which may be quoted as a whole.
pub(crate) fn java_log_level(value: &str) -> Value<Option<String>> {
    let words = value.split([' ', '"', '\'']);
    let level = words
        .filter_map(|word| word.strip_prefix("-Dai.djl.logging.level="))
        .next_back();
    level.map(log_level).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_know_both_kinds_of_units() {
        assert_eq!(bytes("1000"), Ok(1000));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("2 GB"), Ok(2_000_000_000));
        for wrong in [
            "",
            "0",
            "MiB",
            "-1",
            "1.5GB",
            "9TiBs",
            "99999999999999999999",
            "20000000TiB",
        ] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_outside_of_their_limits_name_them() {
        assert_eq!(count("7", 1..=7), Ok(7));
        for wrong in [
            "0",
            "8",
            "-1",
            "1.0",
            "",
            "seven",
            "99999999999999999999999",
        ] {
            let Err(Rejection::Invalid(must)) = count(wrong, 1..=7) else {
                panic!("{wrong}")
            };
            assert!(must.contains("from 1 to 7"), "{must}");
        }
    }

    #[test]
    fn lists_are_read_as_python_and_json_write_them() {
        let read = |value| text_list(value).unwrap();
        assert_eq!(read("['a','b, c']"), ["a", "b, c"]);
        assert_eq!(read("[ \"a\" , 'it\\'s',]"), ["a", "it's"]);
        assert_eq!(read("['\\n\\n']"), ["\n\n"]);
        assert_eq!(read("[]"), [""; 0]);
        for wrong in ["a", "[a]", "['a' 'b']", "['a", "['']", "['a'"] {
            assert!(text_list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_nearest() {
        let words = [("fp16", ()), ("bf16", ()), ("auto", ())];
        let Err(Rejection::Invalid(must)) = word("pf16", &words) else {
            panic!("it is not listed")
        };
        assert!(must.contains("did you mean"), "{must}");
        assert!(must.contains("fp16"), "{must}");
    }

    #[test]
    fn statuses_and_headers_have_their_limits() {
        assert_eq!(http_status("424"), Ok(424));
        assert!(http_status("99").is_err() && http_status("600").is_err());
        assert_eq!(header_value("GET, POST"), Ok("GET, POST".into()));
        assert!(header_value("a\r\nb").is_err());
    }

    #[test]
    fn addresses_give_host_and_port() {
        let found = |text: &str| {
            let address = address(text).unwrap();
            (address.host, address.port, address.is_https)
        };
        for (text, host, port, is_https) in [
            ("http://127.0.0.1:8081", "127.0.0.1", 8081, false),
            ("http://[::1]:80/", "::1", 80, false),
            ("http://localhost", "localhost", 80, false),
            ("https://[::1]:8443", "::1", 8443, true),
            ("https://localhost/", "localhost", 443, true),
        ] {
            assert_eq!(found(text), (host.into(), port, is_https), "{text}");
        }
        for wrong in [
            "8080",
            "0.0.0.0:8080",
            "http://:80",
            "http://a:70000",
            "http://a:80/path",
        ] {
            assert!(
                matches!(address(wrong), Err(Rejection::Invalid(_))),
                "{wrong}"
            );
        }
        assert!(matches!(
            address("unix:/tmp/s"),
            Err(Rejection::Unsupported(_))
        ));
    }

    #[test]
    fn urls_have_a_scheme_and_a_host() {
        assert_eq!(
            url("https://hub.example/"),
            Ok("https://hub.example".into())
        );
        for wrong in [
            "hub.example",
            "ftp://hub",
            "http://",
            "http:///x",
            "http://a b",
        ] {
            assert!(matches!(url(wrong), Err(Rejection::Invalid(_))), "{wrong}");
        }
    }

    #[test]
    fn the_level_is_found_among_java_s_options() {
        let level = |text| java_log_level(text).unwrap();
        assert_eq!(
            level("\"-Dai.djl.logging.level=fatal\"").as_deref(),
            Some("error")
        );
        assert_eq!(
            level("-Xmx4g -Dai.djl.logging.level=debug").as_deref(),
            Some("debug")
        );
        assert_eq!(level("-Xmx4g"), None);
        assert!(java_log_level("-Dai.djl.logging.level=loud").is_err());
    }
}
