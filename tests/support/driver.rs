//! A script for node that runs peers, in this process or in browsers, driven by lines of JSON.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use serde_json::Value;

use super::npm_packages;

/// The path of Chromium on Debian.
pub const CHROMIUM: &str = "/usr/bin/chromium";

/// The process of a script in `tests/browser`.
pub struct Driver {
    process: Child,
    input: Mutex<Option<ChildStdin>>,
    peers: Arc<Mutex<HashMap<String, Sender<Value>>>>,
    mistakes: Arc<Mutex<Vec<Value>>>,
}

impl Driver {
    /// Starts a script with these arguments, and installs these packages of npm in a folder of this name.
    pub fn start(script: &str, arguments: &[&str], folder: &str, packages: &[&str]) -> Self {
        let packages = npm_packages(folder, packages);
        let mut process = Command::new("node")
            .arg(format!("{}/tests/browser/{script}", env!("CARGO_MANIFEST_DIR")))
            .args(arguments)
            .env("NODE_PATH", packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed");
        let (peers, mistakes) =
            (Arc::<Mutex<HashMap<String, Sender<Value>>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let output = BufReader::new(process.stdout.take().unwrap());
        let (to, missed) = (peers.clone(), mistakes.clone());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap();
                if event["event"] == "mistake" {
                    missed.lock().unwrap().push(event);
                } else if let Some(peer) = to.lock().unwrap().get(event["peer"].as_str().unwrap()) {
                    // The test that waited for it may be over.
                    let _ = peer.send(event);
                }
            }
        });
        Driver { input: Mutex::new(process.stdin.take()), process, peers, mistakes }
    }

    /// Sends a command to the script.
    pub fn command(&self, command: &Value) {
        writeln!(self.input.lock().unwrap().as_ref().unwrap(), "{command}").unwrap();
    }

    /// Returns the events of a peer from now on.
    pub fn listen(&self, peer: &str) -> Receiver<Value> {
        let (sender, events) = channel();
        self.peers.lock().unwrap().insert(peer.to_owned(), sender);
        events
    }

    /// Returns the errors that no peer caught.
    pub fn mistakes(&self) -> Vec<Value> {
        self.mistakes.lock().unwrap().clone()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The script closes its browsers and ends at the end of its input.
        self.input.lock().unwrap().take();
        let _ = self.process.wait();
    }
}
