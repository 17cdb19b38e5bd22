//! What happened, in words, for a screen reader: the canvas shows it to everyone else.

use bevy::prelude::*;
use web_sys::Element;

use crate::{game::LobbySystems, table::News};

/// The most lines to keep.
const LINES: u32 = 50;

/// Adds the news to the element that a screen reader reads aloud.
fn tell(mut news: MessageReader<News>) {
    if news.is_empty() {
        return;
    }
    let Some(document) = web_sys::window().and_then(|window| window.document()) else { return };
    let Some(log) = document.get_element_by_id("news") else { return };
    for news in news.read() {
        let Ok(line) = document.create_element("p") else { return };
        line.set_text_content(Some(&news.to_string()));
        if log.append_child(&line).is_err() {
            return;
        }
    }
    while log.child_element_count() > LINES {
        log.first_element_child().as_ref().map(Element::remove);
    }
}

pub fn plugin(app: &mut App) {
    app.add_systems(Update, tell.after(LobbySystems));
}
