//! The attacks on a game that hosts as a table: what each has reached, what it reaches now, and how long an honest player
//! beside it takes to join. Those on a relay alone are in the tests of `uhst-relay`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod forward;
mod host;
mod places;
#[path = "../../crates/uhst-relay/tests/relay/table/report.rs"]
mod report;
mod stranger;
#[path = "../../crates/uhst-relay/tests/relay/support.rs"]
#[allow(dead_code, reason = "the tests of the relay use more of it")]
mod support;

use tokio::runtime::Builder;

#[test]
#[ignore = "takes 15 s, and prints a table"]
fn the_table_of_attacks() {
    report::head();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Apps are updated on this thread; those who attack their relays have others.
    host::rows(&runtime);
    places::rows(&runtime);
}
