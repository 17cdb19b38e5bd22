//! Replays the kept inputs of every fuzz target: what was found once is looked for in every run of the tests.

#![allow(dead_code, reason = "other tests use more of what the targets share with them")]

#[path = "../fuzz/harness/lib.rs"]
mod harness;

use std::{fs, path::Path};

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).expect("a folder of inputs") {
        let path = entry.expect("an input").path();
        // Shown with a failure alone.
        println!("{}", path.display());
        run(&fs::read(&path).expect("an input"));
        replayed += 1;
    }
    assert!(replayed > 0, "nothing in {}", folder.display());
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target), harness::$target::run);
        })*
    };
}

replays! { bodies connection events frames hostile json requests sealing signals tokens }
