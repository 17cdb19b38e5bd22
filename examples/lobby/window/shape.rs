//! The two shapes of the pages: wide ones for a screen or a window, and tall ones for a phone.

use bevy::prelude::*;

use crate::{platform, table::Page};

/// The shape of the pages. A page is laid out anew when it changes.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq)]
pub enum Shape {
    #[default]
    Wide,
    Tall,
}

impl Shape {
    /// The size that the pages are designed for, in logical pixels.
    pub const fn size(self) -> UVec2 {
        match self {
            Shape::Wide => UVec2::new(1280, 800),
            Shape::Tall => UVec2::new(420, 780),
        }
    }

    /// The shape that fills a window best.
    fn of(window: Vec2) -> Self {
        if window.x < 0.8 * window.y { Shape::Tall } else { Shape::Wide }
    }

    /// Selects one of two values by the shape.
    pub fn pick<T>(self, wide: T, tall: T) -> T {
        match self {
            Shape::Wide => wide,
            Shape::Tall => tall,
        }
    }
}

/// Scales the UI with the window, so that pages fit every size.
fn fit(
    window: Single<&Window, Changed<Window>>,
    page: Res<State<Page>>,
    mut next: ResMut<NextState<Page>>,
    mut shape: ResMut<Shape>,
    mut scale: ResMut<UiScale>,
) {
    let fitting = Shape::of(window.size());
    // Some phones make the page lower for their keyboard. A page that is laid out anew would close it.
    if *shape != fitting && !platform::is_typing() {
        *shape = fitting;
        // Entering a page again lays it out anew. A change of the page that is due does so as well.
        if matches!(*next, NextState::Unchanged) {
            next.set(*page.get());
        }
    }
    let fits = window.size() / shape.size().as_vec2();
    scale.0 = fits.min_element().clamp(0.5, 3.0);
}

pub fn plugin(app: &mut App) {
    app.init_resource::<Shape>().add_systems(PreUpdate, fit);
}
