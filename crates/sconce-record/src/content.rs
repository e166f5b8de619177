//! Bytes in JSON: as text where they are UTF-8, so that people can read a recording, else in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The bytes of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Spelled {
    Text(String),
    Base64(String),
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => Spelled::Text(text.to_owned()),
            Err(_) => Spelled::Base64(STANDARD.encode(&self.0)),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Spelled::deserialize(deserializer)? {
            Spelled::Text(text) => Ok(Self(text.into_bytes())),
            Spelled::Base64(text) => STANDARD.decode(text).map(Self).map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_went_and_texts_can_be_read() {
        for bytes in [
            &b""[..],
            b"{\"inputs\": \"a\"}",
            "Grüße 🕯\0".as_bytes(),
            &[0x89, b'P', 0xff],
        ] {
            let content = Content(bytes.to_vec());
            let json = serde_json::to_string(&content).unwrap();
            assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
            assert_eq!(
                json.contains("text"),
                str::from_utf8(bytes).is_ok(),
                "{json}"
            );
        }
        assert!(serde_json::from_str::<Content>(r#"{"base64": "?"}"#).is_err());
    }
}
