//! The browser of the tests, and its pages.

use std::{
    cell::Cell,
    sync::{LazyLock, mpsc::Receiver},
    time::Duration,
};

use bevy::prelude::*;
use bevy_uhst::prelude::*;
use serde_json::{Value, json};

use crate::support::{CHROMIUM, Driver, PATIENCE, StandaloneRelay, in_time};

/// All tests share a browser. It ends with this process, which closes its input.
pub static BROWSER: LazyLock<Driver> = LazyLock::new(|| {
    let page = std::env::var("WEB_PAGE").expect("`.ci/web` names the folder of the page");
    Driver::start("web.mjs", &[CHROMIUM, &page], "web", &["playwright-core@1.56"])
});

/// How a player leaves a page.
#[derive(Clone, Copy, Debug)]
pub enum Leave {
    /// Closes its tab.
    Close,
    /// Goes to another page.
    GoAway,
    /// Returns from there.
    GoBack,
    /// Loads it again. The page is then open anew.
    Reload,
}

/// What the browser does with the tab of a page.
#[derive(Clone, Copy, Debug)]
pub enum Tab {
    /// Another tab is in front: the page has no frames, and its timers are slow.
    Hidden,
    /// Hidden, and nothing in the page runs.
    Frozen,
    /// Hidden, and no longer frozen.
    Thawed,
    /// In front again.
    Shown,
}

/// A page. It is closed when dropped, since each takes a part of a core as long as it is open.
pub struct Page {
    name: &'static str,
    events: Receiver<Value>,
    /// What it has reported so far, and nobody has waited for.
    reported: Vec<Value>,
}

impl Drop for Page {
    fn drop(&mut self) {
        // After a failure the browser may be gone, too.
        if !std::thread::panicking() {
            BROWSER.command(&json!({ "peer": self.name, "end": true }));
        }
    }
}

impl Page {
    pub fn open(name: &'static str) -> Self {
        Page::opened(name, &json!({ "peer": name, "open": true }), &mut [])
    }

    /// Opens the page in a tab beside another one of the same browser.
    pub fn open_beside(name: &'static str, other: &Page) -> Self {
        Page::opened(name, &json!({ "peer": name, "open": true, "beside": other.name }), &mut [])
    }

    /// Opens the page in a browser that hides its addresses, as players have it.
    pub fn open_hiding(name: &'static str) -> Self {
        Page::opened(name, &json!({ "peer": name, "open": true, "hides": true }), &mut [])
    }

    /// Opens the page at a URL.
    pub fn open_at(name: &'static str, url: &str, apps: &mut [&mut App]) -> Self {
        Page::opened(name, &json!({ "peer": name, "open": url }), apps)
    }

    fn opened(name: &'static str, command: &Value, apps: &mut [&mut App]) -> Self {
        let events = BROWSER.listen(name);
        BROWSER.command(command);
        let mut page = Page { name, events, reported: Vec::new() };
        page.wait(apps, "open");
        page
    }

    pub fn host(name: &'static str, relay: &StandaloneRelay, more: Value) -> Self {
        let mut page = Page::open(name);
        page.hosts(relay, more);
        page
    }

    pub fn hosts(&mut self, relay: &StandaloneRelay, more: Value) {
        let mut host = json!({ "id": self.name, "relay": format!("http://{}/", relay.address()) });
        host.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.command(json!({ "host": host }));
        assert_eq!(self.wait(&mut [], "ready"), self.name);
    }

    pub fn join(name: &'static str, link: &str, more: Value) -> Self {
        let page = Page::open(name);
        page.joins(link, more);
        page
    }

    pub fn joins(&self, link: &str, more: Value) {
        let mut join = json!({ "link": link });
        join.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.command(json!({ "join": join }));
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn command(&self, command: Value) {
        BROWSER.command(&json!({ "peer": self.name, "command": command }));
    }

    /// Ends the page, or leaves it.
    pub fn leave(&self, leave: Leave) {
        BROWSER.command(&json!({ "peer": self.name, "leave": format!("{leave:?}") }));
    }

    /// Cuts the requests of the page, or lets them through again. Data channels stay.
    pub fn set_offline(&self, offline: bool) {
        BROWSER.command(&json!({ "peer": self.name, "offline": offline }));
    }

    /// Changes whether the page is shown, and waits until that is done.
    pub fn tab(&mut self, apps: &mut [&mut App], tab: Tab) {
        BROWSER.command(&json!({ "peer": self.name, "tab": format!("{tab:?}") }));
        self.wait(apps, "tab");
    }

    /// Whether the page has reported this event, which nobody has waited for.
    pub fn has_reported(&mut self, event: &str) -> bool {
        self.reported.extend(self.events.try_iter());
        self.reported.iter().any(|reported| reported["event"] == event)
    }

    /// Updates the apps until the page reports this event, and returns its value. Other events wait for their turn.
    #[track_caller]
    pub fn wait(&mut self, apps: &mut [&mut App], event: &str) -> Value {
        self.wait_for(apps, PATIENCE, event)
    }

    #[track_caller]
    pub fn wait_for(&mut self, apps: &mut [&mut App], patience: Duration, event: &str) -> Value {
        let reported = Cell::new(self.reported.len());
        let mut found = None;
        in_time(
            apps,
            patience,
            || reported.get(),
            |_| {
                self.reported.extend(self.events.try_iter());
                reported.set(self.reported.len());
                found = self.reported.iter().position(|reported| reported["event"] == event);
                found.is_some()
            },
        );
        let Some(found) = found else { panic!("{}: no {event}, but {:?}", self.name, self.reported) };
        self.reported.remove(found)["value"].take()
    }

    /// Waits until the page uses this path.
    #[track_caller]
    pub fn wait_for_path(&mut self, apps: &mut [&mut App], path: Path) {
        while self.wait(apps, "path") != format!("{path:?}") {}
    }

    /// Checks that nothing went wrong that no test asked for.
    #[track_caller]
    pub fn has_no_mistakes(&mut self) {
        self.reported.extend(self.events.try_iter());
        let is_bad = |event: &&Value| matches!(event["event"].as_str(), Some("misplaced" | "mistake" | "diagnostic"));
        let bad: Vec<_> = self.reported.iter().filter(is_bad).collect();
        assert!(bad.is_empty(), "{bad:?}");
        let mistakes = BROWSER.mistakes();
        assert!(mistakes.iter().all(|mistake| mistake["peer"] != self.name), "{mistakes:?}");
    }
}
