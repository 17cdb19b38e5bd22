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

/// The network. A browser finds no games around it.
pub fn network(view: &View) -> impl Plugin + use<> {
    UhstPlugin::default().conditions(view.network.into())
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
