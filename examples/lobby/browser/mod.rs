//! The lobby as a page: in a canvas, joined by the link that the browser has opened.

mod elements;
mod news;

pub use self::elements::is_typing;

use bevy::prelude::*;
use bevy_uhst::{Url, prelude::*};
use web_sys::Storage;

use crate::{
    args::{Cli, HostArgs, View},
    window::{self, Typed},
};

/// What the browser remembers of the player, for the next visit.
const NAME: &str = "bevy_uhst lobby name";
/// What it remembers until the page is closed: the secret bytes of the player, in hexadecimal digits.
const IDENTITY: &str = "bevy_uhst lobby identity";

/// Runs the lobby in the page. Whoever comes by a host's link is asked for a name and joins.
pub fn run() -> AppExit {
    let link = JoinLink::of_page().map(|link| link.to_string());
    let typed = Typed {
        name: storage().and_then(|storage| storage.get_item(NAME).ok()?).unwrap_or_default(),
        invited: link.is_some(),
        code: link.unwrap_or_default(),
        relay: relay_of_page(),
        ..default()
    };
    window::run(Cli { command: None, view: View::default() }, typed)
}

/// The network. A browser finds no games around it. A page that is loaded again is the same player: two pages are two.
pub fn network(view: &View) -> impl Plugin + use<> {
    let network = UhstPlugin::default().conditions(view.network.into());
    move |app: &mut App| {
        if let Some(identity) = identity() {
            app.insert_resource(identity);
        }
        app.add_plugins(network.clone());
    }
}

/// The identity of the player, from before this page was loaded again. `None`: the browser forbids to remember one.
fn identity() -> Option<UhstIdentity> {
    let storage = web_sys::window()?.session_storage().ok()??;
    let known = storage.get_item(IDENTITY).ok()?.and_then(|digits| u8_32(&digits));
    if let Some(bytes) = known {
        return Some(UhstIdentity::from_bytes(bytes));
    }
    let identity = UhstIdentity::generate().ok()?;
    let digits: String = identity.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    storage.set_item(IDENTITY, &digits).ok()?;
    Some(identity)
}

/// Reads 32 bytes from hexadecimal digits.
fn u8_32(digits: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// The element that shows the game, if the page has one for it. Otherwise Bevy adds a canvas to the page.
pub fn canvas() -> Option<String> {
    const CANVAS: &str = "#game";
    web_sys::window()?.document()?.query_selector(CANVAS).ok()?.map(|_| CANVAS.to_owned())
}

/// The relay of a lobby that is opened here: the one of this page, since a page cannot run a relay.
///
/// # Errors
///
/// What the page is missing, in a person's words.
pub fn relay(_: &HostArgs) -> Result<Relay, String> {
    relay_of_page().map(Relay::Url).ok_or_else(|| "This page comes from no relay.".to_owned())
}

/// Adds what only a page needs to the lobby's window.
pub fn window(app: &mut App) {
    app.add_plugins((elements::plugin, news::plugin))
        .add_systems(Update, remember_name.run_if(resource_changed::<Typed>));
}

/// The relay that the page names as `?relay=URL`, or the one that has served it.
fn relay_of_page() -> Option<String> {
    let mut page: Url = web_sys::window()?.location().href().ok()?.parse().ok()?;
    if let Some((_, named)) = page.query_pairs().find(|(key, _)| key == "relay") {
        return Some(named.into_owned());
    }
    page.set_query(None);
    page.set_fragment(None);
    Some(page.join(".").ok()?.into())
}

fn remember_name(typed: Res<Typed>) {
    if let Some(storage) = storage() {
        // A browser may forbid it. The player types the name again then.
        let _ = storage.set_item(NAME, &typed.name);
    }
}

fn storage() -> Option<Storage> {
    web_sys::window()?.local_storage().ok()?
}
