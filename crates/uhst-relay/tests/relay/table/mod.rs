//! A table of attacks on a relay: the effect each attack used to have, its effect now, and how long an honest player
//! takes to join in the meantime. The tests of `bevy_uhst` contain the attacks on a host.

#[cfg(all(feature = "cli", target_os = "linux"))]
mod logs;
mod overhead;
mod public_url;
pub mod report;
mod rows;

use tokio::runtime::Builder;

#[test]
#[ignore = "takes 15 s, and prints a table"]
fn the_table_of_attacks() {
    report::head();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        rows::rows().await;
        #[cfg(all(feature = "cli", target_os = "linux"))]
        logs::rows().await;
        public_url::rows().await;
        overhead::rows().await;
    });
}
