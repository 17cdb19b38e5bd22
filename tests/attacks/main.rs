//! A table of attacks on a game that hosts: the effect each attack used to have, its effect now, and how long an honest
//! player takes to join in the meantime. The tests of `uhst-relay` contain the attacks on a relay alone.

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
    // This thread updates the apps. The attackers of their relays run on other threads.
    host::rows(&runtime);
    places::rows(&runtime);
}
