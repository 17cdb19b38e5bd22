//! What strangers can send, as bytes, and what must hold whatever the bytes are. Each module is one fuzz target:
//! `run` takes an input and panics on a finding. `tests/fuzz_corpus.rs` replays the kept inputs.

pub mod bodies;
pub mod connection;
pub mod events;
pub mod frames;
pub mod hostile;
pub mod json;
#[path = "../../crates/uhst-proto/tests/connection/network.rs"]
pub mod network;
pub mod requests;
pub mod sealing;
pub mod signals;
mod source;
pub mod tokens;
