//! Typed messages as text: an object with one member, whose name is the type's.

use std::{fmt, marker::PhantomData};

use serde::{Deserializer, Serializer};
use serde::{
    Serialize,
    de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor},
    ser::SerializeMap,
};

/// Returns the name at the beginning of a text that may be a typed message.
pub(super) fn name(text: &str) -> Option<&str> {
    let text = text.trim_ascii_start().strip_prefix('{')?.trim_ascii_start().strip_prefix('"')?;
    // No name needs an escape.
    text.split_once('"').map(|(name, _)| name)
}

pub(super) fn write<T: Serialize>(out: &mut Vec<u8>, name: &str, message: &T) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(out);
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(name, message)?;
    map.end()
}

/// Reads a text which [`name`] has taken for one of this name.
pub(super) fn read<T: DeserializeOwned>(text: &[u8], name: &str) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let message = deserializer.deserialize_map(OneMember { name, of: PhantomData })?;
    deserializer.end()?;
    Ok(message)
}

struct OneMember<'a, T> {
    name: &'a str,
    of: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> Visitor<'de> for OneMember<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the one member `{}`", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let wrong = || A::Error::custom(format_args!("not one member `{}`", self.name));
        let (_, message) = map.next_entry::<IgnoredAny, T>()?.ok_or_else(wrong)?;
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(wrong());
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_recognised_and_read() {
        let mut text = Vec::new();
        write(&mut text, "Score", &(3, "größe")).unwrap();
        assert_eq!(text, r#"{"Score":[3,"größe"]}"#.as_bytes());
        assert_eq!(name(std::str::from_utf8(&text).unwrap()), Some("Score"));
        assert_eq!(read::<(u8, String)>(&text, "Score").unwrap(), (3, "größe".to_owned()));
        assert_eq!(name(" {\n \"Score\" : 1 }"), Some("Score"));
        assert_eq!(read::<u8>(b" {\n \"Score\" : 1 }", "Score").unwrap(), 1);
    }

    #[test]
    fn other_texts_have_no_name_or_cannot_be_read() {
        for text in ["", "hello", "{}", "[\"Score\"]", "\"Score\"", "{\"Score", "{1:2}"] {
            assert_eq!(name(text), None, "{text}");
        }
        for text in [r#"{"Score":1,"Score":2}"#, r#"{"Score":1} x"#, r#"{"Score":256}"#, r#"{"Score":"#, r#"{"Score"}"#]
        {
            assert!(read::<u8>(text.as_bytes(), "Score").is_err(), "{text}");
        }
    }
}
