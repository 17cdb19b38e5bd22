//! The relay over loopback, byte by byte: what originals see (`requests`, `bodies`, `streams`), what is beyond them
//! (`bounds`, `hold`, `order`), what strangers try (`attacks`, `held`, `table`), and how it runs (`running`, `program`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod attacks;
mod bodies;
mod bounds;
mod held;
mod hold;
mod order;
#[cfg(all(feature = "cli", unix))]
mod program;
mod requests;
mod running;
mod streams;
#[allow(dead_code, reason = "the attacks on hosts use more of it")]
mod support;
mod table;
