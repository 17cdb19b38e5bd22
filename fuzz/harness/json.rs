//! The relay's own JSON against `serde_json`, with JavaScript's order of members on top.

use std::{collections::HashMap, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use uhst_relay::internals::{rewrite_json, write_number};

pub fn run(bytes: &[u8]) {
    if let Some(bits) = bytes.first_chunk() {
        number(f64::from_le_bytes(*bits));
    }
    let text = String::from_utf8_lossy(bytes);
    let read = serde_json::from_str::<Node>(&text);
    let Some(out) = rewrite_json(&text) else {
        assert!(!matches!(read, Ok(Node::List(_) | Node::Map(_))), "refused");
        return;
    };
    let out = String::from_utf8(out).expect("JSON is text");
    assert_eq!(rewrite_json(&out).as_deref(), Some(out.as_bytes()), "not stable");
    match read {
        Ok(read) => {
            let written = serde_json::from_str::<Node>(&out).expect("what was read before");
            assert!(same(&written, &read.arranged()), "{out}");
        }
        // What JavaScript reads and Rust cannot.
        Err(error) => {
            let error = error.to_string();
            let known = ["recursion limit", "number out of range", "surrogate", "hex escape"];
            assert!(known.iter().any(|known| error.contains(known)), "{error}, but passed on as {out}");
        }
    }
}

fn number(number: f64) {
    let text = write_number(number);
    if number.is_finite() {
        assert_eq!(text.parse(), Ok(number));
        assert!(text.len() <= 25, "{text}");
        let list = format!("[{text}]");
        assert_eq!(rewrite_json(&list).as_deref(), Some(list.as_bytes()));
    } else {
        assert_eq!(text, "null");
    }
}

/// JSON as `serde_json` reads it, with all members of an object as they come.
#[derive(Clone, Debug)]
enum Node {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// As JavaScript keeps it: of a member that comes twice, the place of the first and the value of the last; members
    /// whose names are array indexes first.
    fn arranged(self) -> Self {
        match self {
            Node::List(items) => Node::List(items.into_iter().map(Node::arranged).collect()),
            Node::Map(members) => {
                let mut places = HashMap::new();
                let mut arranged: Vec<(String, Node)> = Vec::new();
                for (name, value) in members {
                    let place = *places.entry(name.clone()).or_insert(arranged.len());
                    let member = (name, value.arranged());
                    if place < arranged.len() {
                        arranged[place] = member;
                    } else {
                        arranged.push(member);
                    }
                }
                let index = |name: &str| name.parse::<u32>().ok().filter(|n| *n != u32::MAX && n.to_string() == name);
                arranged.sort_by_key(|(name, _)| index(name).map_or(u64::MAX, u64::from));
                Node::Map(arranged)
            }
            leaf => leaf,
        }
    }
}

fn same(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Null, Node::Null) => true,
        (Node::Bool(a), Node::Bool(b)) => a == b,
        // `serde_json` may miss by the last digit.
        (Node::Number(a), Node::Number(b)) => (a - b).abs() <= a.abs().max(b.abs()) * 1e-15 + 1e-320,
        (Node::Text(a), Node::Text(b)) => a == b,
        (Node::List(a), Node::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Node::Map(a), Node::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        }
        _ => false,
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = access.next_entry()? {
            members.push(member);
        }
        Ok(Node::Map(members))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}
