//! The join link by which a browser has opened this game.

use crate::protocol::JoinLink;

/// The page of a path with a slash at its end.
const PAGE: &str = "/index.html";

/// Reads the join link of the page that runs this game.
///
/// ```
/// use bevy_uhst::prelude::*;
///
/// // A friend who opened the host's link joins at once. Everybody else enters a code.
/// fn join(mut commands: bevy::prelude::Commands) {
///     if let Some(link) = JoinLink::of_page() {
///         commands.spawn(UhstClient::from(link));
///     }
/// }
/// ```
pub trait PageLink: Sized {
    /// The link of the page that runs this game. `None` if its URL names no session, and for a game that runs in no page.
    ///
    /// The relay is where the page came from, so the page must be [served by the host](crate::EmbeddedRelay::web_files) or by
    /// the relay of its session. A game on another web page takes the [`id`](JoinLink::id) and names its relay itself.
    fn of_page() -> Option<Self>;
}

impl PageLink for JoinLink {
    fn of_page() -> Option<Self> {
        of_url(&page_url()?)
    }
}

#[cfg(not(target_family = "wasm"))]
fn page_url() -> Option<String> {
    None
}

#[cfg(target_family = "wasm")]
fn page_url() -> Option<String> {
    let location = js_sys::Reflect::get(&js_sys::global(), &"location".into()).ok()?;
    js_sys::Reflect::get(&location, &"href".into()).ok()?.as_string()
}

/// The link in the URL of a page. Its query is the game's own.
fn of_url(url: &str) -> Option<JoinLink> {
    let mut link: JoinLink = url.parse().ok()?;
    let relay = link.relay.as_mut().filter(|relay| matches!(relay.scheme(), "http" | "https"))?;
    relay.set_query(None);
    if let Some(folder) = relay.path().strip_suffix(PAGE).map(|folder| format!("{folder}/")) {
        relay.set_path(&folder);
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_of_a_page_names_the_relay_that_served_it() {
        for url in [
            "http://192.168.1.5:3000/#483920",
            "http://192.168.1.5:3000/?lang=de#483920",
            "http://192.168.1.5:3000/index.html#483920",
        ] {
            let link = of_url(url).expect(url);
            assert_eq!(link.to_string(), "http://192.168.1.5:3000/#483920", "{url}");
        }
        let below = of_url("https://example.com/relay/?a#my%20game").expect("a link");
        assert_eq!((below.relay.expect("a relay").as_str(), &*below.id), ("https://example.com/relay/", "my game"));
        let other = of_url("http://192.168.1.5:3000/myindex.html#1").and_then(|link| link.relay).expect("a relay");
        assert_eq!(other.path(), "/myindex.html");
        for url in [
            "file:///game/index.html#483920",
            "http://192.168.1.5:3000/",
            "http://192.168.1.5:3000/#",
            "about:blank",
            "about:srcdoc#483920",
        ] {
            assert_eq!(of_url(url), None, "{url}");
        }
        assert_eq!(JoinLink::of_page(), None, "a test runs in no page");
    }
}
